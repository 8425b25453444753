"""The contract of a benchmark; figures, their bounds and what they were measured on, as data."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from .. import __version__
from ..core.laboratory import Measurement
from ..core.settings import Configurable
from ..core.shelf import entries
from ..study.gallery import write_text

OnProgress = Callable[[int, int], None]
"""Called with (done, in all)."""
OnStage = Callable[[str], OnProgress]
"""Called with a stage's name when it begins; returns what is called during the stage."""


def unseen(stage: str) -> OnProgress:
    """An :data:`OnStage` that shows nothing."""
    return lambda done, total: None


class Claim(BaseModel):
    """One figure and its bound.

    Attributes:
        claim: in words.
        value, low, high: the figure and its 95 % interval (None without one).
        bound: such as "<= 0.06".
        met: whether the value satisfies the bound.
    """

    model_config = ConfigDict(frozen=True)

    claim: str
    value: float
    low: float | None = None
    high: float | None = None
    bound: str
    met: bool

    @property
    def interval(self) -> str:
        """The interval in brackets, or ""."""
        return "" if self.low is None else f"[{self.low:.4g}, {self.high:.4g}]"


class Benchmark(BaseModel):
    """Claims, and what they were measured on.

    Attributes:
        steerclear_version: of the program.
        model: a model's name, or a description of one built for the benchmark.
        model_digest, weak_digest: of its files and of its weak network's; None without files, or if unused.
        scheduler, num_inference_steps, seeds: of every run, unless a claim says otherwise.
        claims: the figures.
    """

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    steerclear_version: str = __version__
    model: str
    model_digest: str | None
    weak_digest: str | None = None
    scheduler: str
    num_inference_steps: int
    seeds: str
    claims: list[Claim]

    def save(self, path: Path) -> None:
        """Write it as JSON, and its folder if missing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, self.model_dump_json(indent=1) + "\n")


@dataclass(frozen=True)
class Experiment(Configurable, ABC):
    """The contract of a benchmark: a frozen dataclass on the shelf ``benchmark`` is a command ``steerclear benchmark NAME``.

    Its fields are the options, with help from the docstring: the first paragraph for the command, ``Args:`` for the options.

    Class attributes:
        name: of the command and of the JSON file.
        continues: whether running again goes on with what is in the folder; else everything is measured anew.
    """

    shelf: ClassVar[str] = "benchmark"
    kind: ClassVar[str] = "benchmark"
    name: ClassVar[str]
    continues: ClassVar[bool] = True

    @abstractmethod
    def measure(self, folder: Path, on_stage: OnStage) -> Benchmark:
        """Measure all claims; ``folder`` is for images and the like."""

    def run(self, folder: Path, on_stage: OnStage = unseen) -> Benchmark:
        """Measure all claims and write ``<name>.json`` into the folder."""
        found = self.measure(folder, on_stage)
        found.save(folder / f"{self.name}.json")
        return found


def experiments() -> dict[str, type[Experiment]]:
    """All benchmarks by name."""
    return entries(Experiment.shelf, Experiment)


def at_least(claim: str, bound: float, measured: Measurement | float) -> Claim:
    """A claim that the figure is at least ``bound``."""
    return _claim(claim, measured, f">= {bound:g}", lambda value: value >= bound)


def at_most(claim: str, bound: float, measured: Measurement | float) -> Claim:
    """A claim that the figure is at most ``bound``."""
    return _claim(claim, measured, f"<= {bound:g}", lambda value: value <= bound)


def _claim(claim: str, measured: Measurement | float, bound: str, keeps: Callable[[float], bool]) -> Claim:
    one = measured if isinstance(measured, Measurement) else Measurement(value=measured)
    return Claim(claim=claim, value=one.value, low=one.low, high=one.high, bound=bound, met=keeps(one.value))
