"""What a benchmark promises; a figure and the bound that it is held to; what was measured, as data."""

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
"""Called with a stage's name as it begins; what it returns is called as the stage goes on."""


def unseen(stage: str) -> OnProgress:
    """For whom nobody watches."""
    return lambda done, total: None


class Claim(BaseModel):
    """One figure and its bound.

    Attributes:
        claim: in words.
        value, low, high: the figure and its 95 % interval (None where it has none).
        bound: what it is held to, as "<= 0.06".
        met: whether the value keeps the bound.
    """

    model_config = ConfigDict(frozen=True)

    claim: str
    value: float
    low: float | None = None
    high: float | None = None
    bound: str
    met: bool


class Benchmark(BaseModel):
    """Claims, and what they were measured on.

    Attributes:
        steerclear_version: of the program.
        model: a model's name, or in words what was built for the purpose.
        model_digest: what its files are; None without files.
        weak_digest: what the files of its weak network are; None where none was asked.
        scheduler, num_inference_steps, seeds: of every run that does not say otherwise.
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
        """Write it as JSON; the folder is made if it is missing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, self.model_dump_json(indent=1) + "\n")


@dataclass(frozen=True)
class Experiment(Configurable, ABC):
    """The contract: a frozen dataclass; one in a file of the shelf ``benchmark`` is a command ``steerclear benchmark NAME``.

    Its fields are the command's options, the docstring's first paragraph is its help, and what ``Args:`` says of a field is
    the help of the option.

    Class attributes:
        name: on the command line, and of the JSON file that is written.
    """

    shelf: ClassVar[str] = "benchmark"
    kind: ClassVar[str] = "benchmark"
    name: ClassVar[str]

    @abstractmethod
    def measure(self, folder: Path, on_stage: OnStage) -> Benchmark:
        """All claims.

        Args:
            folder: for images and the like; running again goes on.
            on_stage: see :data:`OnStage`.
        """

    def run(self, folder: Path, on_stage: OnStage = unseen) -> Benchmark:
        """All claims, written to ``<name>.json`` in the folder."""
        found = self.measure(folder, on_stage)
        found.save(folder / f"{self.name}.json")
        return found


def experiments() -> dict[str, type[Experiment]]:
    """All benchmarks there are, by their name on the command line."""
    return entries("benchmark", Experiment)


def at_least(claim: str, bound: float, measured: Measurement | float) -> Claim:
    """A claim that the figure is at least ``bound``."""
    return _claim(claim, measured, f">= {bound:g}", lambda value: value >= bound)


def at_most(claim: str, bound: float, measured: Measurement | float) -> Claim:
    """A claim that the figure is at most ``bound``."""
    return _claim(claim, measured, f"<= {bound:g}", lambda value: value <= bound)


def _claim(claim: str, measured: Measurement | float, bound: str, keeps: Callable[[float], bool]) -> Claim:
    if isinstance(measured, Measurement):
        return Claim(claim=claim, value=measured.value, low=measured.low, high=measured.high, bound=bound,
                     met=keeps(measured.value))  # fmt: skip
    return Claim(claim=claim, value=measured, bound=bound, met=keeps(measured))
