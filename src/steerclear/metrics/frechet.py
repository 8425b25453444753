"""Fréchet distance: the distance between two sets of features, each taken as a Gaussian."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..core.errors import TooFewSamples
from ..core.laboratory import Measurement
from ..core.metric import FeatureMetric, Situation
from ..core.shapes import Float
from .estimates import LEVEL, Estimate, checked_pair, jackknife


def _from_roots(means: tuple[Tensor, Tensor], roots: tuple[Tensor, Tensor]) -> float:
    """The distance between Gaussians with covariances root.T @ root.

    tr (S1 S2)^(1/2) is the sum of the singular values of root1 @ root2.T. This takes no square root of a rounding error, so
    rank-deficient covariances lose no digits.
    """
    apart = (means[0] - means[1]).square().sum()
    spread = roots[0].square().sum() + roots[1].square().sum()
    common = torch.linalg.svdvals(roots[0] @ roots[1].T).sum()
    return max(float(apart + spread - 2 * common), 0.0)


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """The mean, and the triangular root of the unbiased covariance, from a QR decomposition of the samples."""
    mean = features.mean(0)
    return mean, torch.linalg.qr((features - mean) / math.sqrt(len(features) - 1), mode="r").R


def frechet_of_gaussians(
    first_mean: Float[Tensor, " width"],
    first_covariance: Float[Tensor, "width width"],
    second_mean: Float[Tensor, " width"],
    second_covariance: Float[Tensor, "width width"],
) -> float:
    """The squared Fréchet (2-Wasserstein) distance between two Gaussians.

        d^2 = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))

    Dowson and Landau, The Fréchet distance between multivariate normal distributions, 1982.

    Args:
        first_mean, second_mean: m1 and m2.
        first_covariance, second_covariance: S1 and S2, symmetric, without negative eigenvalues.

    >>> frechet_of_gaussians(torch.zeros(2), torch.eye(2), torch.tensor([3.0, 4.0]), 4 * torch.eye(2))
    27.0
    """

    def root(covariance: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(covariance.double())
        return values.clamp(min=0).sqrt().unsqueeze(1) * vectors.T

    return _from_roots((first_mean.double(), second_mean.double()), (root(first_covariance), root(second_covariance)))


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """The Fréchet distance between two sets of features, each taken as a Gaussian; "FID" for Inception's features.

    Heusel et al., GANs trained by a two time-scale update rule converge to a local Nash equilibrium, 2017,
    arXiv:1706.08500.

    It is biased: for n samples it exceeds the distance between the distributions by about c / n, where c grows with
    the width and the features' spread (Chong and Forsyth 2020, Effectively unbiased FID and Inception score,
    arXiv:1911.07023). Compare only values of the same n, or use :func:`frechet_estimate`.

    Args:
        first, second: features of both sets, ``[n, width]`` and ``[m, width]``, n and m at least 2.

    Returns:
        The squared distance, at least 0, in the squared unit of the features.

    Raises:
        TooFewSamples: a set has fewer than 2 samples.
        UnfitFeatures: a number is not finite, or the widths differ.

    >>> square = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> round(frechet_distance(square, square + 2), 12)
    8.0
    """
    pair = checked_pair("the Fréchet distance", first, second, 2)
    (first_mean, first_root), (second_mean, second_root) = map(_moments, pair)
    return _from_roots((first_mean, second_mean), (first_root, second_root))


def frechet_estimate(first: Tensor, second: Tensor, *, groups: int = 20, level: float = LEVEL) -> Estimate:
    """The Fréchet distance without its bias of order 1/n, and an interval, from a jackknife over groups.

    With D from all samples, and D_g from all but group g (every ``groups``-th sample of both sets)

        value = G D - (G - 1) mean_g D_g,    error^2 = (G - 1) / G sum_g (D_g - mean_g D_g)^2

    and the interval is value -+ t error with Student's t of G - 1 degrees of freedom (Tukey 1958; Efron and
    Tibshirani 1993, chapter 11). A bootstrap does not work here: its resamples repeat samples, which adds upward bias.

    For equal distributions the value scatters about 0 and may be negative. If a set has fewer samples than about ten
    times the width, the bias is no longer of order 1/n, and a part of it remains.

    Args:
        first, second: features of both sets, ``[n, width]`` and ``[m, width]``.
        groups: G, at least 2, and at least 8 for an interval; each set needs 2 samples per group.
        level: confidence, in (0, 1).

    Raises:
        TooFewSamples: a set has fewer than 2 samples per group, or there are fewer than 2 groups.
        UnfitFeatures: a number is not finite, or the widths differ.
    """
    if groups < 2:
        raise TooFewSamples("a jackknife", groups, 2, "groups")
    pair = checked_pair("the Fréchet distance's jackknife", first, second, 2 * groups)
    keep = [[torch.arange(len(features)) % groups != group for features in pair] for group in range(groups)]
    every = torch.tensor([frechet_distance(pair[0][one], pair[1][other]) for one, other in keep], dtype=torch.float64)
    value = groups * frechet_distance(*pair) - (groups - 1) * float(every.mean())
    return jackknife(value, every, level)


@dataclass(frozen=True)
class Frechet(FeatureMetric):
    """The Fréchet distance to true images, with the bias of few images removed."""

    name = "frechet"
    label = "Fréchet distance"
    meaning = "distance of feature means and covariances to true images of the target, bias removed"
    better = "lower"
    side_effect = True
    fewest = 48  # below, the bias cannot be removed and the number would mislead
    answers: ClassVar[Mapping[Situation, float]] = {"equal": 0.0, "constant": 0.0}

    def of(self, features: Tensor, reference: Tensor) -> Measurement:
        return frechet_estimate(features, reference).measured("jackknife")
