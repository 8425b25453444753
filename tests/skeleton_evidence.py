"""An evidence from one look: which of two predictions leaves less noise to explain."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from steerclear.core.evidence import Belief, Evidence, Surroundings
from steerclear.core.numerics import dot, logit
from steerclear.core.records import State, Step
from steerclear.core.settings import finite, probabilities


@dataclass(frozen=True)
class ShorterNoiseEvidence(Evidence):
    """The shorter predicted noise is the likelier one.

    Equation:
        L = log(p / (1 - p)) + clip((|e_prompt|^2 - |e_concept|^2) / 2, -limit, limit)

    Args:
        prior: p, strictly between 0 and 1: how often the concept shows without guidance.
        limit: the most that one look may change, at least 0.

    Raises:
        InvalidSetting: a setting out of range.
    """

    prior: float = 0.5
    limit: float = 3.0

    name: ClassVar[str] = "shorter-noise"
    paper: ClassVar[str] = "title, authors, year, arXiv number"

    def __post_init__(self) -> None:
        probabilities("prior", self.prior)
        finite("limit", self.limit, low=0)

    def begin(self, surroundings: Surroundings) -> State:
        return State()

    def update(self, step: Step, positive: Tensor, concept: Tensor, state: State) -> Belief:
        prompt, other = step.noise(positive).double(), step.noise(concept).double()
        change = ((dot(prompt, prompt) - dot(other, other)) / 2).clamp(-self.limit, self.limit)
        return Belief(logit(self.prior) + change, state)
