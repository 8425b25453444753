"""The figures that the docs quote, each measured against a bound: an :class:`~steerclear.benchmark.claims.Experiment` is a command.

claims.py    what a benchmark promises; a figure and its bound
timing.py    two ways of doing one thing, in turns: how much longer one takes
memory.py    what a process needed at its peak, and what something leaves behind
networks.py  pipelines with random weights, of any size, built without a file
one_run.py   one image, with and without steering; in a process of its own to see its memory
portraits.py images of several methods, measured against the exact truth
"""
