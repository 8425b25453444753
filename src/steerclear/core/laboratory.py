"""What a laboratory promises: who says what an image shows, and what the truth is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from .settings import Configurable
from .shelf import entries

UNSURE = (0.2, 0.8)
"""Between these probabilities a laboratory is unsure whether a concept is in an image."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Measurement(Frozen):
    """One number with its interval.

    Attributes:
        value: the estimate.
        low, high: 95 % interval; None where there is none, as of fewer than eight images.
        interval: how the interval was made, or None.
        truth: what a perfect answer to the question would give, where it is known.
        better: which way is good, or None when the number only describes.
        uncorrected: the same number before what chance adds to it was taken off; None where nothing was.
        by_chance: what as many true images would show of ``uncorrected`` on average.
    """

    value: float
    low: float | None = None
    high: float | None = None
    interval: Literal["wilson", "bootstrap", "jackknife"] | None = None
    truth: float | None = None
    better: Literal["lower", "higher", "truth"] | None = None
    uncorrected: float | None = None
    by_chance: float | None = None


class Column(Frozen):
    """One measurement's name for people, what it means, and its unit."""

    name: str
    label: str
    meaning: str
    percent: bool = False


class Judged(Protocol):
    """What a laboratory may know of a model: its name, its files (None for a pipeline without), and the pipeline."""

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
    """

    prompt: str
    negative_prompts: tuple[str, ...] = ()
    height: int | None = None
    width: int | None = None


@dataclass(frozen=True)
class Seen:
    """What a judge sees in a set of images.

    Attributes:
        shown: integers by attribute or concept, ``[n]``.
        probabilities: how sure the judge is that a concept is there, by concept, ``[n]``, in [0, 1].
        features: feature vectors, ``[n, d]``; None where the judge has none.
    """

    shown: dict[str, Tensor]
    probabilities: dict[str, Tensor] = field(default_factory=dict)
    features: Tensor | None = None


class Judge(ABC):
    """A laboratory at one question."""

    target: str | None = None
    """In words, what the images are compared with; None without a known truth."""

    @abstractmethod
    def columns(self) -> list[Column]:
        """What is measured, in order: the concepts first."""

    @abstractmethod
    def see(self, images: Tensor) -> Seen:
        """What uint8 images show, ``[n, 3, height, width]``."""

    @abstractmethod
    def measure(self, seen: Seen) -> dict[str, Measurement]:
        """A number per column, for one set of images."""

    def prior(self, negative_prompt: str) -> float:
        """How often the concept shows without guidance, in (0, 1); 0.5 where nobody knows."""
        return 0.5

    def notes(self) -> list[str]:
        """What a reader of the measurements should know."""
        return []


class Laboratory(Configurable, ABC):
    """The contract: a frozen dataclass; one file on the shelf ``laboratories`` is one entry.

    Class attributes:
        name: on the command line, for ``--judge``.
    """

    shelf: ClassVar[str] = "laboratories"
    kind: ClassVar[str] = "laboratory"
    name: ClassVar[str]

    @abstractmethod
    def refuses(self, model: Judged, asked: Asked) -> str | None:
        """Why images of this model cannot be judged on this question; None where they can."""

    @abstractmethod
    def judge(self, model: Judged, asked: Asked) -> Judge:
        """The judge of a question that is not refused.

        Raises:
            UnsupportedModel: what the judge needs is damaged; said before an image is made.
        """


def laboratories() -> dict[str, type[Laboratory]]:
    """All laboratories there are, by their name on the command line."""
    return entries("laboratories", Laboratory)
