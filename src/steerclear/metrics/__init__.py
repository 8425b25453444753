"""Metrics of sets of images: what guidance did to their distribution. One file per metric; a class in it is a column."""
