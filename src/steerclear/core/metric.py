"""What a metric promises: one number about a set of images, with its interval and what a perfect answer would give."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from .laboratory import Better, Column, Measurement
from .settings import Configurable

Situation = Literal["equal", "far", "repeated", "constant"]
"""Sets for which a metric's answer is known: the images are the true ones; every image is far from all true ones, and shows
what none of them shows; all images are one of the true ones; all images, the true ones too, are one image."""


@dataclass(frozen=True)
class Compared:
    """A set of n images beside true ones, as a metric sees them.

    Attributes:
        features: feature vectors of the images, ``[n, width]``.
        reference: of m true images, ``[m, width]``, m at least n where there are so many.
        perfect: of n other true images, ``[n, width]``: a perfect answer. Fewer where there are not so many.
        shown: attribute -> whether each image shows it, bool, ``[n]``.
        truth: attribute -> its rate, in [0, 1].
        concept: what the question asked to change: names of ``truth``, or attributes for all their levels.
        truth_images: the images on which the truth was measured; None for an exact truth.
        truth_shown: what each of them shows, as ``shown``, ``[truth_images]``; None for an exact truth.
    """

    features: Tensor
    reference: Tensor
    perfect: Tensor
    shown: Mapping[str, Tensor]
    truth: Mapping[str, float]
    concept: tuple[str, ...] = ()
    truth_images: int | None = None
    truth_shown: Mapping[str, Tensor] | None = None


@dataclass(frozen=True)
class Metric(Configurable, ABC):
    """The contract: a frozen dataclass; one class in a file of the shelf ``metrics`` is one column of every comparison.

    Class attributes:
        name, label, meaning, percent, better, side_effect, detail: see :class:`~steerclear.core.laboratory.Column`.
        fewest: images that it needs; for fewer there is no number.
        bounds: the least and the greatest value that is possible; None without a bound.
        answers: its exact value by situation, where there is one.
    """

    shelf: ClassVar[str] = "metrics"
    kind: ClassVar[str] = "metric"
    name: ClassVar[str]
    label: ClassVar[str]
    meaning: ClassVar[str]
    better: ClassVar[Better | None] = None
    percent: ClassVar[bool] = False
    side_effect: ClassVar[bool] = False
    detail: ClassVar[bool] = False
    fewest: ClassVar[int] = 1
    bounds: ClassVar[tuple[float | None, float | None]] = (None, None)
    answers: ClassVar[Mapping[Situation, float]] = {}

    @classmethod
    def column(cls) -> Column:
        return Column(name=cls.name, label=cls.label, meaning=cls.meaning, percent=cls.percent, role="score",
                      better=cls.better, side_effect=cls.side_effect, detail=cls.detail)  # fmt: skip

    def fits(self, images: Compared) -> bool:
        """Whether there is something to measure: for images of another kind the column is left out."""
        return True

    @abstractmethod
    def measure(self, images: Compared) -> Measurement:
        """The number of at least :attr:`fewest` images."""


class FeatureMetric(Metric):
    """A metric of feature vectors; its truth is its value for as many true images."""

    @abstractmethod
    def of(self, features: Tensor, reference: Tensor) -> Measurement:
        """The number of a set of images.

        Args:
            features: of the images, ``[n, width]``.
            reference: of true images, ``[m, width]``, m at least n.
        """

    def measure(self, images: Compared) -> Measurement:
        perfect = self.of(images.perfect, images.reference)
        return self.of(images.features, images.reference).model_copy(update={"truth": perfect.value})


def metrics() -> list[Metric]:
    """All metrics, in column order: lower is better, higher is better, nearer to the truth is better."""
    order = ("lower", "higher", "truth", None)
    return sorted((cls() for cls in Metric.known().values()), key=lambda metric: order.index(metric.better))
