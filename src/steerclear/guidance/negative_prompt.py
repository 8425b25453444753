"""The negative prompt as in Stable Diffusion, and with a weight of its own beside CFG."""

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from ..core.denoiser import numbered
from ..core.errors import InvalidSetting
from ..core.guidance import Guidance
from ..core.laws import Equals, Identity, Law, Linear, NoPushWhenAbsent, PredictionTypeInvariant, Runs
from ..core.numerics import rescaled
from ..core.records import Guided, State, Step
from ..core.settings import finite, finite_each, one_each
from .classifier_free import ClassifierFreeGuidance


@dataclass(frozen=True)
class NegativePromptGuidance(Guidance):
    """A constant push away from the negative prompt.

    Equations:
        D = D_empty + w (D_prompt - D_empty) - sum_k v_k (D_neg_k - D_empty)
        D = D_neg + w (D_prompt - D_neg)            negative_scale = None: v = w - 1, where D_empty cancels

    The second is Stable Diffusion's negative prompt: the negative replaces the unconditional prediction, so one number sets
    both how closely the prompt is followed and how strongly the negative is avoided, and two branches are enough. With its
    own scale a negative needs three, and there may be several negatives.

    Args:
        guidance_scale: w, the classifier-free scale of the prompt; 1 is off.
        negative_scale: v, the push away from the negative; 0 is off (plain CFG). One number for all negatives, or a tuple
            with one for each. None takes w - 1, as Stable Diffusion does; at w = 1 the negative then has no effect.
        guidance_rescale: as for :class:`~steerclear.ClassifierFreeGuidance`.

    Raises:
        InvalidSetting: a scale is not finite, a rescale is outside [0, 1], several negatives have no negative_scale, or the
            number of negatives is not that of the scales.
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
    cost: ClassVar[str] = "2 evaluations per step; 3 with a negative_scale (1 more per further negative)"

    def __post_init__(self) -> None:
        finite("guidance_scale", self.guidance_scale)
        if self.negative_scale is not None:
            finite_each("negative_scale", self.negative_scale)
        finite("guidance_rescale", self.guidance_rescale, low=0, high=1)

    def branches(self, negatives: int) -> tuple[str, ...]:
        if self.negative_scale is None and self.guidance_scale != 1 and negatives > 1:
            raise InvalidSetting(
                "negative_scale", None, f"a number when there are {negatives} negatives",
                "the form without it has room for one: join them with commas",
            )  # fmt: skip
        pushes = self._pushes(negatives)
        if not pushes and self.guidance_scale == 1:
            return ("positive",)
        return (self._reference(negatives), "positive", *pushes)

    def _reference(self, negatives: int) -> str:
        """The branch that is extrapolated from."""
        return "negative" if negatives and self.negative_scale is None else "empty"

    def _pushes(self, negatives: int) -> dict[str, float]:
        """v of each branch that is pushed away from, beside the reference."""
        scales = one_each("negative_scale", 0.0 if self.negative_scale is None else self.negative_scale, negatives)
        return {numbered("negative", index): scale for index, scale in enumerate(scales) if scale != 0}

    def __call__(self, step: Step, state: State) -> Guided:
        pushes = self._pushes(step.negatives)
        if not pushes and self.guidance_scale == 1:
            return Guided(step.predict_one("positive"), state)
        reference, positive, *away = step.predict(self._reference(step.negatives), "positive", *pushes)
        guided = reference + self.guidance_scale * (positive - reference)
        for negative, scale in zip(away, pushes.values(), strict=True):
            guided = guided - scale * (negative - reference)
        return Guided(rescaled(guided, positive, self.guidance_rescale), state)

    @classmethod
    def laws(cls) -> tuple[Law, ...]:
        return (
            Identity(cls(1.0)), Identity(cls(1.0, negative_scale=0.0)),
            Runs(cls(3.0)), Runs(cls(3.0, negative_scale=1.0)),
            Linear(cls(3.0), (("positive", 3.0), ("negative", -2.0))),
            Runs(cls(3.0, negative_scale=(1.5, 0.0))),
            Linear(cls(3.0, negative_scale=1.5), (("positive", 3.0), ("empty", -0.5), ("negative", -1.5))),
            Linear(cls(3.0, negative_scale=(1.5, 0.25)),
                   (("positive", 3.0), ("empty", -0.25), ("negative", -1.5), ("negative_2", -0.25))),
            Equals(cls(3.0, negative_scale=2.0), cls(3.0)),
            Equals(cls(3.0, negative_scale=(0.75, 0.75)), cls(3.0, negative_scale=0.75)),
            Equals(cls(3.0, negative_scale=0.0), ClassifierFreeGuidance(guidance_scale=3.0)),
            NoPushWhenAbsent(cls(3.0)), PredictionTypeInvariant(cls(3.0, negative_scale=1.5)),
        )  # fmt: skip
