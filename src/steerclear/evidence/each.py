"""For several negative prompts: to each its own evidence."""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from ..core.errors import InvalidSetting
from ..core.evidence import Belief, Circumstances, Evidence, Push, Surroundings
from ..core.records import State, Step
from ..core.shapes import Prediction
from .combined import check_part
from .transition import TransitionEvidence


@dataclass(frozen=True)
class EachEvidence(Evidence):
    """The first evidence for the first negative prompt, the second for the second, the third for the third.

    Equation:
        L_k = that of the k-th evidence for the k-th negative prompt

    Their weights are the guidance's: ``DynamicNegativeGuidance(evidence=EachEvidence(...), negative_scale=(1.0, 2.0))``.

    Args:
        first: of the first negative prompt.
        second, third: of the others; None if there are fewer.

    Raises:
        InvalidSetting: a part is no evidence, there is a third without a second, or there are more or fewer than negative
            prompts.
    """

    first: Evidence = field(default_factory=TransitionEvidence)
    second: Evidence | None = None
    third: Evidence | None = None

    name: ClassVar[str] = "each"
    paper: ClassVar[str] = "no paper; a choice for each negative prompt"

    def __post_init__(self) -> None:
        check_part("first", self.first)
        for name in ("second", "third"):
            if getattr(self, name) is not None:
                check_part(name, getattr(self, name))
        if self.second is None and self.third is not None:
            raise InvalidSetting(
                "second", None, "an evidence where there is a third", "or give the third as the second"
            )

    @property
    def parts_given(self) -> tuple[Evidence, ...]:
        """Those that are not None."""
        return tuple(one for one in (self.first, self.second, self.third) if one is not None)

    @property
    def reads_concept(self) -> bool:  # type: ignore[override]  # that of the parts
        return any(one.reads_concept for one in self.parts_given)

    @property
    def trust_region(self) -> bool:  # type: ignore[override]  # as reads_concept
        return any(one.trust_region for one in self.parts_given)

    @property
    def least_push(self) -> float:  # type: ignore[override]  # as reads_concept
        return min(one.least_push for one in self.parts_given)

    def least_pushes(self) -> tuple[float, ...]:
        return tuple(one.least_push for one in self.parts_given)

    @property
    def needs_judge(self) -> bool:  # type: ignore[override]  # as reads_concept
        return any(one.needs_judge for one in self.parts_given)

    def fitted(self, known: Circumstances) -> Self:
        own = zip(("first", "second", "third"), self.parts_given, strict=False)
        return replace(self, **{name: one.fitted(_of(known, place)) for place, (name, one) in enumerate(own)})

    def branches(self, concept: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(branch for one in self.parts_given for branch in one.branches(concept)))

    def for_concepts(self, count: int) -> tuple[Evidence, ...]:
        given = self.parts_given
        if len(given) != count:
            what = f"{count}, one per negative prompt"
            raise InvalidSetting(f"the number of evidences of {self.name}", len(given), what, "it takes at most three")
        return tuple(inside for one in given for inside in one.for_concepts(1))

    def begin(self, surroundings: Surroundings) -> State:
        return self._only.begin(surroundings)

    def update(self, step: Step, positive: Prediction, concept: Prediction, state: State) -> Belief:
        return self._only.update(step, positive, concept, state)

    def remember(self, step: Step, push: Push, state: State) -> State:
        return self._only.remember(step, push, state)

    @property
    def _only(self) -> Evidence:
        """The evidence where there is one negative prompt: a guidance asks those of :meth:`for_concepts`."""
        (only,) = self.for_concepts(1)
        return only


def _of(known: Circumstances, place: int) -> Circumstances:
    """What is known of one negative prompt, counted from 0; of one that is missing nothing."""
    prior = known.prior
    if isinstance(prior, tuple):
        prior = prior[place] if place < len(prior) else Circumstances().prior
    return replace(known, prior=prior, calibrations=known.calibrations[place : place + 1])
