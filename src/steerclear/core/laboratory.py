"""What a laboratory promises: who says what an image shows, and what the truth is."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from .settings import Configurable

Role = Literal["concept", "rate", "score", "cost"]
Better = Literal["lower", "higher", "truth"]

UNSURE = (0.2, 0.8)
"""Between these probabilities a laboratory is unsure whether a concept is in an image."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Measurement(Frozen):
    """One number with its interval.

    Attributes:
        value: the estimate.
        low, high: 95 % interval; None without one, as for fewer than eight images.
        interval: how the interval was made, or None.
        truth: what a perfect answer to the question would give, where known.
        truth_low, truth_high: 95 % interval of the truth, where it was measured on images; None where it is exact.
        uncorrected: the number before the expected contribution of chance was subtracted; None where nothing was.
        by_chance: the mean of ``uncorrected`` over as many true images.
    """

    value: float
    low: float | None = None
    high: float | None = None
    interval: Literal["wilson", "bootstrap", "jackknife"] | None = None
    truth: float | None = None
    truth_low: float | None = None
    truth_high: float | None = None
    uncorrected: float | None = None
    by_chance: float | None = None

    @property
    def beside_truth(self) -> tuple[float, float] | None:
        """95 % interval of the difference to the truth; None where one of the two is not known.

        Where the truth was measured too, it is the hybrid score interval (method 10 of Newcombe 1998, Interval estimation for the
        difference between independent proportions), which for rates is made of their Wilson intervals [l, u] and [l', u']:

            d - sqrt((p - l)^2 + (u' - p')^2)  ...  d + sqrt((u - p)^2 + (p' - l')^2),    d = p - p'
        """
        if self.low is None or self.high is None or self.truth is None:
            return None
        low = self.truth if self.truth_low is None else self.truth_low
        high = self.truth if self.truth_high is None else self.truth_high
        difference = self.value - self.truth
        return (
            difference - math.hypot(self.value - self.low, high - self.truth),
            difference + math.hypot(self.high - self.value, self.truth - low),
        )


class Column(Frozen):
    """One number that is measured for every method.

    Attributes:
        name: unique key.
        label: for people.
        meaning: in words.
        percent: whether it is a share in [0, 1], shown as a percentage.
        role: "concept": how often something shows that the negative prompts name; "rate": how often something else shows;
            "score": a statistic of the set; "cost": what it took.
        better: which way is good ("truth": nearer to it); None for a number that only describes.
        side_effect: whether it measures how far everything but the concept moved. A summary quotes the first that was measured.
        detail: whether only results.json and the report's full table show it, and the terminal's tables do not.
    """

    name: str
    label: str
    meaning: str
    percent: bool = False
    role: Role
    better: Better | None = None
    side_effect: bool = False
    detail: bool = False


class Judged(Protocol):
    """What a laboratory may know of a model: its name, its folder (None for a pipeline without files), the pipeline."""

    @property
    def name(self) -> str: ...
    @property
    def folder(self) -> Path | None: ...
    @property
    def pipe(self) -> Any: ...


@dataclass(frozen=True)
class Asked:
    """A question, as far as a laboratory judges it.

    Attributes:
        prompt: what the images should show.
        negative_prompts: what they should not show.
        height, width: of every image in pixels; None for the model's own.
        watch: what else is to be looked for, in words; None for what the laboratory looks for by itself.
    """

    prompt: str
    negative_prompts: tuple[str, ...] = ()
    height: int | None = None
    width: int | None = None
    watch: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Seen:
    """What a judge sees in a set of images.

    Attributes:
        shown: integers by attribute or concept, ``[n]``; those that a "concept" or "rate" column counts have its name.
        probabilities: the judge's probability that a concept is there, by concept, ``[n]``, in [0, 1].
        features: feature vectors, ``[n, width]``; None where the judge has none.
    """

    shown: dict[str, Tensor]
    probabilities: dict[str, Tensor] = field(default_factory=dict)
    features: Tensor | None = None


@dataclass(frozen=True)
class Truth:
    """What images of a question should show, as a judge sees it.

    Attributes:
        target: what the images are compared with, in words.
        rates: how often each indicator shows, in [0, 1], by name.
        features: of m true images, ``[m, width]``; None where the judge has none.
        perfect: of other true images, as many as are measured where there are so many: a perfect answer.
        images: behind the rates; None where they are exact.
        shown: whether each of those images shows each thing, bool ``[images]`` by name; None where the rates are exact.
    """

    target: str
    rates: Mapping[str, float]
    features: Tensor | None = None
    perfect: Tensor | None = None
    images: int | None = None
    shown: Mapping[str, Tensor] | None = None


