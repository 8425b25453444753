"""Collateral shift: how far everything but the concept moved from its exact truth."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from scipy.stats import binom
from torch import Tensor

from ..errors import TooFewSamples, UnfitFeatures
from .estimates import LEVEL, RESAMPLES, Estimate, bootstrap_counts, percentile_interval


@dataclass(frozen=True)
class CollateralShift(Estimate):
    """The collateral shift of a set of images, and what chance alone would show.

    Args:
        value: mean distance of the images' rates from the truth, in [0, 1]; 0.05 is five points.
        low: lower end of the bootstrap interval.
        high: upper end of the bootstrap interval.
        floor: the exact expected value of the same quantity for as many *true* images. Only what lies above it
            is shift.
        by_attribute: each attribute's own distance, in [0, 1].
    """

    floor: float
    by_attribute: Mapping[str, float]

    @property
    def excess(self) -> float:
        """``value - floor``: 0 on average for true images; for others about the true shift, rather less than more."""
        return self.value - self.floor


def _groups(names: Iterable[str]) -> dict[str, list[int]]:
    """Attribute -> columns of its levels; "hair:black" is a level of "hair"."""
    groups: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        groups.setdefault(name.partition(":")[0], []).append(column)
    return groups


def _total_variation(difference: Tensor, columns: list[int]) -> Tensor:
    """Half the absolute differences of an attribute's levels and of "none of them", over the last dimension."""
    levels = difference[..., columns]
    return (levels.abs().sum(-1) + levels.sum(-1).abs()) / 2


def _expected_deviation(total: int, probability: float) -> float:
    """E|X / n - p| for X ~ Binomial(n, p), by de Moivre: 2 k (1 - p) P(X = k) / n with k = floor(n p) + 1."""
    probability = min(max(probability, 0.0), 1.0)
    k = int(total * probability) + 1
    return 2 * k * (1 - probability) * float(binom.pmf(k, total, probability)) / total


def collateral_shift(
    shown: Mapping[str, Tensor],
    truth: Mapping[str, float],
    exclude: str | Iterable[str] = (),
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> CollateralShift:
    """Mean absolute difference of the images' rates from the exact truth, over all attributes but the concept.

    For a binary attribute the difference is ``|rate - truth|``; for one of several levels, given as
    "hair:black", "hair:brown", ..., it is the total variation distance of its levels

        ( sum over levels of |rate - truth|  +  |sum over levels of (rate - truth)| ) / 2

    whose second term stands for "none of them" and which for a single level is ``|rate - truth|`` again. So hair
    counts as much as glasses. The value is the mean over attributes.

    Noise has no sign here: n true images have a mean absolute difference above 0, about 0.8 sqrt(p (1 - p) / n)
    an attribute. ``floor`` is that expectation, exact by de Moivre's formula for the binomial's mean deviation
    (Diaconis and Zabell 1991, Closed form summation for classical distributions). For the same reason a
    resample differs from the truth more than the images do, so the bootstrap's percentiles lie too high; they are
    moved by as much as the resamples' mean exceeds the value. The interval is one of the value, floor included: read
    ``excess`` for shift.

    Args:
        shown: attribute -> one bool, or 0 or 1, an image, ``[n]``.
        truth: attribute -> its exact rate under the same prompt and with the concept absent, in [0, 1].
        exclude: the concept: names as in ``truth``, or attributes ("hat_color") for all their levels.
        level: confidence of the interval, in (0, 1).
        resamples: of the bootstrap over images.
        seed: of the bootstrap.

    Raises:
        UnfitFeatures: when names or lengths do not fit, a number is neither 0 nor 1, or nothing is left.
        TooFewSamples: when there is no image.

    >>> images = {"hat": torch.tensor([1, 0, 0, 0]), "glasses": torch.tensor([1, 1, 1, 0])}
    >>> shift = collateral_shift(images, {"hat": 0.25, "glasses": 0.25})
    >>> shift.value, round(shift.floor, 6), dict(shift.by_attribute)
    (0.25, 0.158203, {'hat': 0.0, 'glasses': 0.5})
    >>> collateral_shift(images, {"hat": 0.25, "glasses": 0.25}, exclude="glasses").value
    0.0
    """
    excluded = {exclude} if isinstance(exclude, str) else set(exclude)
    known = set(truth) | set(_groups(truth))
    if excluded - known:
        raise UnfitFeatures(f"cannot exclude {sorted(excluded - known)}: the truth names {', '.join(sorted(known))}")
    names = [name for name in truth if name not in excluded and name.partition(":")[0] not in excluded]
    if not names:
        raise UnfitFeatures("nothing is left to measure: every attribute is excluded; exclude the concept alone")
    missing = [name for name in names if name not in shown]
    if missing:
        raise UnfitFeatures(f"the images were not read for {', '.join(missing)}; they were for {', '.join(shown)}")
    lengths = {len(shown[name]) for name in names}
    if len(lengths) > 1:
        raise UnfitFeatures(f"the attributes were read in differing numbers of images: {sorted(lengths)}")
    total = lengths.pop()
    if total == 0:
        raise TooFewSamples("the collateral shift", 0, 1, "images")
    images = torch.stack([shown[name].double() for name in names], 1)
    if not ((images == 0) | (images == 1)).all():
        raise UnfitFeatures("the collateral shift takes 0 or 1 for each attribute of an image; compare levels first")

    exact = torch.tensor([truth[name] for name in names], dtype=torch.float64)
    groups = _groups(names)
    difference = images.mean(0) - exact
    again = bootstrap_counts(total, resamples, seed) @ images / total - exact
    by_attribute = {name: float(_total_variation(difference, columns)) for name, columns in groups.items()}
    resampled = torch.stack([_total_variation(again, columns) for columns in groups.values()]).mean(0)
    floors = []
    for columns in groups.values():
        parts = [*exact[columns].tolist(), float(exact[columns].sum())]
        floors.append(sum(_expected_deviation(total, part) for part in parts) / 2)
    value = sum(by_attribute.values()) / len(groups)
    low, high = percentile_interval(resampled - (resampled.mean() - value), level)
    return CollateralShift(
        value,
        max(0.0, low),
        high,
        floor=sum(floors) / len(groups),
        by_attribute=by_attribute,
    )
