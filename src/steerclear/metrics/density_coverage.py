"""Density and coverage: how many true neighborhoods an image lies in, and how many of them hold an image."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..core.errors import UnfitFeatures
from ..core.laboratory import Measurement
from ..core.metric import FeatureMetric, Situation
from .estimates import CHUNK, INTERVAL_NEEDS, LEVEL, Estimate, Rate, checked_pair, distances, jackknife

NEIGHBORS = 5
"""Which neighbor a ball reaches to: the paper's. Of as many images as true ones coverage then expects 97 %."""

GROUPS = 20


@dataclass(frozen=True)
class DensityCoverage:
    """How densely images lie among true ones, and how many true ones they cover.

    Args:
        density: mean over the images of the true balls that hold it, over k; 1 is expected of true images, no upper bound.
        coverage: share of true balls that hold an image, in [0, 1].
    """

    density: Estimate
    coverage: Estimate


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

    The intervals are jackknifes that leave out every 20th sample of both sets at a time: they include the chance of the images
    and that of the balls. That of the coverage is at least as wide as Wilson's, because a coverage of 1 has no spread.

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
    groups = min(GROUPS, len(real), len(generated))
    radii = _radii(real, k, groups, chunk)
    density, coverage = _measured(real, generated, radii, chunk)
    wilson = Rate.of(round(float(coverage[0]) * len(real)), len(real), level)
    if groups < INTERVAL_NEEDS or len(real) * (groups - 1) // groups <= k:
        covered = Estimate(wilson.value, wilson.low, wilson.high)
        return DensityCoverage(Estimate(float(density[0]) / k, None, None), covered)
    reach = jackknife(wilson.value, coverage[1:], level)
    assert reach.low is not None  # there are enough groups
    assert reach.high is not None
    covered = Estimate(wilson.value, max(0.0, min(wilson.low, reach.low)), min(1.0, max(wilson.high, reach.high)))
    within = jackknife(float(density[0]) / k, density[1:] / k, level)
    return DensityCoverage(replace(within, low=max(0.0, within.low or 0.0)), covered)


def _radii(real: Tensor, k: int, groups: int, chunk: int) -> Tensor:
    """Distance of each true sample to its k-th nearest other, of all and without each group, ``[1 + groups, n]``."""
    found = []
    place = torch.arange(len(real), device=real.device) % groups
    for some in real.split(chunk):
        # a group has one in twenty of the neighbors: four times as many as are needed are enough without it
        near = distances(some, real).topk(min(4 * (k + 1), len(real)), dim=1, largest=False)
        radii = [near.values[:, k]]  # each sample is its own nearest neighbor, at distance 0
        for group in range(groups):
            reached = (place[near.indices] != group).cumsum(1) > k
            reached[:, -1] = True
            radii.append(near.values.gather(1, reached.int().argmax(1, keepdim=True)).squeeze(1))
        found.append(torch.stack(radii))
    return torch.cat(found, 1)


def _measured(real: Tensor, generated: Tensor, radii: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Mean number of balls that hold an image, and share of balls that hold one: of all, and without each group of both."""
    groups = len(radii) - 1
    of_real, of_generated = (torch.arange(len(one), device=real.device) % groups for one in (real, generated))
    holds = torch.zeros(1 + groups, dtype=torch.float64)
    covered = torch.zeros(1 + groups, len(real), dtype=torch.bool, device=real.device)
    for some, places in zip(generated.split(chunk), of_generated.split(chunk), strict=True):
        apart = distances(some, real)
        for group, reach in enumerate(radii):
            inside = apart <= reach
            if group:
                inside = inside[places != group - 1] & (of_real != group - 1)
            holds[group] += float(inside.sum())
            covered[group] |= inside.any(0)
    images = torch.cat([torch.tensor([len(generated)]), len(generated) - of_generated.cpu().bincount(minlength=groups)])
    true = torch.cat([torch.tensor([len(real)]), len(real) - of_real.cpu().bincount(minlength=groups)])
    return holds / images.clamp(min=1), covered.sum(1).cpu() / true.clamp(min=1)


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
        return density_coverage(reference[: len(features)], features).coverage.measured("jackknife")
