"""An exact world with a fixed smooth error in its scores, as a trained network has one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import ClassVar
from zlib import crc32

import torch
from torch import Tensor

from ..core.denoiser import Branch, Point
from ..core.noise import noise_per_prediction
from ..core.seeds import mixed
from ..core.settings import finite, whole
from ..core.shapes import Prediction
from .mixture import Mixture, MixtureDenoiser

WAVES = 64
ROUGHNESS = 2.0
"""Standard deviation of a wave's phase over the samples of one noise level, in radians."""

DRIFT = 0.5
"""Standard deviation of a wave's change of phase when sigma / alpha grows by a factor e, in radians."""


@dataclass(frozen=True, eq=False)
class PerturbedDenoiser:
    """The predictions of an exact world, each with an error that is a fixed smooth function of the sample and its noise level.

    Equation:
        e'_h(x, s) = e_h(x, s) + r(s) [shared f(u, s) + own f_h(u, s)],   s = sigma / alpha
        f(u, s) = sqrt(2 / J) sum_j a_j cos(<k_j, u> + t_j log s + c_j),   u = x_t / its standard deviation
        r(s)^2 = sum_k weight_k mean_i s^2 / (s^2 + l_ki)

    e is the noise prediction, -sigma times the score. r(s) is its root mean square per coordinate, given the component, so
    ``shared`` and ``own`` are the errors' sizes as shares of the score, at every noise level. f has mean square 1; it is the
    same in all branches, and f_h is another for each branch h. An error that all branches share moves the samples; the
    difference of two branches, which a guidance amplifies, has the own errors alone.

    Attributes:
        inner: the exact denoiser.
        shared: size of the error that all branches have, at least 0.
        own: size of each branch's further error, at least 0.
        seed: of the waves, at least 0.

    Raises:
        InvalidSetting: a number is below its minimum.
    """

    exact: ClassVar[bool] = False

    inner: MixtureDenoiser
    shared: float = 0.1
    own: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        finite("shared", self.shared, low=0)
        finite("own", self.own, low=0)
        whole("seed", self.seed, low=0)

    @property
    def prediction_type(self) -> str:
        """That of the exact denoiser."""
        return self.inner.prediction_type

    def predict(self, point: Point, branches: tuple[Branch, ...], rows: Tensor | None) -> list[Tensor]:
        """The exact predictions and their errors. At alpha = 0, where nothing can be learned, there is no error."""
        exact = self.inner.predict(point, branches, rows)
        sample = point.sample if rows is None else point.sample[rows]
        per_noise = noise_per_prediction(point.alpha, point.sigma, self.prediction_type)
        if point.alpha == 0 or point.sigma == 0 or per_noise == 0:
            return exact
        errors = self.errors(sample, point.alpha, point.sigma, branches)
        return [one + (error / per_noise).to(one) for one, error in zip(exact, errors, strict=True)]

    @cached_property
    def _centre(self) -> tuple[Tensor, float]:
        """Mean of the prompt's samples, ``[dimension]``, and their mean variance per coordinate."""
        mean, covariance = self.inner.world.full.moments()
        return mean, float(covariance.diagonal().mean())

    def errors(self, sample: Prediction, alpha: float, sigma: float, branches: Sequence[Branch]) -> list[Prediction]:
        """What is added to each branch's noise prediction, shaped like the sample, float64.

        Args:
            sample: x_t, ``[batch, ...]``.
            alpha, sigma: the noise level, both above 0.
            branches: those to predict.
        """
        full, level = self.inner.world.full, sigma / alpha
        mean, variance = self._centre
        inside = (sample.double().flatten(1) / alpha - mean) / math.sqrt(variance + level**2)
        size = _root_mean_square(full, level)
        same = self.shared * _waves(mixed(self.seed), full.dimension, inside, level)
        own = [self.own * _waves(mixed(self.seed, crc32(str(one).encode())), full.dimension, inside, level)
               for one in branches]  # fmt: skip
        return [(size * (same + each)).reshape(sample.shape) for each in own]


def _root_mean_square(full: Mixture, level: float) -> float:
    """r(s) of :class:`PerturbedDenoiser`."""
    shares = (level**2 / (level**2 + full.variances)).mean(1)
    return math.sqrt(float(full.log_weights.exp() @ shares))


@cache
def _drawn(seed: int, dimension: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The waves' amplitudes and directions, ``[WAVES, dimension]``, drifts and phases, ``[WAVES]``, float64."""
    generator = torch.Generator().manual_seed(seed % 2**32)
    amplitudes, directions = torch.randn(2, WAVES, dimension, generator=generator, dtype=torch.float64)
    drifts = DRIFT * torch.randn(WAVES, generator=generator, dtype=torch.float64)
    phases = 2 * math.pi * torch.rand(WAVES, generator=generator, dtype=torch.float64)
    return amplitudes, directions * ROUGHNESS / math.sqrt(dimension), drifts, phases


def _waves(seed: int, dimension: int, inside: Tensor, level: float) -> Tensor:
    """f of :class:`PerturbedDenoiser`, ``[batch, dimension]``."""
    amplitudes, directions, drifts, phases = _drawn(seed, dimension)
    angles = inside @ directions.T + drifts * math.log(level) + phases
    return math.sqrt(2 / WAVES) * angles.cos() @ amplitudes
