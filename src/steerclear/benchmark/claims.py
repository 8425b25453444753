"""A figure and the bound that it is held to; what a benchmark measured, as data."""

from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from .. import __version__
from ..core.laboratory import Measurement
from ..study.gallery import write_text


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
