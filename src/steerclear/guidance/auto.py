"""Autoguidance: away from a bad version of the model."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from ..core.errors import InvalidSetting
from ..core.guidance import Guidance, Wrapper, check_outermost, joined
from ..core.laws import Equals, Identity, Law, Linear, PredictionTypeInvariant, Runs
from ..core.records import Guided, State, Step
from ..core.settings import finite
from .negative_prompt import NegativePromptGuidance
from .unguided import Unguided


@dataclass(frozen=True)
class AutoGuidance(Wrapper):
    """Autoguidance: the weak network under the same condition shows where the errors are.

    Equation:
        D = D_inner + (w - 1) (D_prompt - D_weak,prompt)

    Around the plain conditional prediction this is the paper's D = D_weak + w (D_prompt - D_weak). Around another guidance it
    adds the push away from the weak network, so it combines with a negative prompt.

    Args:
        auto_scale: w; 1 is ``inner`` alone. diffusers' guider and the paper's release call it the guidance scale.
        inner: the guidance of the strong network; its plain conditional prediction by default.

    Raises:
        InvalidSetting: the scale is not finite, or inner is not a guidance, or one that draws again by an evidence.
    """

    auto_scale: float = 2.0
    inner: Guidance = field(default_factory=Unguided)

    name: ClassVar[str] = "autoguidance"
    paper: ClassVar[str] = (
        "Guiding a Diffusion Model with a Bad Version of Itself, Karras, Aittala, Kynkäänniemi, Lehtinen, Aila and "
        "Laine, 2024, arXiv 2406.02507"
    )
    cost: ClassVar[str] = "the inner guidance's, plus 1 evaluation of the weak network per step"

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Guidance):
            raise InvalidSetting("inner", self.inner, "a guidance", "unguided is the plain conditional prediction")
        check_outermost(self.inner)
        finite("auto_scale", self.auto_scale)

    def branches(self, negatives: int) -> tuple[str, ...]:
        inner = self.inner.branches(negatives)
        return inner if self.auto_scale == 1 else joined(inner, ("positive", "weak:positive"))

    def has_no_step(self, levels: Sequence[float], steps: Sequence[int] | None = None) -> str | None:
        return self.inner.has_no_step(levels, steps) if self.auto_scale == 1 else None  # the push acts at every step

    def __call__(self, step: Step, state: State) -> Guided:
        inner = self.inner(step, state)
        if self.auto_scale == 1:
            return inner
        positive, weak = step.predict_one("positive"), step.predict_one("weak:positive")
        return replace(inner, prediction=inner.prediction + (self.auto_scale - 1) * (positive - weak))

    @classmethod
    def laws(cls) -> tuple[Law, ...]:
        negative = NegativePromptGuidance(guidance_scale=3.0)
        return (
            Identity(cls(1.0)),
            Runs(cls(2.0)),
            Linear(cls(2.0), (("positive", 2.0), ("weak:positive", -1.0))),
            Linear(cls(2.0, negative), (("positive", 4.0), ("negative", -2.0), ("weak:positive", -1.0))),
            Equals(cls(1.0, negative), negative),
            PredictionTypeInvariant(cls(2.0)),
        )
