"""Tracking the posterior from the sampler's own transitions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Self

import torch
from torch import Tensor

from ..core.calibration import Calibration, Observed
from ..core.errors import InvalidSetting
from ..core.evidence import Circumstances
from ..core.logistic import auc, fit
from ..core.numerics import dot, over_images
from ..core.records import Step
from ..core.settings import finite
from ..core.shapes import PerImage, Prediction
from ..core.watching import LARGEST_WEIGHT
from .tracked import LOWEST_LEVEL, Departure, TrackingEvidence

LEARNED_STOP_BELOW = 1.0
"""s under which the increments of a learned network are noise (docs/tracking.md)."""

TIE = 0.005
"""Areas under the curve this near count as equal."""
SLOPE_RIDGE = 1e-3
TEMPERATURES = (0.25, 20.0)
"""Range of a measured temperature: a slope near 0 says that the transitions know nothing."""


@dataclass(frozen=True)
class TransitionEvidence(TrackingEvidence):
    """Log-odds tracked from each transition: was it likelier under the concept than under the guided model?

    Equation:
        L += -((1 + w) / s'^2) [ s g + (s^2 - s'^2) / 2 (2 b + (1 - w) a) ]

        y = x / alpha, s = sigma / alpha; (y, s) -> (y', s') is the step that the sampler made;
        d = e_concept - e_prompt, a = |d|^2, b = <e_prompt, d>, g = <y' - y, d>, w = exp(L)

    This is log N(y'; m_concept, v) - log N(y'; m_guided, v) with m_h = y - (1 - s'^2/s^2) s e_h and
    v = s'^2 (1 - s'^2/s^2), where e_guided = e_prompt - w d is the prediction of "the prompt without the concept".
    The paper's own update, which compares the concept with the prompt, is the evidence "published". The start is
    L_0 = log(prior / (1 - prior)) + clip((|e_prompt|^2 - |e_concept|^2) / 2, +-3).

    The formula is a likelihood ratio of a stochastic sampler's transitions, exact in the limit of many steps under any
    guidance. A deterministic sampler has none. The change of the log-odds along its path is

        dL = (1 + w) (a + b + s^2 div(score_concept - score_prompt) + w a) dlog s

    of which the formula gives (1 + w) (a + b). The rest is the volume term, with a table beta(s) of the divergence's mean,
    from :func:`steerclear.evidence.volume.calibrate_volume`:

        L += omega (1 + w) ((beta(s) + beta(s')) / 2 + w a) log(s' / s)

    Args:
        prior: how often the concept shows without guidance, strictly between 0 and 1; a tuple has one per negative prompt.
            None takes the rate in the world's truth, kept between 0.05 and 0.95, if it is known (``compare`` and
            ``generate`` on the shipped model), else 0.5; a calibration knows it better.
        stop_below: s below which the log-odds are frozen. None takes 1 for a learned network, whose increments are noise
            below about 1, or what a calibration says, and 0 for the exact denoiser of a testbed.
        temperature: divides every increment; above 1 trusts transitions less. None takes that of a calibration, else 1.
        innovation: subtract the extra push of a negative_scale other than 1 from y' before comparing; otherwise a scale
            above 1 would lower its own posterior. Without it the log-odds are those of the point that was reached, and the
            push ends once it has succeeded. At negative_scale 1 there is no difference.
        volume: nodes (s, beta) with s rising, interpolated in log s; empty, or None, for that of a calibration, else for no
            volume term.
        omega: how deterministic the sampler is: 1 for DDIM with eta 0, Euler, Heun and DPM-Solver++(2M),
            0 for ancestral ones, 1 - eta^2 between, in the limit of many steps. In 30 steps tracking lags behind, and more
            removes more: on exact worlds 1.75 is best with DPM-Solver++(2M) and 1 with SDE-DPM-Solver++ (docs/exact-worlds.md).

    Raises:
        InvalidSetting: a value out of range.
    """

    stop_below: float | None = None
    temperature: float | None = None
    innovation: bool = True
    volume: tuple[tuple[float, float], ...] = ()
    omega: float = 1.0

    least_push: ClassVar[float] = 2.0
    name: ClassVar[str] = "transition"
    paper: ClassVar[str] = (
        "Dynamic Negative Guidance of Diffusion Models, Koulischer, Deleu, Raya, Demeester and Ambrogioni, ICLR 2025, "
        "arXiv 2410.14398; in log-odds: docs/tracking.md"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stop_below is not None:
            finite("stop_below", self.stop_below, low=0)
        if self.temperature is not None:
            finite("temperature", self.temperature, low=1e-3)
        finite("omega", self.omega, low=0)
        for level, beta in self.volume:
            finite("volume's level", level, low=LOWEST_LEVEL)
            finite("volume's value", beta)
        if any(low >= high for (low, _), (high, _) in pairwise(self.volume)):
            raise InvalidSetting("volume", self.volume, "a table whose levels rise")

    def fitted(self, known: Circumstances) -> Self:
        found = super().fitted(known)
        measured = [_kept(one, self.name) for one in known.calibrations]
        stop_below = _largest(measured, "stop_below", 0.0 if known.exact else LEARNED_STOP_BELOW)
        temperature = _largest(measured, "temperature", 1.0)
        alone = measured[0]["volume"].double().tolist() if len(measured) == 1 and "volume" in measured[0] else []
        return replace(
            found,
            stop_below=stop_below if found.stop_below is None else found.stop_below,
            temperature=temperature if found.temperature is None else found.temperature,
            volume=found.volume or tuple((level, beta) for level, beta in alone),
        )

    def uncalibrated(self) -> Self:
        """On its way to the end, at temperature 1, without a volume term."""
        return replace(self, stop_below=0.0, temperature=1.0, volume=())

    def calibrated(self, observed: Observed) -> dict[str, Tensor]:
        """``temperature`` and ``stop_below``.

        The increments go on to the level from which on they only blur the order of the images (the lowest with the largest
        area under the curve, up to :data:`TIE`); there a logistic regression says how much a log-odd is worth.
        """
        log_odds = observed.log_odds.get(self.name)
        if log_odds is None:
            return {}
        finite_levels = observed.levels.isfinite().tolist()  # pure noise has no increment to stop
        known = [index for index, own in enumerate(finite_levels) if own and bool(log_odds[:, index].isfinite().all())]
        areas = {index: auc(log_odds[:, index], observed.shown) for index in known}
        told = [index for index in known if areas[index] >= max(areas.values()) - TIE]
        if not told or not math.isfinite(areas[told[-1]]):
            return {}
        last = told[-1]
        bound = math.log(LARGEST_WEIGHT)  # beyond it a guidance sees no difference, and without a push they run away
        bounded = log_odds[:, last : last + 1].clamp(-bound, bound)
        slope = float(fit(bounded, observed.shown, SLOPE_RIDGE)[0])
        temperature = min(max(1 / max(slope, 1e-9), TEMPERATURES[0]), TEMPERATURES[1])
        level = math.sqrt(float(observed.levels[last] * observed.levels[last + 1])) if last < known[-1] else 0.0
        tensors = {"temperature": torch.tensor([temperature]), "stop_below": torch.tensor([level])}
        return {name: value.double() for name, value in tensors.items()}

    def lowest_level(self) -> float:
        return 0.0 if self.stop_below is None else self.stop_below

    def first(self, step: Step, positive: Prediction, concept: Prediction) -> PerImage:
        return self.nearer_log_odds(step, positive, concept)

    def moved(self, step: Step, departure: Departure, log_odds: PerImage) -> PerImage:
        return log_odds + self._increment(step, departure)

    def _increment(self, step: Step, departure: Departure) -> PerImage:
        s, reached = departure.level, step.noise_to_signal
        y, w = step.sample.double() / step.alpha, departure.weight
        difference = departure.concept - departure.positive
        if self.innovation:
            target = departure.positive - over_images(w, difference) * difference
            y = y + (1 - (reached / s) ** 2) * s * (departure.guided - target)
        a, b = dot(difference, difference), dot(departure.positive, difference)
        g = dot(y - departure.point, difference)
        shrink = (s**2 - reached**2) / 2
        change = -((1 + w) / reached**2) * (s * g + shrink * (2 * b + (1 - w) * a))
        temperature = 1.0 if self.temperature is None else self.temperature
        return (change + self._volume(s, reached, w, a)) / temperature

    def _volume(self, s: float, reached: float, w: PerImage, a: PerImage) -> PerImage:
        """The volume term, see the class."""
        if not self.volume:
            return torch.zeros_like(w)
        beta = (interpolated(self.volume, s) + interpolated(self.volume, reached)) / 2
        return self.omega * (1 + w) * (beta + w * a) * math.log(reached / s)


def _largest(measured: Sequence[Mapping[str, Tensor]], name: str, otherwise: float) -> float:
    """The largest of what each calibration says, or the default where one says nothing; it trusts the transitions least."""
    return max((float(one[name].max()) if name in one else otherwise for one in measured), default=otherwise)


def _kept(calibration: Calibration | None, name: str) -> dict[str, Tensor]:
    """What a calibration keeps of the transitions. Raises :class:`InvalidSetting` for tensors of another shape."""
    kept = {} if calibration is None else calibration.of(name)
    for what, value in kept.items():
        shaped = value.ndim == 2 and value.shape[1] == 2 if what == "volume" else value.ndim <= 1
        if calibration is not None and not (shaped and value.numel()):
            raise calibration.unlike(name, f"{what} of the shape {list(value.shape)}")
    return kept


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
