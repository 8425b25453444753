"""Two-sample tests: could both sets of images, or both images of each seed, have been drawn from one distribution?"""

from dataclasses import dataclass

import torch
from scipy.stats import binomtest
from torch import Tensor

from ..core.errors import TooFewSamples, UnfitFeatures
from .estimates import checked_pair, distances
from .rates import checked_pairs

PERMUTATIONS = 999
MOST = 1000
"""Most samples of each set that an energy test looks at: it keeps all their distances."""


@dataclass(frozen=True)
class TwoSample:
    """What a test of two sets found.

    Args:
        statistic: how far the sets are apart, at least 0.
        p: how often sets of one distribution are as far apart, in (0, 1]; below 0.05 in one of twenty such pairs at most.
        paired: whether sample i of both sets belongs together.
    """

    statistic: float
    p: float
    paired: bool


def energy_test(
    first: Tensor, second: Tensor, *, paired: bool = False, permutations: int = PERMUTATIONS, seed: int = 0
) -> TwoSample:
    """Permutation test of the energy distance: are two sets of features draws of one distribution?

        D^2 = 2 mean |x_i - y_j| - mean |x_i - x_j| - mean |y_i - y_j|
        p   = (1 + permutations whose D^2 is at least as large) / (1 + permutations)

    A permutation deals all samples out to two sets of the same sizes; of pairs it exchanges the two samples of some, each with
    probability 1/2. Under the null hypothesis all of them are as likely as what was seen, so P(p <= a) <= a for any number of
    samples, width and distribution. Székely and Rizzo, Testing for equal distributions in high dimension, 2004, InterStat 5;
    it is the kernel test of Gretton et al. 2012 with the distance's kernel (Sejdinovic et al. 2013, arXiv:1207.6076).

    Args:
        first, second: features of both sets, ``[n, width]`` and ``[m, width]``. Of more than 1,000 the first 1,000 are taken.
        paired: whether row i of both is of one seed; n and m are the same then.
        permutations: how many are drawn, at least 1; p is at least 1 / (1 + permutations).
        seed: of the permutations.

    Raises:
        TooFewSamples: a set is empty, or, paired, smaller than the other.
        UnfitFeatures: a number is not finite, the widths differ, or ``permutations`` is below 1.

    >>> apart = energy_test(torch.zeros(20, 1), torch.ones(20, 1))
    >>> round(apart.statistic, 12), apart.p
    (2.0, 0.001)
    """
    if permutations < 1:
        raise UnfitFeatures(
            f"a permutation test takes at least 1 permutation, not {permutations}; leave it out for 999"
        )
    first, second = (one[:MOST].cpu() for one in checked_pair("the energy test", first, second, 1))
    n, m = len(first), len(second)
    if paired and n != m:
        raise TooFewSamples("a paired energy test", min(n, m), max(n, m), "samples, as many as in the other set,")
    samples, generator = torch.cat([first, second]), torch.Generator().manual_seed(seed)
    apart = distances(samples, samples)
    if paired:
        signs = torch.randint(2, (permutations, n), generator=generator).double() * 2 - 1
        signs = torch.cat([torch.ones(1, n).double(), signs])
        weights = torch.cat([signs, -signs], 1) / n
    else:
        own = torch.tensor([1 / n] * n + [-1 / m] * m, dtype=torch.float64)
        orders = torch.rand(permutations, n + m, generator=generator).argsort(1)
        weights = torch.cat([own.unsqueeze(0), own[orders]])
    values = -((weights @ apart) * weights).sum(1)
    as_far = values[1:] >= values[0] - 1e-12 * apart.max()  # equal but for rounding
    p = (1 + int(as_far.sum())) / (1 + permutations)
    return TwoSample(max(0.0, float(values[0])), p, paired)


def mcnemar_test(first: Tensor, second: Tensor) -> float:
    """McNemar's exact test: do as many seeds lose something as gain it?

        p = P(|2 X - b - c| >= |b - c|),    X ~ Binomial(b + c, 1/2)

    with b the seeds that show it in the first set alone and c those in the second alone. McNemar 1947, Note on the sampling
    error of the difference between correlated proportions or percentages, Psychometrika 12, 153-157.

    Args:
        first, second: one bool, or 0 or 1, per seed, ``[n]`` each, seeds in the same order.

    Returns:
        p, in (0, 1]; 1 if no seed changed.

    Raises:
        TooFewSamples: there is no image, or a set has fewer than the other.
        UnfitFeatures: the shape is not ``[n]``, or a number is neither 0 nor 1.

    >>> seeds = torch.arange(20)
    >>> mcnemar_test(seeds < 6, seeds < 1)  # five lost it, none gained it: 2 / 2^5
    0.0625
    """
    one, other = checked_pairs("McNemar's test", first, second)
    lost, gained = int((one & ~other).sum()), int((~one & other).sum())
    return float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0
