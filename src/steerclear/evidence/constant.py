"""A posterior that never changes: what a plain negative prompt silently assumes."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from ..core.evidence import Belief, Evidence, Surroundings
from ..core.numerics import logit
from ..core.records import State, Step
from ..core.settings import one_each, probabilities
from ..core.shapes import Prediction


@dataclass(frozen=True)
class ConstantEvidence(Evidence):
    """The same log-odds for every image at every step: the control that a better evidence has to beat.

    Equation:
        L = log(p / (1 - p)), so the weight of the push is p / (1 - p)

    Args:
        posterior: p, strictly between 0 and 1; a tuple has one per negative prompt.

    Raises:
        InvalidSetting: p is outside (0, 1).
    """

    posterior: float | tuple[float, ...] = 0.5

    reads_concept: ClassVar[bool] = False
    name: ClassVar[str] = "constant"
    paper: ClassVar[str] = (
        "the negative prompt of Stable Diffusion, as a case of Dynamic Negative Guidance, arXiv 2410.14398"
    )

    def __post_init__(self) -> None:
        probabilities("posterior", self.posterior)

    def for_concepts(self, count: int) -> tuple[Evidence, ...]:
        return tuple(replace(self, posterior=posterior) for posterior in one_each("posterior", self.posterior, count))

    def begin(self, surroundings: Surroundings) -> State:
        return State()

    def update(self, step: Step, positive: Prediction, concept: Prediction, state: State) -> Belief:
        (posterior,) = one_each("posterior", self.posterior, 1)
        log_odds = torch.full((step.batch_size,), logit(posterior), dtype=torch.float64)
        return Belief(log_odds.to(step.sample.device), state)
