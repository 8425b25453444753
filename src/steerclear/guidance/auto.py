"""Autoguidance: away from a bad version of the model, or from several."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from ..core.denoiser import MAIN, Branch
from ..core.errors import InvalidSetting
from ..core.guidance import Guidance, Wrapper, check_outermost, joined
from ..core.laws import Equals, Identity, Law, Linear, PredictionTypeInvariant, Runs
from ..core.records import Guided, State, Step
from ..core.settings import finite
from .classifier_free import ClassifierFreeGuidance
from .negative_prompt import NegativePromptGuidance
from .unguided import Unguided


@dataclass(frozen=True)
class AutoGuidance(Wrapper):
    """Autoguidance: the weak network under the same condition shows where the errors are.

    Equations:
        D = D_inner + (w - 1) (D_prompt - D_weak,prompt)
        D = D_weak,prompt                                    w = 0 around the plain prediction, which is then not run

    Around the plain conditional prediction this is the paper's D = D_weak + w (D_prompt - D_weak): the weak network at w = 0, a
    mean of both below 1, an extrapolation above. Around another guidance it adds the push away from the weak network, so it
    combines with classifier-free guidance and with negative prompts; around itself with another ``network`` it adds the pushes
    away from both. The empty prompt makes it unconditional. :class:`~steerclear.IntervalGuidance` around it limits it to some
    noise levels; outside the weak network does not run.

    Args:
        auto_scale: w; 1 is ``inner`` alone. diffusers' guider and the paper's release call it the guidance scale.
        inner: the guidance of the strong network; its plain conditional prediction by default.
        network: the name of the weak network in the run.

    Raises:
        InvalidSetting: the scale is not finite, inner is not a guidance, or one that draws again by an evidence, or the name is
            the main network's or that of none.
    """

    auto_scale: float = 2.0
    inner: Guidance = field(default_factory=Unguided)
    network: str = "weak"

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
        if not Branch.is_network(self.network) or self.network == MAIN:
            allowed = f"lower-case letters, digits and underscores, no digit first, and not {MAIN!r}"
            raise InvalidSetting("network", self.network, allowed, "it is the name of another network of the run")

    @property
    def _weak(self) -> str:
        """The weak network's branch."""
        return f"{self.network}:positive"

    @property
    def _is_weak_alone(self) -> bool:
        """Whether D is the weak network's own prediction, so that the strong one need not run."""
        return self.auto_scale == 0 and isinstance(self.inner, Unguided)

    def branches(self, negatives: int) -> tuple[str, ...]:
        inner = self.inner.branches(negatives)
        if self._is_weak_alone:
            return (self._weak,)
        return inner if self.auto_scale == 1 else joined(inner, ("positive", self._weak))

    def has_no_step(self, levels: Sequence[float], steps: Sequence[int] | None = None) -> str | None:
        return self.inner.has_no_step(levels, steps) if self.auto_scale == 1 else None  # the push acts at every step

    def __call__(self, step: Step, state: State) -> Guided:
        if self._is_weak_alone:
            return Guided(step.predict_one(self._weak), state)
        inner = self.inner(step, state)
        if self.auto_scale == 1:
            return inner
        positive, weak = step.predict_one("positive"), step.predict_one(self._weak)
        return replace(inner, prediction=inner.prediction + (self.auto_scale - 1) * (positive - weak))

    @classmethod
    def laws(cls) -> tuple[Law, ...]:
        negative = NegativePromptGuidance(guidance_scale=3.0)
        cfg, both = ClassifierFreeGuidance(guidance_scale=3.0), cls(1.5, cls(1.25, network="perturbed"))
        return (
            Identity(cls(1.0)), Identity(cls(0.0), "weak:positive"),
            Runs(cls(2.0)), Runs(cls(0.0), ("weak:positive",)), Runs(both, ("positive", "perturbed:positive", "weak:positive")),
            Linear(cls(2.0), (("positive", 2.0), ("weak:positive", -1.0))),
            Linear(cls(0.25), (("positive", 0.25), ("weak:positive", 0.75))),
            Linear(cls(2.0, cfg), (("positive", 4.0), ("empty", -2.0), ("weak:positive", -1.0))),
            Linear(cls(2.0, negative), (("positive", 4.0), ("negative", -2.0), ("weak:positive", -1.0))),
            Linear(both, (("positive", 1.75), ("perturbed:positive", -0.25), ("weak:positive", -0.5))),
            Equals(cls(1.0, negative), negative),
            PredictionTypeInvariant(cls(2.0)),
        )  # fmt: skip
