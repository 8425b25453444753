"""Rates and the collateral shift: Wilson's formula, de Moivre's floor, and what the bootstrap covers."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from scipy.stats import binom

from steerclear.core.errors import TooFewSamples, UnfitFeatures
from steerclear.metrics.collateral import (
    BALANCE,
    LARGEST_BIAS,
    CollateralShift,
    _chance,
    _expected_deviation,
    collateral_shift,
)
from steerclear.metrics.estimates import Rate, bootstrap_counts, percentile_interval
from steerclear.metrics.rates import rate


def coins(total: int, probability: float, seed: int) -> torch.Tensor:
    return torch.rand(total, generator=torch.Generator().manual_seed(seed)) < probability


# rates


@pytest.mark.parametrize(("count", "total"), [(0, 1), (0, 192), (1, 10), (97, 192), (1000, 1000)])
def test_wilson_interval_solves_its_equation(count: int, total: int) -> None:
    # the ends are the p at which |count / total - p| = z sqrt(p (1 - p) / total)
    shown = rate(torch.arange(total) < count)
    z = 1.959963984540054
    assert (shown.count, shown.total, shown.value) == (count, total, count / total)
    for end in (shown.low, shown.high):
        assert abs(shown.value - end) == pytest.approx(z * math.sqrt(end * (1 - end) / total), abs=1e-12)
    assert 0 <= shown.low <= shown.value <= shown.high <= 1
    assert shown.high - shown.low > 0


def test_wilson_interval_covers_as_it_says() -> None:
    for probability in (0.05, 0.5):
        counts = range(101)
        covered = sum(
            float(binom.pmf(count, 100, probability))
            for count in counts
            if Rate.of(count, 100).low <= probability <= Rate.of(count, 100).high
        )
        assert 0.93 < covered < 0.98


def test_a_rate_takes_zeros_and_ones_only() -> None:
    assert rate(torch.tensor([1, 0, 1])) == rate(torch.tensor([1.0, 0.0, 1.0])) == rate(torch.tensor([1, 0, 1]).bool())
    with pytest.raises(UnfitFeatures, match=r"takes 0 or 1 per image and was given 0\.5"):
        rate(torch.tensor([1.0, 0.5]))
    with pytest.raises(UnfitFeatures, match=r"shape \[n\], and was given \[2, 1\]"):
        rate(torch.ones(2, 1))
    with pytest.raises(TooFewSamples, match="needs at least 1 samples and was given 0"):
        rate(torch.ones(0))


# the bootstrap


def test_bootstrap_of_a_mean_has_the_error_of_the_mean() -> None:
    values = torch.rand(400, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    low, high = percentile_interval(bootstrap_counts(400, 4000, seed=3) @ values / 400)
    error = float(values.std(correction=0)) / 20
    assert low == pytest.approx(float(values.mean()) - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(float(values.mean()) + 1.96 * error, abs=0.15 * error)


def test_bootstrap_counts_are_multinomial() -> None:
    counts = bootstrap_counts(20, 20_000)
    assert bool((counts.sum(1) == 20).all())
    assert float(counts.var(correction=0)) == pytest.approx(1 - 1 / 20, abs=0.01)
    assert float(torch.corrcoef(counts[:, :2].T)[0, 1]) == pytest.approx(-1 / 19, abs=5 / 20_000**0.5)


# the collateral shift


@pytest.mark.parametrize(("total", "probability"), [(1, 0.5), (5, 0.3), (10, 0.1), (192, 0.325), (50, 0.0), (50, 1.0)])
def test_the_floor_is_the_sum_over_all_counts(total: int, probability: float) -> None:
    summed = sum(binom.pmf(count, total, probability) * abs(count / total - probability) for count in range(total + 1))
    assert _expected_deviation(total, probability) == pytest.approx(float(summed), abs=1e-13)


def test_shift_by_hand_and_by_level() -> None:
    # 4 images: hair black, black, brown, red against .5 .25 .25 -> exact; smile 3 of 4 against 1/2 -> 1/4;
    # worn hats red 2 of 4, blue 0 against 1/8 each -> half of (3/8 + 1/8 + |3/8 - 1/8|) = 3/8
    shown = {
        "hair:black": torch.tensor([1, 1, 0, 0]),
        "hair:brown": torch.tensor([0, 0, 1, 0]),
        "hair:red": torch.tensor([0, 0, 0, 1]),
        "smile": torch.tensor([1, 1, 1, 0]),
        "hat_color:red": torch.tensor([1, 1, 0, 0]),
        "hat_color:blue": torch.tensor([0, 0, 0, 0]),
    }
    truth = {"hair:black": 0.5, "hair:brown": 0.25, "hair:red": 0.25, "smile": 0.5,
             "hat_color:red": 0.125, "hat_color:blue": 0.125}  # fmt: skip
    shift = collateral_shift(shown, truth)
    assert shift.by_attribute == pytest.approx({"hair": 0, "smile": 0.25, "hat_color": 0.375})
    assert shift.value == pytest.approx(0.625 / 3)
    assert collateral_shift(shown, truth, exclude=["hat_color", "smile"]).value == pytest.approx(0)
    assert set(collateral_shift(shown, truth, exclude="hair:red").by_attribute) == {"hair", "smile", "hat_color"}


def test_true_images_show_the_floor_and_no_excess() -> None:
    rates, runs, total = {"a": 0.5, "b": 0.2, "c": 0.03}, 300, 100
    values = []
    for run in range(runs):
        shown = {name: coins(total, p, 10 * run + k) for k, (name, p) in enumerate(rates.items())}
        shift = collateral_shift(shown, rates, resamples=2)
        values.append(shift.value)
    spread = torch.tensor(values)
    assert abs(float(spread.mean()) - shift.floor) < 4 * float(spread.std()) / runs**0.5
    # about 0.8 sqrt(p (1 - p) / n) each, as the documentation says
    rough = sum(math.sqrt(2 / math.pi * p * (1 - p) / total) for p in rates.values()) / 3
    assert shift.floor == pytest.approx(rough, rel=0.05)


def test_floor_of_levels_is_that_of_simulated_true_images() -> None:
    truth = {"hair:black": 0.6, "hair:brown": 0.3}  # the rest, 0.1, is neither
    runs, total = 400, 40
    values = []
    for run in range(runs):
        uniform = torch.rand(total, generator=torch.Generator().manual_seed(run))
        shown = {"hair:black": uniform < 0.6, "hair:brown": (uniform >= 0.6) & (uniform < 0.9)}
        shift = collateral_shift(shown, truth, resamples=2)
        values.append(shift.value)
    spread = torch.tensor(values)
    assert abs(float(spread.mean()) - shift.floor) < 4 * float(spread.std()) / runs**0.5


def test_a_real_shift_is_found_and_covered() -> None:
    truth = {"beard": 0.3, "glasses": 0.3, "mustache": 0.5}
    covered, within, excess = 0, 0, []
    for run in range(60):
        shown = {name: coins(400, 0.1, 2 * run + k) for k, name in enumerate(("beard", "glasses"))}
        shift = collateral_shift(shown, truth, exclude="mustache", resamples=400, seed=run)
        covered += shift.low <= 0.2 <= shift.high
        within += shift.excess.low <= 0.2 <= shift.excess.high
        excess.append(shift.excess.value)
    assert covered >= 51  # 95 % of 60 is 57; fewer than 51 has probability 0.001
    assert within >= 51
    assert sum(excess) / 60 == pytest.approx(0.2, abs=0.005)  # the mean of 60 has a standard error of 0.0014


RATES = {"a": 0.3, "b": 0.5, "c": 0.25}


def moved_rates(truth: dict[str, float], by: float) -> dict[str, float]:
    """Every other attribute up by so much, the others down."""
    return {name: p + by * (-1) ** place for place, (name, p) in enumerate(truth.items())}


def drawn(rates: dict[str, float], total: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Independent attributes; the levels of one attribute share their draw, so that an image has at most one."""
    uniform: dict[str, torch.Tensor] = {}
    reached: dict[str, float] = {}
    shown = {}
    for name, p in rates.items():
        attribute = name.partition(":")[0]
        draw = uniform.setdefault(attribute, torch.rand(total, generator=generator))
        start = reached.get(attribute, 0.0)
        shown[name] = (draw >= start) & (draw < start + p)
        reached[attribute] = start + p
    return shown


