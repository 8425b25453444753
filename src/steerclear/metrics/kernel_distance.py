"""Kernel distance: do two sets of features have the same moments up to the third?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..core.laboratory import Measurement
from ..core.metric import FeatureMetric, Situation
from .estimates import CHUNK, LEVEL, Estimate, checked_pair, jackknife

GROUPS = 20
TRUE_IMAGES = 2000
"""Most true images that the column compares with; as many as there are images, if those are more."""


def _sums(first: Tensor, second: Tensor, groups: int, chunk: int) -> Tensor:
    """Sums of the kernel over the pairs of two groups, ``[groups, groups]``; sample i is in group i modulo G."""
    of_second = torch.nn.functional.one_hot(torch.arange(len(second)) % groups, groups).double()
    of_first = torch.nn.functional.one_hot(torch.arange(len(first)) % groups, groups).double()
    total = torch.zeros(groups, groups, dtype=torch.float64)
    for some, members in zip(first.split(chunk), of_first.split(chunk), strict=True):
        total += members.T @ _kernel(some @ second.T, first.shape[1]) @ of_second
    return total


def _kernel(products: Tensor, width: int) -> Tensor:
    return (products / width + 1) ** 3


def _within(features: Tensor, groups: int, chunk: int) -> tuple[float, Tensor]:
    """The mean kernel of two different samples; that without each group, ``[groups]``."""
    sums = _sums(features, features, groups, chunk)
    place = torch.arange(len(features)) % groups
    own = _kernel(features.square().sum(1), features.shape[1])
    sums -= torch.zeros(groups, dtype=torch.float64).scatter_add_(0, place, own).diag()
    kept = len(features) - place.bincount(minlength=groups)
    total = sums.sum()
    left = total - sums.sum(0) - sums.sum(1) + sums.diagonal()
    count = len(features)
    return float(total) / (count * (count - 1)), left / (kept * (kept - 1)).clamp(min=1)


def kernel_distance(first: Tensor, second: Tensor, *, level: float = LEVEL, chunk: int = CHUNK) -> Estimate:
    """The squared maximum mean discrepancy under a cubic kernel; "KID" for Inception's features.

        MMD^2 = mean over i != j of k(x_i, x_j)  +  mean over i != j of k(y_i, y_j)  -  2 mean over i, j of k(x_i, y_j)
        k(x, y) = (x . y / width + 1)^3

    Bińkowski, Sutherland, Arbel and Gretton, Demystifying MMD GANs, 2018, arXiv:1801.01401. It is unbiased for any number of
    images, so it may be below 0, and numbers of differing counts can be compared. The paper takes the mean over blocks to
    save memory; here all pairs are used, summed in chunks. The interval is a jackknife that leaves out every 20th sample of
    both sets at a time, with Student's t.

    Args:
        first, second: features of both sets, ``[n, width]`` and ``[m, width]``, n and m at least 2, and at least 16 for an
            interval.
        level: confidence, in (0, 1).
        chunk: samples compared at once; limits the memory.

    Raises:
        TooFewSamples: a set has fewer than 2 samples.
        UnfitFeatures: a number is not finite, or the widths differ.

    >>> kernel_distance(torch.zeros(2, 1), torch.ones(2, 1)).value  # 1 + 8 - 2
    7.0
    """
    first, second = (one.cpu() for one in checked_pair("the kernel distance", first, second, 2))
    groups = min(GROUPS, len(first) // 2, len(second) // 2)  # each leaves at least 2 samples
    apart = _sums(first, second, groups, chunk)
    kept = [len(one) - (torch.arange(len(one)) % groups).bincount(minlength=groups) for one in (first, second)]
    left = apart.sum() - apart.sum(0) - apart.sum(1) + apart.diagonal()
    (own, own_left), (other, other_left) = (_within(one, groups, chunk) for one in (first, second))
    value = own + other - 2 * float(apart.sum()) / (len(first) * len(second))
    return jackknife(value, own_left + other_left - 2 * left / (kept[0] * kept[1]).clamp(min=1), level)


@dataclass(frozen=True)
class KernelDistance(FeatureMetric):
    """The kernel distance to true images; unbiased for few images too."""

    name = "kernel_distance"
    label = "kernel distance"
    meaning = "squared maximum mean discrepancy to true images of the target under a cubic kernel of features, unbiased"
    better = "lower"
    detail = True
    fewest = 2
    answers: ClassVar[Mapping[Situation, float]] = {"constant": 0.0}

    def of(self, features: Tensor, reference: Tensor) -> Measurement:
        # unbiased for any number of true images; with all of very many, most of the time would go into their own pairs
        return kernel_distance(features, reference[: max(TRUE_IMAGES, len(features))]).measured("jackknife")
