"""Density and coverage: how many true neighborhoods an image lies in, and how many of them hold an image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..core.errors import UnfitFeatures
from ..core.laboratory import Measurement
from ..core.metric import FeatureMetric, Situation
from .estimates import CHUNK, LEVEL, Estimate, Rate, checked_pair, distances, mean_estimate

NEIGHBORS = 5
"""Which neighbor a ball reaches to: the paper's. Of as many images as true ones coverage then expects 97 %."""


@dataclass(frozen=True)
class DensityCoverage:
    """How densely images lie among true ones, and how many true ones they cover.

    Args:
        density: mean over the images of the true balls that hold it, over k; 1 is expected of true images, no upper bound.
        coverage: share of true balls that hold an image.
    """

    density: Estimate
    coverage: Rate


def density_coverage(
    real: Tensor, generated: Tensor, *, k: int = NEIGHBORS, level: float = LEVEL, chunk: int = CHUNK
) -> DensityCoverage:
    """Density and coverage with balls around the true samples that reach to their k-th nearest true neighbor.

        density  = 1 / (k m) sum_j sum_i [ |g_j - r_i| <= NN_k(r_i) ]
        coverage = 1 / n     sum_i       [ |g_j - r_i| <= NN_k(r_i) for some j ]

    Naeem, Oh, Uh, Choi and Yoo, Reliable fidelity and diversity metrics for generative models, 2020, arXiv:2002.09797. A true
    outlier with a large ball counts once, whereas it makes everything precise (:mod:`~steerclear.metrics.precision_recall`).
    For images of the true distribution the density expects 1 for any k, n and m, and the coverage
    1 - (n - 1) ... (n - k) / ((n + m - 1) ... (n + m - k)).

    The intervals hold for given balls: Student's for the density, a mean over images; Wilson's for the coverage, a share of
    true samples, which is too wide where the balls overlap.

    Args:
        real, generated: features of both sets, ``[n, width]`` and ``[m, width]``, n above k, m at least 1.
        k: the neighbor that a ball reaches to, at least 1.
        level: confidence of the intervals, in (0, 1).
        chunk: samples compared at once; limits the memory.

    Raises:
        UnfitFeatures: k is below 1, a number is not finite, or the widths differ.
        TooFewSamples: there are at most k true samples, or no image.

    >>> line = torch.arange(4.0).unsqueeze(1)
    >>> both = density_coverage(line, torch.tensor([[0.5], [9.0]]), k=1)
    >>> both.density.value, both.coverage.value
    (1.0, 0.5)
    """
    if k < 1:
        raise UnfitFeatures(f"k counts neighbors and must be at least 1, not {k}; the paper takes {NEIGHBORS}")
    real, generated = checked_pair("density and coverage", real, generated, 1)
    checked_pair("density and coverage", real, real, k + 1)
    # each sample is its own nearest neighbor, at distance 0
    radii = torch.cat([distances(some, real).kthvalue(k + 1, dim=1).values for some in real.split(chunk)])
    holds, covered = [], torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for some in generated.split(chunk):
        inside = distances(some, real) <= radii
        holds.append(inside.sum(1))
        covered |= inside.any(0)
    density = mean_estimate(torch.cat(holds).double() / k, level)
    return DensityCoverage(density, Rate.of(int(covered.sum()), len(real), level))


class _Balls(FeatureMetric):
    """Uses as many true images as there are images, so that the coverage expects the same for any count."""

    detail = True
    fewest = NEIGHBORS + 1


@dataclass(frozen=True)
class Density(_Balls):
    """How densely the images lie among true ones."""

    name = label = "density"
    meaning = "mean number of neighborhoods of true images that an image lies in, over 5; above 1 crowds where true ones are dense"
    better = "truth"
    bounds = (0.0, None)
    answers: ClassVar[Mapping[Situation, float]] = {"equal": 1 + 1 / NEIGHBORS, "far": 0.0}

    def of(self, features: Tensor, reference: Tensor) -> Measurement:
        return density_coverage(reference[: len(features)], features).density.measured("jackknife")


@dataclass(frozen=True)
class Coverage(_Balls):
    """The share of true neighborhoods that hold an image."""

    name = label = "coverage"
    meaning = "share of neighborhoods of true images that hold an image"
    better = "higher"
    percent = True
    bounds = (0.0, 1.0)
    answers: ClassVar[Mapping[Situation, float]] = {"equal": 1.0, "far": 0.0, "constant": 1.0}

    def of(self, features: Tensor, reference: Tensor) -> Measurement:
        return density_coverage(reference[: len(features)], features).coverage.measured()
