"""A linear probe on the denoised predictions, from a calibration file: no cost when sampling."""

import bisect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d, adaptive_avg_pool2d

from ..core.calibration import Calibration, Observed
from ..core.errors import UnsupportedModel, in_words_of
from ..core.evidence import Belief, Evidence, Surroundings
from ..core.logistic import auc, cross_validated, fit
from ..core.numerics import logit
from ..core.records import State, Step
from ..core.settings import finite
from ..core.shapes import Bool, Float, PerImage, Prediction

DIRECTIONS = 32
"""Most principal directions per level."""
RIDGES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Of which each level takes the likeliest; the first direction's projection has variance 1."""
FOLDS = 5
WIDEST = 4096
"""Most numbers of a denoised prediction that is looked at as it is."""
SIDE, TOKENS = 32, 64
"""To how many places per side, or tokens, a larger one is averaged."""
NAMES = ("levels", "mean", "directions", "coefficients", "intercept")


@dataclass(frozen=True, eq=False)
class Probes:
    """A probe per noise level: what the calibration file keeps, the levels rising."""

    levels: Float[Tensor, " levels"]
    mean: Float[Tensor, "levels width"]
    directions: Float[Tensor, "levels directions width"]
    coefficients: Float[Tensor, "levels directions"]
    intercept: Float[Tensor, " levels"]
    shape: tuple[int, ...]

    def of_rows(self, rows: Tensor) -> "Probes":
        """The same for any of the images."""
        return self

    def log_odds(self, denoised: Float[Tensor, "batch width"], level: float) -> PerImage:
        """By the probes of the two nearest levels, linear in log s; that of the last level beyond the ends."""
        logs = self.levels.log().tolist()
        above = bisect.bisect_left(logs, math.log(level))
        if above == 0 or above == len(logs):
            return self._of(denoised, min(above, len(logs) - 1))
        share = (math.log(level) - logs[above - 1]) / (logs[above] - logs[above - 1])
        upper = self._of(denoised, above)
        return upper if share == 1 else (1 - share) * self._of(denoised, above - 1) + share * upper

    def _of(self, denoised: Tensor, index: int) -> PerImage:
        seen = (denoised - self.mean[index].to(denoised)) @ self.directions[index].to(denoised).mT
        return (seen * self.coefficients[index].to(denoised)).sum(1) + float(self.intercept[index])


@dataclass(frozen=True)
class ProbeState(State):
    """The probes, the prior's log-odds, and those of the last look (None before it)."""

    probes: Probes
    prior: float
    log_odds: PerImage | None = None


@dataclass(frozen=True)
class ProbeEvidence(Evidence):
    """A logistic regression per noise level on the leading principal directions of the denoised predictions.

    Equation:
        L(x_t, s) = b(s) + <w(s), V(s) (D - m(s))>

        D = E[x_0 | x_t, prompt], s = sigma / alpha; m and V are the mean and the leading 32 principal directions of D over
        unguided images, w and b a ridge logistic regression on what the finished images show

    ``steerclear calibrate`` measures it from a few hundred unguided images that a judge has labelled. Between two levels the
    log-odds are interpolated in log s. D is there anyway, so a step costs no evaluation and one small matrix product.
    Predictions of more than 4,096 numbers are averaged to at most 32 x 32 places per channel first.

    Args:
        stop_below: s below which the log-odds stay as they are; 0 looks to the end.

    Raises:
        InvalidSetting: a value out of range.
    """

    stop_below: float = 0.0

    reads_concept: ClassVar[bool] = False
    name: ClassVar[str] = "probe"
    paper: ClassVar[str] = (
        "linear probes of intermediate predictions: Understanding intermediate layers using linear classifier probes, Alain "
        "and Bengio, 2016, arXiv 1610.01644; ridge logistic regression: le Cessie and van Houwelingen, 1992"
    )

    def __post_init__(self) -> None:
        finite("stop_below", self.stop_below, low=0)

    def begin(self, surroundings: Surroundings) -> ProbeState:
        """Raises :class:`UnsupportedModel` without a calibration."""
        calibration = surroundings.calibration
        if calibration is None or not calibration.of(self.name):
            had = "there is none" if calibration is None else "the one that was given has none"
            give = in_words_of("give steer(..., calibration=FILE)", "give --calibration FILE")
            raise UnsupportedModel(
                f"the evidence {self.name} needs what was measured of this concept, and {had}; write a file with steerclear "
                f"calibrate, and {give}"
            )
        return ProbeState(_probes(calibration, self.name), logit(calibration.prior))

    def update(self, step: Step, positive: Prediction, concept: Prediction, state: State) -> Belief:
        assert isinstance(state, ProbeState)
        level = step.noise_to_signal
        if not 0 < level < math.inf:  # pure noise, or none: there is no probe
            return self._last(step, state)
        if state.log_odds is not None and level < self.stop_below:
            return Belief(state.log_odds, state)
        denoised, shape = pooled(step.denoised(positive)), state.probes.shape
        if tuple(denoised.shape[1:]) != shape:
            sizes = [f"{math.prod(one):,} numbers ({' x '.join(map(str, one))})" for one in (shape, denoised.shape[1:])]
            raise UnsupportedModel(
                f"the probe was measured on denoised predictions of {sizes[0]}, and these have {sizes[1]}; "
                f"measure it for this model and size with steerclear calibrate"
            )
        log_odds = state.probes.log_odds(denoised.flatten(1).double(), level)
        return Belief(log_odds, ProbeState(state.probes, state.prior, log_odds))

    def _last(self, step: Step, state: ProbeState) -> Belief:
        if state.log_odds is not None:
            return Belief(state.log_odds, state)
        prior = torch.full((step.batch_size,), state.prior, dtype=torch.float64, device=step.sample.device)
        return Belief(prior, state, torch.zeros(step.batch_size, dtype=torch.bool, device=step.sample.device))

    def calibrated(self, observed: Observed) -> dict[str, Tensor]:
        small = pooled(observed.denoised.flatten(0, 1))
        looked = small.unflatten(0, observed.denoised.shape[:2]).flatten(2)
        order = [index for index in range(len(observed.levels)) if 0 < float(observed.levels[index]) < math.inf][::-1]
        found = [_fitted(looked[:, index], observed.shown) for index in order]
        tensors = {name: torch.stack([one[name] for one in found]) for name in found[0]} if found else {}
        levels = {"levels": observed.levels[order].double(), "shape": torch.tensor(small.shape[1:])}
        return levels | tensors if found else {}


