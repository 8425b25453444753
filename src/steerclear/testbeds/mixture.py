"""Exact worlds: Gaussian mixtures, whose densities, scores, posteriors and denoisers are known at every noise level.

A *world* consists of a mixture, what a prompt shows, and a *concept*, some of its components. What a perfect negative
prompt leaves, p(x | not c), is then a mixture too, and every claim of a guidance can be tested against it.

:class:`MixtureDenoiser` evaluates a world in the place of a network: it is the mock model of the whole test suite.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ..core.denoiser import MAIN, Branch, Point, kind_and_index
from ..core.errors import InvalidSetting
from ..core.noise import Level, check_prediction_type, per_image
from ..core.seeds import Stream, image_generators
from ..core.settings import finite
from ..core.shapes import Float, PerImage, Prediction
from ..core.testbed import Testbed


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of Gaussians, seen through noise: x_t = alpha * x_0 + sigma * noise, with x_0 from the mixture.

    Equations, with C_k = V_k diag(l_k) V_k^T the covariances, S_k = alpha^2 C_k + sigma^2 I and r_k the components'
    responsibilities for x_t:

        p_t(x)  = sum_k weight_k N(x; alpha m_k, S_k)
        score   = -sum_k r_k S_k^-1 (x - alpha m_k)
        x_0     = sum_k r_k [m_k + alpha C_k S_k^-1 (x - alpha m_k)]        (the posterior mean)
        noise   = sum_k r_k sigma S_k^-1 (x - alpha m_k) = -sigma score

    C_k and S_k have the same eigenvectors at every noise level, so no level needs a decomposition. Everything is computed
    in float64 and in logarithms, and is finite at alpha = 0 and at sigma = 0. Samples may have any shape ``[batch, ...]``
    with ``dimension`` numbers per image; alpha and sigma are numbers, or one per image, not both 0.

    Attributes:
        log_weights: logarithms of the components' probabilities, ``[components]``, float64.
        means: m_k, ``[components, dimension]``, float64.
        variances: l_k, the eigenvalues of the covariances, positive, ``[components, dimension]``, float64.
        axes: V_k, eigenvectors in columns, ``[components, dimension, dimension]``; None if they are the coordinate axes.
    """

    log_weights: Float[Tensor, " components"]
    means: Float[Tensor, "components dimension"]
    variances: Float[Tensor, "components dimension"]
    axes: Float[Tensor, "components dimension dimension"] | None = None

    @classmethod
    def isotropic(cls, weights: Sequence[float] | Tensor, means: Tensor, deviation: float | Tensor) -> "Mixture":
        """A mixture of round components.

        Args:
            weights: positive, ``[components]``; normalized here.
            means: ``[components, dimension]``.
            deviation: standard deviation of each coordinate, above 0; one number or ``[components]``.

        Raises:
            InvalidSetting: a weight or a deviation is not above 0.
        """
        means = means.double()
        spread = torch.as_tensor(deviation, dtype=torch.float64).expand(len(means))
        if not (torch.isfinite(spread).all() and (spread > 0).all()):
            raise InvalidSetting("deviation", deviation, "above 0")
        return cls(_log_normalised(weights), means, (spread**2)[:, None].expand_as(means).clone())

    @classmethod
    def full(cls, weights: Sequence[float] | Tensor, means: Tensor, covariances: Tensor) -> "Mixture":
        """A mixture of components with full covariances.

        Args:
            weights: positive, ``[components]``; normalized here.
            means: ``[components, dimension]``.
            covariances: symmetric and positive definite, ``[components, dimension, dimension]``.

        Raises:
            InvalidSetting: a weight is not above 0, or a covariance is not positive definite.
        """
        variances, axes = torch.linalg.eigh(covariances.double())
        if not (variances > 0).all():
            raise InvalidSetting("covariances", float(variances.min()), "positive definite (this is an eigenvalue)")
        return cls(_log_normalised(weights), means.double(), variances, axes)

    @property
    def dimension(self) -> int:
        """Numbers per image."""
        return self.means.shape[1]

    def reweighted(self, factors: Float[Tensor, " components"]) -> "Mixture":
        """The same components with weights weight_k * factor_k, normalized; components with factor 0 are left out."""
        kept = factors > 0
        log_weights = self.log_weights[kept] + factors[kept].double().log()
        axes = None if self.axes is None else self.axes[kept]
        return Mixture(log_weights - log_weights.logsumexp(0), self.means[kept], self.variances[kept], axes)

    def inflated(self, factor: float) -> "Mixture":
        """The same mixture with all covariances multiplied by ``factor``; above 1 it is broader."""
        finite("factor", factor, low=1e-9)
        return Mixture(self.log_weights, self.means, self.variances * factor, self.axes)

    def log_joint(self, sample: Prediction, alpha: Level, sigma: Level) -> Float[Tensor, "batch components"]:
        """log weight_k + log N(x; alpha m_k, S_k), ``[batch, components]``, float64."""
        offsets, totals, _ = self._along_axes(sample, alpha, sigma)
        return self._log_joint(offsets, totals)

    def log_density(self, sample: Prediction, alpha: Level = 1.0, sigma: Level = 0.0) -> PerImage:
        """log p_t(x), ``[batch]``, float64."""
        return self.log_joint(sample, alpha, sigma).logsumexp(1)

    def score(self, sample: Prediction, alpha: Level = 1.0, sigma: Level = 0.0) -> Prediction:
        """The gradient of :meth:`log_density`, shaped like the sample, float64."""
        offsets, totals, _ = self._along_axes(sample, alpha, sigma)
        return self._mean(self._log_joint(offsets, totals), -offsets / totals).reshape(sample.shape)

    def denoised(self, sample: Prediction, alpha: Level, sigma: Level) -> Prediction:
        """E[x_0 | x_t], shaped like the sample, float64. At alpha = 0 it is the mean of the mixture."""
        return self.denoised_and_noise(sample, alpha, sigma)[0]

    def denoised_and_noise(self, sample: Prediction, alpha: Level, sigma: Level) -> tuple[Prediction, Prediction]:
        """E[x_0 | x_t] and E[noise | x_t], each computed without division by alpha or sigma."""
        offsets, totals, (alpha, sigma) = self._along_axes(sample, alpha, sigma)
        log_joint = self._log_joint(offsets, totals)
        shares = log_joint.softmax(1)
        centre = (shares[:, :, None] * self.means).sum(1)
        denoised = centre + self._mean(log_joint, alpha * self.variances * offsets / totals)
        noise = self._mean(log_joint, sigma * offsets / totals)
        return denoised.reshape(sample.shape), noise.reshape(sample.shape)

    def sample(self, seeds: Sequence[int]) -> Float[Tensor, "seeds dimension"]:
        """One sample per seed, ``[len(seeds), dimension]``, float64; image k depends on its own seed alone."""
        generators = image_generators(seeds, stream=Stream.TRUTH)
        chance = torch.stack([torch.rand((), generator=generator, dtype=torch.float64) for generator in generators])
        draws = [torch.randn(self.dimension, generator=generator, dtype=torch.float64) for generator in generators]
        return self._placed(chance, torch.stack(draws))

    def drawn(self, count: int, generator: torch.Generator) -> Float[Tensor, "count dimension"]:
        """``count`` samples from one generator, float64: many at once, where no sample needs a seed of its own."""
        chance = torch.rand(count, generator=generator, dtype=torch.float64)
        return self._placed(chance, torch.randn(count, self.dimension, generator=generator, dtype=torch.float64))

    def _placed(self, chance: Tensor, noise: Tensor) -> Tensor:
        """Samples from uniform numbers, ``[batch]``, that choose the component, and normal ones, ``[batch, dimension]``."""
        cumulative = self.log_weights.exp().cumsum(0)
        component = torch.searchsorted(cumulative, chance).clamp(max=len(cumulative) - 1)
        scaled = noise * self.variances[component].sqrt()
        if self.axes is not None:
            scaled = (self.axes[component] * scaled[:, None, :]).sum(2)
        return self.means[component] + scaled

    def deviations(self, sample: Prediction) -> PerImage:
        """Mahalanobis distance of each clean sample from its nearest component, in standard deviations, ``[batch]``.

        That of a draw is about sqrt(dimension), at most.
        """
        offsets, totals, _ = self._along_axes(sample, 1.0, 0.0)
        return (offsets**2 / totals).sum(2).amin(1).sqrt()

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean ``[dimension]`` and covariance ``[dimension, dimension]`` of the mixture."""
        weights = self.log_weights.exp()
        mean = weights @ self.means
        apart = self.means - mean
        between = torch.einsum("k,kd,ke->de", weights, apart, apart)
        plain = torch.eye(self.dimension, dtype=torch.float64).expand(len(weights), -1, -1)
        axes = plain if self.axes is None else self.axes
        within = torch.einsum("k,kde,ke,kfe->df", weights, axes, self.variances, axes)
        return mean, between + within

    def _along_axes(self, sample: Tensor, alpha: Level, sigma: Level) -> tuple[Tensor, Tensor, tuple[Level, Level]]:
        """x - alpha m_k and the variances of x_t along the components' axes, ``[batch, components, dimension]``.

        The variances have no batch if no image has a level of its own.
        """
        flat = sample.double().flatten(1)[:, None, :]
        alpha, sigma = per_image(alpha, flat), per_image(sigma, flat)
        offsets = flat - alpha * self.means
        if self.axes is not None:
            offsets = torch.einsum("bkd,kde->bke", offsets, self.axes)
        return offsets, alpha**2 * self.variances + sigma**2, (alpha, sigma)

    def _log_joint(self, offsets: Tensor, totals: Tensor) -> Tensor:
        exponents = (offsets**2 / totals + totals.log()).sum(2)
        return self.log_weights - 0.5 * exponents - 0.5 * self.dimension * math.log(2 * math.pi)

    def _mean(self, log_joint: Tensor, vectors: Tensor) -> Tensor:
        """Rotate vectors from each component's axes back to coordinates, and average them with the responsibilities."""
        if self.axes is not None:
            vectors = torch.einsum("bke,kde->bkd", vectors, self.axes)
        return (log_joint.softmax(1)[:, :, None] * vectors).sum(1)


