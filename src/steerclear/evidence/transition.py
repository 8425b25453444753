"""Tracking the posterior from the sampler's own transitions."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..belief import Belief, Evidence, Push
from ..errors import InvalidSetting
from ..numerics import dot, logit, over_images
from ..records import State, Step
from ..settings import finite

START_CLIP = 3.0
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

    The formulas are likelihood ratios of a stochastic sampler's transitions. A deterministic sampler has none: the
    divergence of each image is missing, and the log-odds lose their meaning at low noise.

    Args:
        prior: how often the concept shows without guidance, strictly between 0 and 1.
        method: "log-odds" or "published".
        stop_below: s under which the log-odds are frozen; increments of learned networks are noise below about 1.
        temperature: divides every increment; above 1 trusts transitions less.
        innovation: take the guidance's push beyond e_guided out of y' before comparing. Without it a strength above 1
            moves the sample away from the concept and is taken for evidence against it.

    Raises:
        InvalidSetting: a value outside of its range.
    """

    prior: float = 0.5
    method: Literal["log-odds", "published"] = "log-odds"
    stop_below: float = 0.0
    temperature: float = 1.0
    innovation: bool = True

    name: ClassVar[str] = "transition"
    paper: ClassVar[str] = (
        "Dynamic Negative Guidance of Diffusion Models, Koulischer, Deleu, Raya, Demeester and Ambrogioni, ICLR 2025, "
        "arXiv 2410.14398 (method published); log-odds form: docs/tracking.md"
    )

    def __post_init__(self) -> None:
        if not (isinstance(self.prior, (int, float)) and math.isfinite(self.prior) and 0 < self.prior < 1):
            raise InvalidSetting("prior", self.prior, "between 0 and 1, both excluded")
        if self.method not in ("log-odds", "published"):
            raise InvalidSetting("method", self.method, "log-odds or published")
        finite("stop_below", self.stop_below, low=0)
        finite("temperature", self.temperature, low=1e-3)

    def begin(self, batch_size: int) -> TransitionState:
        return TransitionState(None, None)

    def update(self, step: Step, positive: Tensor, concept: Tensor, state: State) -> Belief:
        assert isinstance(state, TransitionState)
        if state.log_odds is None:
            state = replace(state, log_odds=self._start(step, positive, concept))
        elif state.departure is not None and not step.substep and self._tracks(step):
            state = replace(state, log_odds=state.log_odds + self._increment(step, state.departure, state.log_odds))
        return Belief(self._clamped(state.log_odds), state)

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

    def _tracks(self, step: Step) -> bool:
        return math.isfinite(step.noise_to_signal) and step.noise_to_signal >= max(self.stop_below, 1e-12)

    def _start(self, step: Step, positive: Tensor, concept: Tensor) -> Tensor:
        if not math.isfinite(step.noise_to_signal):
            return torch.full((step.batch_size,), logit(self.prior), dtype=torch.float64, device=positive.device)
        e_positive, e_concept = step.noise(positive).double(), step.noise(concept).double()
        nearer = (dot(e_positive, e_positive) - dot(e_concept, e_concept)) / 2
        return logit(self.prior) + nearer.clamp(-START_CLIP, START_CLIP)

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
            return -((1 + w) / reached**2) * (s * g + shrink * (2 * b + (1 - w) * a)) / self.temperature
        change = -(s * g + shrink * (2 * b + a)) / reached**2 / self.temperature
        low, high = PUBLISHED_RANGE
        log_p = torch.nn.functional.logsigmoid(log_odds) + change
        p = log_p.clamp(math.log(low), math.log(high)).exp()
        return torch.logit(p) - log_odds

    def _clamped(self, log_odds: Tensor | None) -> Tensor:
        assert log_odds is not None
        return log_odds
