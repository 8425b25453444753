"""No guidance: the network's own conditional prediction."""

from dataclasses import dataclass
from typing import ClassVar

from ..core.guidance import Guidance
from ..core.laws import Identity, Law, Runs
from ..core.records import Guided, State, Step


@dataclass(frozen=True)
class Unguided(Guidance):
    """The plain conditional prediction.

    Equation:
        D = D(x_t | prompt)

    Its images are samples of what the network learned: the baseline of every guidance.
    """

    name: ClassVar[str] = "unguided"
    paper: ClassVar[str] = "Denoising Diffusion Probabilistic Models, Ho, Jain and Abbeel, 2020, arXiv 2006.11239"
    cost: ClassVar[str] = "1 evaluation per step"

    def branches(self, negatives: int) -> tuple[str, ...]:
        return ("positive",)

    def __call__(self, step: Step, state: State) -> Guided:
        return Guided(step.predict_one("positive"), state)

    @classmethod
    def laws(cls) -> tuple[Law, ...]:
        return Identity(cls()), Runs(cls())
