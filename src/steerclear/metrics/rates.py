"""The share of images that show something, with an interval that is valid near 0 and 1."""

import torch
from torch import Tensor

from ..core.errors import UnfitFeatures
from .estimates import LEVEL, Rate


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
    if indicator.ndim != 1:
        raise UnfitFeatures(f"a rate takes one number per image, shape [n], and was given {list(indicator.shape)}")
    wrong = indicator[(indicator != 0) & (indicator != 1)].tolist()
    if wrong:
        raise UnfitFeatures(f"a rate takes 0 or 1 per image and was given {wrong[0]}; compare with a threshold first")
    return Rate.of(int(torch.count_nonzero(indicator)), len(indicator), level)
