"""Collateral shift: how far everything but the concept moved from its exact truth.

*floor*. Noise has no sign here: n true images have a mean absolute difference above 0, about 0.8 sqrt(p (1 - p) / n) per
attribute. ``floor`` is its expectation, exact by de Moivre's formula for the mean deviation of the binomial distribution
(Diaconis and Zabell 1991, Closed form summation for classical distributions).

*excess* estimates the true shift, the same distance for infinitely many images. Each absolute difference d of a level
with truth p is reduced by the share due to chance, which fades as d exceeds what chance explains:

    |d|  -  0.75 E|X / n - p| exp(-(d / s)^2) / E exp(-((X / n - p) / s)^2),    s^2 = p (1 - p) / n

with X ~ Binomial(n, p). No estimator of |shift| is unbiased everywhere, because |.| has a corner at 0. The bias of this
one is at most 0.26 s per level: it is 0.20 s too high at a shift of 0, 0.26 s too low at a shift of s, and less than
0.05 s off from a shift of 3 s on. (Subtracting the floor is unbiased at 0 and 0.8 s too low from a shift of 2 s on; the
quadrature sqrt(max(0, d^2 - s^2)) is off by up to 0.34 s.) A sum below 0 is reported as 0, which raises the bias at a
shift of 0 to 0.5 s with one attribute, 0.35 s with three and 0.25 s with ten.

*interval of excess*. It is excess -+ c e with the bootstrap's standard error e, and c the quantile of |N(b / e, 1)|, so
that a bias b of 0.26 s per level is covered (Armstrong and Kolesár 2018, Optimal inference in a class of regression
models). It includes 0 where chance may explain everything. In simulations with 1 to 10 attributes, shifts of 0 to 0.2 and
50 to 1,000 images, the 95 % interval covers the true shift in 92 to 100 %.

*a truth that was measured* on m images has chance of its own: d is then X / n - Y / m with Y ~ Binomial(m, p), and s^2, the
expectations, the bootstrap (of both sets of images) and the unseen variance count both. p is the truth's rate in the floor,
and that of all images together in the correction, because a rate that was measured as 0 need not be 0. In simulations with 3
to 8 attributes, 50 to 500 images on either side and shifts of 0 and 0.1, the interval covers the true shift in 92 to 100 %.

*interval of value*. It includes chance, as the value does. A resample differs from the truth more than the images do, so
the bootstrap's percentiles are too high; they are shifted down by the difference between the resamples' mean and the value.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from scipy.stats import binom, foldnorm
from torch import Tensor

from ..core.errors import TooFewSamples, UnfitFeatures
from ..core.laboratory import Measurement
from ..core.metric import Compared, Metric, Situation
from .estimates import INTERVAL_NEEDS, LEVEL, RESAMPLES, Estimate, bootstrap_counts, percentile_interval

BALANCE = 0.75
"""Share of the chance deviation that is subtracted where an attribute is at its truth. With 1 the mean excess of true images
would be 0, and small shifts would be up to 0.41 standard deviations too low; with 0.75 the biases are 0.20 and 0.26."""

LARGEST_BIAS = 0.26
"""Largest bias of an attribute's corrected distance, in standard deviations of its rate (at a shift of one)."""


@dataclass(frozen=True)
class CollateralShift(Estimate):
    """The collateral shift of a set of images, and what chance alone would show.

    Args:
        value: mean distance of the images' rates from the truth, in [0, 1]; 0.05 is five points. Chance is included.
        low, high: the value's bootstrap interval; None if there are too few images for one.
        floor: the exact expectation of ``value`` for the same number of *true* images.
        excess: estimate of the true shift, ``value`` corrected for chance, with its interval.
        by_attribute: each attribute's own distance, in [0, 1], chance included.
    """

    floor: float
    excess: Estimate
    by_attribute: Mapping[str, float]


def _groups(names: Iterable[str]) -> dict[str, list[int]]:
    """Attribute -> columns of its levels; "hair:black" is a level of "hair"."""
    groups: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        groups.setdefault(name.partition(":")[0], []).append(column)
    return groups


def _parts(values: Tensor, columns: list[int]) -> Tensor:
    """An attribute's levels and "none of them", which makes the sum 0, along the last dimension."""
    levels = values[..., columns]
    return torch.cat([levels, -levels.sum(-1, keepdim=True)], -1)


def _expected_deviation(total: int, probability: float) -> float:
    """E|X / n - p| for X ~ Binomial(n, p), by de Moivre: 2 k (1 - p) P(X = k) / n with k = floor(n p) + 1."""
    probability = min(max(probability, 0.0), 1.0)
    k = int(total * probability) + 1
    return 2 * k * (1 - probability) * float(binom.pmf(k, total, probability)) / total