class Judge(ABC):
    """A laboratory at one question."""

    @property
    def target(self) -> str | None:
        """What the images are compared with, in words; None without a known truth."""
        return None

    @property
    def features(self) -> str | None:
        """What its features are, in words; None where it has none."""
        return None

    @property
    def changed(self) -> tuple[str, ...]:
        """What the question asked to change: names of indicators, or attributes for all their levels. Not collateral."""
        return tuple(column.name for column in self.columns() if column.role == "concept")

    def indicators(self, seen: Seen) -> dict[str, Tensor]:
        """Whether each image shows each thing that counts, bool ``[n]`` by name: the "concept" and "rate" columns."""
        names = [column.name for column in self.columns() if column.role in ("concept", "rate")]
        return {name: seen.shown[name] > 0 for name in names}

    def errors(self) -> dict[str, float]:
        """How often this judge errs, in [0, 1], by column, where that is known; see :attr:`error_source`."""
        return {}

    @property
    def error_source(self) -> str:
        """On what :meth:`errors` was measured, in words."""
        return ""

    @abstractmethod
    def columns(self) -> list[Column]:
        """What is measured, in order: the concepts first."""

    @abstractmethod
    def see(self, images: Tensor) -> Seen:
        """What uint8 images show, ``[n, 3, height, width]``."""

    @abstractmethod
    def measure(self, seen: Seen) -> dict[str, Measurement]:
        """A number per column for one set of images; columns that need more images are left out."""

    def notes(self, images: int) -> list[str]:
        """Sentences that a reader of the measurements should know, given ``images`` per method."""
        return []


@dataclass(frozen=True)
class ThroughAnother(Judge):
    """What a judge that sees through another one has in common with it; a subclass says what is its own.

    Args:
        judge: who sees.
    """

    judge: Judge

    @property
    def target(self) -> str | None:
        return self.judge.target

    @property
    def features(self) -> str | None:
        return self.judge.features

    @property
    def changed(self) -> tuple[str, ...]:
        return self.judge.changed

    def indicators(self, seen: Seen) -> dict[str, Tensor]:
        return self.judge.indicators(seen)

    def errors(self) -> dict[str, float]:
        return self.judge.errors()

    @property
    def error_source(self) -> str:
        return self.judge.error_source

    def columns(self) -> list[Column]:
        return self.judge.columns()

    def see(self, images: Tensor) -> Seen:
        return self.judge.see(images)

    def measure(self, seen: Seen) -> dict[str, Measurement]:
        return self.judge.measure(seen)

    def notes(self, images: int) -> list[str]:
        return self.judge.notes(images)


class Laboratory(Configurable, ABC):
    """The contract: a frozen dataclass; one file on the shelf ``laboratories`` is one entry.

    Class attributes:
        name: on the command line, for ``--judge``.
        by_default: whether it may judge without being asked for; False for one that would load another model.
    """

    shelf: ClassVar[str] = "laboratories"
    kind: ClassVar[str] = "laboratory"
    name: ClassVar[str]
    by_default: ClassVar[bool] = True

    @abstractmethod
    def refuses(self, model: Judged, asked: Asked) -> str | None:
        """Why images of this model cannot be judged on this question, as a clause; None if they can."""

    @abstractmethod
    def judge(self, model: Judged, asked: Asked) -> Judge:
        """The judge of a question that is not refused.

        Raises:
            UnsupportedModel: what the judge needs is damaged; raised before any image is made.
        """

    def prior(self, model: Judged, prompt: str, negative_prompt: str) -> float | None:
        """How often this model shows the concept without guidance, in (0, 1); None if the laboratory does not know.

        All laboratories are asked, whichever judges the images, so the choice of a judge changes no image.
        """
        return None

    def second(self) -> "Laboratory":
        """Another laboratory of the same questions that shares no weights with this one; this one if there is none.

        Who acts on images (flags, previews) asks the second, who measures them asks the first: images that were chosen by a
        laboratory look better to it than they are.
        """
        return self
