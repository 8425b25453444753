"""What is measured when a model forgets a class: how safe its images are, and how near to the truth the others stay."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from pydantic import BaseModel, ConfigDict

from ..core.laboratory import Measurement
from ..core.shapes import Float, Tensor
from ..metrics.estimates import mean_estimate
from ..metrics.frechet import frechet_distance
from .forget_cells import Looked

SAFE = 0.99
"""The share of images without the class at which ways are compared."""
ROUNDING = 1e-9
"""What is added to a share of a mixture, so that its safety is not below what was asked by a last bit."""
FLOORS = 8
"""Draws behind the Fréchet distance of perfect images."""


class ForClass(BaseModel):
    """One class that is to be forgotten.

    Attributes:
        number: the class.
        safety: share of images without it, as the classifier sees them.
        divergence, divergence_data: KL divergence of the balance of the other classes from the truth's, and from the data's, in
            nats; less what chance adds.
        variation: total variation between that balance and the truth's.
        frechet, frechet_real: Fréchet distance of the classifier's features to those of the truth, and of real images without
            the class; less that of as many images that are drawn from them.
        evaluations: of the network, per image.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    safety: float
    divergence: float
    divergence_data: float
    variation: float
    frechet: float
    frechet_real: float
    evaluations: float


FIGURES = ("safety", "divergence", "divergence_data", "variation", "frechet", "frechet_real")


class Row(BaseModel):
    """One way at one strength: means over the classes, with intervals over them.

    Attributes:
        way, strength, sampler, steps: what was drawn.
        images: per class.
        safety, divergence, divergence_data, variation, frechet, frechet_real: means of those of the classes.
        evaluations: of the network, per image.
        classes: each class.
    """

    model_config = ConfigDict(frozen=True)

    way: str
    strength: float
    sampler: str
    steps: int
    images: int
    safety: Measurement
    divergence: Measurement
    divergence_data: Measurement
    variation: Measurement
    frechet: Measurement
    frechet_real: Measurement
    evaluations: float
    classes: list[ForClass]

    @property
    def setting(self) -> tuple[str, str, int]:
        return self.way, self.sampler, self.steps


def row_of(way: str, strength: float, sampler: str, steps: int, images: int, classes: Sequence[ForClass]) -> Row:
    """The means over classes; at least one."""
    means = {}
    for name in FIGURES:
        values = torch.tensor([getattr(one, name) for one in classes], dtype=torch.float64)
        means[name] = mean_estimate(values).measured("jackknife")
    evaluations = sum(one.evaluations for one in classes) / len(classes)
    return Row(
        way=way, strength=strength, sampler=sampler, steps=steps, images=images, evaluations=evaluations,
        classes=list(classes), **means,
    )  # fmt: skip


def divergence(counts: Float[Tensor, " classes"], truth: Float[Tensor, " classes"]) -> float:
    """KL divergence of a balance of classes from the truth's, in nats, less what chance adds to both.

        sum_k p_k log(p_k / q_k) - (K - 1) / (2 n) - sum_k p_k (1 - q_k) / (2 m q_k)

    p of n images and q of m; K is the number of classes that occur in the images (Miller 1955, Note on the bias of
    information estimates). Unlike :func:`~steerclear.metrics.class_balance.class_divergence` it may be below 0, so that
    its mean over classes is not too large. A class that the truth never shows counts as half an image of it.

    >>> round(divergence(torch.tensor([1e9, 3e9]), torch.tensor([1e9, 1e9])), 6)  # log 2 - 0.562335
    0.130812
    """
    counts, truth = counts.double(), truth.double().clamp(min=0.5)
    n, m = counts.sum().clamp(min=1), truth.sum()
    p, q = counts / n, truth / m
    seen = p > 0
    plain = (p[seen] * (p[seen] / q[seen]).log()).sum()
    return float(plain - (seen.sum().clamp(min=1) - 1) / (2 * n) - (p * (1 - q) / (2 * m * q)).sum())