@pytest.mark.parametrize("total", [50, 200, 1000])
@pytest.mark.parametrize("by", [0.0, 0.01, 0.02, 0.05, 0.1, 0.2])
def test_the_excess_estimates_the_true_shift(total: int, by: float) -> None:
    """Within the bias that the documentation names, and the error of 300 runs; the floor taken off is 0.8 s too low."""
    generator = torch.Generator().manual_seed(total)
    rates = moved_rates(RATES, by)
    found = [collateral_shift(drawn(rates, total, generator), RATES, resamples=2).excess.value for _ in range(300)]
    mean, error = float(torch.tensor(found).mean()), float(torch.tensor(found).std()) / 300**0.5
    deviation = sum(math.sqrt(p * (1 - p) / total) for p in RATES.values()) / 3
    # sums below 0 are shown as 0, which at 0 adds to the bias: 0.35 s for three attributes instead of 0.2 s
    assert -0.26 * deviation - 3 * error < mean - by < (0.4 if by < deviation else 0.05) * deviation + 3 * error


def test_the_bias_is_what_the_documentation_says() -> None:
    """In the limit of many images, where a rate is normal: shifts and biases in its standard deviations."""
    places = torch.linspace(-12, 12, 4801, dtype=torch.float64)

    def bias(correct: Callable[[torch.Tensor], torch.Tensor], shift: float) -> float:
        density = torch.exp(-((places - shift) ** 2) / 2) / math.sqrt(2 * math.pi) * (places[1] - places[0])
        return float((density * correct(places)).sum()) - shift

    def corrected(share: float) -> Callable[[torch.Tensor], torch.Tensor]:
        floor = math.sqrt(2 / math.pi)
        return lambda d: d.abs() - share * floor * torch.exp(-(d**2)) * math.sqrt(3)

    shifts = [place / 20 for place in range(121)]
    ours = [bias(corrected(BALANCE), shift) for shift in shifts]
    assert ours[0] == pytest.approx(0.20, abs=0.005)
    assert min(ours) == pytest.approx(-LARGEST_BIAS, abs=0.005)
    assert max(ours) == ours[0]
    assert max(abs(one) for one, shift in zip(ours, shifts, strict=True) if shift >= 3) < 0.05
    assert min(bias(corrected(1.0), shift) for shift in shifts) == pytest.approx(-0.41, abs=0.005)
    quadrature = [bias(lambda d: (d**2 - 1).clamp(min=0).sqrt(), shift) for shift in shifts]
    assert max(map(abs, quadrature)) == pytest.approx(0.34, abs=0.01)
    # and the program's numbers are these
    total, truth = 10_000, 0.5
    for count in (5060, 5100, 5400):
        found = collateral_shift({"a": torch.arange(total) < count}, {"a": truth}, resamples=2).excess.value
        place = torch.tensor((count / total - truth) / 0.005, dtype=torch.float64)
        assert found / 0.005 == pytest.approx(max(0.0, float(corrected(BALANCE)(place))), abs=0.01)


