"""A benchmark in one file: how exact the draws of a testbed are."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from steerclear.benchmark.claims import Benchmark, Experiment, OnStage, at_most
from steerclear.core.settings import whole
from steerclear.testbeds.spiral import Spiral


@dataclass(frozen=True)
class Draws(Experiment):
    """Whether draws of the spiral show the concept as often as its prior says.

    Args:
        images: draws.
    """

    images: int = 4000

    name: ClassVar[str] = "draws"

    def __post_init__(self) -> None:
        whole("images", self.images, low=1)

    def measure(self, folder: Path, on_stage: OnStage) -> Benchmark:
        done, spiral = on_stage("draws"), Spiral()
        shown = spiral.log_odds(spiral.draws(range(self.images)), 1.0, 0.0).sigmoid().mean()
        done(1, 1)
        claim = at_most("distance of the concept's rate from its prior", 0.03, abs(float(shown) - spiral.prior))
        seeds = f"0-{self.images - 1}"
        return Benchmark(
            model="spiral", model_digest=None, scheduler="none", num_inference_steps=0, seeds=seeds, claims=[claim]
        )
