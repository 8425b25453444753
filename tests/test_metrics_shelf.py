"""All metrics of the shelf: their declared answers, bounds and directions; the newer ones against other implementations."""

import math
from dataclasses import replace

import numpy as np
import ot
import pytest
import scipy.spatial
import scipy.stats
import torch

from steerclear.core.errors import TooFewSamples, UnfitFeatures
from steerclear.core.metric import Compared, Metric, metrics
from steerclear.metrics.class_balance import class_divergence
from steerclear.metrics.density_coverage import density_coverage
from steerclear.metrics.diversity import vendi_estimate, vendi_score
from steerclear.metrics.kernel_distance import kernel_distance
from steerclear.metrics.sliced_wasserstein import directions, sliced_wasserstein, sliced_wasserstein_estimate

SHELF = [metric for metric in metrics() if type(metric).__module__.startswith("steerclear.")]
COUNT = 60


def normal(rows: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def classes(shares: list[int]) -> dict[str, torch.Tensor]:
    """Indicators of images of which so many are of each class."""
    of = torch.repeat_interleave(torch.arange(len(shares)), torch.tensor(shares))
    return {str(number): of == number for number in range(len(shares))}


def situation(name: str) -> Compared:
    """The images of one of the situations for which metrics declare their answers."""
    true = normal(COUNT, 4, 1) + 2
    if name == "far":
        shows, nothing = {"0": torch.ones(COUNT).bool()}, {"0": 0.0}
        return Compared(true + 1e5, true, true, shows, nothing)
    same = true[:1].expand(COUNT, -1)
    reference = same if name == "constant" else true
    truth = {"0": 0.5, "1": 0.25, "2": 0.25}
    return Compared(true if name == "equal" else same, reference, reference, classes([30, 15, 15]), truth)


@pytest.mark.parametrize(
    ("metric", "name"),
    [(metric, name) for metric in SHELF for name in metric.answers],
    ids=lambda one: getattr(one, "name", one),
)
def test_a_metric_gives_its_known_answer(metric: Metric, name: str) -> None:
    images = situation(name)
    assert metric.fits(images)
    assert metric.measure(images).value == pytest.approx(metric.answers[name], abs=1e-6)


@pytest.mark.parametrize("metric", SHELF, ids=lambda metric: metric.name)
def test_a_metric_says_its_direction_and_keeps_its_bounds(metric: Metric) -> None:
    """Every metric has a known answer; better images are better by its own direction; no set leaves its bounds."""
    assert metric.answers
    low, high = (
        bound if bound is not None else sign * math.inf for bound, sign in zip(metric.bounds, (-1, 1), strict=True)
    )
    truth = {"0": 0.5, "1": 0.25, "2": 0.25}
    values = []
    for by in (0.0, 0.5, 3.0):
        shown = classes([30 + int(10 * by), 15, 15 - int(10 * by) if by < 1.5 else 0])
        shown = {name: one[:COUNT] for name, one in shown.items()}
        images = Compared(
            normal(COUNT, 4, 2) * (1 + by / 3) + 2 + by,
            normal(2 * COUNT, 4, 1) + 2,
            normal(COUNT, 4, 3) + 2,
            shown,
            truth,
        )
        found = metric.measure(images)
        assert low <= found.value <= high
        assert found.low is not None
        assert found.low <= found.value <= found.high
        values.append(found)
    if metric.name == "recall":  # wide images have wide balls: a known weakness of it
        return
    distances = {
        "lower": [one.value for one in values],
        "higher": [-one.value for one in values],
        "truth": [abs(one.value - one.truth) for one in values],
    }[metric.better]
    assert distances[0] < distances[2]


def test_only_the_older_metrics_are_in_the_terminal() -> None:
    shown = [metric.name for metric in SHELF if not metric.detail]
    assert shown == ["collateral_shift", "frechet", "precision", "recall", "diversity"]
    assert all(metric.column().detail == metric.detail for metric in SHELF)


# kernel distance


@pytest.mark.parametrize("chunk", [7, 512])
def test_the_kernel_distance_is_that_of_torchmetrics(chunk: int) -> None:
    poly_mmd = pytest.importorskip("torchmetrics.image.kid").poly_mmd
    first, second = normal(40, 8, 1), normal(40, 8, 2) * 1.3 + 0.4
    assert kernel_distance(first, second, chunk=chunk).value == pytest.approx(float(poly_mmd(first, second)), rel=1e-10)


def test_the_kernel_distance_by_its_formula() -> None:
    first, second = normal(17, 3, 1), normal(33, 3, 2) + 0.4

    def k(x: torch.Tensor, y: torch.Tensor) -> float:
        return (float(x @ y) / 3 + 1) ** 3

    def slow(one: torch.Tensor, other: torch.Tensor) -> float:
        own = [np.mean([k(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j]) for s in (one, other)]
        return float(own[0] + own[1] - 2 * np.mean([k(x, y) for x in one for y in other]))

    found = kernel_distance(first, second)
    assert found.value == pytest.approx(slow(first, second), rel=1e-10)
    left = [slow(*(one[torch.arange(len(one)) % 8 != group] for one in (first, second))) for group in range(8)]
    reach = scipy.stats.t.ppf(0.975, 7) * math.sqrt(7 / 8 * sum((one - np.mean(left)) ** 2 for one in left))
    assert (found.low, found.high) == pytest.approx((found.value - reach, found.value + reach), rel=1e-9)


@pytest.mark.parametrize("by", [0.0, 0.6])
def test_the_kernel_distance_is_unbiased_and_its_interval_covers_the_truth(by: float) -> None:
    """The true distance is that of two worlds of 30 points each, over all pairs."""
    worlds = normal(30, 4, 1), normal(30, 4, 1) + by
    kernels = [((one @ other.T / 4 + 1) ** 3).mean() for one, other in ((worlds[0],) * 2, (worlds[1],) * 2, worlds)]
    truth = float(kernels[0] + kernels[1] - 2 * kernels[2])
    values, covered = [], 0
    for run in range(200):
        generator = torch.Generator().manual_seed(run)
        found = kernel_distance(*(world[torch.randint(30, (50,), generator=generator)] for world in worlds))
        values.append(found.value)
        covered += found.low <= truth <= found.high
    assert abs(np.mean(values) - truth) < 4 * np.std(values) / math.sqrt(200)
    assert covered >= 178  # 95 % of 200 is 190, less four standard errors


def test_few_images_have_a_kernel_distance_without_an_interval() -> None:
    assert kernel_distance(normal(2, 3, 1), normal(2, 3, 2)).low is None
    assert kernel_distance(normal(16, 3, 1), normal(16, 3, 2)).low is not None
    with pytest.raises(TooFewSamples, match="kernel distance needs at least 2 samples and was given 1"):
        kernel_distance(normal(1, 3, 1), normal(5, 3, 2))


# density and coverage


@pytest.mark.parametrize("k", [1, 5])
def test_density_and_coverage_by_the_papers_formulas(k: int) -> None:
    real, generated = normal(30, 3, 1).numpy(), (0.8 * normal(25, 3, 2) + 0.5).numpy()
    radii = scipy.spatial.KDTree(real).query(real, k=k + 1)[0][:, -1]
    inside = scipy.spatial.distance.cdist(real, generated) <= radii[:, None]
    for chunk in (4, 512):
        both = density_coverage(torch.from_numpy(real), torch.from_numpy(generated), k=k, chunk=chunk)
        assert both.density.value == pytest.approx(inside.sum() / (k * 25))
        assert both.coverage.value == pytest.approx(inside.any(1).mean())
    # the intervals are those of sets without one group of both
    left = [density_coverage(*(torch.from_numpy(one[np.arange(len(one)) % 20 != g]) for one in (real, generated)), k=k)
            for g in range(20)]  # fmt: skip
    for name in ("density", "coverage"):
        every = np.array([getattr(one, name).value for one in left])
        reach = scipy.stats.t.ppf(0.975, 19) * math.sqrt(19 * every.var())
        found = getattr(both, name)
        ends = scipy.stats.binomtest(int(inside.any(1).sum()), 30).proportion_ci(method="wilson")
        if name == "density":
            assert (found.low, found.high) == pytest.approx((max(0, found.value - reach), found.value + reach))
        else:
            assert found.low == pytest.approx(max(0, min(ends.low, found.value - reach)))
            assert found.high == pytest.approx(min(1, max(ends.high, found.value + reach)))


def test_true_images_have_the_density_and_coverage_of_the_paper() -> None:
    densities, coverages, within, n, m, k = [], [], [0, 0], 30, 40, 5
    missed = math.prod((n - place) / (n + m - place) for place in range(1, k + 1))
    for run in range(200):
        both = density_coverage(normal(n, 2, 2 * run), normal(m, 2, 2 * run + 1), k=k)
        densities.append(both.density.value)
        coverages.append(both.coverage.value)
        within[0] += both.density.low <= 1 <= both.density.high
        within[1] += both.coverage.low <= 1 - missed <= both.coverage.high
    assert min(within) >= 178  # 95 % of 200 is 190, less four standard errors
    assert np.mean(densities) == pytest.approx(1, abs=4 * np.std(densities) / math.sqrt(200))
    assert np.mean(coverages) == pytest.approx(1 - missed, abs=4 * np.std(coverages) / math.sqrt(200))


def test_density_misfits_are_told() -> None:
    with pytest.raises(UnfitFeatures, match="at least 1, not 0; the paper takes 5"):
        density_coverage(normal(9, 2, 1), normal(9, 2, 1), k=0)
    with pytest.raises(TooFewSamples, match="needs at least 6 samples and was given 5"):
        density_coverage(normal(5, 2, 1), normal(9, 2, 1))


# Vendi, sliced Wasserstein


def test_the_sliced_distance_is_that_of_pot() -> None:
    first, second = normal(40, 6, 1), 1.5 * normal(40, 6, 2) + 0.3
    theirs = ot.sliced_wasserstein_distance(first.numpy(), second.numpy(), projections=directions(6).numpy(), p=1)
    assert sliced_wasserstein(first, second) == pytest.approx(float(theirs), rel=1e-10)


@pytest.mark.parametrize(("estimate", "by"), [("vendi", 0.0), ("sliced", 0.4), ("sliced", 1.0)])
def test_the_jackknife_covers_the_expected_number_of_as_many_images(estimate: str, by: float) -> None:
    def of(run: int) -> tuple[torch.Tensor, torch.Tensor]:
        return normal(60, 4, 2 * run) + by, normal(60, 4, 2 * run + 1)

    def value(run: int) -> float:
        return vendi_score(of(run)[0] + 1) if estimate == "vendi" else sliced_wasserstein(*of(run))

    expected = float(np.mean([value(run) for run in range(1000, 1400)]))
    covered = 0
    for run in range(200):
        found = vendi_estimate(of(run)[0] + 1) if estimate == "vendi" else sliced_wasserstein_estimate(*of(run))
        assert found.value == pytest.approx(value(run))
        covered += found.low <= expected <= found.high
    assert covered >= 178  # 95 % of 200 is 190, less four standard errors


def test_images_without_a_direction_have_no_vendi_score() -> None:
    vendi = next(metric for metric in SHELF if metric.name == "vendi")
    black = torch.zeros(9, 4)
    images = Compared(black, normal(9, 4, 1), normal(9, 4, 1), {}, {})
    assert not vendi.fits(images)


# class balance


def test_the_divergence_is_that_of_scipy_less_its_bias() -> None:
    counts, truth = torch.tensor([50, 30, 20]), torch.tensor([0.2, 0.3, 0.5])
    found = class_divergence(counts, truth)
    plain = scipy.stats.entropy([0.5, 0.3, 0.2], [0.2, 0.3, 0.5])
    assert found.uncorrected == pytest.approx(plain)
    assert found.value == pytest.approx(plain - 2 / 200)
    both = class_divergence(counts, truth, truth_images=50)
    assert both.value == pytest.approx(plain - 2 / 200 - 2 / 100)
    assert both.high - both.low > found.high - found.low


def test_what_chance_adds_is_the_sum_over_all_counts() -> None:
    truth, total = np.array([0.6, 0.3, 0.1]), 8
    law = scipy.stats.multinomial(total, truth)
    summed = sum(
        law.pmf([i, j, total - i - j]) * scipy.stats.entropy([i, j, total - i - j], truth)
        for i in range(total + 1)
        for j in range(total + 1 - i)
    )
    assert class_divergence(torch.tensor([8, 0, 0]), torch.from_numpy(truth)).by_chance == pytest.approx(
        summed, rel=1e-10
    )


@pytest.mark.parametrize("truth_images", [None, 300])
@pytest.mark.parametrize("moved", [0.0, 0.06])
def test_the_divergence_of_classes_is_unbiased_and_covered(moved: float, truth_images: int | None) -> None:
    """Ten classes, 200 images; one class gives another a part of its share."""
    truth = np.full(10, 0.1)
    shares = truth.copy()
    shares[0] += moved
    shares[1] -= moved
    exact, draws, covered, plain = float(scipy.stats.entropy(shares, truth)), np.random.default_rng(1), 0, []
    for run in range(150):
        known = truth if truth_images is None else draws.multinomial(truth_images, truth) / truth_images
        found = class_divergence(
            torch.from_numpy(draws.multinomial(200, shares)), torch.from_numpy(known), truth_images=truth_images,
            resamples=300, seed=run,
        )  # fmt: skip
        bias = 9 / 400 + (9 / 2 / truth_images if truth_images else 0)
        plain.append(found.uncorrected - bias)
        covered += found.low <= exact <= found.high
    assert abs(np.mean(plain) - exact) < 4 * np.std(plain) / math.sqrt(150) + 0.002
    assert covered >= 130  # 95 % of 150 is 142, less four standard errors


def test_only_classes_have_a_balance() -> None:
    balance = [metric for metric in SHELF if metric.name.startswith("class_")]
    assert len(balance) == 2
    shown, true = classes([30, 20, 10]), normal(COUNT, 2, 1)
    truth = {"0": 0.5, "1": 0.25, "2": 0.25}
    for metric in balance:
        assert metric.fits(Compared(true, true, true, shown, truth))
        assert not metric.fits(Compared(true, true, true, shown, truth | {"0": 0.9}))  # attributes
        both = shown | {"0": torch.ones(COUNT).bool()}
        assert not metric.fits(Compared(true, true, true, both, truth))
        assert not metric.fits(Compared(true, true, true, {"a": shown["0"]}, {"a": 1.0}))
    # of the classes that are asked for: images of the concept do not count, nor those of a class that the truth lacks
    asked = Compared(
        true, true, true, shown | {"3": ~shown["0"] & False}, {"0": 0.0, "1": 0.5, "2": 0.5, "3": 0.0}, ("0",)
    )
    shift = next(metric for metric in balance if metric.name == "class_shift").measure(asked)
    assert shift.uncorrected == pytest.approx(20 / 30 - 0.5)


def test_a_balance_needs_classes_and_images_of_them() -> None:
    with pytest.raises(UnfitFeatures, match="leave out classes that the truth does not have"):
        class_divergence(torch.tensor([1, 2]), torch.tensor([1.0, 0.0]))
    with pytest.raises(TooFewSamples, match="at least 1 images of its classes and was given 0"):
        class_divergence(torch.tensor([0, 0]), torch.tensor([0.5, 0.5]))


def test_a_balance_counts_the_chance_of_a_truth_that_was_measured() -> None:
    """Of 60 images behind the truth 45 show the classes that were not asked away."""
    true, shown = normal(COUNT, 2, 1), classes([10, 20, 30])
    truth = {name: float(one.double().mean()) for name, one in classes([15, 25, 20]).items()}
    exact = Compared(true, true, true, shown, truth, ("0",))
    drawn = replace(exact, truth_images=COUNT, truth_shown=classes([15, 25, 20]))
    by_name = {metric.name: metric for metric in SHELF}
    known, measured = (by_name["class_divergence"].measure(one) for one in (exact, drawn))
    assert known.value - measured.value == pytest.approx(1 / 2 / 45)
    assert measured.uncorrected == pytest.approx(scipy.stats.entropy([0.4, 0.6], [25 / 45, 20 / 45]))
    known, measured = (by_name["class_shift"].measure(one) for one in (exact, drawn))
    assert measured.uncorrected == pytest.approx(25 / 45 - 0.4)
    assert measured.high - measured.low > known.high - known.low
    assert measured.by_chance > known.by_chance
