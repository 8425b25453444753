"""The posterior of the published Dynamic Negative Guidance: its release's own update."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from ..core.errors import InvalidSetting
from ..core.numerics import dot
from ..core.records import Step
from ..core.settings import finite, probabilities
from ..core.shapes import PerImage, Prediction
from .tracked import Departure, TrackingEvidence


@dataclass(frozen=True)
class PublishedEvidence(TrackingEvidence):
    """The published posterior: the concept's transition against the prompt's own, its probability clamped.

    Equation:
        log p += -(tau / s'^2) [ s g + (s^2 - s'^2) / 2 (2 b + a) ] + delta / (2 v),   p clamped to [lowest, highest]

        y = x / alpha, s = sigma / alpha; (y, s) -> (y', s') is the step that the sampler made;
        d = e_concept - e_prompt, a = |d|^2, b = <e_prompt, d>, g = <y' - y, d>

    The bracket is log N(y'; m_concept, v) - log N(y'; m_prompt, v) of the two models' ancestral transitions; v is their
    variance in the sample's own scaling. The start is the prior. With the defaults this is the authors' release, step for
    step: the temperature multiplies (in the transition evidence it divides), there is no trust region, and the push is not
    subtracted from the step. It is meant for many steps of an ancestral sampler; the paper takes 1,000.

    Args:
        prior: how often the concept shows without guidance, strictly between 0 and 1; a tuple has one per negative prompt.
            None takes the rate in the world's truth, kept between 0.05 and 0.95, if it is known (``compare`` and
            ``generate`` on the shipped model), else 0.5.
        temperature: tau; multiplies every change. The release takes 1, and 0.2 for CIFAR-10.
        offset: delta; 0 for none.
        lowest, highest: bounds of the probability, 0 < lowest < highest < 1. A weight is at most highest / (1 - highest).
        start: "prior" as published; "nearer" adds clip((|e_prompt|^2 - |e_concept|^2) / 2, +-3), as the transition
            evidence does, which is nearer to the exact posterior.
        trust_region: whether the push is limited as for the other evidences (weight at most 99, length at most that of
            noise). The release has no such limit.

    Raises:
        InvalidSetting: a value out of range.
    """

    temperature: float = 1.0
    offset: float = 0.0
    lowest: float = 1e-6
    highest: float = 0.99
    start: Literal["prior", "nearer"] = "prior"
    trust_region: bool = False

    name: ClassVar[str] = "published"
    paper: ClassVar[str] = (
        "Dynamic Negative Guidance of Diffusion Models, Koulischer, Deleu, Raya, Demeester and Ambrogioni, ICLR 2025, "
        "arXiv 2410.14398; release: github.com/FelixKoulischer/Dynamic-Negative-Guidance"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        finite("temperature", self.temperature, low=0)
        finite("offset", self.offset)
        probabilities("lowest", self.lowest)
        probabilities("highest", self.highest)
        if self.lowest >= self.highest:
            raise InvalidSetting("lowest", self.lowest, f"below highest ({self.highest:g})")

    def first(self, step: Step, positive: Prediction, concept: Prediction) -> PerImage:
        return self.unmoved(step) if self.start == "prior" else self.nearer_log_odds(step, positive, concept)

    def moved(self, step: Step, departure: Departure, log_odds: PerImage) -> PerImage:
        s, reached = departure.level, step.noise_to_signal
        y = step.sample.double() / step.alpha
        difference = departure.concept - departure.positive
        a, b = dot(difference, difference), dot(departure.positive, difference)
        g = dot(y - departure.point, difference)
        change = -self.temperature * (s * g + (s**2 - reached**2) / 2 * (2 * b + a)) / reached**2
        if self.offset and reached < s:  # v in units of variance-preserving samples, which the release's are
            change = change + self.offset / (2 * reached**2 * (1 - (reached / s) ** 2) / (1 + reached**2))
        log_p = torch.nn.functional.logsigmoid(log_odds) + change
        return torch.logit(log_p.clamp(math.log(self.lowest), math.log(self.highest)).exp())