def _log_normalised(weights: Sequence[float] | Tensor) -> Tensor:
    values = torch.as_tensor(weights, dtype=torch.float64)
    if not (torch.isfinite(values).all() and (values > 0).all()):
        raise InvalidSetting("weights", values.tolist(), "above 0")
    return (values / values.sum()).log()


@dataclass(frozen=True, eq=False)
class MixtureWorld:
    """A mixture, and a concept in it.

    Equations:
        p(c | k) = membership_k,   pi = sum_k weight_k membership_k
        p(x | c) ~ sum_k weight_k membership_k N_k(x),   p(x | not c) ~ sum_k weight_k (1 - membership_k) N_k(x)

    Attributes:
        full: p, what the prompt shows.
        membership: the concept's share of each component, in [0, 1], ``[components]``; 0 < pi < 1.
        concept: p(x | c).
        target: p(x | not c).

    Raises:
        InvalidSetting: a membership is outside [0, 1], or the concept includes all components or none.
    """

    full: Mixture
    membership: Tensor
    concept: Mixture = field(init=False)
    target: Mixture = field(init=False)

    def __post_init__(self) -> None:
        shares = self.membership.double()
        inside = shares.shape == self.full.log_weights.shape and bool(((shares >= 0) & (shares <= 1)).all())
        if not inside or not (shares > 0).any() or not (shares < 1).any():
            allowed = "one number from 0 to 1 per component, not all 0 and not all 1"
            raise InvalidSetting("membership", shares.tolist(), allowed)
        object.__setattr__(self, "membership", shares)
        object.__setattr__(self, "concept", self.full.reweighted(shares))
        object.__setattr__(self, "target", self.full.reweighted(1 - shares))

    @property
    def prior(self) -> float:
        """pi, the probability of the concept in unguided samples."""
        return float((self.full.log_weights.exp() * self.membership).sum())

    def log_odds(self, sample: Prediction, alpha: Level = 1.0, sigma: Level = 0.0) -> PerImage:
        """The exact log p(c | x_t) - log p(not c | x_t), ``[batch]``, float64; the input of ``OracleEvidence``."""
        log_joint = self.full.log_joint(sample, alpha, sigma)
        inside = (log_joint + self.membership.log()).logsumexp(1)
        return inside - (log_joint + (1 - self.membership).log()).logsumexp(1)

    def balance(self, samples: Prediction) -> Float[Tensor, " kept"]:
        """How the samples without the concept share the components outside of it: their mean responsibilities, scaled to sum
        to 1. Of the components that are not wholly the concept's, in their order; of perfect samples it is near
        ``target.log_weights.exp()``, the nearer the less components overlap.
        """
        outside = self.full.log_joint(samples, 1.0, 0.0).softmax(1) * (1 - self.membership)
        kept = outside[:, self.membership < 1].sum(0)
        return kept / kept.sum()

    def concept_rate(self, samples: Prediction) -> float:
        """The mean of p(c | x_0) over samples ``[batch, ...]``."""
        return float(self.log_odds(samples).sigmoid().mean())


