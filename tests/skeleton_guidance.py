"""Guidance towards the prompt with a limit on the step."""

from dataclasses import dataclass
from typing import ClassVar

from steerclear.core.guidance import Guidance
from steerclear.core.laws import Equals, Identity, Law, PredictionTypeInvariant, Runs
from steerclear.core.numerics import norm, over_images
from steerclear.core.records import Guided, State, Step
from steerclear.core.settings import finite
from steerclear.guidance.classifier_free import ClassifierFreeGuidance


@dataclass(frozen=True)
class LimitedGuidance(Guidance):
    """Classifier-free guidance whose push is at most so long.

    Equation:
        D = D_prompt + min(1, limit / |p|) p,   p = (w - 1) (e_prompt - e_empty)

    Args:
        guidance_scale: w; 1 is the plain conditional prediction.
        limit: the longest push, as a norm of noise; at least 0.

    Raises:
        InvalidSetting: a scale that is not finite, or a negative limit.
    """

    guidance_scale: float = 3.0
    limit: float = 10.0

    name: ClassVar[str] = "limited"
    paper: ClassVar[str] = "title, authors, year, arXiv number"
    cost: ClassVar[str] = "2 evaluations per step"

    def __post_init__(self) -> None:
        finite("guidance_scale", self.guidance_scale)
        finite("limit", self.limit, low=0)

    def branches(self, negatives: int) -> tuple[str, ...]:
        return ("positive",) if self.guidance_scale == 1 else ("empty", "positive")

    def __call__(self, step: Step, state: State) -> Guided:
        if self.guidance_scale == 1:
            return Guided(step.predict_one("positive"), state)
        empty, positive = step.predict("empty", "positive")
        push = (self.guidance_scale - 1) * (positive - empty)
        length = norm((self.guidance_scale - 1) * step.noise_difference(positive, empty))
        kept = (self.limit / length.clamp(min=1e-12)).clamp(max=1)
        return Guided(positive + over_images(kept, push) * push, state, {"kept": kept})

    def needs_noise_level(self) -> bool:
        return self.guidance_scale != 1

    @classmethod
    def laws(cls) -> tuple[Law, ...]:
        return (
            Identity(cls(1.0)),
            Runs(cls(3.0)),
            Equals(cls(3.0, 1e9), ClassifierFreeGuidance(guidance_scale=3.0)),
            PredictionTypeInvariant(cls(3.0, 1.0)),
        )
