"""Classifier-free guidance: away from the unconditional prediction."""

from dataclasses import dataclass
from typing import ClassVar

from ..core.guidance import Guidance
from ..core.laws import Identity, Law, Linear, PredictionTypeInvariant, Runs
from ..core.numerics import rescaled
from ..core.records import Guided, State, Step
from ..core.settings import finite


@dataclass(frozen=True)
class ClassifierFreeGuidance(Guidance):
    """Classifier-free guidance.

    Equation:
        D = D_empty + w (D_prompt - D_empty)

    The paper writes the scale as w = 1 + omega.

    Args:
        guidance_scale: w; 1 is the plain conditional prediction, larger values follow the prompt more closely.
        guidance_rescale: from 0 to 1; how far the standard deviation of each guided prediction is brought back to
            the conditional one's.

    Raises:
        InvalidSetting: a scale is not finite, or a rescale is outside [0, 1].
    """

    guidance_scale: float = 3.0
    guidance_rescale: float = 0.0

    name: ClassVar[str] = "cfg"
    paper: ClassVar[str] = (
        "Classifier-Free Diffusion Guidance, Ho and Salimans, 2022, arXiv 2207.12598; rescale: Common Diffusion Noise "
        "Schedules and Sample Steps are Flawed, Lin, Liu, Li and Yang, 2023, arXiv 2305.08891"
    )
    cost: ClassVar[str] = "2 evaluations per step (1 at scale 1)"

    def __post_init__(self) -> None:
        finite("guidance_scale", self.guidance_scale)
        finite("guidance_rescale", self.guidance_rescale, low=0, high=1)

    def branches(self, negatives: int) -> tuple[str, ...]:
        return ("positive",) if self.guidance_scale == 1 else ("empty", "positive")

    def __call__(self, step: Step, state: State) -> Guided:
        if self.guidance_scale == 1:
            return Guided(step.predict_one("positive"), state)
        empty, positive = step.predict("empty", "positive")
        guided = empty + self.guidance_scale * (positive - empty)  # in this order: bit-equal to diffusers
        return Guided(rescaled(guided, positive, self.guidance_rescale), state)

    @classmethod
    def laws(cls) -> tuple[Law, ...]:
        return (
            Identity(cls(1.0)), Runs(cls(1.0)), Runs(cls(3.0)),
            Linear(cls(3.0), (("positive", 3.0), ("empty", -2.0))), PredictionTypeInvariant(cls(3.0)),
        )  # fmt: skip
