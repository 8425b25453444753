"""Safe Latent Diffusion: a push away from a concept, with a weight for each number of the latent, and momentum."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..core.denoiser import numbered
from ..core.errors import InvalidSetting
from ..core.evidence import Surroundings
from ..core.guidance import Guidance
from ..core.laws import Equals, Identity, Law, Linear, NoPushWhenAbsent, PredictionTypeInvariant, Runs
from ..core.noise import noise_per_prediction
from ..core.numerics import norm
from ..core.records import Guided, PerStep, State, Step
from ..core.settings import finite, whole
from ..core.shapes import Prediction
from .classifier_free import ClassifierFreeGuidance
from .negative_prompt import NegativePromptGuidance


@dataclass(frozen=True)
class SafeLatentState(State):
    """The momentum nu of each negative prompt, in units of noise, ``[batch, ...]``; none before the first step."""

    momenta: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class SafeLatentGuidance(Guidance):
    """Safe Latent Diffusion: away from the negative, only in those numbers of the latent that differ from it too little.

    Equations:
        e = e_empty + w (e_prompt - e_empty - g)         from step delta on; before it without g
        g = mu (e_neg - e_empty) + s_m nu
        mu = min(1, s_S |e_prompt - e_neg|) where e_prompt - e_neg < lambda, else 0, for each number of the latent
        nu becomes beta nu + (1 - beta) g, also before step delta; it begins at 0

    e is the noise that each prediction implies. As in diffusers' StableDiffusionPipelineSafe. The comparison with lambda has
    a sign, and so the push depends on it, as in the paper and its code. Each of several negative prompts has its own mu and
    nu, and their g are added. At lambda = infinity and a large s_S, without momentum, it is a negative prompt of scale w.

    ======  ============  ============  =========  ==============  =============
    preset  safety_scale  warmup_steps  threshold  momentum_scale  momentum_beta
    ======  ============  ============  =========  ==============  =============
    weak    200           15            0          0               0
    medium  1000          10            0.01       0.3             0.4
    strong  2000          7             0.025      0.5             0.7
    max     5000          0             1          0.5             0.7
    ======  ============  ============  =========  ==============  =============

    These are the paper's, for 50 steps of Stable Diffusion; diffusers' own "weak" has a safety_scale of 20. The default is
    medium.

    Args:
        guidance_scale: w, the classifier-free scale of the prompt, which multiplies the push too; 1 is off.
        safety_scale: s_S, how soon mu reaches 1, at least 0; 0 is off (plain CFG).
        threshold: lambda, in units of noise; larger pushes more.
        warmup_steps: delta, the number of steps at the beginning without a push, at least 0.
        momentum_scale: s_m, from 0 (none) to 1.
        momentum_beta: beta, how much of the momentum stays at a step, at least 0 and below 1.

    Raises:
        InvalidSetting: a setting out of range.
    """

    guidance_scale: float = 3.0
    _: KW_ONLY
    safety_scale: float = 1000.0
    threshold: float = 0.01
    warmup_steps: int = 10
    momentum_scale: float = 0.3
    momentum_beta: float = 0.4

    name: ClassVar[str] = "safe-latent"
    paper: ClassVar[str] = (
        "Safe Latent Diffusion: Mitigating Inappropriate Degeneration in Diffusion Models, Schramowski, Brack, Deiseroth and "
        "Kersting, 2023, arXiv 2211.05105"
    )
    cost: ClassVar[str] = "3 evaluations per step (1 more per further negative)"
    off = {**Guidance.off, "safety_scale": 0.0, "momentum_scale": 0.0}

    def __post_init__(self) -> None:
        finite("guidance_scale", self.guidance_scale)
        finite("safety_scale", self.safety_scale, low=0)
        finite("threshold", self.threshold)
        whole("warmup_steps", self.warmup_steps, low=0)
        finite("momentum_scale", self.momentum_scale, low=0, high=1)
        finite("momentum_beta", self.momentum_beta, low=0, high=1)
        if self.momentum_beta == 1:
            raise InvalidSetting("momentum_beta", self.momentum_beta, "below 1", "at 1 the momentum stays 0")

    def begin(self, surroundings: Surroundings) -> State:
        return SafeLatentState()

    def branches(self, negatives: int) -> tuple[str, ...]:
        pushes = self._pushes(negatives)
        return (*(("empty",) if pushes or self.guidance_scale != 1 else ()), "positive", *pushes)

    def _pushes(self, negatives: int) -> tuple[str, ...]:
        return tuple(numbered("negative", index) for index in range(negatives)) if self.safety_scale else ()

    def needs_noise_level(self) -> bool:
        return self.safety_scale != 0

    def has_no_step(self, levels: Sequence[float], steps: Sequence[int] | None = None) -> str | None:
        asked = range(len(levels)) if steps is None else steps
        if self.safety_scale == 0 or any(index >= self.warmup_steps for index in asked):
            return None
        return (
            f"warmup_steps={self.warmup_steps} leaves none of the {len(asked)} steps to the push away from the negative; "
            "set it lower"
        )

    def __call__(self, step: Step, state: State) -> Guided:
        assert isinstance(state, SafeLatentState)
        pushes = self._pushes(step.negatives)
        if not pushes and self.guidance_scale == 1:
            return Guided(step.predict_one("positive"), state)
        empty, positive, *negatives = step.predict("empty", "positive", *pushes)
        target, momenta, info = positive, [], PerStep()
        for index, negative in enumerate(negatives):
            before = state.momenta[index] if state.momenta else torch.zeros_like(step.noise_difference(empty, empty))
            mask = self._mask(step, positive, negative)
            momentum = self.momentum_scale * before
            push = mask * step.noise_difference(negative, empty) + momentum
            momenta.append(self.momentum_beta * before + (1 - self.momentum_beta) * push)
            active = step.index >= self.warmup_steps
            if active:
                in_own_space = mask * (negative - empty) + _of_noise(step, momentum)
                target = target - in_own_space.to(target)
            info[numbered("weight", index)] = active * mask.flatten(1).mean(1)
            info[numbered("push_norm", index)] = active * abs(self.guidance_scale) * norm(push)
        guided = target if self.guidance_scale == 1 else empty + self.guidance_scale * (target - empty)
        after = state if step.substep or not negatives else replace(state, momenta=tuple(momenta))
        return Guided(guided, after, info)

    def _mask(self, step: Step, positive: Prediction, negative: Prediction) -> Prediction:
        """mu of every number of the latent, from 0 to 1."""
        apart = step.noise_difference(positive, negative)
        return torch.where(apart < self.threshold, (self.safety_scale * apart.abs()).clamp(max=1), 0)

    @classmethod
    def laws(cls) -> tuple[Law, ...]:
        full = cls(3.0, safety_scale=1e15, threshold=1e9, warmup_steps=0, momentum_scale=0.0)
        return (
            Identity(cls(1.0, safety_scale=0.0)),
            Equals(cls(3.0, safety_scale=0.0), ClassifierFreeGuidance(guidance_scale=3.0)),
            Equals(cls(3.0, warmup_steps=1000), ClassifierFreeGuidance(guidance_scale=3.0)),
            Equals(cls(3.0, threshold=-1e9, warmup_steps=0), ClassifierFreeGuidance(guidance_scale=3.0)),
            Linear(full, (("positive", 3.0), ("negative", -3.0), ("empty", 1.0))),
            Equals(full, NegativePromptGuidance(3.0, negative_scale=3.0)),
            NoPushWhenAbsent(cls(1.0, warmup_steps=0)),
            PredictionTypeInvariant(cls(3.0, warmup_steps=0)),
            Runs(cls(1.0)), Runs(cls(1.0, safety_scale=0.0), ("positive",)),
        )  # fmt: skip


def _of_noise(step: Step, noise: Prediction) -> Prediction:
    """A difference of noises as one of predictions; 0 where predictions do not change the noise, at pure noise."""
    factor = float(noise_per_prediction(step.alpha, step.sigma, step.prediction_type))
    return noise / factor if factor else torch.zeros_like(noise)
