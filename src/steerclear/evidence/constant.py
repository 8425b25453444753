"""A posterior that never changes: what a plain negative prompt silently assumes."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..belief import Belief, Evidence
from ..errors import InvalidSetting
from ..numerics import logit
from ..records import State, Step


@dataclass(frozen=True)
class ConstantEvidence(Evidence):
    """The same log-odds for every image at every step: the control that a better evidence has to beat.

    Equation:
        L = log(p / (1 - p)), so the weight of the push is p / (1 - p)

    Args:
        posterior: p, strictly between 0 and 1.

    Raises:
        InvalidSetting: p outside of (0, 1).
    """

    posterior: float = 0.5

    name: ClassVar[str] = "constant"
    paper: ClassVar[str] = (
        "the negative prompt of Stable Diffusion, read as Dynamic Negative Guidance, arXiv 2410.14398"
    )

    def __post_init__(self) -> None:
        if not (isinstance(self.posterior, float) and math.isfinite(self.posterior) and 0 < self.posterior < 1):
            raise InvalidSetting("posterior", self.posterior, "between 0 and 1, both excluded")

    def begin(self, batch_size: int) -> State:
        return State()

    def update(self, step: Step, positive: Tensor, concept: Tensor, state: State) -> Belief:
        log_odds = torch.full((step.batch_size,), logit(self.posterior), dtype=torch.float64)
        return Belief(log_odds.to(step.sample.device), state)
