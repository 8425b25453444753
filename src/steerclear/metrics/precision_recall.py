"""Improved precision and recall: do the images look real, and do they cover all real ones?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..core.errors import UnfitFeatures
from ..core.laboratory import Measurement
from ..core.metric import FeatureMetric, Situation
from .estimates import CHUNK, LEVEL, Rate, checked_pair, distances

NEIGHBORS = 3
"""Which neighbor a ball reaches to: the paper's."""


@dataclass(frozen=True)
class PrecisionRecall:
    """The share of images that look real, and the share of real images that they cover.

    Args:
        precision: share of generated samples within the manifold of the real ones.
        recall: share of real samples within the manifold of the generated ones.
    """

    precision: Rate
    recall: Rate


def _radii(points: Tensor, k: int, chunk: int) -> Tensor:
    """Distance of each point to its k-th nearest neighbor among the others, ``[n]``."""
    # each point is its own nearest neighbor, at distance 0, so the k-th other point is the (k + 1)-th of all
    return torch.cat([distances(some, points).kthvalue(k + 1, dim=1).values for some in points.split(chunk)])


def _inside(queries: Tensor, points: Tensor, radii: Tensor, chunk: int) -> int:
    return sum(int((distances(some, points) <= radii).any(1).sum()) for some in queries.split(chunk))


def precision_recall(
    real: Tensor, generated: Tensor, *, k: int = NEIGHBORS, level: float = LEVEL, chunk: int = CHUNK
) -> PrecisionRecall:
    """Precision and recall with manifolds of balls that reach to the k-th nearest neighbor.

        precision = mean over generated g of  [ |g - r| <= NN_k(r) for some real r ]

    and recall is the same with the two sets exchanged. Kynkäänniemi et al., Improved precision and recall metric for
    assessing generative models, 2019, arXiv:1904.06991.

    Wilson's intervals hold for a given manifold: they include the chance of the samples that are looked up, not of those
    that span the manifold. Both numbers grow with the size of the spanning set, so compare only equal sizes.

    Args:
        real, generated: features of both sets, ``[n, width]`` and ``[m, width]``, n and m above k.
        k: the neighbor that a ball reaches to, at least 1.
        level: confidence of the intervals, in (0, 1).
        chunk: samples compared at once; limits the memory, does not change the result.

    Raises:
        UnfitFeatures: k is below 1, a number is not finite, or the widths differ.
        TooFewSamples: a set has at most k samples.

    >>> line = torch.arange(5.0).unsqueeze(1)
    >>> both = precision_recall(line, line[:3] + 0.25, k=1)
    >>> both.precision.value, both.recall.value
    (1.0, 0.8)
    """
    pairs = (generated, real), (real, generated)
    return PrecisionRecall(*(share_within(*pair, k=k, level=level, chunk=chunk) for pair in pairs))


def share_within(
    samples: Tensor, others: Tensor, *, k: int = NEIGHBORS, level: float = LEVEL, chunk: int = CHUNK
) -> Rate:
    """Share of samples that lie in the manifold of the others; one half of :func:`precision_recall`, with its errors.

    >>> line = torch.arange(5.0).unsqueeze(1)
    >>> share_within(line + 1.25, line, k=1).value
    0.8
    """
    if k < 1:
        raise UnfitFeatures(f"k counts neighbors and must be at least 1, not {k}; the paper takes {NEIGHBORS}")
    samples, others = checked_pair("precision and recall", samples, others, k + 1)
    return Rate.of(_inside(samples, others, _radii(others, k, chunk), chunk), len(samples), level)


class _Within(FeatureMetric):
    """Uses as many true images as there are images: both numbers grow with the size of the spanning set."""

    better = "higher"
    percent = True
    fewest = NEIGHBORS + 1
    bounds = (0.0, 1.0)


@dataclass(frozen=True)
class Precision(_Within):
    """The share of images that lie among true images."""

    name = label = "precision"
    meaning = "share of images that lie among true images of the target"
    answers: ClassVar[Mapping[Situation, float]] = {"equal": 1.0, "far": 0.0, "repeated": 1.0, "constant": 1.0}

    def of(self, features: Tensor, reference: Tensor) -> Measurement:
        return share_within(features, reference[: len(features)]).measured()


@dataclass(frozen=True)
class Recall(_Within):
    """The share of true images that lie among the images."""

    name = label = "recall"
    meaning = "share of true images of the target that lie among the images"
    answers: ClassVar[Mapping[Situation, float]] = {"equal": 1.0, "far": 0.0, "constant": 1.0}

    def of(self, features: Tensor, reference: Tensor) -> Measurement:
        return share_within(reference[: len(features)], features).measured()
