"""Make the shipped pipeline: draw portraits, then train all its networks on them."""
