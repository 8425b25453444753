"""Weak networks: what a guidance pushes away from, made from what people have. One kind a file.

base.py            what a kind promises
"""
