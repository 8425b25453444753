"""Dynamic negative guidance: a push whose weight is the odds that the image is becoming the concept."""

import math
from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from ..core.denoiser import numbered
from ..core.errors import InvalidSetting, in_words_of
from ..core.evidence import Circumstances, Evidence, Push, Surroundings
from ..core.guidance import Guidance, joined
from ..core.laws import Equals, Identity, Law, Linear, NoPushWhenAbsent, PredictionTypeInvariant, Runs
from ..core.numerics import norm, over_images
from ..core.records import Guided, PerStep, State, Step
from ..core.settings import any_weight, finite, finite_each, one_each
from ..core.watching import LARGEST_WEIGHT
from ..evidence.constant import ConstantEvidence
from ..evidence.transition import TransitionEvidence
from .classifier_free import ClassifierFreeGuidance

TAIL = 3.0  # the norm of noise exceeds sqrt(dimension) by its tail, which matters in few dimensions


@dataclass(frozen=True)
class DynamicNegativeState(State):
    """One evidence state per negative prompt that is pushed away from."""

    evidence: tuple[State, ...]


@dataclass(frozen=True)
class _Negative:
    """One negative prompt, from 0: the branch that predicts its concept, lambda, and the source of its posterior."""

    index: int
    branch: str
    scale: float
    evidence: Evidence