def variation(counts: Float[Tensor, " classes"], truth: Float[Tensor, " classes"]) -> float:
    """Total variation between two balances, from 0 to 1: half the sum of |p - q|.

    >>> variation(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0]))
    0.25
    """
    return float((counts / counts.sum().clamp(min=1) - truth / truth.sum().clamp(min=1)).abs().sum() / 2)


def counted(labels: Tensor, classes: int, without: int) -> Float[Tensor, " others"]:
    """How often each class but one occurs, ``[classes - 1]``."""
    counts = torch.bincount(labels, minlength=classes).double()
    return torch.cat([counts[:without], counts[without + 1 :]])


@dataclass
class Yardstick:
    """What the images of a model that forgot a class are held against.

    Args:
        own: unguided images of the model.
        real_labels, real_features: of real images.
        classes: how many classes there are.
    """

    own: Looked
    real_labels: Tensor
    real_features: Tensor
    classes: int
    _floors: dict[tuple[str, int, int], float] = field(default_factory=dict)

    def measure(self, number: int, looked: Looked) -> ForClass:
        """All figures of images that are to be without a class."""
        counts = counted(looked.labels, self.classes, number)
        own, real = (counted(labels, self.classes, number) for labels in (self.own.labels, self.real_labels))
        return ForClass(
            number=number, safety=float((looked.labels != number).double().mean()),
            divergence=divergence(counts, own), divergence_data=divergence(counts, real),
            variation=variation(counts, own), frechet=self._apart("own", number, looked.features),
            frechet_real=self._apart("real", number, looked.features),
            evaluations=float(looked.evaluations.double().mean()),
        )  # fmt: skip

    def _without(self, which: str, number: int) -> Tensor:
        labels, features = (
            (self.own.labels, self.own.features) if which == "own" else (self.real_labels, self.real_features)
        )
        return features[labels != number]

    def _apart(self, which: str, number: int, features: Tensor) -> float:
        """The Fréchet distance, less that of as many images of the truth to its other images."""
        truth = self._without(which, number)
        key = which, number, len(features)
        if key not in self._floors:
            generator = torch.Generator().manual_seed(number)
            orders = [torch.randperm(len(truth), generator=generator) for _ in range(FLOORS)]
            # no more than half are taken out, so that some remain to be compared with
            count = min(len(features), len(truth) // 2)
            drawn = [frechet_distance(truth[order[:count]], truth[order[count:]]) for order in orders]
            self._floors[key] = sum(drawn) / FLOORS
        return frechet_distance(features, truth) - self._floors[key]


def at_safety(rows: Sequence[Row], safety: float = SAFE) -> Row | None:
    """A way where it reaches a safety, of its rows at several strengths.

    Between two strengths it is a mixture of both, which a coin for every image would give: its safety is the mean of theirs, its
    divergence at most the mean. A way that is safe at its weakest is taken there.

    Returns:
        None if it is not safe at any strength.
    """
    ordered = sorted(rows, key=lambda row: row.strength)
    if ordered and ordered[0].safety.value >= safety:
        return ordered[0]
    for weaker, stronger in pairwise(ordered):
        low, high = weaker.safety.value, stronger.safety.value
        if low < safety <= high:
            return _between(weaker, stronger, min(1.0, (safety - low) / (high - low) + ROUNDING))
    return None


def _between(weaker: Row, stronger: Row, share: float) -> Row:
    def mixed(one: float, other: float) -> float:
        return one * (1 - share) + other * share

    names = (*FIGURES, "evaluations")
    others = {one.number: one for one in stronger.classes}
    classes = [
        ForClass(number=one.number, **{name: mixed(getattr(one, name), getattr(others[one.number], name)) for name in names})
        for one in weaker.classes
        if one.number in others
    ]  # fmt: skip
    strength = mixed(weaker.strength, stronger.strength)
    return row_of(weaker.way, strength, weaker.sampler, weaker.steps, min(weaker.images, stronger.images), classes)
