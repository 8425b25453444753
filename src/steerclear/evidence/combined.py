"""One evidence made of two."""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from ..core.errors import InvalidSetting, in_words_of
from ..core.evidence import Belief, Circumstances, Evidence, Push, Surroundings
from ..core.numerics import logit
from ..core.records import State, Step
from ..core.settings import finite, one_each, probabilities
from ..core.shapes import Bool, PerImage, Prediction
from .preview import PreviewEvidence
from .prior import known_prior
from .transition import TransitionEvidence

SHARE = 0.5


@dataclass(frozen=True)
class CombinedState(State):
    """A state for each of the two."""

    first: State
    second: State


@dataclass(frozen=True)
class CombinedEvidence(Evidence):
    """Two evidences as one: the last that knows something, or the sum of what both add to the prior.

    Equation:
        L = L_2 where the second is known, else L_1                            by last
        L = L_0 + share (L_1 - L_0) + share (L_2 - L_0)                        by sum

        L_0 = log(prior / (1 - prior))

    The sum is exact in two cases: with a share of 1 if the two are independent of one another among images with the concept
    and among those without it (their likelihood ratios multiply), and with a share of 1/2 if they say the same. Two that err
    differently lie between; a share of 1/2 is never surer than the surer of the two. One that knows nothing yet adds nothing.

    Each part may itself be a combination: ``combined(first=transition, second=preview(every=3))``.

    Args:
        first, second: the two evidences.
        by: "last", or "sum".
        share: of the sum, above 0 and at most 1; only with by "sum".
        prior: how often the concept shows without guidance, strictly between 0 and 1; a tuple has one per negative prompt. The
            parts that leave theirs open take it too. None takes the calibration's, or else the rate in the world's truth,
            kept between 0.05 and 0.95, if it is known, or else 0.5.

    Raises:
        InvalidSetting: a part is no evidence, or a setting out of range or without effect.
    """

    first: Evidence = field(default_factory=TransitionEvidence)
    second: Evidence = field(default_factory=PreviewEvidence)
    by: Literal["last", "sum"] = "last"
    share: float = SHARE
    prior: float | tuple[float, ...] | None = None

    name: ClassVar[str] = "combined"
    paper: ClassVar[str] = "naive Bayes with a shrunk sum; the geometric mean of odds at a share of 1/2"

    def __post_init__(self) -> None:
        check_part("first", self.first)
        check_part("second", self.second)
        finite("share", self.share, low=1e-3, high=1)
        if self.prior is not None:
            probabilities("prior", self.prior)
        if self.by == "last" and self.share != SHARE:
            raise InvalidSetting("share", self.share, f"left out (or {SHARE:g}) with by=last", "or take by=sum")

    @property
    def reads_concept(self) -> bool:  # type: ignore[override]  # that of the parts
        return self.first.reads_concept or self.second.reads_concept

    @property
    def trust_region(self) -> bool:  # type: ignore[override]  # as reads_concept
        return self.first.trust_region or self.second.trust_region

    @property
    def least_push(self) -> float:  # type: ignore[override]  # as reads_concept
        return min(self.first.least_push, self.second.least_push)

    @property
    def needs_judge(self) -> bool:  # type: ignore[override]  # as reads_concept
        return self.first.needs_judge or self.second.needs_judge

    def fitted(self, known: Circumstances) -> Self:
        prior, inside = self.prior, known
        if prior is None:
            prior = known_prior(known)
        else:
            priors = one_each("prior", prior, len(known.calibrations)) if known.calibrations else ()
            pairs = zip(known.calibrations, priors, strict=True)
            measured = tuple(None if one is None else replace(one, prior=own) for one, own in pairs)
            inside = replace(known, prior=prior, calibrations=measured)
        return replace(self, first=self.first.fitted(inside), second=self.second.fitted(inside), prior=prior)

    def branches(self, concept: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.first.branches(concept), *self.second.branches(concept))))

    def for_concepts(self, count: int) -> tuple[Evidence, ...]:
        priors = (None,) * count if self.prior is None else one_each("prior", self.prior, count)
        each = zip(self.first.for_concepts(count), self.second.for_concepts(count), priors, strict=True)
        return tuple(replace(self, first=first, second=second, prior=prior) for first, second, prior in each)

    def begin(self, surroundings: Surroundings) -> State:
        return CombinedState(self.first.begin(surroundings), self.second.begin(surroundings))

    def update(self, step: Step, positive: Prediction, concept: Prediction, state: State) -> Belief:
        assert isinstance(state, CombinedState)
        one = self.first.update(step, positive, concept, state.first)
        two = self.second.update(step, positive, concept, state.second)
        after = CombinedState(one.state, two.state)
        if one.known is None and two.known is None:
            return Belief(self._joined(one.log_odds, two.log_odds), after)
        everyone = torch.ones(step.batch_size, dtype=torch.bool, device=one.log_odds.device)
        first, second = (everyone if each.known is None else each.known for each in (one, two))
        return Belief(self._joined(one.log_odds, two.log_odds, first, second), after, first | second)

    def _joined(
        self, one: PerImage, two: PerImage, first_known: Bool[Tensor, " batch"] | None = None,
        second_known: Bool[Tensor, " batch"] | None = None,
    ) -> PerImage:  # fmt: skip
        """The log-odds of both; known is None if there is something to say of every image."""
        if self.by == "last":
            return two if second_known is None else torch.where(second_known, two, one)
        (prior,) = one_each("prior", Circumstances().prior if self.prior is None else self.prior, 1)
        start = logit(prior)
        if first_known is not None and second_known is not None:  # whose own prior may be another
            one, two = one.where(first_known, start), two.where(second_known, start)
        return start + self.share * (one - start) + self.share * (two - start)

    def remember(self, step: Step, push: Push, state: State) -> State:
        assert isinstance(state, CombinedState)
        return CombinedState(
            self.first.remember(step, push, state.first), self.second.remember(step, push, state.second)
        )


def check_part(name: str, value: object) -> None:
    """Raises :class:`InvalidSetting` unless value is an evidence."""
    if not isinstance(value, Evidence):
        example = in_words_of("TransitionEvidence()", "transition")
        raise InvalidSetting(name, value, f"an evidence, such as {example}")
