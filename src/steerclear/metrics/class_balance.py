"""Class balance: how far the shares of classes are from the true ones, where an image shows one class."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from scipy.stats import binom
from torch import Tensor

from ..core.errors import TooFewSamples, UnfitFeatures
from ..core.laboratory import Measurement
from ..core.metric import Compared, Metric, Situation
from .collateral import collateral_shift
from .estimates import INTERVAL_NEEDS, LEVEL, RESAMPLES, Estimate, percentile_interval


@dataclass(frozen=True)
class ClassDivergence(Estimate):
    """The Kullback-Leibler divergence of the images' classes from the true ones.

    Args:
        value: the estimate, less what chance adds, at least 0, in nats.
        low, high: its bootstrap interval; None if there are too few images for one.
        uncorrected: the divergence of the counted shares.
        by_chance: the exact expectation of ``uncorrected`` for as many true images.
    """

    uncorrected: float
    by_chance: float


def _divergence(shares: Tensor, truth: Tensor) -> Tensor:
    """sum p log(p / q) along the last dimension; a share of 0 adds nothing."""
    return -(torch.special.entr(shares) + torch.xlogy(shares, truth)).sum(-1)


def _expected(total: int, truth: Tensor) -> float:
    """The expectation of the divergence of a multinomial's shares from its own probabilities."""
    counts = range(total + 1)
    shares = torch.tensor(counts, dtype=torch.float64) / total
    summed = 0.0
    for probability in truth.tolist():
        weights = torch.from_numpy(binom.pmf(counts, total, probability))
        summed += float((weights * torch.xlogy(shares, shares / probability)).sum())
    return summed


def class_divergence(
    counts: Tensor, truth: Tensor, *, truth_images: int | None = None, level: float = LEVEL,
    resamples: int = RESAMPLES, seed: int = 0,
) -> ClassDivergence:  # fmt: skip
    """The Kullback-Leibler divergence of shares of classes from the true ones.

        KL = sum_c p_c log(p_c / q_c) - (K - 1) / 2n - (K - 1) / 2m,    p_c = n_c / n

    The two terms are the bias of order 1/n of counted shares (Miller 1955, Note on the bias of information estimates), the
    second where the truth was counted in m images too. A result below 0 is 0. The interval is the bootstrap's, whose mean is
    moved to the estimate, because a resample is farther from the truth than the images are; it is cut at 0.

    Args:
        counts: images of each of K classes, ``[K]``, n in all.
        truth: true shares of these classes, above 0; they are divided by their sum.
        truth_images: m; None for an exact truth.
        level: confidence, in (0, 1).
        resamples, seed: of the bootstrap.

    Raises:
        TooFewSamples: no image shows one of the classes.
        UnfitFeatures: fewer than two classes, a true share that is not above 0, or not as many counts as shares.

    >>> half = class_divergence(torch.tensor([100, 0]), torch.tensor([0.5, 0.5]))
    >>> round(half.uncorrected, 4), round(half.value, 4)  # log 2, less 1 / 200
    (0.6931, 0.6881)
    """
    counts, truth = counts.double(), truth.double()
    if counts.shape != truth.shape or counts.ndim != 1 or len(counts) < 2 or not bool((truth > 0).all()):
        raise UnfitFeatures(
            f"a class balance takes counts and shares above 0 of at least two classes, as many of both, and was given "
            f"{counts.tolist()} and {truth.tolist()}; leave out classes that the truth does not have"
        )
    total = int(counts.sum())
    if total == 0:
        raise TooFewSamples("the class balance", 0, 1, "images of its classes")
    shares, truth = counts / total, truth / truth.sum()
    bias = (len(counts) - 1) / 2 * (1 / total + (1 / truth_images if truth_images else 0))
    plain = float(_divergence(shares, truth))
    value, chance = max(0.0, plain - bias), _expected(total, truth)
    if total < INTERVAL_NEEDS:
        return ClassDivergence(value, None, None, plain, chance)
    generator = torch.Generator().manual_seed(seed)

    def again(of: Tensor, number: int) -> Tensor:
        drawn = torch.multinomial(of, resamples * number, replacement=True, generator=generator).view(resamples, number)
        return torch.zeros(resamples, len(of), dtype=torch.float64).scatter_add_(
            1, drawn, torch.ones_like(drawn).double()
        )

    others = truth if truth_images is None else (again(truth, truth_images) + 0.5)  # none drawn is not impossible
    divergences = _divergence(again(shares, total) / total, others / others.sum(-1, keepdim=True))
    low, high = percentile_interval(divergences - divergences.mean() + (plain - bias), level)
    return ClassDivergence(value, max(0.0, low), max(0.0, high), plain, chance)