@pytest.mark.parametrize(("total", "by"), [(50, 0.05), (50, 0.2), (200, 0.0), (200, 0.05), (200, 0.1), (1000, 0.02)])
@pytest.mark.parametrize("attributes", [1, 3, 10])
def test_the_interval_of_the_excess_covers_the_true_shift(total: int, by: float, attributes: int) -> None:
    truth = {f"{name}{place}": RATES[name] for place, name in zip(range(attributes), itertools.cycle(RATES))}
    generator = torch.Generator().manual_seed(attributes)
    rates, covered, runs = moved_rates(truth, by), 0, 60
    for run in range(runs):
        excess = collateral_shift(drawn(rates, total, generator), truth, resamples=200, seed=run).excess
        covered += excess.low <= by <= excess.high
    assert covered >= 49  # of 60 at 92 %, the least of the documentation, fewer than 49 has probability 0.004


def test_levels_are_corrected_level_by_level() -> None:
    truth = {"hair:black": 0.3, "hair:brown": 0.2, "hair:blond": 0.2, "hair:red": 0.1, "glasses": 0.3}
    # a total variation of 0.1 in hair, as black becomes red, and of 0.1 in glasses
    rates = truth | {"hair:black": 0.2, "hair:red": 0.2, "glasses": 0.4}
    generator, total, runs = torch.Generator().manual_seed(1), 200, 100
    found, plain, covered = [], [], 0
    for run in range(runs):
        shift = collateral_shift(drawn(rates, total, generator), truth, resamples=200, seed=run)
        found.append(shift.excess.value)
        plain.append(shift.value)
        covered += shift.excess.low <= 0.1 <= shift.excess.high
    error = float(torch.tensor(found).std()) / runs**0.5
    deviation = (0.5 * sum(math.sqrt(p * (1 - p) / total) for p in (0.3, 0.2, 0.2, 0.1, 0.2)) + 0.0324) / 2
    assert abs(sum(found) / runs - 0.1) < 0.26 * deviation + 3 * error
    assert sum(plain) / runs > 0.11
    assert covered >= 85  # 95 % of 100, less four standard errors


