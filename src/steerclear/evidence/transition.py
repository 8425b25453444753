"""Tracking the posterior from the sampler's own transitions."""

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..belief import Belief, Evidence, Push
from ..errors import InvalidSetting
from ..numerics import dot, logit, over_images
from ..records import State, Step
from ..settings import finite, one_each, probabilities

START_CLIP = 3.0
LOWEST_LEVEL = 1e-12
PUBLISHED_RANGE = (1e-4, 0.99)


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
class TransitionState(State):
    """Log-odds of every image (None before the first step), and the last departure."""

    log_odds: Tensor | None
    departure: Departure | None


@dataclass(frozen=True)
class TransitionEvidence(Evidence):
    """Log-odds tracked from each transition: was it likelier under the concept than under the guided model?

    Equations, in y = x / alpha and s = sigma / alpha, for the step (y, s) -> (y', s') that the sampler really made, with
    d = e_concept - e_prompt, a = |d|^2, b = <e_prompt, d>, g = <y' - y, d> and w = exp(L):

        log-odds:    L += -((1 + w) / s'^2) [ s g + (s^2 - s'^2) / 2 (2 b + (1 - w) a) ]
        published:   log p += -(1 / s'^2) [ s g + (s^2 - s'^2) / 2 (2 b + a) ],   L = log(p / (1 - p)), p clamped

    The first is log N(y'; m_concept, v) - log N(y'; m_guided, v) with m_h = y - (1 - s'^2/s^2) s e_h and
    v = s'^2 (1 - s'^2/s^2), where e_guided = e_prompt - w d is the prediction of "the prompt without the concept".
    The second, of the paper, tracks the concept against the prompt. The start is
    L_0 = log(prior / (1 - prior)) + clip((|e_prompt|^2 - |e_concept|^2) / 2, +-3).

    The formulas are likelihood ratios of a stochastic sampler's transitions, and exact in the limit of many steps,
    wherever a guidance drives the sample. A deterministic sampler has none. The change of the log-odds along its path is

        dL = (1 + w) (a + b + s^2 div(score_concept - score_prompt) + w a) dlog s

    of which the log-odds formula gives (1 + w) (a + b). The rest is the volume term, with a table beta(s) for the
    divergence's mean (:func:`steerclear.evidence.volume.calibrate_volume` measures it):

        L += omega (1 + w) ((beta(s) + beta(s')) / 2 + w a) log(s' / s)

    Args:
        prior: how often the concept shows without guidance, strictly between 0 and 1; a tuple has one for each
            negative prompt.
        method: "log-odds" or "published".
        stop_below: s under which the log-odds are frozen; increments of learned networks are noise below about 1.
        temperature: divides every increment; above 1 trusts transitions less.
        innovation: take the guidance's push beyond e_guided out of y' before comparing, so that a strength above 1 is
            not taken for evidence against the concept, and goes on (for stochastic samplers: it takes out their displacement). Without it the log-odds stay those of the point that
            was reached, and the push ends where it has succeeded. At strength 1 there is no difference.
        volume: nodes (s, beta) with s rising, interpolated in log s; empty for no volume term. For method log-odds.
        omega: how deterministic the sampler is: 1 for DDIM with eta 0, Euler, Heun and DPM-Solver++(2M),
            0 for ancestral ones, 1 - eta^2 between.

    Raises:
        InvalidSetting: a value outside of its range.
    """

    prior: float | tuple[float, ...] = 0.5
    method: Literal["log-odds", "published"] = "log-odds"
    stop_below: float = 0.0
    temperature: float = 1.0
    innovation: bool = True
    volume: tuple[tuple[float, float], ...] = ()
    omega: float = 1.0

    name: ClassVar[str] = "transition"
    paper: ClassVar[str] = (
        "Dynamic Negative Guidance of Diffusion Models, Koulischer, Deleu, Raya, Demeester and Ambrogioni, ICLR 2025, "
        "arXiv 2410.14398 (method published); log-odds form: docs/tracking.md"
    )

    def __post_init__(self) -> None:
        probabilities("prior", self.prior)
        if self.method not in ("log-odds", "published"):
            raise InvalidSetting("method", self.method, "log-odds or published")
        finite("stop_below", self.stop_below, low=0)
        finite("temperature", self.temperature, low=1e-3)
        finite("omega", self.omega, low=0)
        for level, beta in self.volume:
            finite("volume's level", level, low=LOWEST_LEVEL)
            finite("volume's value", beta)
        if any(low >= high for (low, _), (high, _) in pairwise(self.volume)):
            raise InvalidSetting("volume", self.volume, "a table whose levels rise")

    def for_concepts(self, count: int) -> tuple[Evidence, ...]:
        return tuple(replace(self, prior=prior) for prior in one_each("prior", self.prior, count))

    def begin(self, batch_size: int) -> TransitionState:
        return TransitionState(None, None)

    def update(self, step: Step, positive: Tensor, concept: Tensor, state: State) -> Belief:
        assert isinstance(state, TransitionState)
        if not math.isfinite(step.noise_to_signal):  # pure noise says nothing yet: the start is at the next level
            log_odds = torch.full(
                (step.batch_size,), self._prior_log_odds(), dtype=torch.float64, device=positive.device
            )
            return Belief(log_odds, state)
        if state.log_odds is None:
            log_odds = self._start(step, positive, concept)
        elif state.departure is not None and step.noise_to_signal >= max(self.stop_below, LOWEST_LEVEL):
            log_odds = state.log_odds + self._increment(step, state.departure, state.log_odds)
        else:
            log_odds = state.log_odds
        # a substep's point is not kept, and neither is what it says
        return Belief(log_odds, state if step.substep else replace(state, log_odds=log_odds))

    def remember(self, step: Step, push: Push, state: State) -> State:
        assert isinstance(state, TransitionState)
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

    def _prior_log_odds(self) -> float:
        (prior,) = one_each("prior", self.prior, 1)
        return logit(prior)

    def _start(self, step: Step, positive: Tensor, concept: Tensor) -> Tensor:
        e_positive, e_concept = step.noise(positive).double(), step.noise(concept).double()
        nearer = (dot(e_positive, e_positive) - dot(e_concept, e_concept)) / 2
        return self._prior_log_odds() + nearer.clamp(-START_CLIP, START_CLIP)

    def _increment(self, step: Step, departure: Departure, log_odds: Tensor) -> Tensor:
        s, reached = departure.level, step.noise_to_signal
        y, w = step.sample.double() / step.alpha, departure.weight
        difference = departure.concept - departure.positive
        if self.innovation:
            target = departure.positive - over_images(w, difference) * difference
            y = y + (1 - (reached / s) ** 2) * s * (departure.guided - target)
        a, b = dot(difference, difference), dot(departure.positive, difference)
        g = dot(y - departure.point, difference)
        shrink = (s**2 - reached**2) / 2
        if self.method == "log-odds":
            change = -((1 + w) / reached**2) * (s * g + shrink * (2 * b + (1 - w) * a))
            return (change + self._volume(s, reached, w, a)) / self.temperature
        change = -(s * g + shrink * (2 * b + a)) / reached**2 / self.temperature
        low, high = PUBLISHED_RANGE
        log_p = torch.nn.functional.logsigmoid(log_odds) + change
        p = log_p.clamp(math.log(low), math.log(high)).exp()
        return torch.logit(p) - log_odds

    def _volume(self, s: float, reached: float, w: Tensor, a: Tensor) -> Tensor:
        """What a deterministic part of the step adds: see the class."""
        if not self.volume:
            return torch.zeros_like(w)
        beta = (interpolated(self.volume, s) + interpolated(self.volume, reached)) / 2
        return self.omega * (1 + w) * (beta + w * a) * math.log(reached / s)


def interpolated(nodes: tuple[tuple[float, float], ...], level: float) -> float:
    """A table of (s, value) with s rising, linear in log s, constant beyond its ends.

    >>> round(interpolated(((1.0, 0.0), (4.0, -2.0)), 2.0), 12), interpolated(((1.0, 0.0), (4.0, -2.0)), 9.0)
    (-1.0, -2.0)
    """
    if level <= nodes[0][0]:
        return nodes[0][1]
    for (low, before), (high, after) in pairwise(nodes):
        if level <= high:
            return before + (after - before) * math.log(level / low) / math.log(high / low)
    return nodes[-1][1]
