"""The negative prompt as Stable Diffusion does it, and with a weight of its own beside CFG."""

from dataclasses import dataclass
from typing import ClassVar

from ..errors import InvalidSetting
from ..numerics import rescaled
from ..records import Guided, State, Step
from ..settings import finite
from .base import Equals, Guidance, Identity, Law, Linear, NoPushWhenAbsent, PredictionTypeInvariant, Runs, built


@dataclass(frozen=True)
class NegativePromptGuidance(Guidance):
    """A constant push away from the negative prompt.

    Equations:
        D = D_neg + w (D_prompt - D_neg)                                   negative_scale = None (Stable Diffusion)
        D = D_empty + w (D_prompt - D_empty) - v sum_k (D_neg_k - D_empty)   negative_scale = v

    In the first the negative takes the place of the unconditional prediction, so one number sets how hard the prompt is
    followed and how hard the negative is fled. In the second the negatives have a weight of their own, and there may be
    several (three branches for one).

    Args:
        guidance_scale: w; 1 is the plain conditional prediction in the first form, where the negative then has no effect.
        negative_scale: v, or None for the first form; 0 is plain CFG.
        guidance_rescale: as for :class:`~steerclear.ClassifierFreeGuidance`.

    Raises:
        InvalidSetting: a scale that is not finite, a rescale outside of [0, 1], or several negatives in the first form.
    """

    guidance_scale: float = 3.0
    negative_scale: float | None = None
    guidance_rescale: float = 0.0

    name: ClassVar[str] = "negative"
    paper: ClassVar[str] = (
        "Compositional Visual Generation with Composable Diffusion Models, Liu, Li, Du, Torralba and Tenenbaum, 2022, "
        "arXiv 2206.01714; Stable Diffusion's negative_prompt in diffusers"
    )
    cost: ClassVar[str] = "2 evaluations a step; 3 with a negative_scale (1 more a further negative)"
    uses_negative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        finite("guidance_scale", self.guidance_scale)
        if self.negative_scale is not None:
            finite("negative_scale", self.negative_scale)
        finite("guidance_rescale", self.guidance_rescale, low=0, high=1)

    def negative_has_no_effect(self) -> str | None:
        if self.negative_scale is None and self.guidance_scale == 1:
            return "at guidance_scale 1 the negative prompt's share is exactly 0; raise guidance_scale, or set negative_scale"
        return "negative_scale is 0" if self.negative_scale == 0 else None

    def __call__(self, step: Step, state: State) -> Guided:
        if self.negative_scale is None:
            return self._in_place_of_empty(step, state)
        return self._beside_empty(step, state, self.negative_scale)

    def _in_place_of_empty(self, step: Step, state: State) -> Guided:
        if self.guidance_scale == 1:
            return Guided(step.predict("positive"), state)
        if step.negatives > 1:
            raise InvalidSetting(
                "negative_scale", None, f"a number when there are {step.negatives} negatives",
                "the form without it has room for one: join them with commas",
            )  # fmt: skip
        reference = "negative" if step.negatives else "empty"
        negative, positive = step.predict(reference, "positive")
        guided = negative + self.guidance_scale * (positive - negative)
        return Guided(rescaled(guided, positive, self.guidance_rescale), state)

    def _beside_empty(self, step: Step, state: State, negative_scale: float) -> Guided:
        negatives = step.names("negative") if negative_scale != 0 else []
        if not negatives and self.guidance_scale == 1:
            return Guided(step.predict("positive"), state)
        empty, positive, *away = step.predict("empty", "positive", *negatives)
        guided = empty + self.guidance_scale * (positive - empty)
        for negative in away:
            guided = guided - negative_scale * (negative - empty)
        return Guided(rescaled(guided, positive, self.guidance_rescale), state)

    @classmethod
    def laws(cls) -> tuple[Law, ...]:
        return (
            Identity(cls(1.0)),
            Runs(cls(3.0), ("negative", "positive")),
            Runs(cls(3.0, 1.0), ("empty", "positive", "negative")),
            Linear(cls(3.0), (("positive", 3.0), ("negative", -2.0))),
            Linear(cls(3.0, 1.5), (("positive", 3.0), ("empty", -0.5), ("negative", -1.5))),
            Equals(cls(3.0, 0.0), built("ClassifierFreeGuidance", guidance_scale=3.0)),
            NoPushWhenAbsent(cls(3.0)),
            PredictionTypeInvariant(cls(3.0, 1.5)),
        )