class _Balance(Metric):
    """Of the classes that the truth has and the question did not ask to change; images of others do not count."""

    better = "lower"
    detail = True
    answers: ClassVar[Mapping[Situation, float]] = {"equal": 0.0}

    def fits(self, images: Compared) -> bool:
        """Whether the names are classes: each image shows at most one, and the true shares sum to 1."""
        names = _classes(images)
        if len(names) < 2 or abs(sum(images.truth.values()) - 1) > 1e-3:
            return False
        shown = torch.stack([images.shown[name].bool() for name in images.truth if name in images.shown], 1)
        return bool((shown.sum(1) <= 1).all()) and bool(shown.any())


def _classes(images: Compared) -> list[str]:
    def is_other(name: str) -> bool:
        return name not in images.concept and name.partition(":")[0] not in images.concept

    return [name for name, share in images.truth.items() if share > 0 and is_other(name) and name in images.shown]


def _among(shown: Mapping[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    """What images of the classes show, as levels of one attribute; other images are left out."""
    classes = torch.stack([shown[name].bool() for name in names], 1)
    among = classes[classes.any(1)]
    return {f"class:{name}": among[:, place] for place, name in enumerate(names)}


def _shares(images: Compared, names: list[str]) -> dict[str, float]:
    """The true shares among images of the classes."""
    total = sum(images.truth[name] for name in names)
    return {f"class:{name}": images.truth[name] / total for name in names}


@dataclass(frozen=True)
class BalanceDivergence(_Balance):
    """How much information the classes lost: the Kullback-Leibler divergence of their shares."""

    name = "class_divergence"
    label = "class divergence"
    meaning = (
        "Kullback-Leibler divergence of the other classes' shares from the true ones, in nats, less what chance adds"
    )
    bounds = (0.0, None)

    def measure(self, images: Compared) -> Measurement:
        names = _classes(images)
        counts = torch.tensor([int(one.sum()) for one in _among(images.shown, names).values()])
        known = sum(images.truth[name] for name in names)
        behind = None if images.truth_images is None else round(known * images.truth_images)  # images of these classes
        found = class_divergence(counts, torch.tensor(list(_shares(images, names).values())), truth_images=behind)
        corrected = found.measured("bootstrap", truth=0.0)
        return corrected.model_copy(update={"uncorrected": found.uncorrected, "by_chance": found.by_chance})


@dataclass(frozen=True)
class BalanceShift(_Balance):
    """Which share of the images is of another class than it should be: the total variation distance of the shares."""

    name = "class_shift"
    label = "class shift"
    meaning = "total variation distance of the other classes' shares from the true ones, less what chance adds"
    percent = True
    bounds = (0.0, 1.0)

    def measure(self, images: Compared) -> Measurement:
        names = _classes(images)
        measured_on = None if images.truth_shown is None else _among(images.truth_shown, names)
        shift = collateral_shift(_among(images.shown, names), _shares(images, names), measured_on=measured_on)
        corrected = shift.excess.measured("bootstrap", truth=0.0)
        return corrected.model_copy(update={"uncorrected": shift.value, "by_chance": shift.floor})
