"""What kinds of networks share: names, copies beside the original, second sets of weights, adapters."""
