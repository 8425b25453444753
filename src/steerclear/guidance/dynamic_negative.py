"""Dynamic negative guidance: a push whose weight is the odds that the image is becoming the concept."""

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..belief import Evidence, Push
from ..errors import InvalidSetting
from ..numerics import norm, over_images
from ..records import Guided, PerStep, State, Step
from ..settings import finite
from .base import Equals, Guidance, Law, Linear, NoPushWhenAbsent, PredictionTypeInvariant, Runs, built

LARGEST_WEIGHT = 99.0
TAIL = 3.0  # a noise vector's norm is sqrt(dimension) up to its tail, which counts where dimensions are few


@dataclass(frozen=True)
class DynamicNegativeState(State):
    """One evidence state a negative prompt."""

    evidence: tuple[State, ...]


@dataclass(frozen=True)
class DynamicNegativeGuidance(Guidance):
    """Direction times weight: away from the concept, as hard as the image is likely to become it.

    Equation:
        D = D_empty + w (D_prompt - lambda sum_k r_k (D_concept_k - D_prompt) - D_empty),   r = p(c | x_t) / (1 - p(c | x_t))

    With one negative, lambda = 1, w = 1 and the exact posterior this is the exact score of p(x | prompt, not c), whatever the sampler; a
    constant negative prompt uses a constant r. The posterior comes from an evidence, for every image its own. r is at most 99,
    and |r (e_concept - e_prompt)| at most sqrt(dimension) + 3, as long as noise can
    be, which stops rare blow-ups.

    Args:
        guidance_scale: w, classifier-free guidance on top; 1 is off.
        strength: lambda; 1 is the theory's weight, 0 no push, larger removes more.
        concept: "conjunction" takes the prompt and the negative together ("portrait photo of a man, mustache") for the
            concept, which differs from the prompt in nothing but the negative; "negative" takes the negative as it is.
        evidence: where the posterior comes from.

    Raises:
        InvalidSetting: a scale that is not finite, a negative strength, a concept that is neither.
    """

    guidance_scale: float = 1.0
    strength: float = 1.0
    concept: Literal["conjunction", "negative"] = "conjunction"
    evidence: Evidence = field(default_factory=lambda: built("TransitionEvidence"))

    name: ClassVar[str] = "dynamic-negative"
    paper: ClassVar[str] = (
        "Dynamic Negative Guidance of Diffusion Models, Koulischer, Deleu, Raya, Demeester and Ambrogioni, ICLR 2025, "
        "arXiv 2410.14398"
    )
    cost: ClassVar[str] = "2 evaluations a step, 3 with a guidance_scale (1 more a further negative)"
    uses_negative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        finite("guidance_scale", self.guidance_scale)
        finite("strength", self.strength, low=0)
        if self.concept not in ("conjunction", "negative"):
            raise InvalidSetting("concept", self.concept, "conjunction or negative")
        if not isinstance(self.evidence, Evidence):
            raise InvalidSetting("evidence", self.evidence, "an evidence, such as TransitionEvidence()")

    def begin(self, batch_size: int) -> State:
        return DynamicNegativeState(())

    def negative_has_no_effect(self) -> str | None:
        return "strength is 0" if self.strength == 0 else None

    def __call__(self, step: Step, state: State) -> Guided:
        assert isinstance(state, DynamicNegativeState)
        concepts = step.names(self.concept) if self.strength else []
        reference = ["empty"] if self.guidance_scale != 1 else []
        predictions = step.predict(*reference, "positive", *concepts)
        predictions = predictions if isinstance(predictions, list) else [predictions]
        empty, positive = (predictions[0] if reference else None), predictions[len(reference)]
        away = predictions[len(reference) + 1 :]

        states = state.evidence or tuple(self.evidence.begin(step.batch_size) for _ in away)
        beliefs = [
            self.evidence.update(step, positive, prediction, before)
            for prediction, before in zip(away, states, strict=True)
        ]
        weights = [
            self._weight(step, positive, prediction, belief.log_odds)
            for prediction, belief in zip(away, beliefs, strict=True)
        ]
        target = positive
        for prediction, weight in zip(away, weights, strict=True):
            target = target - self.strength * over_images(weight, positive) * (prediction - positive)
        guided = target if empty is None else empty + self.guidance_scale * (target - empty)

        after = tuple(
            self.evidence.remember(step, Push(positive, prediction, target, weight), belief.state)
            for prediction, weight, belief in zip(away, weights, beliefs, strict=True)
        )
        info = self._info(step, positive, away, weights, [belief.log_odds for belief in beliefs])
        return Guided(guided, DynamicNegativeState(after), info)

    def _weight(self, step: Step, positive: Tensor, concept: Tensor, log_odds: Tensor) -> Tensor:
        """r, clamped by the largest weight and by the trust region."""
        odds = log_odds.clamp(max=math.log(LARGEST_WEIGHT)).exp()
        direction = norm(step.noise_difference(concept, positive)).to(odds)
        reach = math.sqrt(positive[0].numel()) + TAIL
        return torch.minimum(odds, reach / direction.clamp(min=torch.finfo(odds.dtype).tiny))

    def _info(
        self, step: Step, positive: Tensor, away: list[Tensor], weights: list[Tensor], log_odds: list[Tensor]
    ) -> PerStep:
        info: PerStep = {}
        for index, (concept, weight, odds) in enumerate(zip(away, weights, log_odds, strict=True)):
            suffix = "" if index == 0 else f"_{index + 1}"
            info[f"weight{suffix}"] = self.strength * weight
            info[f"posterior{suffix}"] = odds.sigmoid()
            push = self.strength * weight * norm(step.noise_difference(concept, positive)).to(weight)
            info[f"push_norm{suffix}"] = push
        return info

    @classmethod
    def laws(cls) -> tuple[Law, ...]:
        half = built("ConstantEvidence", posterior=0.5)
        return (
            Runs(cls(1.0), ("positive", "conjunction")),
            Runs(cls(3.0, concept="negative"), ("empty", "positive", "negative")),
            Linear(cls(1.0, 1.0, "negative", half), (("positive", 2.0), ("negative", -1.0))),
            Linear(cls(3.0, 2.0, "negative", half), (("positive", 9.0), ("negative", -6.0), ("empty", -2.0))),
            Equals(cls(3.0, 0.0), built("ClassifierFreeGuidance", guidance_scale=3.0)),
            Equals(cls(1.0, 0.0), built("Unguided")),
            NoPushWhenAbsent(cls(1.0, concept="negative")),
            PredictionTypeInvariant(cls(1.0, concept="negative")),
        )
