"""The figures that the docs quote, measured against bounds: an :class:`~steerclear.benchmark.claims.Experiment` is a command.

claims.py     the contract of a benchmark; a figure and its bound
timing.py     the ratio of the times of two actions
memory.py     the peak memory of a process, and what an action leaves behind
networks.py   pipelines with random weights, of any size, built without files
one_run.py    one image, with and without steering; in its own process to measure its memory
portraits.py  images of several methods, measured against the exact truth
"""