@lru_cache(maxsize=1024)
def _chance(total: int, probability: float, others: int | None = None) -> tuple[float, float, float]:
    """Chance deviations of a rate X / n with X ~ Binomial(n, p) from p, or from Y / m with Y ~ Binomial(m, p).

    Args:
        total: n.
        probability: p.
        others: m; None for deviations from p.

    Returns:
        Standard deviation s, E|X / n - p|, and E exp(-((X / n - p) / s)^2), which is 1 if s is 0; Y / m in place of p if m is
        given.
    """
    deviation = math.sqrt(max(probability * (1 - probability), 0.0) * (1 / total + (1 / others if others else 0.0)))
    if deviation == 0:
        return 0.0, 0.0, 1.0
    if others:
        (first, weight), (second, other) = _likely(total, probability), _likely(others, probability)
        apart, weights = first[:, None] - second, weight[:, None] * other
        fading = torch.exp(-(apart / deviation).square())
        return deviation, float((weights * apart.abs()).sum()), float((weights * fading).sum())
    counts = range(total + 1)
    squares = ((torch.tensor(counts, dtype=torch.float64) / total - probability) / deviation).square()
    weight = torch.from_numpy(binom.pmf(counts, total, probability))
    return deviation, _expected_deviation(total, probability), float((weight * torch.exp(-squares)).sum())


def _likely(total: int, probability: float) -> tuple[Tensor, Tensor]:
    """The rates of a binomial number of images, and their probabilities, without those below 1e-12."""
    low, high = binom.ppf(1e-12, total, probability), binom.ppf(1 - 1e-12, total, probability)
    counts = torch.arange(max(int(low), 0), min(int(high), total) + 1, dtype=torch.float64)
    return counts / total, torch.from_numpy(binom.pmf(counts.numpy(), total, probability))


def _unseen_variance(rates: Tensor, total: int) -> Tensor:
    """The variance of rates that resampling misses: if no image shows something, no resample does.

    It is the increase of the rates' variance with two more images that show it and two that do not (Agresti and Coull
    1998, Approximate is better than "exact"): 2 / n^2 at a rate of 0, nothing at 1 / 2.
    """
    more = (total * rates + 2) / (total + 4)
    return ((more * (1 - more) - rates * (1 - rates)) / total).clamp(min=0)


def _chosen(
    shown: Mapping[str, Tensor], truth: Mapping[str, float], exclude: str | Iterable[str]
) -> tuple[list[str], Tensor]:
    """The names that count, and which of them each image shows, ``[n, names]``; errors as :func:`collateral_shift`."""
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
    if lengths == {0}:
        raise TooFewSamples("the collateral shift", 0, 1, "images")
    images = torch.stack([shown[name].double() for name in names], 1)
    if not ((images == 0) | (images == 1)).all():
        raise UnfitFeatures("the collateral shift takes 0 or 1 for each attribute of an image; compare levels first")
    return names, images


class _Distance:
    """The distance of rates from the truth over all attributes: as it is, and less what chance adds."""

    def __init__(self, names: list[str], truth: Tensor, total: int, others: int | None = None) -> None:
        self.groups = _groups(names)
        self.share = 1 / (2 * len(self.groups))
        chances = [_chance(total, min(abs(rate), 1.0), others) for rate in self.parts(truth).tolist()]
        self.deviation, self.expected, self.fading = torch.tensor(chances, dtype=torch.float64).T

    def parts(self, rates: Tensor) -> Tensor:
        return torch.cat([_parts(rates, columns) for columns in self.groups.values()], -1)

    def corrected(self, difference: Tensor) -> Tensor:
        fade = torch.exp(-(difference / self.deviation.clamp(min=1e-300)).square()) / self.fading
        return self.share * (difference.abs() - BALANCE * self.expected * fade).sum(-1)