def test_what_cannot_scatter_is_not_corrected() -> None:
    # every true portrait shows a man: a rate of 0.9 is a shift of 0.1, with no chance in it
    shown = {"man": torch.arange(100) >= 10}
    shift = collateral_shift(shown, {"man": 1.0})
    assert (shift.value, shift.floor, shift.excess.value) == pytest.approx((0.1, 0.0, 0.1))
    still = collateral_shift({"man": torch.ones(100)}, {"man": 1.0}).excess
    assert (still.value, still.low) == (0, 0)
    assert 0 < still.high < 0.04  # none of 100 has the upper end 0.037 by Wilson


@pytest.mark.parametrize("total", [1, 2, 7])
def test_few_images_carry_no_interval(total: int) -> None:
    shift = collateral_shift({"a": torch.arange(total) == 0}, {"a": 0.3})
    assert (shift.low, shift.high, shift.excess.low, shift.excess.high) == (None,) * 4
    assert collateral_shift({"a": torch.arange(8) == 0}, {"a": 0.3}).excess.low is not None


def test_the_shift_is_reproducible_and_blind_to_the_order_of_attributes() -> None:
    shown = {name: coins(50, 0.4, k) for k, name in enumerate("abc")}
    first = collateral_shift(shown, {"a": 0.5, "b": 0.4, "c": 0.1})
    assert first == collateral_shift(shown, {"a": 0.5, "b": 0.4, "c": 0.1})
    for order in itertools.permutations("abc"):
        again = collateral_shift(shown, {name: {"a": 0.5, "b": 0.4, "c": 0.1}[name] for name in order})
        assert (again.value, again.low, again.floor) == pytest.approx((first.value, first.low, first.floor), abs=1e-15)


def test_misfits_are_told() -> None:
    shown = {"a": torch.tensor([1, 0]), "b": torch.tensor([1, 0, 0])}
    with pytest.raises(UnfitFeatures, match=r"cannot exclude \['mustach'\]: the truth names a"):
        collateral_shift(shown, {"a": 0.5}, exclude="mustach")
    with pytest.raises(UnfitFeatures, match="every attribute is excluded"):
        collateral_shift(shown, {"a": 0.5}, exclude="a")
    with pytest.raises(UnfitFeatures, match="not read for hat; they were for a, b"):
        collateral_shift(shown, {"hat": 0.5})
    with pytest.raises(UnfitFeatures, match=r"differing numbers of images: \[2, 3\]"):
        collateral_shift(shown, {"a": 0.5, "b": 0.5})
    with pytest.raises(UnfitFeatures, match="takes 0 or 1"):
        collateral_shift({"a": torch.tensor([2, 0])}, {"a": 0.5})
    with pytest.raises(TooFewSamples, match="at least 1 images and was given 0"):
        collateral_shift({"a": torch.empty(0)}, {"a": 0.5})


