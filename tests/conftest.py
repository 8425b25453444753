"""Shapes are checked in all tests, on one thread, without a network."""

import os

os.environ.setdefault("STEERCLEAR_CHECK_SHAPES", "1")  # before steerclear is imported
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

torch.set_num_threads(1)
