"""Sliced Wasserstein distance: how far one set of samples must be moved to become another, seen along fixed directions."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..core.errors import TooFewSamples
from ..core.laboratory import Measurement
from ..core.metric import FeatureMetric, Situation
from ..core.shapes import Float
from .estimates import INTERVAL_NEEDS, LEVEL, Estimate, checked_pair, jackknife

DIRECTIONS = 64


def directions(width: int, count: int = DIRECTIONS) -> Float[Tensor, "width count"]:
    """Fixed unit vectors in columns, float64: the same for every pair of sets of this width."""
    if width == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    if width == 2:  # evenly over the half circle: the integral over all directions, without its chance
        angles = math.pi * torch.arange(count, dtype=torch.float64) / count
        return torch.stack([angles.cos(), angles.sin()])
    drawn = torch.randn(width, count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return drawn / drawn.norm(dim=0)


def sliced_wasserstein(first: Tensor, second: Tensor) -> float:
    """The mean over fixed directions of the Wasserstein-1 distance between the projections of two sets of equal size.

        SW = mean_u integral |F_u^-1(q) - G_u^-1(q)| dq = mean_u mean_i |x_(i) - y_(i)|

    with x_(i), y_(i) the sorted projections on u. Bonneel, Rabin, Peyré and Pfister, Sliced and Radon Wasserstein barycenters
    of measures, 2015, Journal of Mathematical Imaging and Vision 51. Two finite sets of one distribution have a distance above
    0, of order 1 / sqrt(n).

    Args:
        first, second: samples, ``[n, width]`` each.

    Returns:
        The distance, in the samples' unit.

    Raises:
        TooFewSamples: a set is empty, or smaller than the other.
        UnfitFeatures: a number is not finite or the widths differ.

    >>> sliced_wasserstein(torch.zeros(2, 1), torch.tensor([[3.0], [1.0]]))
    2.0
    """
    one, other = (each.values for each in _ordered(first, second))
    return float((one - other).abs().mean())


def left_out_distances(first: Tensor, second: Tensor, groups: Tensor) -> Float[Tensor, " groups"]:
    """:func:`sliced_wasserstein` without group g of both sets, for each g: what a jackknife needs.

    A bootstrap would not do: resampled sets are farther apart than the sets themselves.

    Args:
        first, second: as for :func:`sliced_wasserstein`, which raises the same errors.
        groups: the group of sample i of both sets, 0 ... G - 1, equally many of each, ``[n]``.
    """
    ordered, values = _ordered(first, second), []
    for group in range(int(groups.max()) + 1):  # a sorted set stays sorted when a group is left out
        kept = [one.values[groups[one.indices] != group].view(len(one.values), -1) for one in ordered]
        values.append((kept[0] - kept[1]).abs().mean())
    return torch.stack(values)


def sliced_wasserstein_estimate(first: Tensor, second: Tensor, *, groups: int = 20, level: float = LEVEL) -> Estimate:
    """:func:`sliced_wasserstein` with a jackknife's interval, for the distance of as many samples: chance is not removed.

    Args:
        first, second: as for :func:`sliced_wasserstein`, which raises the same errors.
        groups: how many groups, at least 8 for an interval; no more than there are samples.
        level: confidence, in (0, 1).
    """
    value, groups = sliced_wasserstein(first, second), min(groups, len(first))
    if groups < INTERVAL_NEEDS:
        return Estimate(value, None, None)
    whole = len(first) // groups * groups  # groups of equal size
    left_out = left_out_distances(first[:whole], second[:whole], torch.arange(whole) % groups)
    return jackknife(value, left_out, level)


@dataclass(frozen=True)
class SlicedWasserstein(FeatureMetric):
    """The mean distance that features must be moved along a direction to become those of true images."""

    name = "sliced_wasserstein"
    label = "sliced Wasserstein"
    meaning = (
        "mean over 64 directions of the Wasserstein distance of features to as many true images; chance is included"
    )
    better = "lower"
    detail = True
    bounds = (0.0, None)
    answers: ClassVar[Mapping[Situation, float]] = {"equal": 0.0, "constant": 0.0}

    def of(self, features: Tensor, reference: Tensor) -> Measurement:
        count = min(len(features), len(reference))
        return sliced_wasserstein_estimate(features[:count], reference[:count]).measured("jackknife")


def _ordered(first: Tensor, second: Tensor) -> list[torch.return_types.sort]:
    """The projections of both sets, sorted along each direction, ``[directions, n]``."""
    pair = checked_pair("the sliced Wasserstein distance", first, second, 1)
    smaller, larger = sorted(map(len, pair))
    if smaller != larger:
        raise TooFewSamples("the sliced Wasserstein distance", smaller, larger, "samples, as many as in the other set,")
    along = directions(pair[0].shape[1])
    return [(one @ along).T.sort(dim=1) for one in pair]