@dataclass(frozen=True, eq=False)
class MixtureDenoiser:
    """A world that predicts as a network does; implements :class:`~steerclear.core.denoiser.Denoiser`.

    ``positive`` is p; ``negative`` and ``conjunction`` are p(. | c); ``empty`` is a broader mixture; ``weak:*`` (or another
    of ``networks``) is the same with inflated covariances. It uses alpha and sigma of the point, never the timestep.

    Attributes:
        world: the mixture and the concept.
        prediction_type: the space of its predictions.
        empty: what the empty prompt shows; None for p with ``broadening`` times its covariances.
        negatives: what each negative prompt shows alone; None for p(. | c), a sub-population. Real negative prompts
            differ from that: "mustache" shows more than the prompt's portraits.
        conjunctions: what the prompt together with each negative prompt shows; None for p(. | c).
        networks: name of each further network -> factor of its covariances, above 0.
        broadening: factor of the empty prompt's covariances.

    Raises:
        InvalidSetting: an unknown prediction type.
    """

    exact: ClassVar[bool] = True

    world: MixtureWorld
    prediction_type: str = "epsilon"
    empty: Mixture | None = None
    negatives: tuple[Mixture, ...] | None = None
    conjunctions: tuple[Mixture, ...] | None = None
    networks: Mapping[str, float] = field(default_factory=lambda: {"weak": 2.0})
    broadening: float = 4.0

    def __post_init__(self) -> None:
        check_prediction_type(self.prediction_type)

    def mixture(self, branch: Branch) -> Mixture:
        """The mixture that a branch predicts.

        Raises:
            InvalidSetting: this world has no such network or negative prompt.
        """
        known = self._main(branch.condition)
        if branch.network == MAIN:
            return known
        if branch.network not in self.networks:
            raise InvalidSetting("network", branch.network, f"one of {', '.join((MAIN, *self.networks))}")
        return known.inflated(self.networks[branch.network])

    def _main(self, condition: str) -> Mixture:
        if condition == "positive":
            return self.world.full
        if condition == "empty":
            return self.world.full.inflated(self.broadening) if self.empty is None else self.empty
        kind, index = kind_and_index(condition)
        mixtures = (self.negatives if kind == "negative" else self.conjunctions) or (self.world.concept,)
        if index >= len(mixtures):
            raise InvalidSetting("condition", condition, f"one of {len(mixtures)} {kind}s of this world")
        return mixtures[index]

    def predict(self, point: Point, branches: tuple[Branch, ...], rows: Tensor | None) -> list[Tensor]:
        """The exact posterior mean in the space of the prediction type, in the sample's dtype."""
        alpha: Level = point.alpha
        sigma: Level = point.sigma
        sample = point.sample
        if rows is not None:
            sample, alpha, sigma = sample[rows], _of_rows(alpha, rows), _of_rows(sigma, rows)
        return [self._predict(self.mixture(branch), sample, alpha, sigma).to(sample.dtype) for branch in branches]

    def _predict(self, mixture: Mixture, sample: Tensor, alpha: Level, sigma: Level) -> Tensor:
        denoised, noise = mixture.denoised_and_noise(sample, alpha, sigma)
        if self.prediction_type == "epsilon":
            return noise
        if self.prediction_type == "sample":
            return denoised
        if self.prediction_type == "flow_prediction":
            return noise - denoised
        alpha, sigma = per_image(alpha, denoised), per_image(sigma, denoised)
        return (alpha * noise - sigma * denoised) / (alpha**2 + sigma**2) ** 0.5


def _of_rows(level: Level, rows: Tensor) -> Level:
    return level[rows] if isinstance(level, Tensor) and level.ndim else level


class MixtureTestbed(Testbed):
    """Base of the testbeds that are mixtures; each defines its :attr:`world`."""

    @property
    @abstractmethod
    def world(self) -> MixtureWorld:
        """The mixture and the concept in it."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.world.full.dimension,)

    @property
    def prior(self) -> float:
        return self.world.prior

    def draws(self, seeds: Sequence[int], *, without_concept: bool = False) -> Tensor:
        return (self.world.target if without_concept else self.world.full).sample(seeds)

    def log_odds(self, sample: Prediction, alpha: Level, sigma: Level) -> PerImage:
        return self.world.log_odds(sample, alpha, sigma)

    def denoiser(self, prediction_type: str = "epsilon") -> MixtureDenoiser:
        return MixtureDenoiser(self.world, prediction_type)