def pooled(denoised: Tensor) -> Tensor:
    """Denoised predictions, ``[n, ...]``, averaged where they have more than :data:`WIDEST` numbers."""
    values = denoised.float() if denoised.dtype != torch.float64 else denoised
    if values[0].numel() <= WIDEST:
        return values
    if values.ndim == 4:
        return adaptive_avg_pool2d(values, (min(SIDE, values.shape[-2]), min(SIDE, values.shape[-1])))
    tokens = values.flatten(1, -2).mT  # packed latents: [n, tokens, channels]
    return adaptive_avg_pool1d(tokens, min(TOKENS, tokens.shape[-1])).mT


def _fitted(looked: Float[Tensor, "images width"], shown: Bool[Tensor, " images"]) -> dict[str, Tensor]:
    """The probe of one level, and the area under the curve of its cross-validated log-odds."""
    mean = looked.float().mean(0)
    centred = looked.float() - mean
    directions = torch.linalg.svd(centred, full_matrices=False)[2][: min(DIRECTIONS, len(looked) - 1)]
    kept = directions.half()  # fitted to what the file keeps
    seen = centred.double() @ kept.double().mT
    scale = float(seen[:, 0].std().clamp(min=torch.finfo(torch.float32).tiny))
    seen = seen / scale
    tried = {ridge: cross_validated(seen, shown, ridge, FOLDS) for ridge in RIDGES}
    ridge = max(tried, key=lambda one: _likelihood(tried[one], shown))
    coefficients, intercept = fit(seen, shown, ridge)
    return {
        "mean": mean, "directions": kept, "coefficients": coefficients / scale,
        "intercept": torch.tensor(intercept, dtype=torch.float64), "auc": torch.tensor(_area(tried[ridge], shown)),
    }  # fmt: skip


def _area(log_odds: PerImage, shown: Tensor) -> float:
    """The area under the curve of cross-validated log-odds, over pairs of one fold: two folds have other intercepts."""
    folds = torch.arange(len(shown)) % FOLDS
    each = [(auc(log_odds[own], shown[own]), int(shown[own].sum() * (~shown[own]).sum())) for own in
            (folds == number for number in range(FOLDS))]  # fmt: skip
    pairs = sum(weight for _, weight in each)
    return sum(area * weight for area, weight in each if weight) / max(pairs, 1)


def _likelihood(log_odds: PerImage, shown: Tensor) -> float:
    """The mean log-likelihood of the labels."""
    return -float(torch.nn.functional.softplus(torch.where(shown, -log_odds, log_odds)).mean())


def _probes(calibration: Calibration, name: str) -> Probes:
    """What the file keeps, with the levels rising.

    Raises:
        InvalidSetting: something is missing, or of another shape.
    """
    kept: Mapping[str, Tensor] = calibration.of(name)
    missing = [one for one in (*NAMES, "shape") if one not in kept]
    levels, width = kept.get("levels", torch.zeros(0)), kept.get("mean", torch.zeros(0)).shape[-1:]
    count, directions = levels.numel(), kept.get("coefficients", torch.zeros(0)).shape[-1:]
    shapes = [(count,), (count, *width), (count, *directions, *width), (count, *directions), (count,)]
    if missing or not count or any(tuple(kept[one].shape) != own for one, own in zip(NAMES, shapes, strict=True)):
        wrong = f"without {missing[0]}" if missing else "not fitting together"
        raise calibration.unlike(name, f"its tensors {wrong}")
    shape = tuple(kept["shape"].flatten().int().tolist())
    if math.prod(shape) != width[0]:
        raise calibration.unlike(name, f"a shape of {shape} for {width[0]:,} numbers")
    order = levels.double().argsort()
    ordered = {one: kept[one][order] for one in NAMES}
    if not bool((ordered["levels"] > 0).all()):
        raise calibration.unlike(name, f"levels of {levels.tolist()}, not all above 0")
    return Probes(**ordered, shape=shape)
