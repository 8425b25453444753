"""Another guidance, with the spread of its predictions brought back."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from ..core.errors import InvalidSetting
from ..core.guidance import Guidance, Wrapper, check_outermost, joined
from ..core.laws import Equals, Identity, Law, Runs
from ..core.numerics import rescaled
from ..core.records import Guided, State, Step
from ..core.settings import finite
from .classifier_free import ClassifierFreeGuidance
from .negative_prompt import NegativePromptGuidance
from .unguided import Unguided


@dataclass(frozen=True)
class RescaledGuidance(Wrapper):
    """Another guidance, with the standard deviation of its predictions brought back to the conditional one's.

    Equation:
        D = phi D_inner std(D_prompt) / std(D_inner) + (1 - phi) D_inner

    D are predictions in the network's own space, and std is per image. This is ``guidance_rescale`` of diffusers' pipelines,
    for any guidance. If the inner guidance returns the conditional prediction itself, nothing changes.

    Args:
        inner: the guidance.
        guidance_rescale: phi, from 0 (the inner guidance as it is) to 1; the paper takes 0.7.

    Raises:
        InvalidSetting: a rescale outside [0, 1], or an inner that is not a guidance or draws again by an evidence.
    """

    inner: Guidance = field(default_factory=ClassifierFreeGuidance)
    guidance_rescale: float = 0.7

    name: ClassVar[str] = "rescaled"
    paper: ClassVar[str] = (
        "Common Diffusion Noise Schedules and Sample Steps are Flawed, Lin, Liu, Li and Yang, 2023, arXiv 2305.08891"
    )
    cost: ClassVar[str] = "the inner guidance's"

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Guidance):
            raise InvalidSetting("inner", self.inner, "a guidance")
        check_outermost(self.inner)
        finite("guidance_rescale", self.guidance_rescale, low=0, high=1)

    def branches(self, negatives: int) -> tuple[str, ...]:
        inner = self.inner.branches(negatives)
        return inner if self.guidance_rescale == 0 else joined(inner, ("positive",))

    def __call__(self, step: Step, state: State) -> Guided:
        inner = self.inner(step, state)
        if self.guidance_rescale == 0:
            return inner
        positive = step.predict_one("positive")
        if inner.prediction is positive:  # a factor of 1 would only add rounding errors
            return inner
        return replace(inner, prediction=rescaled(inner.prediction, positive, self.guidance_rescale))

    @classmethod
    def laws(cls) -> tuple[Law, ...]:
        cfg, plain = ClassifierFreeGuidance(guidance_scale=3.0), Unguided()
        own = ClassifierFreeGuidance(guidance_scale=3.0, guidance_rescale=0.7)
        beside = NegativePromptGuidance(guidance_scale=3.0, negative_scale=1.5)
        own_beside = NegativePromptGuidance(guidance_scale=3.0, negative_scale=1.5, guidance_rescale=0.7)
        return (
            Identity(cls(plain, 0.7)), Runs(cls(plain, 0.7)), Runs(cls(cfg, 0.7)),
            Equals(cls(cfg, 0.0), cfg), Equals(cls(cfg, 0.7), own), Equals(cls(beside, 0.7), own_beside),
        )  # fmt: skip
