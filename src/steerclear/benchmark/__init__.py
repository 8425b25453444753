"""The figures that the docs quote, each measured against a bound.

claims.py    a figure and its bound; what they were measured on
timing.py    two ways of doing one thing, in turns: how much longer one takes
memory.py    what a process needed at its peak, and what something leaves behind
networks.py  pipelines with random weights, of any size, built without a file
one_run.py   one image, with and without steering; in a process of its own to see its memory
portraits.py images of several methods, measured against the exact truth
shipped.py   what the shipped model can do
autoguidance.py  what its weak network is good for
overhead.py  what steering costs on the shipped model
bridge.py    what steering costs on networks of the sizes that people have
"""
