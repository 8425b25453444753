"""Diversity of one set of images: their mean distance, and their effective number."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..core.errors import UnfitFeatures
from ..core.laboratory import Measurement
from ..core.metric import Compared, FeatureMetric, Situation
from .estimates import CHUNK, INTERVAL_NEEDS, LEVEL, Estimate, checked, distances, jackknife


def mean_pairwise_distance(features: Tensor, *, level: float = LEVEL, chunk: int = CHUNK) -> Estimate:
    """Mean Euclidean distance between two different samples, with an interval.

        U = sum over i != j of |f_i - f_j| / (n (n - 1))

    It is unbiased. The interval is a jackknife, which for this U-statistic needs only the mean distance r_i of each sample
    to the others (Arvesen 1969, Jackknifing U-statistics):

        U -+ t error,    error^2 = 4 (n - 1) / (n (n - 2)^2)  sum_i (r_i - U)^2

    with Student's t of n - 1 degrees of freedom. For Gaussians in 128 dimensions it covers the truth in 94 to 97 % from 8
    samples on; bootstrap percentiles cover 92 % with 8 samples and 93 % with 64.

    Args:
        features: ``[n, width]``, n at least 2, and at least 8 for an interval.
        level: confidence, in (0, 1).
        chunk: samples compared at once; limits the memory.

    Raises:
        TooFewSamples: there are fewer than 2 samples.
        UnfitFeatures: a number is not finite, or the shape is not ``[n, width]``.

    >>> mean_pairwise_distance(torch.tensor([[0.0], [1.0], [3.0]])).value
    2.0
    """
    features = checked("the mean pairwise distance", features, 2).cpu()
    count = len(features)
    sums = torch.cat([distances(some, features).sum(1) for some in features.split(chunk)])
    value = float(sums.sum()) / (count * (count - 1))
    left_out = (count * (count - 1) * value - 2 * sums) / max((count - 1) * (count - 2), 1)
    return jackknife(value, left_out, level)


def _effective_number(shares: Tensor) -> float:
    """exp(entropy) of shares that sum to 1; a share of 0 adds nothing."""
    return math.exp(float(torch.special.entr(shares / shares.sum()).sum()))


def vendi_of_kernel(kernel: Tensor) -> float:
    """The Vendi score of a similarity matrix.

        VS = exp(- sum_i l_i log l_i),    l_i the eigenvalues of K / n

    Friedman and Dieng, The Vendi score: a diversity evaluation metric for machine learning, 2023, arXiv:2210.02410.

    Args:
        kernel: K, ``[n, n]``, symmetric, with ones on the diagonal and no negative eigenvalue.

    Returns:
        The effective number of different samples, in [1, n].

    Raises:
        TooFewSamples: n is 0.
        UnfitFeatures: K is not such a matrix.

    >>> round(vendi_of_kernel(torch.eye(5)), 12)
    5.0
    """
    kernel = checked("the Vendi score", kernel, 1)
    if kernel.shape[0] != kernel.shape[1] or not torch.allclose(kernel, kernel.T, atol=1e-6):
        raise UnfitFeatures(f"the Vendi score takes a symmetric kernel, not one of shape {list(kernel.shape)}")
    if (kernel.diagonal() - 1).abs().max() > 1e-6:
        raise UnfitFeatures(
            "the Vendi score takes a kernel with ones on its diagonal: scale each sample to K(x, x) = 1"
        )
    values = torch.linalg.eigvalsh(kernel / len(kernel))
    lowest = float(values.min())
    if lowest < -1e-6:
        raise UnfitFeatures(f"the kernel has the negative eigenvalue {lowest:.3g}; give a positive semidefinite kernel")
    return _effective_number(values.clamp(min=0))


def vendi_score(features: Tensor) -> float:
    """The Vendi score of features under cosine similarity: the effective number of different samples.

    The eigenvalues of :func:`vendi_of_kernel` are the squared singular values of the unit vectors over sqrt(n), so they are
    not negative, and n samples of width d cost O(n d min(n, d)) without an n by n matrix. For a given kernel the score
    grows with n: compare sets of equal size.

    Args:
        features: ``[n, width]``, n at least 1, no row all zeros.

    Returns:
        A number in [1, min(n, width)].

    Raises:
        TooFewSamples: there is no sample.
        UnfitFeatures: a number is not finite, or a row is all zeros and has no direction.

    >>> round(vendi_score(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])), 12)
    2.0
    """
    features = checked("the Vendi score", features, 1)
    lengths = features.norm(dim=1, keepdim=True)
    zeros = (lengths == 0).flatten().nonzero()
    if len(zeros):
        raise UnfitFeatures(f"the Vendi score compares directions; row {int(zeros[0])} is all zeros")
    return _effective_number(torch.linalg.svdvals(features / lengths).square())


@dataclass(frozen=True)
class Diversity(FeatureMetric):
    """How far apart the images lie."""

    name = label = "diversity"
    meaning = "mean distance of two images in feature space"
    better = "truth"
    fewest = 2
    bounds = (0.0, None)
    answers: ClassVar[Mapping[Situation, float]] = {"repeated": 0.0, "constant": 0.0}

    def of(self, features: Tensor, reference: Tensor) -> Measurement:
        return mean_pairwise_distance(features).measured("jackknife")


def vendi_estimate(features: Tensor, *, groups: int = 20, level: float = LEVEL) -> Estimate:
    """:func:`vendi_score` with an interval, from a jackknife that leaves out every ``groups``-th sample at a time.

    The interval is for the score of as many samples: the score grows with n, and no bias is removed. It allows for the
    score that is lost with a group.

    Args:
        features: as for :func:`vendi_score`, which raises the same errors.
        groups: G, at least 8 for an interval; no more than there are samples.
        level: confidence, in (0, 1).
    """
    value, groups = vendi_score(features), min(groups, len(features))
    if groups < INTERVAL_NEEDS:
        return Estimate(value, None, None)
    place = torch.arange(len(features)) % groups
    every = torch.tensor([vendi_score(features[place != group]) for group in range(groups)], dtype=torch.float64)
    return jackknife(value, every, level)


@dataclass(frozen=True)
class Vendi(FeatureMetric):
    """How many different images there are."""

    name = "vendi"
    label = "Vendi score"
    meaning = "effective number of different images, by the cosine of their features"
    better = "truth"
    detail = True
    bounds = (1.0, None)
    answers: ClassVar[Mapping[Situation, float]] = {"repeated": 1.0, "constant": 1.0}

    def fits(self, images: Compared) -> bool:
        return bool(images.features.any(1).all() and images.perfect.any(1).all())  # a vector of zeros has no direction

    def of(self, features: Tensor, reference: Tensor) -> Measurement:
        return vendi_estimate(features).measured("jackknife")
