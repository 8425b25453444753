"""Dynamic negative guidance: a push whose weight is the odds that the image is becoming the concept."""

import math
from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..core.denoiser import numbered
from ..core.errors import InvalidSetting, in_words_of
from ..core.evidence import Evidence, Push, Surroundings
from ..core.guidance import Guidance
from ..core.laws import Equals, Identity, Law, Linear, NoPushWhenAbsent, PredictionTypeInvariant, Runs
from ..core.numerics import norm, over_images
from ..core.records import Guided, PerStep, State, Step
from ..core.settings import any_weight, finite, finite_each, one_each
from ..evidence.constant import ConstantEvidence
from ..evidence.transition import TransitionEvidence
from .classifier_free import ClassifierFreeGuidance

LARGEST_WEIGHT = 99.0
TAIL = 3.0  # a noise vector's norm is sqrt(dimension) up to its tail, which counts where dimensions are few


@dataclass(frozen=True)
class DynamicNegativeState(State):
    """One evidence state per negative prompt that is pushed from."""

    evidence: tuple[State, ...]


@dataclass(frozen=True)
class _Negative:
    """One negative prompt with what is its own.

    Args:
        index: which one, from 0.
        branch: the branch that predicts its concept.
        scale: lambda.
        evidence: where its posterior comes from.
    """

    index: int
    branch: str
    scale: float
    evidence: Evidence

    def shown(self, step: Step, positive: Tensor, concept: Tensor, weight: Tensor, log_odds: Tensor) -> PerStep:
        """What a person wants to see of it."""
        suffix = "" if self.index == 0 else f"_{self.index + 1}"
        return {
            f"weight{suffix}": self.scale * weight,
            f"posterior{suffix}": log_odds.sigmoid(),
            f"push_norm{suffix}": self.scale * weight * norm(step.noise_difference(concept, positive)).to(weight),
        }


