"""Shared by evidences that begin with how often the concept shows."""

from dataclasses import dataclass, replace
from typing import Self

import torch

from ..core.evidence import Circumstances, Evidence
from ..core.numerics import logit
from ..core.records import Step
from ..core.settings import one_each, probabilities
from ..core.shapes import PerImage


@dataclass(frozen=True)
class PriorEvidence(Evidence):
    """An evidence with a prior.

    Args:
        prior: how often the concept shows without guidance, strictly between 0 and 1; a tuple has one per negative prompt.
            None takes that of the run's calibrations, or else of its :class:`~steerclear.core.evidence.Circumstances`.

    Raises:
        InvalidSetting: a prior out of range.
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
        return replace(self, prior=known_prior(known)) if self.prior is None else self

    def prior_log_odds(self) -> float:
        """log(prior / (1 - prior)), of one concept."""
        (prior,) = one_each("prior", Circumstances().prior if self.prior is None else self.prior, 1)
        return logit(prior)

    def unmoved(self, step: Step) -> PerImage:
        """The prior's log-odds for every image, ``[batch]``, float64."""
        return torch.full((step.batch_size,), self.prior_log_odds(), dtype=torch.float64, device=step.sample.device)


def known_prior(known: Circumstances) -> float | tuple[float, ...]:
    """The prior of a run: that of its calibrations, and where a negative prompt has none, the one known besides.

    >>> known_prior(Circumstances(prior=0.25))
    0.25
    """
    if not any(known.calibrations):
        return known.prior
    others = one_each("prior", known.prior, len(known.calibrations))
    pairs = zip(known.calibrations, others, strict=True)
    priors = tuple(other if one is None else one.prior for one, other in pairs)
    return priors[0] if len(priors) == 1 else priors
