"""The share of images that show something, and differences of two shares, with intervals that are valid near 0 and 1."""

import math

import torch
from torch import Tensor

from ..core.errors import TooFewSamples, UnfitFeatures
from .estimates import LEVEL, Estimate, Rate


def rate(indicator: Tensor, *, level: float = LEVEL) -> Rate:
    """The share of images that show something, with the score interval of Wilson (1927, JASA 22, 209-212).

        (p + z^2 / 2n  -+  z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    It stays within [0, 1] and does not shrink to a point at p = 0, as the textbook interval does.

    Args:
        indicator: one bool, or 0 or 1, per image, shape ``[n]``, n at least 1.
        level: confidence, in (0, 1).

    Raises:
        TooFewSamples: there is no image.
        UnfitFeatures: the shape is not ``[n]``, or a number is neither 0 nor 1.

    >>> shown = rate(torch.tensor([True, False, True, True]))
    >>> shown.count, shown.total, shown.value
    (3, 4, 0.75)
    """
    _checked(indicator)
    return Rate.of(int(torch.count_nonzero(indicator)), len(indicator), level)


def difference_of_rates(first: Rate, second: Rate, *, level: float = LEVEL) -> Estimate:
    """The difference of the rates in two independent sets of images, ``first - second``.

        d  -  sqrt((p1 - l1)^2 + (u2 - p2)^2)   ...   d  +  sqrt((u1 - p1)^2 + (p2 - l2)^2)

    with Wilson's intervals [l, u] of both rates: the hybrid score interval, method 10 of Newcombe 1998, Interval estimation
    for the difference between independent proportions, Statistics in Medicine 17, 873-890. It stays within [-1, 1] and does
    not shrink to a point where both rates are 0.

    Args:
        first, second: the rates, of :func:`rate`.
        level: confidence, in (0, 1).

    Returns:
        The difference in [-1, 1], with its interval.

    >>> apart = difference_of_rates(Rate.of(56, 70), Rate.of(48, 80))
    >>> round(apart.value, 4), round(apart.low, 4), round(apart.high, 4)
    (0.2, 0.0524, 0.3339)
    """
    return _hybrid(first, second, 0.0, level)


def paired_difference_of_rates(first: Tensor, second: Tensor, *, level: float = LEVEL) -> Estimate:
    """The difference of the rates in two sets of images of the same seeds, ``first - second``.

        d  -  sqrt((p1 - l1)^2 - 2 r (p1 - l1) (u2 - p2) + (u2 - p2)^2)

    and the upper end with (u1 - p1) and (p2 - l2), where r is the correlation of the pairs: of the table [[a, b], [c, d]] of
    pairs r = (ad - bc) / sqrt of the product of its four margins, with ad - bc - n / 2, at least 0, in place of a positive
    ad - bc; 0 where a margin is 0. Method 10 of Newcombe 1998, Improved confidence intervals for the difference between
    binomial proportions based on paired data, Statistics in Medicine 17, 2635-2650. Images of one seed resemble each other,
    so it is narrower than :func:`difference_of_rates`.

    Args:
        first, second: one bool, or 0 or 1, per seed, ``[n]`` each, seeds in the same order.
        level: confidence, in (0, 1).

    Returns:
        The difference in [-1, 1], with its interval.

    Raises:
        TooFewSamples: there is no image, or a set has fewer than the other.
        UnfitFeatures: the shape is not ``[n]``, or a number is neither 0 nor 1.

    >>> seeds = torch.arange(50)
    >>> apart = paired_difference_of_rates(seeds < 48, (seeds < 36) | (seeds >= 48))
    >>> round(apart.value, 2), round(apart.low, 4), round(apart.high, 4)
    (0.2, 0.0569, 0.3404)
    """
    one, other = checked_pairs("a difference of paired rates", first, second)
    both, only, alone = int((one & other).sum()), int((one & ~other).sum()), int((~one & other).sum())
    total = len(one)
    neither = total - both - only - alone
    product = float(both * neither - only * alone)
    margins = (both + only) * (alone + neither) * (both + alone) * (only + neither)
    if product > 0:
        product = max(product - total / 2, 0.0)
    correlation = product / math.sqrt(margins) if margins else 0.0
    return _hybrid(Rate.of(both + only, total), Rate.of(both + alone, total), correlation, level)


def _hybrid(first: Rate, second: Rate, correlation: float, level: float) -> Estimate:
    """The hybrid score interval of a difference of rates whose estimates are so correlated."""
    one, other = Rate.of(first.count, first.total, level), Rate.of(second.count, second.total, level)
    apart = one.value - other.value

    def reach(near: float, far: float) -> float:
        return math.sqrt(max(near**2 - 2 * correlation * near * far + far**2, 0.0))

    low = apart - reach(one.value - one.low, other.high - other.value)
    high = apart + reach(one.high - one.value, other.value - other.low)
    return Estimate(apart, max(low, -1.0), min(high, 1.0))


def checked_pairs(metric: str, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Two indicators of the same seeds, as bool; errors as :func:`paired_difference_of_rates`."""
    _checked(first)
    _checked(second)
    smaller, larger = sorted((len(first), len(second)))
    if smaller != larger:
        raise TooFewSamples(metric, smaller, larger, "images, as many as in the other set,")
    if smaller == 0:
        raise TooFewSamples(metric, 0, 1, "images")
    return first.bool(), second.bool()


def _checked(indicator: Tensor) -> None:
    if indicator.ndim != 1:
        raise UnfitFeatures(f"a rate takes one number per image, shape [n], and was given {list(indicator.shape)}")
    wrong = indicator[(indicator != 0) & (indicator != 1)].tolist()
    if wrong:
        raise UnfitFeatures(f"a rate takes 0 or 1 per image and was given {wrong[0]}; compare with a threshold first")
