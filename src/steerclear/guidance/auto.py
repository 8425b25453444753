"""Autoguidance: away from a bad version of the model itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..core.errors import InvalidSetting, in_words_of
from ..core.evidence import Surroundings
from ..core.guidance import Guidance
from ..core.laws import Equals, Identity, Law, Linear, PredictionTypeInvariant, Runs
from ..core.records import Guided, State, Step
from ..core.settings import finite
from .negative_prompt import NegativePromptGuidance


@dataclass(frozen=True)
class AutoGuidance(Guidance):
    """Autoguidance: the weak network under the same condition shows where the errors are.

    Equation:
        D = D_inner + (w - 1) (D_prompt - D_weak,prompt)

    Without an ``inner`` guidance this is the paper's D = D_weak + w (D_prompt - D_weak). With another guidance inside, the push
    away from the weak network is added to it, so autoguidance goes together with a negative prompt.

    Args:
        auto_scale: w; 1 is ``inner`` alone. diffusers' guider and the paper's release call it the guidance scale.
        inner: the guidance of the strong network; None for its plain conditional prediction.

    Raises:
        InvalidSetting: a scale that is not finite, an inner that is not a guidance.
    """

    auto_scale: float = 2.0
    inner: Guidance | None = None

    name: ClassVar[str] = "autoguidance"
    paper: ClassVar[str] = (
        "Guiding a Diffusion Model with a Bad Version of Itself, Karras, Aittala, Kynkäänniemi, Lehtinen, Aila and "
        "Laine, 2024, arXiv 2406.02507"
    )
    cost: ClassVar[str] = "the inner guidance's, and 1 evaluation of the weak network"
    uses_negative: ClassVar[bool] = True
    uses_weak: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Guidance | None):
            raise InvalidSetting("inner", self.inner, in_words_of("a guidance, or None", "a guidance, or none"))
        finite("auto_scale", self.auto_scale)

    def begin(self, surroundings: Surroundings) -> State:
        return State() if self.inner is None else self.inner.begin(surroundings)

    def negative_has_no_effect(self) -> str | None:
        if self.inner is None:
            return "autoguidance looks at negative prompts only through its inner guidance, and there is none"
        return self.inner.negative_has_no_effect()

    def check_negatives(self, count: int) -> None:
        if self.inner is not None:
            self.inner.check_negatives(count)

    def further_conditions(self, negatives: int) -> tuple[str, ...]:
        return () if self.inner is None else self.inner.further_conditions(negatives)

    def needs_weak(self) -> bool:
        return self.auto_scale != 1 or (self.inner is not None and self.inner.needs_weak())

    def needs_noise_level(self) -> bool:
        return self.inner is not None and self.inner.needs_noise_level()

    def has_no_step(self, levels: Sequence[float], steps: Sequence[int] | None = None) -> str | None:
        if self.auto_scale != 1 or self.inner is None:  # the push away from the weak network acts at every step
            return None
        return self.inner.has_no_step(levels, steps)

    def __call__(self, step: Step, state: State) -> Guided:
        inner = Guided(step.predict_one("positive"), state) if self.inner is None else self.inner(step, state)
        if self.auto_scale == 1:
            return inner
        positive, weak = step.predict_one("positive"), step.predict_one("weak:positive")
        prediction = inner.prediction + (self.auto_scale - 1) * (positive - weak)
        return Guided(prediction, inner.state, inner.info)

    @classmethod
    def laws(cls) -> tuple[Law, ...]:
        negative = NegativePromptGuidance(guidance_scale=3.0)
        return (
            Identity(cls(1.0)),
            Runs(cls(2.0), ("positive", "weak:positive")),
            Linear(cls(2.0), (("positive", 2.0), ("weak:positive", -1.0))),
            Linear(cls(2.0, negative), (("positive", 4.0), ("negative", -2.0), ("weak:positive", -1.0))),
            Equals(cls(1.0, negative), negative),
            PredictionTypeInvariant(cls(2.0)),
        )
