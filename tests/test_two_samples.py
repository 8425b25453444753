"""Comparisons of two sets of images: published intervals, exact coverage, and p-values that are uniform where nothing differs."""

import itertools
import math

import pytest
import scipy.stats
import torch

from steerclear.core.errors import TooFewSamples, UnfitFeatures
from steerclear.metrics.estimates import Rate
from steerclear.metrics.rates import difference_of_rates, paired_difference_of_rates


def pairs(both: int, only: int, alone: int, neither: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two indicators with so many pairs of each kind."""
    first = [1] * (both + only) + [0] * (alone + neither)
    second = [1] * both + [0] * only + [1] * alone + [0] * neither
    return torch.tensor(first), torch.tensor(second)


# differences of rates


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0),
    ],
)
def test_the_interval_of_a_difference_is_that_of_newcombes_table(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    """Newcombe 1998, Statistics in Medicine 17, 873-890, table II, method 10."""
    found = difference_of_rates(Rate.of(*first), Rate.of(*second))
    assert (found.low, found.high) == pytest.approx((low, high), abs=5.1e-5)
    turned = difference_of_rates(Rate.of(*second), Rate.of(*first))
    assert (turned.value, turned.low, turned.high) == pytest.approx((-found.value, -found.high, -found.low))


@pytest.mark.parametrize("rates", [(0.05, 0.05), (0.3, 0.1), (0.5, 0.5), (0.9, 0.02)])
def test_the_interval_of_a_difference_covers_as_it_says(rates: tuple[float, float]) -> None:
    """Summed over all pairs of counts: 40 images against 64."""
    sizes, truth = (40, 64), rates[0] - rates[1]
    weights = [scipy.stats.binom.pmf(range(total + 1), total, p) for total, p in zip(sizes, rates, strict=True)]
    known = [[Rate.of(count, total) for count in range(total + 1)] for total in sizes]
    covered = 0.0
    for one, other in itertools.product(range(41), range(65)):
        weight = float(weights[0][one] * weights[1][other])
        if weight > 1e-6:
            found = difference_of_rates(known[0][one], known[1][other])
            covered += weight * (found.low <= truth <= found.high)
    assert 0.93 < covered < 0.985


def test_the_interval_of_paired_rates_by_hand() -> None:
    # 36 both, 12 only the first, 2 only the second: ad - bc = -24, margins 48 2 38 12
    found = paired_difference_of_rates(*pairs(36, 12, 2, 0))
    correlation = -24 / math.sqrt(48 * 2 * 38 * 12)
    one, other = (scipy.stats.binomtest(count, 50).proportion_ci(method="wilson") for count in (48, 38))
    near, far = 0.96 - one.low, other.high - 0.76
    assert found.low == pytest.approx(0.2 - math.sqrt(near**2 - 2 * correlation * near * far + far**2), abs=1e-12)
    assert found.high == pytest.approx(0.3404, abs=5e-5)
    # a positive product is made smaller by n / 2: 100 (40 * 40 - 100 - 50) / 50^4
    found, correlation = paired_difference_of_rates(*pairs(40, 10, 10, 40)), 1450 / 2500
    ends = scipy.stats.binomtest(50, 100).proportion_ci(method="wilson")
    reach = math.sqrt(2 * (0.5 - ends.low) ** 2 * (1 - correlation))
    assert (found.value, found.low, found.high) == pytest.approx((0, -reach, reach))


@pytest.mark.parametrize("share", [(0.1, 0.2, 0.05), (0.3, 0.1, 0.05), (0.02, 0.3, 0.0)])
def test_the_interval_of_paired_rates_covers_as_it_says(share: tuple[float, float, float]) -> None:
    total, truth, covered = 24, share[1] - share[2], 0.0
    law = scipy.stats.multinomial(total, [*share, 1 - sum(share)])
    for both, only in itertools.product(range(total + 1), repeat=2):
        for alone in range(total + 1 - both - only):
            counts = both, only, alone, total - both - only - alone
            weight = float(law.pmf(counts)) if share[2] or not alone else 0.0
            if weight > 1e-4:
                found = paired_difference_of_rates(*pairs(*counts))
                covered += weight * (found.low <= truth <= found.high)
            elif weight > 0:
                covered += weight * 0.95  # too rare to look at each: together under 3 %
    assert 0.925 < covered < 0.99


def test_rates_of_seeds_that_do_not_match_are_refused() -> None:
    with pytest.raises(TooFewSamples, match="at least 3 images, as many as in the other set, and was given 2"):
        paired_difference_of_rates(torch.tensor([1, 0]), torch.tensor([1, 0, 1]))
    with pytest.raises(TooFewSamples, match="at least 1 images and was given 0"):
        paired_difference_of_rates(torch.ones(0), torch.ones(0))
    with pytest.raises(UnfitFeatures, match=r"0 or 1 per image and was given 0\.5"):
        paired_difference_of_rates(torch.tensor([1, 0.5]), torch.tensor([1, 0]))
