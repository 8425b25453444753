"""What images are compared by: one feature extractor per file."""
