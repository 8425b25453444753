"""Comparisons of two sets of images: published intervals, exact coverage, and p-values that are uniform where nothing differs."""

import itertools
import math

import pytest
import scipy.stats
import torch

from steerclear.core.errors import TooFewSamples, UnfitFeatures
from steerclear.core.laboratory import Column, Judge, Measurement, Seen
from steerclear.metrics.energy import energy_distance
from steerclear.metrics.estimates import Rate
from steerclear.metrics.rates import difference_of_rates, paired_difference_of_rates
from steerclear.metrics.selectivity import selectivity
from steerclear.metrics.two_sample import energy_test, mcnemar_test
from steerclear.study.comparisons import compared


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


# tests


def normal(rows: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("table", [(3, 5, 1, 2), (0, 4, 4, 1), (7, 0, 3, 0), (1, 9, 2, 8), (2, 0, 0, 3)])
def test_mcnemar_is_the_share_of_all_sign_flips(table: tuple[int, int, int, int]) -> None:
    changed = table[1] + table[2]
    flips = [abs(sum(flip)) for flip in itertools.product((-1, 1), repeat=changed)]
    exact = sum(one >= abs(table[1] - table[2]) for one in flips) / len(flips)
    assert mcnemar_test(*pairs(*table)) == pytest.approx(exact, abs=1e-12)


def test_the_energy_test_looks_at_the_energy_distance() -> None:
    first, second = normal(9, 3, 1), normal(14, 3, 2) + 0.3
    assert energy_test(first, second).statistic == pytest.approx(energy_distance(first, second, unbiased=False))
    assert energy_test(first, second[:9], paired=True).statistic == pytest.approx(
        energy_distance(first, second[:9], unbiased=False)
    )


def test_p_values_are_those_of_all_permutations() -> None:
    first, second = normal(4, 2, 3), normal(4, 2, 4) + 0.8
    together = torch.cat([first, second])

    def distance(chosen: list[int]) -> float:
        others = [place for place in range(8) if place not in chosen]
        return energy_distance(together[chosen], together[others], unbiased=False)

    seen = distance([0, 1, 2, 3]) - 1e-12
    deals = [distance(list(chosen)) >= seen for chosen in itertools.combinations(range(8), 4)]
    flips = [
        distance([place + 4 * other for place, other in enumerate(flip)]) >= seen
        for flip in itertools.product((0, 1), repeat=4)
    ]
    for paired, every in ((False, deals), (True, flips)):
        found = energy_test(first, second, paired=paired, permutations=4000)
        assert found.p == pytest.approx(sum(every) / len(every), abs=0.03)  # four standard errors of 4,000


@pytest.mark.parametrize("paired", [False, True])
def test_p_values_are_uniform_where_nothing_differs(paired: bool) -> None:
    """Pairs share most of what they are; whether they are compared as pairs or not, no sets are found too often."""
    found = []
    for run in range(300):
        shared = 3 * normal(12, 2, 3 * run) if paired else 0
        found.append(energy_test(
            shared + normal(12, 2, 3 * run + 1), shared + normal(12, 2, 3 * run + 2), paired=paired, permutations=99, seed=run
        ).p)  # fmt: skip
    assert scipy.stats.kstest(found, "uniform").pvalue > 0.01
    assert sum(p <= 0.05 for p in found) <= 25  # of 300; more has a probability of 0.006


def test_pairs_show_what_sets_do_not() -> None:
    shared = 5 * normal(30, 2, 1)
    first, second = shared + 0.1 * normal(30, 2, 2), shared + 0.1 * normal(30, 2, 3) + 0.3
    assert energy_test(first, second).p > 0.2
    assert energy_test(first, second, paired=True).p < 0.01


def test_equal_sets_do_not_differ() -> None:
    same = normal(10, 4, 1)
    for paired in (False, True):
        assert energy_test(same, same, paired=paired).statistic == pytest.approx(0, abs=1e-12)
        assert energy_test(torch.ones(5, 2), torch.ones(5, 2), paired=paired).p == 1
    assert energy_test(same, same, paired=True).p == 1


def test_sets_that_cannot_be_tested_are_refused() -> None:
    with pytest.raises(TooFewSamples, match="at least 5 samples, as many as in the other set, and was given 4"):
        energy_test(normal(4, 2, 1), normal(5, 2, 1), paired=True)
    with pytest.raises(UnfitFeatures, match="at least 1 permutation, not 0"):
        energy_test(normal(4, 2, 1), normal(5, 2, 1), permutations=0)
    with pytest.raises(UnfitFeatures, match="one width and was given 2 and 3"):
        energy_test(normal(4, 2, 1), normal(5, 3, 1))


# selectivity


def test_selectivity_counts_the_fall_of_the_concept_and_each_change_beside_it() -> None:
    before = {"hat": [1, 1, 1, 1, 0], "hair:black": [1, 1, 0, 0, 0], "hair:red": [0, 0, 1, 1, 1], "smile": [1, 0, 1, 0, 1],
              "hat_color:red": [1, 1, 0, 0, 0]}  # fmt: skip
    after = {"hat": [0, 0, 0, 1, 1], "hair:black": [0, 1, 0, 0, 0], "hair:red": [1, 0, 1, 1, 1], "smile": [0, 0, 1, 0, 1],
             "hat_color:red": [0, 0, 0, 0, 0]}  # fmt: skip
    pair = [{name: torch.tensor(values) for name, values in one.items()} for one in (before, after)]
    # three lost the hat and one gained it: 2/5; hair and smile changed in one image of five each: 1/5
    found = selectivity(*pair, ["hat"], beside=["hat", "hat_color"])
    assert found is not None
    assert (found.value, found.low) == (pytest.approx(2 / 3), None)
    assert selectivity(*pair, ["hat"]).value == pytest.approx(0.4 / (0.4 + (0.2 + 0.2 + 0.4) / 3))
    assert selectivity(pair[0], pair[0], ["hat"]) is None
    assert selectivity(*pair[::-1], ["hat"], beside=["hat_color"]).value == 0  # it rose


def test_the_interval_of_the_selectivity_covers_the_truth() -> None:
    """Half of the images lose the concept, each of three other things changes in a tenth: the truth is 5/6."""
    covered = 0
    for run in range(300):
        generator = torch.Generator().manual_seed(run)
        before = {name: torch.rand(60, generator=generator) < 0.5 for name in "abc"} | {"beard": torch.ones(60).bool()}
        flips = {name: torch.rand(60, generator=generator) < (0.5 if name == "beard" else 0.1) for name in before}
        found = selectivity(before, {name: before[name] ^ flips[name] for name in before}, ["beard"])
        covered += found.low <= 5 / 6 <= found.high
    assert covered >= 270  # 95 % of 300 is 285, less four standard errors


def test_selectivity_needs_a_concept_and_something_else() -> None:
    one = {"beard": torch.tensor([1, 0])}
    with pytest.raises(UnfitFeatures, match="needs a concept and something else among beard"):
        selectivity(one, one, ["beard"])
    with pytest.raises(UnfitFeatures, match="the same things in images of the same seeds"):
        selectivity(one, {"hat": torch.tensor([1, 0])}, ["beard"])


# a study's comparisons


class Two(Judge):
    """A concept and something else."""

    def columns(self) -> list[Column]:
        return [
            Column(name="beard", label="beard", meaning="", role="concept"),
            Column(name="hat", label="hat", meaning="", role="rate"),
            Column(name="frechet", label="", meaning="", role="score"),
        ]

    def see(self, images: torch.Tensor) -> Seen:
        raise NotImplementedError

    def measure(self, seen: Seen) -> dict[str, Measurement]:
        return {}


def test_a_method_is_compared_with_the_first_seed_by_seed() -> None:
    seeds = torch.arange(40)
    first = Seen({"beard": (seeds < 20).long(), "hat": (seeds % 2).long()}, features=normal(40, 3, 1))
    ours = Seen({"beard": (seeds < 5).long(), "hat": (seeds % 2).long()}, features=normal(40, 3, 1))
    found, measured = compared(Two(), ours, first, "unguided")
    beard, hat, features = found
    assert [(one.column, one.test, one.with_method) for one in found] == [
        ("beard", "mcnemar", "unguided"), ("hat", "mcnemar", "unguided"), ("features", "energy", "unguided"),
    ]  # fmt: skip
    assert (beard.difference, beard.p) == (-0.375, 2 / 2**15)
    assert (hat.difference, hat.p) == (0, 1)
    assert beard.high < 0
    assert hat.low < 0 < hat.high
    assert (features.difference, features.p) == (pytest.approx(0, abs=1e-12), 1)
    assert measured["selectivity"].value == 1  # nothing else changed
    without = compared(Two(), Seen(ours.shown), Seen(first.shown), "unguided")[0]
    assert [one.column for one in without] == ["beard", "hat"]
