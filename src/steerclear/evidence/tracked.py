"""Shared by evidences that follow the sampler from step to step: the point that it left, and the log-odds there."""

import math
from abc import abstractmethod
from dataclasses import dataclass, replace

from ..core.evidence import Belief, Push, Surroundings
from ..core.numerics import dot
from ..core.records import State, Step
from ..core.shapes import PerImage, Prediction
from .prior import PriorEvidence

LOWEST_LEVEL = 1e-12
"""sigma / alpha below which the log-odds stay: the increments divide by its square."""

START_CLIP = 3.0
"""How far the first predictions may move the log-odds from the prior."""


@dataclass(frozen=True)
class Departure:
    """The point that the sampler left, in variance-exploding coordinates, all float64.

    Attributes:
        point: y = x / alpha, ``[batch, ...]``.
        level: s = sigma / alpha.
        positive, concept, guided: noise predictions there.
        weight: w, ``[batch]``.
    """

    point: Prediction
    level: float
    positive: Prediction
    concept: Prediction
    guided: Prediction
    weight: PerImage


@dataclass(frozen=True)
class TrackedState(State):
    """Log-odds of every image (None before the first step), and the last departure."""

    log_odds: PerImage | None
    departure: Departure | None


@dataclass(frozen=True)
class TrackingEvidence(PriorEvidence):
    """Log-odds with a start at the first finite noise level, and a change for each step of the sampler.

    Args:
        prior: how often the concept shows without guidance, strictly between 0 and 1; a tuple has one per negative prompt.
            None takes that of the run's calibrations, or else of its :class:`~steerclear.core.evidence.Circumstances`.

    Raises:
        InvalidSetting: a prior out of range.
    """

    def nearer_log_odds(self, step: Step, positive: Prediction, concept: Prediction) -> PerImage:
        """The prior's log-odds moved towards the shorter prediction: nearer to the exact posterior at the first level."""
        e_positive, e_concept = step.noise(positive).double(), step.noise(concept).double()
        nearer = (dot(e_positive, e_positive) - dot(e_concept, e_concept)) / 2
        return self.prior_log_odds() + nearer.clamp(-START_CLIP, START_CLIP)

    @abstractmethod
    def first(self, step: Step, positive: Prediction, concept: Prediction) -> PerImage:
        """The log-odds at the first finite noise level, ``[batch]``, float64."""

    @abstractmethod
    def moved(self, step: Step, departure: Departure, log_odds: PerImage) -> PerImage:
        """The log-odds after the step from ``departure``, with its ``log_odds``, to ``step``, ``[batch]``, float64."""

    def lowest_level(self) -> float:
        """sigma / alpha below which the log-odds stay as they are."""
        return LOWEST_LEVEL

    def begin(self, surroundings: Surroundings) -> TrackedState:
        return TrackedState(None, None)

    def update(self, step: Step, positive: Prediction, concept: Prediction, state: State) -> Belief:
        assert isinstance(state, TrackedState)
        if not math.isfinite(step.noise_to_signal):  # pure noise has no information: the start is at the next level
            return Belief(self.unmoved(step), state)
        if state.log_odds is None:
            log_odds = self.first(step, positive, concept)
        elif state.departure is not None and step.noise_to_signal >= max(self.lowest_level(), LOWEST_LEVEL):
            log_odds = self.moved(step, state.departure, state.log_odds)
        else:
            log_odds = state.log_odds
        # a substep's point is not kept, and neither are its log-odds
        return Belief(log_odds, state if step.substep else replace(state, log_odds=log_odds))

    def remember(self, step: Step, push: Push, state: State) -> State:
        assert isinstance(state, TrackedState)
        if step.substep or not math.isfinite(step.noise_to_signal):
            return state
        predictions = push.positive, push.concept, push.guided
        positive, concept, guided = (step.noise(prediction).double() for prediction in predictions)
        y, s = step.sample.double() / step.alpha, step.noise_to_signal
        return replace(state, departure=Departure(y, s, positive, concept, guided, push.weight.double()))
