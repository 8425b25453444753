"""The network as its own classifier: which condition explains a denoised prediction better, once it is noised again?"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Self

import torch
from torch import Tensor

from ..core.calibration import Calibration, Observed
from ..core.errors import InvalidSetting
from ..core.evidence import Belief, Circumstances, Evidence, Surroundings
from ..core.logistic import fit
from ..core.numerics import dot, logit
from ..core.records import State, Step
from ..core.settings import finite, one_each, probabilities, whole
from ..core.shapes import Bool, PerImage, Prediction
from .prior import known_prior
from .transition import interpolated

ALONE = 1.0
"""Width in log s of the only level."""

FEWEST = 8
"""Images of each kind, with the concept and without, that a fit of slope and intercept needs."""

RIDGE = 1.0
COLUMNS = "levels", "slope", "intercept"
"""Of the table that a calibration keeps."""

Table = tuple[tuple[float, float, float], ...]
"""Rows (level, slope, intercept), levels rising."""

STOCHASTIC: Table = (
    (1.4, 1.0, 2.3), (2.9, 0.43, 1.4), (5.5, 0.24, 0.8), (7.5, 0.13, 0.44), (13.2, 0.08, 0.27),
)  # fmt: skip
DETERMINISTIC: Table = (
    (1.4, 1.0, 2.5), (2.9, 0.74, 2.0), (5.5, 0.4, 1.3), (7.5, 0.4, 1.3), (13.2, 0.35, 1.1),
)  # fmt: skip
"""Logistic fits to 128 finished images of the shipped model ("portrait photo of a man", mustache; default settings)."""


@dataclass(frozen=True)
class ClassifierState(State):
    """What was seen so far.

    Attributes:
        surroundings: give the noise and name the concept's branch.
        table: how log-odds follow from S; None for L = S / temperature.
        log_odds: of every image, the prior's before the first look.
        looked: which images were looked at.
        last: the step of the last look; None before.
    """

    surroundings: Surroundings
    table: Table | None
    log_odds: PerImage
    looked: Bool[Tensor, " batch"]
    last: int | None = None


@dataclass(frozen=True)
class ClassifierEvidence(Evidence):
    """The network asked again, at its own denoised prediction noised to a few levels: a classifier without labels.

    Equation:
        S = sum over s' of (|D - D_prompt(D + s' z)|^2 - |D - D_concept(D + s' z)|^2) / s'^2 dlog s'
        L = log(prior / (1 - prior)) + a(s) + b(s) min(S, log(1 / prior))

        D is the denoised prediction under the prompt at the sampler's point, z the same noise for both branches

    Averaged over z and over all levels, S is log p(D | concept) - log p(D | prompt): by the I-MMSE identity
    -log p(D) = integral of E|D - D(D + s z)|^2 / s^2 dlog s + a constant that is the same for both. Few levels and one noise
    give a noisy S that ranks images well and is too sure of itself, so b is below 1 at high noise. z changes its sign from
    one level to the next, which cancels some of its noise.

    S compares the concept with the prompt, which contains it. Exactly, r = exp(S) is at most 1 / prior, and the log-odds are
    log(r prior / (1 - r prior)). That form diverges where noise takes S to its bound. The one here is linear in S up to the
    bound; a and b are a logistic fit to what finished images show, so that it is right on average. Those of the shipped model
    were fitted at a prior of 1/2; at a higher one S is first converted to the S of the same likelihood ratio at 1/2.

    It flags images well, without label, judge or calibration. As the weight of a push it is no better than the transition
    evidence, at more calls (docs/tracking.md).

    Args:
        levels: s' = sigma' / alpha', rising, above 0. Each look costs two evaluations per level and noise. Other levels or
            noises than those of the table need a temperature: their S has another size.
        noises: z per level, at least 1; the second is the negative of the first, and so on in pairs.
        every: steps of the sampler from one look to the next, at least 1. Between looks the log-odds stay.
        below, stop_below: largest and smallest sigma / alpha of the sampler at which it looks.
        undecided: u; once looked at, an image is looked at again only while its posterior is within [u, 1 - u]. From 0
            (always) to below 0.5.
        temperature: L = log(prior / (1 - prior)) + S / temperature at every noise level. None takes a and b from the run's
            calibration if there is one, else those of the shipped model for this kind of sampler; 1 for the exact denoiser
            of a testbed.
        prior: how often the concept shows without guidance, strictly between 0 and 1; a tuple has one per negative prompt.
            None takes that of the run's calibration, or of its :class:`~steerclear.core.evidence.Circumstances`.
        stochastic: whether the sampler's steps draw noise, which decides about the table; None finds out.

    Raises:
        InvalidSetting: a value out of range.
    """

    levels: tuple[float, ...] = (1.3, 2.5)
    noises: int = 1
    every: int = 5
    below: float = 8.0
    stop_below: float = 1.2
    undecided: float = 0.02
    temperature: float | None = None
    prior: float | tuple[float, ...] | None = None
    stochastic: bool | None = None

    reads_concept: ClassVar[bool] = False
    name: ClassVar[str] = "classifier"
    paper: ClassVar[str] = (
        "Your Diffusion Model is Secretly a Zero-Shot Classifier, Li, Prabhudesai, Duggal, Brown and Pathak, ICCV 2023, "
        "arXiv 2303.16203; the identity: Mutual Information and Minimum Mean-Square Error in Gaussian Channels, Guo, Shamai "
        "and Verdu, 2005"
    )

    def __post_init__(self) -> None:
        for level in self.levels:
            finite("levels", level, low=torch.finfo(torch.float32).tiny)
        if not self.levels or any(low >= high for low, high in pairwise(self.levels)):
            raise InvalidSetting("levels", self.levels, "one noise level or more, rising")
        whole("noises", self.noises, low=1)
        whole("every", self.every, low=1)
        finite("stop_below", self.stop_below, low=0)
        if finite("below", self.below) <= self.stop_below:
            raise InvalidSetting("below", self.below, f"above stop_below ({self.stop_below:g})")
        if finite("undecided", self.undecided, low=0) >= 0.5:
            raise InvalidSetting("undecided", self.undecided, "from 0 to below 0.5")
        if self.temperature is not None:
            finite("temperature", self.temperature, low=1e-3)
        if self.prior is not None:
            probabilities("prior", self.prior)

    def fitted(self, known: Circumstances) -> Self:
        return replace(
            self,
            temperature=1.0 if self.temperature is None and known.exact else self.temperature,
            prior=known_prior(known) if self.prior is None else self.prior,
            stochastic=known.stochastic if self.stochastic is None else self.stochastic,
        )

    def uncalibrated(self) -> Self:
        """With L = S, at every look of every image."""
        return replace(self, temperature=1.0, prior=0.5, undecided=0.0)

    def for_concepts(self, count: int) -> tuple[Evidence, ...]:
        if self.prior is None:
            return (self,) * count
        return tuple(replace(self, prior=prior) for prior in one_each("prior", self.prior, count))

    def branches(self, concept: str) -> tuple[str, ...]:
        return "positive", concept

    def begin(self, surroundings: Surroundings) -> State:
        (prior,) = one_each("prior", Circumstances().prior if self.prior is None else self.prior, 1)
        start = torch.full((surroundings.batch_size,), logit(prior), dtype=torch.float64)
        looked = torch.zeros(surroundings.batch_size, dtype=torch.bool)
        return ClassifierState(surroundings, self._table(surroundings.calibration), start, looked)

    def update(self, step: Step, positive: Prediction, concept: Prediction, state: State) -> Belief:
        assert isinstance(state, ClassifierState)
        device = step.sample.device
        log_odds, looked = state.log_odds.to(device), state.looked.to(device)
        looks = self._looks(step, state.last)
        rows = self._undecided(log_odds, looked) if looks else looked.new_zeros(0)
        if len(rows):
            found = self._log_odds(self._ratio(step, positive, state.surroundings, rows), step, state.table)
            log_odds = log_odds.index_copy(0, rows, found)
            looked = looked.index_fill(0, rows, True)
        last = step.index if looks else state.last
        return Belief(log_odds, replace(state, log_odds=log_odds, looked=looked, last=last), looked)

    def calibrated(self, observed: Observed) -> dict[str, Tensor]:
        """Slope and intercept of a logistic fit to what the finished images show, per noise level.

        Returns:
            ``levels``, rising, ``slope`` and ``intercept``, and ``asked`` and ``noises``, those of the looks; nothing if no
            level has enough images of both kinds.
        """
        said = observed.log_odds[self.name].double().clamp(max=-math.log(observed.prior))  # NaN stays
        table = []
        for column, level in enumerate(observed.levels.tolist()):
            if column and torch.equal(said[:, column].nan_to_num(), said[:, column - 1].nan_to_num()):
                continue  # between two looks
            known = ~said[:, column].isnan()
            shown = observed.shown[known]
            if min(int(shown.sum()), int((~shown).sum())) < FEWEST:
                continue
            slope, intercept = fit(said[known, column, None], shown, RIDGE)
            row = (float(slope), intercept - logit(observed.prior))
            table.append((level, *(row if row[0] > 0 else (0.0, 0.0))))  # it never ranks the wrong way round
        if not table:
            return {}
        columns = torch.tensor(sorted(table), dtype=torch.float64).unbind(1)
        looks = {"asked": torch.tensor(self.levels, dtype=torch.float64), "noises": torch.tensor([self.noises])}
        return dict(zip(COLUMNS, (column.clone() for column in columns), strict=True)) | looks

    def _table(self, calibration: Calibration | None) -> Table | None:
        if self.temperature is not None:
            return None
        columns = () if calibration is None else calibration.columns(self.name, COLUMNS)
        if calibration is not None and columns:
            self._check_as(*_asked(calibration, self.name), "of the calibration")
            return tuple(sorted(zip(*columns, strict=True)))
        self._check_as(type(self).levels, type(self).noises, "of the model that ships")
        return DETERMINISTIC if self.stochastic is False else STOCHASTIC

    def _check_as(self, levels: tuple[float, ...], noises: int, whose: str) -> None:
        """Raises :class:`InvalidSetting` where a table was measured with other looks: S has another size then."""
        remedy = f"the table {whose} was measured with these; or give a temperature"
        if self.levels != levels:
            raise InvalidSetting("levels", self.levels, f"{levels}", remedy)
        if self.noises != noises:
            raise InvalidSetting("noises", self.noises, f"{noises}", remedy)

    def _looks(self, step: Step, last: int | None) -> bool:
        within = self.stop_below <= step.noise_to_signal <= self.below
        return within and not step.substep and (last is None or step.index - last >= self.every)

    def _undecided(self, log_odds: PerImage, looked: Bool[Tensor, " batch"]) -> Tensor:
        """Indices of the images to look at, ``[n]``."""
        posterior = log_odds.sigmoid()
        within = (posterior >= self.undecided) & (posterior <= 1 - self.undecided)
        return (within | ~looked).nonzero()[:, 0]

    def _ratio(self, step: Step, positive: Prediction, surroundings: Surroundings, rows: Tensor) -> Tensor:
        """S of some images, ``[n]``, float64."""
        denoised = step.denoised(positive)
        clean = denoised[rows]
        found = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        for number in range(self.noises):
            noise = surroundings.noise(step, number // 2).to(denoised)
            for index, (level, width) in enumerate(self._nodes()):
                there = step.at(denoised, noise * (-1) ** (number + index), level)
                asked = there.predict("positive", surroundings.concept, rows=rows)
                prompt, concept = (there.denoised(each, rows) for each in asked)
                # |D - D_prompt|^2 - |D - D_concept|^2, without the rounding of two large numbers
                apart = dot(concept - prompt, 2 * clean - prompt - concept).double()
                found += apart / level**2 * width / self.noises
        return found

    def _nodes(self) -> Iterator[tuple[float, float]]:
        """Each level and its width in log s: from half way to the level below to half way to the one above."""
        steps = [math.log(high / low) for low, high in pairwise(self.levels)]
        if not steps:
            yield self.levels[0], ALONE
            return
        widths = ((before + after) / 2 for before, after in zip(steps[:1] + steps, steps + steps[-1:], strict=True))
        yield from zip(self.levels, widths, strict=True)

    def _log_odds(self, ratio: Tensor, step: Step, table: Table | None) -> Tensor:
        """L of images with these S."""
        (prior,) = one_each("prior", Circumstances().prior if self.prior is None else self.prior, 1)
        if table is None:
            assert self.temperature is not None
            return logit(prior) + ratio / self.temperature
        s = step.noise_to_signal
        slopes, intercepts = tuple((at, b) for at, b, _ in table), tuple((at, a) for at, _, a in table)
        bounded = ratio.clamp(max=-math.log(prior))
        if table in (STOCHASTIC, DETERMINISTIC):
            bounded = at_even_prior(bounded, prior)
        return logit(prior) + interpolated(intercepts, s) + interpolated(slopes, s) * bounded


def _asked(calibration: Calibration, name: str) -> tuple[tuple[float, ...], int]:
    """Levels and noises of the looks that a calibration was measured with."""
    (levels,), noises = calibration.columns(name, ["asked"]) or ((),), calibration.of(name).get("noises")
    if not levels or noises is None or noises.numel() != 1:
        raise calibration.unlike(name, "no levels and noises of its looks")
    return levels, int(noises)


def at_even_prior(ratio: Tensor, prior: float) -> Tensor:
    """S at a prior above 1/2 as the S of the same likelihood ratio at 1/2, where the shipped tables were fitted.

    With q = p(D | concept) / p(D | no concept), r = exp(S) = q / (prior q + 1 - prior). At a low prior that is q, up to the
    bound; at a high one S hardly rises above 0, and a fall of S says more than at 1/2.

    Args:
        ratio: S, at most log(1 / prior).
        prior: how often the concept shows.
    """
    if prior <= 0.5:
        return ratio
    return ratio + math.log(2 * (1 - prior)) - torch.log1p((1 - 2 * prior) * ratio.exp())
