"""The negative prompt as Stable Diffusion does it, and with a weight of its own beside CFG."""

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from ..core.denoiser import numbered
from ..core.errors import InvalidSetting
from ..core.guidance import Guidance
from ..core.laws import Equals, Identity, Law, Linear, NoPushWhenAbsent, PredictionTypeInvariant, Runs
from ..core.numerics import rescaled
from ..core.records import Guided, State, Step
from ..core.settings import any_weight, finite, finite_each, one_each
from .classifier_free import ClassifierFreeGuidance


@dataclass(frozen=True)
class NegativePromptGuidance(Guidance):
    """A constant push away from the negative prompt.

    Equations:
        D = D_empty + w (D_prompt - D_empty) - sum_k v_k (D_neg_k - D_empty)
        D = D_neg + w (D_prompt - D_neg)            negative_scale = None: v = w - 1, where D_empty cancels

    The second is Stable Diffusion's negative prompt: the negative takes the place of the unconditional prediction, so one
    number sets how hard the prompt is followed and how hard the negative is fled, and two branches are enough. With a
    scale of its own a negative needs three, and there may be several negatives.

    Args:
        guidance_scale: w, the classifier-free scale of the prompt; 1 is off.
        negative_scale: v, the push away from the negative; 0 is off (plain CFG). One number for all negatives, or a tuple
            with one for each. None takes w - 1, as Stable Diffusion does; at w = 1 the negative then has no effect.
        guidance_rescale: as for :class:`~steerclear.ClassifierFreeGuidance`.

    Raises:
        InvalidSetting: a scale that is not finite, a rescale outside of [0, 1], several negatives without a negative_scale,
            or another number of negatives than of scales.
    """

    guidance_scale: float = 3.0
    _: KW_ONLY
    negative_scale: float | tuple[float, ...] | None = None
    guidance_rescale: float = 0.0

    name: ClassVar[str] = "negative"
    paper: ClassVar[str] = (
        "Compositional Visual Generation with Composable Diffusion Models, Liu, Li, Du, Torralba and Tenenbaum, 2022, "
        "arXiv 2206.01714; Stable Diffusion's negative_prompt in diffusers"
    )
    cost: ClassVar[str] = "2 evaluations a step; 3 with a negative_scale (1 more per further negative)"
    uses_negative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        finite("guidance_scale", self.guidance_scale)
        if self.negative_scale is not None:
            finite_each("negative_scale", self.negative_scale)
        finite("guidance_rescale", self.guidance_rescale, low=0, high=1)

    def negative_has_no_effect(self) -> str | None:
        if self.negative_scale is None and self.guidance_scale == 1:
            return "at guidance_scale 1 the negative prompt's share is exactly 0; raise guidance_scale, or set negative_scale"
        return None if self.negative_scale is None or any_weight(self.negative_scale) else "negative_scale is 0"

    def check_negatives(self, count: int) -> None:
        if self.negative_scale is not None:
            self._scales(count)
        elif count > 1 and self.guidance_scale != 1:
            raise InvalidSetting(
                "negative_scale", None, f"a number when there are {count} negatives",
                "the form without it has room for one: join them with commas",
            )  # fmt: skip

    def further_conditions(self, negatives: int) -> tuple[str, ...]:
        if self.negative_scale is None:
            return () if self.guidance_scale == 1 else ("negative" if negatives else "empty",)
        away = tuple(numbered("negative", index) for index, scale in enumerate(self._scales(negatives)) if scale != 0)
        return ("empty", *away) if away or self.guidance_scale != 1 else ()

    def __call__(self, step: Step, state: State) -> Guided:
        if self.negative_scale is None:
            return self._in_place_of_empty(step, state)
        return self._beside_empty(step, state)

    def _scales(self, count: int) -> tuple[float, ...]:
        assert self.negative_scale is not None
        return one_each("negative_scale", self.negative_scale, count)

    def _in_place_of_empty(self, step: Step, state: State) -> Guided:
        if self.guidance_scale == 1:
            return Guided(step.predict_one("positive"), state)
        reference = "negative" if step.negatives else "empty"
        negative, positive = step.predict(reference, "positive")
        guided = negative + self.guidance_scale * (positive - negative)
        return Guided(rescaled(guided, positive, self.guidance_rescale), state)

    def _beside_empty(self, step: Step, state: State) -> Guided:
        scales = zip(step.names("negative"), self._scales(step.negatives), strict=True)
        pushes = {negative: scale for negative, scale in scales if scale != 0}
        if not pushes and self.guidance_scale == 1:
            return Guided(step.predict_one("positive"), state)
        empty, positive, *away = step.predict("empty", "positive", *pushes)
        guided = empty + self.guidance_scale * (positive - empty)
        for negative, scale in zip(away, pushes.values(), strict=True):
            guided = guided - scale * (negative - empty)
        return Guided(rescaled(guided, positive, self.guidance_rescale), state)

    @classmethod
    def laws(cls) -> tuple[Law, ...]:
        return (
            Identity(cls(1.0)),
            Identity(cls(1.0, negative_scale=0.0)),
            Runs(cls(3.0), ("negative", "positive")),
            Runs(cls(3.0, negative_scale=1.0), ("empty", "positive", "negative")),
            Linear(cls(3.0), (("positive", 3.0), ("negative", -2.0))),
            Runs(cls(3.0, negative_scale=(1.5, 0.0)), ("empty", "positive", "negative")),
            Linear(cls(3.0, negative_scale=1.5), (("positive", 3.0), ("empty", -0.5), ("negative", -1.5))),
            Linear(
                cls(3.0, negative_scale=(1.5, 0.25)),
                (("positive", 3.0), ("empty", -0.25), ("negative", -1.5), ("negative_2", -0.25)),
            ),
            Equals(cls(3.0, negative_scale=2.0), cls(3.0)),
            Equals(cls(3.0, negative_scale=(0.75, 0.75)), cls(3.0, negative_scale=0.75)),
            Equals(cls(3.0, negative_scale=0.0), ClassifierFreeGuidance(guidance_scale=3.0)),
            NoPushWhenAbsent(cls(3.0)),
            PredictionTypeInvariant(cls(3.0, negative_scale=1.5)),
        )