@dataclass(frozen=True)
class DynamicNegativeGuidance(Guidance):
    """Direction times weight: away from the concept, as hard as the image is likely to become it.

    Equation:
        D = D_empty + w (D_prompt - sum_k lambda_k r_k (D_concept_k - D_prompt) - D_empty),   r = p(c | x_t) / (1 - p(c | x_t))

    With one negative, lambda = 1, w = 1 and the exact posterior this is the exact score of p(x | prompt, not c), whatever the sampler; a
    constant negative prompt uses a constant r. The posterior comes from an evidence, for every image its own. The trust
    region stops rare blow-ups: r is at most 99, and |r (e_concept - e_prompt)| at most sqrt(dimension) + 3, as long as
    noise can be. The published evidence has none.

    Args:
        guidance_scale: w, the classifier-free scale of "the prompt without the concept"; 1 is off.
        negative_scale: lambda, the push away from the negative; 0 is off (plain CFG), 1 the theory's weight, larger removes
            more. One number for all negatives, or a tuple with one for each.
        concept: "conjunction" takes the prompt and the negative together ("portrait photo of a man, mustache") for the
            concept, which differs from the prompt in nothing but the negative; "negative" takes the negative as it is.
        evidence: where the posterior comes from.

    Raises:
        InvalidSetting: a scale that is not finite, a negative_scale below 0, a concept that is neither, or another
            number of negatives than of negative scales or priors.
    """

    guidance_scale: float = 3.0
    _: KW_ONLY
    negative_scale: float | tuple[float, ...] = 1.0
    concept: Literal["conjunction", "negative"] = "conjunction"
    evidence: Evidence = field(default_factory=TransitionEvidence)

    name: ClassVar[str] = "dynamic-negative"
    paper: ClassVar[str] = (
        "Dynamic Negative Guidance of Diffusion Models, Koulischer, Deleu, Raya, Demeester and Ambrogioni, ICLR 2025, "
        "arXiv 2410.14398"
    )
    cost: ClassVar[str] = "2 evaluations a step, 3 with a guidance_scale (1 more per further negative)"
    uses_negative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        finite("guidance_scale", self.guidance_scale)
        finite_each("negative_scale", self.negative_scale, low=0)
        if self.concept not in ("conjunction", "negative"):
            raise InvalidSetting("concept", self.concept, "conjunction or negative")
        if not isinstance(self.evidence, Evidence):
            raise InvalidSetting(
                "evidence", self.evidence, f"an evidence, such as {in_words_of('TransitionEvidence()', 'transition')}"
            )

    def begin(self, surroundings: Surroundings) -> State:
        pushes = self._pushes(surroundings.negatives)
        own = [surroundings.for_negative(push.index, push.branch) for push in pushes]
        return DynamicNegativeState(tuple(push.evidence.begin(each) for push, each in zip(pushes, own, strict=True)))

    def negative_has_no_effect(self) -> str | None:
        return None if any_weight(self.negative_scale) else "negative_scale is 0"

    def needs_noise_level(self) -> bool:
        return self.negative_has_no_effect() is None

    def check_negatives(self, count: int) -> None:
        one_each("negative_scale", self.negative_scale, count)
        self.evidence.for_concepts(count)

    def further_conditions(self, negatives: int) -> tuple[str, ...]:
        scales = one_each("negative_scale", self.negative_scale, negatives)
        away = tuple(numbered(self.concept, index) for index, scale in enumerate(scales) if scale != 0)
        return away if self.guidance_scale == 1 else ("empty", *away)

    def __call__(self, step: Step, state: State) -> Guided:
        assert isinstance(state, DynamicNegativeState)
        pushes = self._pushes(step.negatives)
        reference = ["empty"] if self.guidance_scale != 1 else []
        predictions = step.predict(*reference, "positive", *(push.branch for push in pushes))
        empty, positive = (predictions[0] if reference else None), predictions[len(reference)]
        away = predictions[len(reference) + 1 :]

        beliefs = [
            push.evidence.update(step, positive, prediction, before)
            for push, prediction, before in zip(pushes, away, state.evidence, strict=True)
        ]
        weights = [
            _weight(step, positive, prediction, belief.log_odds, push.evidence.trust_region)
            for push, prediction, belief in zip(pushes, away, beliefs, strict=True)
        ]
        target = positive
        alone = []  # what the target would be with each push alone
        for push, prediction, weight in zip(pushes, away, weights, strict=True):
            shift = push.scale * over_images(weight, positive) * (prediction - positive)
            target = target - shift
            alone.append(positive - shift)
        guided = target if empty is None else empty + self.guidance_scale * (target - empty)

        after = tuple(
            push.evidence.remember(step, Push(positive, prediction, own, weight), belief.state)
            for push, prediction, own, weight, belief in zip(pushes, away, alone, weights, beliefs, strict=True)
        )
        info: PerStep = {}
        for push, prediction, weight, belief in zip(pushes, away, weights, beliefs, strict=True):
            info |= push.shown(step, positive, prediction, weight, belief.log_odds)
        return Guided(guided, DynamicNegativeState(after), info)

    def _pushes(self, count: int) -> list["_Negative"]:
        """Those of so many negative prompts that are pushed from."""
        settings = zip(
            one_each("negative_scale", self.negative_scale, count), self.evidence.for_concepts(count), strict=True
        )
        negatives = [_Negative(index, numbered(self.concept, index), *own) for index, own in enumerate(settings)]
        return [negative for negative in negatives if negative.scale != 0]

    @classmethod
    def laws(cls) -> tuple[Law, ...]:
        half = ConstantEvidence(posterior=0.5)
        two = ConstantEvidence(posterior=(0.5, 0.75))  # weights 1 and 3
        return (
            Runs(cls(1.0), ("positive", "conjunction")),
            Runs(cls(3.0, concept="negative"), ("empty", "positive", "negative")),
            Linear(cls(1.0, concept="negative", evidence=half), (("positive", 2.0), ("negative", -1.0))),
            Linear(
                cls(3.0, negative_scale=2.0, concept="negative", evidence=half),
                (("positive", 9.0), ("negative", -6.0), ("empty", -2.0)),
            ),
            Runs(cls(1.0, negative_scale=(0.0, 1.0)), ("positive", "conjunction_2")),
            Linear(
                cls(1.0, negative_scale=(2.0, 0.5), concept="negative", evidence=two),
                (("positive", 4.5), ("negative", -2.0), ("negative_2", -1.5)),
            ),
            Identity(cls(1.0, negative_scale=0.0)),
            Equals(cls(3.0, negative_scale=0.0), ClassifierFreeGuidance(guidance_scale=3.0)),
            NoPushWhenAbsent(cls(1.0, concept="negative")),
            PredictionTypeInvariant(cls(1.0, concept="negative")),
        )


def _weight(step: Step, positive: Tensor, concept: Tensor, log_odds: Tensor, trust_region: bool) -> Tensor:
    """r, within the trust region where there is one."""
    if not trust_region:
        return log_odds.exp()
    odds = log_odds.clamp(max=math.log(LARGEST_WEIGHT)).exp()
    direction = norm(step.noise_difference(concept, positive)).to(odds)
    reach = math.sqrt(positive[0].numel()) + TAIL
    return torch.minimum(odds, reach / direction.clamp(min=torch.finfo(odds.dtype).tiny))
