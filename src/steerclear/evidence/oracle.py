"""The exact posterior, on worlds whose truth is known."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ..core.errors import InvalidSetting
from ..core.evidence import Belief, Evidence, Surroundings
from ..core.records import State, Step
from ..core.shapes import Prediction


@dataclass(frozen=True)
class OracleEvidence(Evidence):
    """The world's own log-odds at the point that was reached: only the sampler's error remains.

    Equation:
        L = log p(c | x_t) - log p(not c | x_t), exactly

    Args:
        log_odds: (sample, alpha, sigma) -> ``[batch]``, float64; an exact testbed's ``log_odds``.

    Raises:
        InvalidSetting: ``log_odds`` is not callable.
    """

    log_odds: Callable[[Tensor, Any, Any], Tensor]

    reads_concept: ClassVar[bool] = False
    name: ClassVar[str] = "oracle"
    paper: ClassVar[str] = "the exact posterior of Dynamic Negative Guidance, Koulischer et al., 2025, arXiv 2410.14398"

    def __post_init__(self) -> None:
        if not callable(self.log_odds):
            raise InvalidSetting("log_odds", self.log_odds, "a function of an exact testbed",
                                 "networks have no oracle; use the transition evidence")  # fmt: skip

    def to_config(self) -> dict[str, Any]:
        raise InvalidSetting("evidence", self.name, "one that can be saved", "an oracle exists only with its testbed")

    def begin(self, surroundings: Surroundings) -> State:
        return State()

    def update(self, step: Step, positive: Prediction, concept: Prediction, state: State) -> Belief:
        return Belief(self.log_odds(step.sample, step.alpha, step.sigma), state)
