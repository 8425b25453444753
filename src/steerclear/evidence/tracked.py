"""What evidences share that follow the sampler from step to step: where it left, and the log-odds there."""

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from ..core.evidence import Belief, Circumstances, Evidence, Push, Surroundings
from ..core.numerics import dot, logit
from ..core.records import State, Step
from ..core.settings import one_each, probabilities

LOWEST_LEVEL = 1e-12
"""sigma / alpha below which a step says nothing more: the increments divide by its square."""

START_CLIP = 3.0
"""How far the first predictions may move the log-odds from the prior."""


@dataclass(frozen=True)
class Departure:
    """The point that the sampler left, in variance-exploding coordinates, and what was believed there.

    Attributes:
        point: y = x / alpha, ``[batch, ...]``, float64.
        level: s = sigma / alpha.
        positive, concept, guided: noise predictions there, float64.
        weight: w, ``[batch]``.
    """

    point: Tensor
    level: float
    positive: Tensor
    concept: Tensor
    guided: Tensor
    weight: Tensor


@dataclass(frozen=True)
class TrackedState(State):
    """Log-odds of every image (None before the first step), and the last departure."""

    log_odds: Tensor | None
    departure: Departure | None


@dataclass(frozen=True)
class TrackingEvidence(Evidence):
    """Log-odds with a start at the first finite noise level, and a change for each step that the sampler made.

    Args:
        prior: how often the concept shows without guidance, strictly between 0 and 1; a tuple has one for each
            negative prompt. None takes what is known of the run.

    Raises:
        InvalidSetting: a prior outside of its range.
    """

    prior: float | tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.prior is not None:
            probabilities("prior", self.prior)

    def for_concepts(self, count: int) -> tuple[Evidence, ...]:
        if self.prior is None:
            return (self,) * count
        return tuple(replace(self, prior=prior) for prior in one_each("prior", self.prior, count))

    def fitted(self, known: Circumstances) -> Self:
        return replace(self, prior=known.prior) if self.prior is None else self

    def prior_log_odds(self) -> float:
        """The log-odds of an image of which nothing is known yet."""
        (prior,) = one_each("prior", Circumstances().prior if self.prior is None else self.prior, 1)
        return logit(prior)

    def unmoved(self, step: Step) -> Tensor:
        """The prior's log-odds of every image, ``[batch]``, float64."""
        prior = self.prior_log_odds()
        return torch.full((step.batch_size,), prior, dtype=torch.float64, device=step.sample.device)

    def nearer_log_odds(self, step: Step, positive: Tensor, concept: Tensor) -> Tensor:
        """The prior's log-odds, moved by which prediction is shorter: nearer to the exact posterior at the first level."""
        e_positive, e_concept = step.noise(positive).double(), step.noise(concept).double()
        nearer = (dot(e_positive, e_positive) - dot(e_concept, e_concept)) / 2
        return self.prior_log_odds() + nearer.clamp(-START_CLIP, START_CLIP)

    @abstractmethod
    def first(self, step: Step, positive: Tensor, concept: Tensor) -> Tensor:
        """The log-odds at the first finite noise level, ``[batch]``, float64."""

    @abstractmethod
    def moved(self, step: Step, departure: Departure, log_odds: Tensor) -> Tensor:
        """The log-odds after the step from a departure to the point that was reached, ``[batch]``, float64.

        Args:
            step: where the sampler stands now.
            departure: where it came from.
            log_odds: what they were there, ``[batch]``.
        """

    def lowest_level(self) -> float:
        """sigma / alpha under which the log-odds stay as they are."""
        return LOWEST_LEVEL

    def begin(self, surroundings: Surroundings) -> TrackedState:
        return TrackedState(None, None)

    def update(self, step: Step, positive: Tensor, concept: Tensor, state: State) -> Belief:
        assert isinstance(state, TrackedState)
        if not math.isfinite(step.noise_to_signal):  # pure noise says nothing yet: the start is at the next level
            return Belief(self.unmoved(step), state)
        if state.log_odds is None:
            log_odds = self.first(step, positive, concept)
        elif state.departure is not None and step.noise_to_signal >= max(self.lowest_level(), LOWEST_LEVEL):
            log_odds = self.moved(step, state.departure, state.log_odds)
        else:
            log_odds = state.log_odds
        # a substep's point is not kept, and neither is what it says
        return Belief(log_odds, state if step.substep else replace(state, log_odds=log_odds))

    def remember(self, step: Step, push: Push, state: State) -> State:
        assert isinstance(state, TrackedState)
        if step.substep or not math.isfinite(step.noise_to_signal):
            return state
        departure = Departure(
            step.sample.double() / step.alpha,
            step.noise_to_signal,
            step.noise(push.positive).double(),
            step.noise(push.concept).double(),
            step.noise(push.guided).double(),
            push.weight.double(),
        )
        return replace(state, departure=departure)
