"""Energy distance: do two sets of samples, in any dimension, come from the same distribution?"""

from torch import Tensor

from .estimates import CHUNK, checked_pair, distances


def _total(first: Tensor, second: Tensor, chunk: int) -> float:
    return sum(float(distances(some, second).sum()) for some in first.split(chunk))


def energy_distance(first: Tensor, second: Tensor, *, unbiased: bool = True, chunk: int = CHUNK) -> float:
    """The squared energy distance between two distributions, from a sample of each.

        D^2 = 2 E|X - Y| - E|X - X'| - E|Y - Y'|

    It is 0 only for equal distributions, in any dimension. Székely and Rizzo, Energy statistics: a class of
    statistics based on distances, 2013, Journal of Statistical Planning and Inference 143.

    Args:
        first, second: samples of X, ``[n, width]``, and of Y, ``[m, width]``.
        unbiased: True for the U-statistic, whose means within a set are over pairs of different samples: its
            expectation is D^2, so for equal distributions it scatters about 0 and may be negative. False for the
            V-statistic over all pairs, which is never negative, 0 for equal sets, and too large by about c / n.
        chunk: samples compared at once; limits the memory.

    Returns:
        D^2, in the samples' unit. ``scipy.stats.energy_distance`` is the square root of the V-statistic.

    Raises:
        TooFewSamples: a set has fewer than 2 samples (1 for the V-statistic).
        UnfitFeatures: a number is not finite or the widths differ.

    >>> import torch
    >>> energy_distance(torch.tensor([[0.0], [0.0]]), torch.tensor([[1.0], [1.0]]))
    2.0
    """
    first, second = checked_pair("the energy distance", first, second, 2 if unbiased else 1)
    n, m = len(first), len(second)
    within_first = _total(first, first, chunk) / (n * (n - 1) if unbiased else n * n)
    within_second = _total(second, second, chunk) / (m * (m - 1) if unbiased else m * m)
    return 2 * _total(first, second, chunk) / (n * m) - within_first - within_second