@pytest.mark.parametrize("count", [64, 1000])
def test_the_collateral_interval_is_about_its_value_and_covers_it(count: int) -> None:
    """On true images the expected value is the floor; the interval holds its own estimate and covers the floor."""
    truth = {"glasses": 0.3, "hat": 0.25, "smile": 0.5, "beard": 0.15}
    generator = torch.Generator().manual_seed(count)
    covered, runs = 0, 200
    for _ in range(runs):
        shown = {name: torch.rand(count, generator=generator) < rate for name, rate in truth.items()}
        shift = collateral_shift(shown, truth, resamples=300)
        assert shift.low <= shift.value <= shift.high
        covered += shift.low <= shift.floor <= shift.high
    assert covered / runs > 0.85


# a truth that was measured on images


MEASURED = {"hat": 0.3, "glasses": 0.1, "hair:black": 0.6, "hair:red": 0.02}


def _measured(shift: float, total: int, others: int, generator: torch.Generator) -> CollateralShift:
    """The shift of images whose rates of hats and glasses differ from those of the images of the truth."""
    levels = torch.tensor([MEASURED["hair:black"], MEASURED["hair:red"], 0.38])
    shown = []
    for count, more in ((total, shift), (others, 0.0)):
        hair = torch.multinomial(levels, count, replacement=True, generator=generator)
        binary = (
            torch.rand(2, count, generator=generator) < torch.tensor([[MEASURED["hat"]], [MEASURED["glasses"]]]) + more
        )
        shown.append({"hat": binary[0], "glasses": binary[1], "hair:black": hair == 0, "hair:red": hair == 1})
    rates = {name: float(values.double().mean()) for name, values in shown[1].items()}
    return collateral_shift(shown[0], rates, measured_on=shown[1], resamples=200)


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_the_interval_counts_the_noise_of_a_measured_truth(shift: float) -> None:
    generator = torch.Generator().manual_seed(0)
    found = [_measured(shift, 64, 128, generator) for _ in range(150)]
    true = 2 * shift / 3  # of hats and glasses, not of hair
    covered = [one.excess.low <= true <= one.excess.high for one in found]
    assert sum(covered) >= 0.9 * len(found)


def test_the_floor_is_the_mean_of_as_many_true_images_beside_a_measured_truth() -> None:
    generator = torch.Generator().manual_seed(1)
    found = [_measured(0.0, 64, 128, generator) for _ in range(150)]
    floor, value = (sum(getattr(one, name) for one in found) / len(found) for name in ("floor", "value"))
    assert floor == pytest.approx(value, abs=0.003)
    exact = collateral_shift({"a": torch.arange(64) < 19}, {"a": 0.3}).floor
    assert exact < 0.85 * collateral_shift(
        {"a": torch.arange(64) < 19}, {"a": 0.3}, measured_on={"a": torch.arange(100) < 30}
    ).floor  # fmt: skip


@pytest.mark.parametrize(("total", "others", "share"), [(8, 5, 0.3), (64, 128, 0.02), (30, 200, 0.5)])
def test_the_chance_of_two_rates_is_the_sum_over_all_counts(total: int, others: int, share: float) -> None:
    first, second = (binom.pmf(range(count + 1), count, share) for count in (total, others))
    apart = [
        (abs(x / total - y / others), one * other)
        for x, one in enumerate(first) for y, other in enumerate(second)
    ]  # fmt: skip
    deviation = math.sqrt(sum(weight * d * d for d, weight in apart))
    expected = (
        deviation, sum(weight * d for d, weight in apart),
        sum(weight * math.exp(-((d / deviation) ** 2)) for d, weight in apart),
    )  # fmt: skip
    assert _chance(total, share, others) == pytest.approx(expected, rel=1e-6)