def collateral_shift(
    shown: Mapping[str, Tensor], truth: Mapping[str, float], exclude: str | Iterable[str] = (), *,
    measured_on: Mapping[str, Tensor] | None = None, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0,
) -> CollateralShift:  # fmt: skip
    """Mean absolute difference between the images' rates and the exact truth, over all attributes but the concept.

    For a binary attribute the difference is ``|rate - truth|``. For an attribute with several levels, named
    "hair:black", "hair:brown", ..., it is the total variation distance of its levels

        ( sum over levels of |rate - truth|  +  |sum over levels of (rate - truth)| ) / 2

    whose second term stands for "none of them"; for a single level it is ``|rate - truth|``. So hair counts as much
    as glasses. The value is the mean over attributes; the module explains its floor, excess and intervals.

    Args:
        shown: attribute -> one bool, or 0 or 1, per image, ``[n]``.
        truth: attribute -> its exact rate for the same prompt with the concept absent, in [0, 1].
        exclude: the concept: names as in ``truth``, or attributes ("hat_color") for all their levels.
        measured_on: what the images show on which the truth was measured, as ``shown``, ``[m]``; None for an exact truth.
        level: confidence of the intervals, in (0, 1).
        resamples: number of bootstrap resamples of the images.
        seed: seed of the bootstrap.

    Raises:
        UnfitFeatures: names or lengths do not match, a number is neither 0 nor 1, or no attribute is left.
        TooFewSamples: there is no image.

    >>> images = {"hat": torch.tensor([1, 0, 0, 0]), "glasses": torch.tensor([1, 1, 1, 0])}
    >>> shift = collateral_shift(images, {"hat": 0.25, "glasses": 0.25})
    >>> shift.value, round(shift.floor, 6), dict(shift.by_attribute)
    (0.25, 0.158203, {'hat': 0.0, 'glasses': 0.5})
    >>> shift.excess.low is None  # four images are too few for an interval
    True
    >>> collateral_shift(images, {"hat": 0.25, "glasses": 0.25}, exclude="glasses").value
    0.0
    """
    names, images = _chosen(shown, truth, exclude)
    total, exact = len(images), torch.tensor([truth[name] for name in names], dtype=torch.float64)
    others = None if measured_on is None else _rows(names, measured_on)
    distance, floor = _distance_and_floor(names, exact, images, others)
    parts, share, corrected = distance.parts, distance.share, distance.corrected
    difference = images.mean(0) - exact
    again = bootstrap_counts(total, resamples, seed) @ images / total - exact
    if others is not None:
        again = again - bootstrap_counts(len(others), resamples, seed + 1) @ others / len(others) + exact
    again = parts(again)
    value, resampled = float(share * parts(difference).abs().sum()), share * again.abs().sum(-1)
    by_attribute = {name: float(_parts(difference, own).abs().sum()) / 2 for name, own in distance.groups.items()}
    estimate = max(0.0, float(corrected(parts(difference))))
    if total < INTERVAL_NEEDS:
        return CollateralShift(value, None, None, floor, Estimate(estimate, None, None), by_attribute)
    low, high = percentile_interval(resampled - (resampled.mean() - value), level)
    unseen = 2 * share**2 * _unseen_variance(parts(images.mean(0)).abs(), total).sum()
    if others is not None:
        unseen += 2 * share**2 * _unseen_variance(parts(exact).abs(), len(others)).sum()
    bias = LARGEST_BIAS * float(share * distance.deviation.sum())
    error = math.sqrt(float(corrected(again).var() + unseen))
    reach = error * float(foldnorm.ppf(level, bias / error)) if error > 0 else bias
    excess = Estimate(estimate, max(0.0, estimate - reach), min(1.0, estimate + reach))
    return CollateralShift(value, max(0.0, low), high, floor, excess, by_attribute)


def _rows(names: list[str], shown: Mapping[str, Tensor]) -> Tensor:
    """What each image shows of these names, ``[m, names]``; errors as :func:`collateral_shift`."""
    missing = [name for name in names if name not in shown]
    if missing:
        raise UnfitFeatures(f"the images of the truth were not read for {', '.join(missing)}")
    return torch.stack([shown[name].double() for name in names], 1)


def _distance_and_floor(
    names: list[str], truth: Tensor, images: Tensor, others: Tensor | None
) -> tuple[_Distance, float]:
    """The distance from the truth, and its expectation for as many true images; ``others`` are those of a measured truth."""
    total = len(images)
    if others is None:
        distance = _Distance(names, truth, total)
        return distance, float(distance.share * distance.expected.sum())
    together = torch.cat([images, others]).mean(0)
    true = _Distance(names, truth, total, len(others))
    return _Distance(names, together, total, len(others)), float(true.share * true.expected.sum())


@dataclass(frozen=True)
class Collateral(Metric):
    """How far everything but the concept moved, less what chance adds."""

    name = "collateral_shift"
    label = "collateral shift"
    meaning = (
        "mean absolute difference of all other attributes' rates from the truth, less what as many "
        "true images would show by chance; where the interval reaches 0, chance may be all of it"
    )
    better = "lower"
    percent = True
    side_effect = True
    bounds = (0.0, 1.0)
    answers: ClassVar[Mapping[Situation, float]] = {"equal": 0.0, "far": 1.0, "constant": 0.0}

    def fits(self, images: Compared) -> bool:
        """Whether anything but the concept was read."""
        return any(not {name, name.partition(":")[0]} & set(images.concept) for name in images.truth)

    def measure(self, images: Compared) -> Measurement:
        shift = collateral_shift(images.shown, images.truth, exclude=images.concept, measured_on=images.truth_shown)
        corrected = shift.excess.measured("bootstrap", truth=0.0)
        return corrected.model_copy(update={"uncorrected": shift.value, "by_chance": shift.floor})