@dataclass(frozen=True)
class DynamicNegativeGuidance(Guidance):
    """Direction times weight: away from the concept, as hard as the image is likely to become it.

    Equation:
        D = D_empty + w (D_prompt - sum_k lambda_k r_k (D_concept_k - D_prompt) - D_empty),   r = p(c | x_t) / (1 - p(c | x_t))

    With one negative, lambda = 1, w = 1 and the exact posterior this is the exact score of p(x | prompt, not c) for any
    sampler; a constant negative prompt uses a constant r. An evidence gives each image its own posterior. A trust region
    prevents rare blow-ups: r is at most 99, and |r (e_concept - e_prompt)| at most sqrt(dimension) + 3, the length of noise.
    The published evidence has none. Where an evidence has nothing to say of an image yet, as before its first look, there is
    no push.

    Args:
        guidance_scale: w, the classifier-free scale of "the prompt without the concept"; 1 is off.
        negative_scale: lambda, the push away from the negative; 0 is off (plain CFG), 1 the theory's weight, larger removes
            more. One number for all negatives, or a tuple with one for each. None takes 1, or as much more as brings
            lambda w to the evidence's ``least_push``: under a learned network the transitions leave a fifth of the concept at
            lambda w = 1 and little at 2 (docs/tracking.md).
        concept: "conjunction" takes the prompt and the negative together ("portrait photo of a man, mustache") as the
            concept, which differs from the prompt only in the negative; "negative" takes the negative alone.
        evidence: where the posterior comes from.

    Raises:
        InvalidSetting: a scale is not finite, a negative_scale is below 0, the concept is neither, or the number of negatives
            is not that of negative scales or priors.
    """

    guidance_scale: float = 3.0
    _: KW_ONLY
    negative_scale: float | tuple[float, ...] | None = None
    concept: Literal["conjunction", "negative"] = "conjunction"
    evidence: Evidence = field(default_factory=TransitionEvidence)

    name: ClassVar[str] = "dynamic-negative"
    paper: ClassVar[str] = (
        "Dynamic Negative Guidance of Diffusion Models, Koulischer, Deleu, Raya, Demeester and Ambrogioni, ICLR 2025, "
        "arXiv 2410.14398"
    )
    cost: ClassVar[str] = "2 evaluations per step, 3 with a guidance_scale (1 more per further negative)"

    def __post_init__(self) -> None:
        finite("guidance_scale", self.guidance_scale)
        if self.negative_scale is not None:
            finite_each("negative_scale", self.negative_scale, low=0)
        if not isinstance(self.evidence, Evidence):
            example = in_words_of("TransitionEvidence()", "transition")
            raise InvalidSetting("evidence", self.evidence, f"an evidence, such as {example}")

    def begin(self, surroundings: Surroundings) -> State:
        pushes = self._pushes(surroundings.negatives)
        own = [surroundings.for_negative(push.index, push.branch) for push in pushes]
        return DynamicNegativeState(tuple(push.evidence.begin(each) for push, each in zip(pushes, own, strict=True)))

    def needs_noise_level(self) -> bool:
        return any_weight(self._scale())

    def fitted(self, known: Circumstances) -> Self:
        found = super().fitted(known)
        if self.negative_scale is not None:
            return found
        least = (1.0,) if known.exact else self.evidence.least_pushes()
        scales = tuple(max(1.0, own / max(abs(self.guidance_scale), 1.0)) for own in least)
        return found.changed(negative_scale=scales if len({*scales}) > 1 else scales[0])

    def _scale(self) -> float | tuple[float, ...]:
        return 1.0 if self.negative_scale is None else self.negative_scale

    def branches(self, negatives: int) -> tuple[str, ...]:
        pushes = self._pushes(negatives)
        reference = () if self.guidance_scale == 1 else ("empty",)
        own = (*reference, "positive", *(push.branch for push in pushes))
        return joined(own, *(push.evidence.branches(push.branch) for push in pushes))

    def __call__(self, step: Step, state: State) -> Guided:
        assert isinstance(state, DynamicNegativeState)
        pushes = self._pushes(step.negatives)
        reference = ["empty"] if self.guidance_scale != 1 else []
        predictions = step.predict(*reference, "positive", *(push.branch for push in pushes))
        target = positive = predictions[len(reference)]
        after: list[State] = []
        info: PerStep = {}
        for push, concept, before in zip(pushes, predictions[len(reference) + 1 :], state.evidence, strict=True):
            belief = push.evidence.update(step, positive, concept, before)
            length = norm(step.noise_difference(concept, positive)).to(belief.log_odds)
            longest = math.sqrt(positive[0].numel()) + TAIL if push.evidence.trust_region else None
            weight = _weight(belief.log_odds, length, longest)
            if belief.known is not None:
                weight = weight * belief.known.to(weight)
            shift = push.scale * over_images(weight, positive) * (concept - positive)
            target = target - shift
            own = Push(positive, concept, positive - shift, weight)
            after.append(push.evidence.remember(step, own, belief.state))
            info[numbered("weight", push.index)] = push.scale * weight
            info[numbered("posterior", push.index)] = belief.log_odds.sigmoid()
            info[numbered("push_norm", push.index)] = push.scale * weight * length
        guided = predictions[0] + self.guidance_scale * (target - predictions[0]) if reference else target
        return Guided(guided, DynamicNegativeState(tuple(after)), info)

    def _pushes(self, count: int) -> list["_Negative"]:
        """Those of ``count`` negative prompts that are pushed away from."""
        scales, evidences = one_each("negative_scale", self._scale(), count), self.evidence.for_concepts(count)
        names = [numbered(self.concept, index) for index in range(count)]
        every = zip(range(count), names, scales, evidences, strict=True)
        return [_Negative(*own) for own in every if own[2] != 0]

    @classmethod
    def laws(cls) -> tuple[Law, ...]:
        half = ConstantEvidence(posterior=0.5)
        two = ConstantEvidence(posterior=(0.5, 0.75))  # weights 1 and 3
        return (
            Runs(cls(1.0)),
            Runs(cls(3.0, concept="negative")),
            Linear(cls(1.0, concept="negative", evidence=half), (("positive", 2.0), ("negative", -1.0))),
            Linear(cls(3.0, negative_scale=2.0, concept="negative", evidence=half),
                   (("positive", 9.0), ("negative", -6.0), ("empty", -2.0))),
            Runs(cls(1.0, negative_scale=(0.0, 1.0)), ("positive", "conjunction_2")),
            Linear(cls(1.0, negative_scale=(2.0, 0.5), concept="negative", evidence=two),
                   (("positive", 4.5), ("negative", -2.0), ("negative_2", -1.5))),
            Identity(cls(1.0, negative_scale=0.0)),
            Equals(cls(3.0, negative_scale=0.0), ClassifierFreeGuidance(guidance_scale=3.0)),
            NoPushWhenAbsent(cls(1.0, concept="negative")),
            PredictionTypeInvariant(cls(1.0, concept="negative")),
        )  # fmt: skip


def _weight(log_odds: Tensor, length: Tensor, longest: float | None) -> Tensor:
    """r for a direction of this length; ``longest`` bounds the push in the trust region, None without one."""
    if longest is None:
        return log_odds.exp()
    odds = log_odds.clamp(max=math.log(LARGEST_WEIGHT)).exp()
    return torch.minimum(odds, longest / length.clamp(min=torch.finfo(odds.dtype).tiny))
