"""Shared by all metrics: an estimate with its interval, the bootstrap, and checks of the input."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from scipy.stats import binomtest
from scipy.stats import t as student
from torch import Tensor

from ..core.errors import TooFewSamples, UnfitFeatures
from ..core.laboratory import Measurement
from ..core.shapes import Float

LEVEL = 0.95
"""Default confidence level of every interval."""

RESAMPLES = 1000
"""Default number of resamples of every bootstrap."""

INTERVAL_NEEDS = 8
"""Fewest samples for an interval based on their spread. One sample has no spread, and that of a few is often far too small:
95 % jackknife intervals for the mean distance of clustered samples cover 64 % with 3 samples, 89 % with 4, 96 % with 8."""

CHUNK = 512
"""Rows of a distance matrix that are kept in memory at once."""


@dataclass(frozen=True)
class Estimate:
    """A number and its confidence interval.

    Args:
        value: the estimate, in the metric's own unit.
        low, high: the interval; None if there are too few samples for one.
    """

    value: float
    low: float | None
    high: float | None

    def measured(self, interval: Literal["bootstrap", "jackknife"], truth: float | None = None) -> Measurement:
        """As a number of a comparison; ``interval`` says how the interval was made."""
        named = None if self.low is None else interval
        return Measurement(value=self.value, low=self.low, high=self.high, interval=named, truth=truth)


@dataclass(frozen=True)
class Rate:
    """The share of images that show something, with Wilson's interval.

    Args:
        count: images that show it, 0 ... total.
        total: images examined, at least 1.
        value: count / total, in [0, 1].
        low, high: the interval, in [0, 1].
    """

    count: int
    total: int
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, count: int, total: int, level: float = LEVEL) -> "Rate":
        """The rate of ``count`` in ``total`` with the score interval of Wilson (1927, JASA 22).

        >>> Rate.of(0, 10).low, round(Rate.of(0, 10).high, 4)
        (0.0, 0.2775)
        """
        if total < 1:
            raise TooFewSamples("a rate", total, 1)
        interval = binomtest(count, total).proportion_ci(level, method="wilson")
        return cls(count, total, count / total, float(interval.low), float(interval.high))

    def measured(self, truth: float | None = None) -> Measurement:
        """As a number of a comparison."""
        return Measurement(value=self.value, low=self.low, high=self.high, interval="wilson", truth=truth)


def checked(metric: str, features: Tensor, needed: int, what: str = "samples") -> Float[Tensor, "n width"]:
    """Check features and return them as float64, ``[n, width]``, on their own device.

    Args:
        metric: name of the metric, for the error.
        features: one vector per sample, ``[n, width]``, finite.
        needed: the smallest n that the metric is defined for.
        what: what the rows are, for the error.

    Raises:
        UnfitFeatures: the shape is not ``[n, width]``, or a number is not finite.
        TooFewSamples: n is below ``needed``.
    """
    if features.ndim != 2 or features.shape[1] == 0:
        raise UnfitFeatures(
            f"{metric} takes features of shape [n, width] and was given {list(features.shape)}; "
            f"flatten each image to one vector of at least one number."
        )
    if len(features) < needed:
        raise TooFewSamples(metric, len(features), needed, what)
    wrong = (~torch.isfinite(features)).any(1).nonzero().flatten().tolist()
    if wrong:
        raise UnfitFeatures(
            f"{metric} takes finite features; {len(wrong)} of {len(features)} rows contain nan or inf, "
            f"the first is row {wrong[0]}. Look at that image, or leave it out of both sets."
        )
    return features.detach().double()


def checked_pair(metric: str, first: Tensor, second: Tensor, needed: int) -> tuple[Tensor, Tensor]:
    """Two sets of features, each checked by :func:`checked`; raises :class:`UnfitFeatures` also if the widths differ."""
    pair = checked(metric, first, needed), checked(metric, second, needed)
    if pair[0].shape[1] != pair[1].shape[1]:
        raise UnfitFeatures(
            f"{metric} compares features of one width and was given {pair[0].shape[1]} and {pair[1].shape[1]}; "
            f"compute both with the same feature extractor."
        )
    return pair


def distances(first: Float[Tensor, "n width"], second: Float[Tensor, "m width"]) -> Float[Tensor, "n m"]:
    """Euclidean distances from differences; the faster matrix product returns 1e-7 for equal points."""
    return torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")


def bootstrap_counts(count: int, resamples: int = RESAMPLES, seed: int = 0) -> Float[Tensor, "resamples count"]:
    """How often each bootstrap resample draws each of ``count`` samples; every row sums to ``count``.

    With these counts, a statistic that is a sum over samples is one matrix product.

    Args:
        count: samples, at least 1.
        resamples: rows, at least 1.
        seed: seed of the resampling; the same seed gives the same interval.

    >>> bootstrap_counts(5, resamples=3).sum(1).tolist()
    [5.0, 5.0, 5.0]
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(count, (resamples, count), generator=generator)
    ones = torch.ones(drawn.shape, dtype=torch.float64)
    return torch.zeros(resamples, count, dtype=torch.float64).scatter_add_(1, drawn, ones)


def percentile_interval(values: Float[Tensor, " resamples"], level: float = LEVEL) -> tuple[float, float]:
    """The central ``level`` interval of bootstrap values (Efron 1979, Bootstrap methods: another look at the jackknife).

    >>> percentile_interval(torch.arange(101.0), level=0.5)
    (25.0, 75.0)
    """
    outside = (1 - level) / 2
    ends = torch.quantile(values.double(), torch.tensor([outside, 1 - outside], dtype=torch.float64))
    return float(ends[0]), float(ends[1])


def jackknife(value: float, left_out: Float[Tensor, " groups"], level: float = LEVEL) -> Estimate:
    """A value and its interval, from values that each leave out one sample or one group of samples (Tukey 1958).

        value -+ t error,    error^2 = (G - 1) / G  sum_g (D_g - mean_g D_g)^2

    with Student's t of G - 1 degrees of freedom. For a mean it is Student's interval.

    Args:
        value: the value from all samples.
        left_out: D_g, the value without group g. With fewer than :data:`INTERVAL_NEEDS` there is no interval.
        level: confidence, in (0, 1).

    >>> jackknife(2.0, torch.tensor([2.5, 2.0, 1.5])).low is None
    True
    """
    groups = len(left_out)
    if groups < INTERVAL_NEEDS:
        return Estimate(value, None, None)
    error = math.sqrt((groups - 1) * float(left_out.double().var(correction=0)))
    reach = float(student.ppf((1 + level) / 2, groups - 1)) * error
    return Estimate(value, value - reach, value + reach)


def mean_estimate(values: Float[Tensor, " samples"], level: float = LEVEL) -> Estimate:
    """The mean with Student's interval.

    >>> mean_estimate(torch.tensor([0.25, 0.75]))
    Estimate(value=0.5, low=None, high=None)
    """
    values, count = values.double(), len(values)
    mean = float(values.mean())
    return jackknife(mean, (count * mean - values) / max(count - 1, 1), level)
