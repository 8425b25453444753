"""The fractal world, its measures against known answers, the networks on its points, and its benchmark."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from steerclear.benchmark import fractal as benchmark
from steerclear.benchmark import fractal_cells
from steerclear.benchmark.fractal import FractalTrees, Rates
from steerclear.benchmark.fractal_cells import Cell, Found, energy_left_out, scheduler
from steerclear.core.denoiser import Branch, Point
from steerclear.core.errors import InvalidSetting, TooFewSamples, UnsupportedModel
from steerclear.core.noise import PREDICTION_TYPES, to_denoised
from steerclear.core.sampling import sample
from steerclear.guidance.auto import AutoGuidance
from steerclear.guidance.unguided import Unguided
from steerclear.metrics.energy import energy_distance
from steerclear.networks.shared.averages import snapshots_in
from steerclear.testbeds import fractal as world
from steerclear.testbeds.fractal import NO_CLASS, Fractal, branch_coverage, contour, outlier_rate, tally
from steerclear.training.loop import Schedule
from steerclear.training.points import PointNetwork, PointsCourse, PointsDenoiser, points_loss

SMALL = Fractal(depth=3, components=2)
TINY = Schedule(40, 64, 4e-3, warmup_steps=5, weight_decay=0, snapshots=4)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(fractal: Fractal, label: int, count: int, seed: int = 7) -> Tensor:
    return fractal.of(label).drawn(count, generator(seed))


def test_a_tree_has_every_branch_twice() -> None:
    for tree in SMALL.trees:
        assert [sum(limb.depth == depth for limb in tree) for depth in range(3)] == [1, 2, 4]
        ends = {limb.end: limb.depth for limb in tree}
        assert all(ends[limb.begin] == limb.depth - 1 for limb in tree if limb.depth)


def test_a_generation_has_its_share() -> None:
    """A branch has ``FAINTER`` times its parent's probability, shared by its components."""
    for mixture, tree in zip(SMALL.classes, SMALL.trees, strict=True):
        weights = mixture.log_weights.exp().view(len(tree), 2)
        trunk = 1 / sum((2 * world.FAINTER) ** depth for depth in range(3))
        assert weights.sum() == pytest.approx(1)
        for limb, both in zip(tree, weights.tolist(), strict=True):
            assert both == pytest.approx([trunk * world.FAINTER**limb.depth / 2] * 2)


def test_the_whole_is_half_of_each_class() -> None:
    points = draws(SMALL, NO_CLASS, 50)
    for alpha, sigma in ((1.0, 0.0), (0.6, 0.8)):
        parts = torch.stack([one.log_density(points, alpha, sigma) for one in SMALL.classes])
        whole = SMALL.world.full.log_density(points, alpha, sigma)
        torch.testing.assert_close(whole, parts.logsumexp(0) - math.log(2))
        odds = SMALL.log_odds(points, alpha, sigma)
        torch.testing.assert_close(odds, parts[1] - parts[0], atol=1e-6, rtol=1e-9)


def test_the_crowns_interleave() -> None:
    """A guidance away from one class is then felt by the other: many points have the other class's branches within .1."""
    for label in (0, 1):
        apart = torch.cdist(draws(Fractal(), label, 1000), Fractal().classes[1 - label].means).amin(1)
        assert 0.15 < float((apart < 0.1).double().mean()) < 0.6


@pytest.mark.parametrize("sigma", [0.002, 0.0, 80.0])
def test_it_is_finite_on_a_grid_ten_times_as_wide_as_the_data(sigma: float) -> None:
    wide = 10 * float(draws(Fractal(), NO_CLASS, 2000).abs().amax())
    line = torch.linspace(-wide, wide, 25, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    for mixture in (*Fractal().classes, Fractal().world.full):
        highest = mixture.log_joint(grid, 1.0, sigma).amax(1)
        density, score = mixture.log_density(grid, 1.0, sigma), mixture.score(grid, 1.0, sigma)
        assert float((density - highest).amin()) >= 0
        assert float((density - highest).amax()) <= math.log(len(mixture.means)) + 1e-9
        # Tweedie's formula, from two computations
        torch.testing.assert_close(
            mixture.denoised(grid, 1.0, sigma), grid + sigma**2 * score, atol=1e-8 * wide, rtol=1e-8
        )
    assert torch.isfinite(Fractal().log_odds(grid, 1.0, sigma)).all()


@pytest.mark.parametrize("label", [0, 1, NO_CLASS])
def test_one_percent_of_exact_draws_is_outside_of_the_contour(label: int) -> None:
    rate, count = outlier_rate(draws(SMALL, label, 40_000), SMALL, label), 40_000
    assert abs(rate - 0.01) < 4 * math.sqrt(0.01 * 0.99 * (1 / count + 1 / world.THRESHOLD_DRAWS))


def test_the_contour_of_one_gaussian_is_its_ellipse() -> None:
    """One branch of one component: 99 % of the mass is within r^2 = -2 log .01 of the centre."""
    one = Fractal(depth=1, components=1)
    mixture = one.classes[0]
    exact = -math.log(2 * math.pi) - 0.5 * float(mixture.variances.log().sum()) + math.log(0.01)
    assert contour(one, 0).level == pytest.approx(exact, abs=0.05)


def test_a_branch_that_is_left_out_is_not_covered() -> None:
    """Without its twigs' points a tree of 1 + 2 + 4 branches has 3; with a quarter of them as well; with three quarters it has all."""
    points = draws(SMALL, 0, 20_000)
    number, _ = SMALL.branch_of(points, 0)
    depth = torch.tensor([limb.depth for limb in SMALL.trees[0]])[number]
    quarter = torch.arange(len(points)) % 4
    assert branch_coverage(points, SMALL, 0) == 1
    assert branch_coverage(points[depth < 2], SMALL, 0) == pytest.approx(3 / 7)
    assert branch_coverage(points[(depth < 2) | (quarter == 0)], SMALL, 0) == pytest.approx(3 / 7)
    assert branch_coverage(points[(depth < 2) | (quarter > 0)], SMALL, 0) == 1


def test_outliers_cover_nothing() -> None:
    points = draws(SMALL, 1, 4000)
    away = torch.cat([points[:1000], points[1000:] + 50])
    assert outlier_rate(away, SMALL, 1) == pytest.approx(0.75 + 0.25 * outlier_rate(points[:1000], SMALL, 1))
    assert branch_coverage(away, SMALL, 1) == 0  # every branch has a quarter of its points


def test_a_point_that_is_not_a_number_is_outside() -> None:
    points = torch.cat([SMALL.classes[0].means[:3], torch.full((1, 2), math.nan, dtype=torch.float64)])
    assert tally(points, SMALL, 0)[0] == 1


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(TooFewSamples):
        tally(torch.zeros(0, 2), SMALL, 0)
    with pytest.raises(InvalidSetting, match="label is 3"):
        SMALL.of(3)
    with pytest.raises(InvalidSetting, match="depth is 0"):
        Fractal(depth=0)
    with pytest.raises(InvalidSetting, match="components is 0"):
        Fractal(components=0)
    with pytest.raises(InvalidSetting, match="label is 5"):
        PointsDenoiser(PointNetwork(4), label=5)
    with pytest.raises(InvalidSetting, match="width is 0"):
        PointNetwork(0)


@pytest.fixture(scope="module")
def networks() -> dict[str, PointNetwork]:
    made = {}
    for name, width in (("main", 8), ("weak", 4), ("other", 6)):
        torch.manual_seed(width)
        made[name] = PointNetwork(width, 2).eval()
        torch.nn.init.normal_(made[name].last.weight)
    return made


def denoiser(networks: dict[str, PointNetwork], label: int = 0, kind: str = "epsilon") -> PointsDenoiser:
    return PointsDenoiser(networks["main"], {name: networks[name] for name in ("weak", "other")}, label, kind)


def predicted(network: PointsDenoiser, names: list[str], sample: Tensor, rows: Tensor | None = None) -> list[Tensor]:
    return network.predict(Point(sample, 0.8, 0.6, 0, 0, 1), tuple(map(Branch.parse, names)), rows)


def test_an_untrained_network_is_the_posterior_mean_of_a_gaussian() -> None:
    """F begins at about 0, and D = c_skip x is the posterior mean of N(0, sd^2 I)."""
    torch.manual_seed(0)
    network = PointNetwork(8)
    torch.nn.init.zeros_(network.last.bias)
    points, level = torch.randn(5, 2), torch.tensor([0.002, 0.1, 0.5, 2.0, 80.0])
    expected = points * (0.25 / (0.25 + level**2))[:, None]
    torch.testing.assert_close(network(points, level, torch.tensor([0, 1, 2, 0, 1])), expected)


def test_the_loss_is_edms(networks: dict[str, PointNetwork]) -> None:
    """Its weight (s^2 + sd^2) / (s sd)^2 makes the loss of an output of 0 about 1 in each number, at every level."""
    network = PointNetwork(4)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    loss = points_loss(network, Fractal(), 20_000)(0, generator()).detach()
    assert 0.9 < float(loss) < 1.5


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_conditions_are_labels(networks: dict[str, PointNetwork], kind: str) -> None:
    sample = torch.randn(4, 2, generator=generator())
    asked = ["positive", "empty", "negative", "weak:positive", "conjunction", "other:negative"]
    for label, labels in ((0, (0, 2, 1, 0, 1, 1)), (1, (1, 2, 0, 1, 0, 0)), (2, (2, 2, 1, 2, 1, 1))):
        network = denoiser(networks, label, kind)
        for name, condition, found in zip(asked, labels, predicted(network, asked, sample), strict=True):
            used = networks[Branch.parse(name).network]
            expected = used(sample / 0.8, torch.full((4,), 0.75), torch.full((4,), condition))
            torch.testing.assert_close(to_denoised(found, sample, 0.8, 0.6, kind), expected, atol=1e-5, rtol=1e-5)


def test_a_point_of_a_batch_is_that_point_alone(networks: dict[str, PointNetwork]) -> None:
    sample, names = torch.randn(5, 2, generator=generator()), ["positive", "weak:positive"]
    together = predicted(denoiser(networks), names, sample)
    for part, alone in zip(together, predicted(denoiser(networks), names, sample, torch.tensor([3])), strict=True):
        torch.testing.assert_close(part[3:4], alone, atol=1e-6, rtol=1e-6)
    seeds = [4, 9, 2]
    for guidance in (Unguided(), AutoGuidance(2.0)):
        every = run(denoiser(networks), guidance, seeds)
        torch.testing.assert_close(every[1:2], run(denoiser(networks), guidance, [9]), atol=1e-4, rtol=0)


def run(network: PointsDenoiser, guidance: object, seeds: list[int]) -> Tensor:
    return sample(network, guidance, scheduler(), seeds, (2,), num_inference_steps=6).samples  # type: ignore[arg-type]


def test_names_that_are_not_there(networks: dict[str, PointNetwork]) -> None:
    for name, said in (("third:positive", "network is 'third'"), ("negative_2", "condition is 'negative_2'")):
        with pytest.raises(InvalidSetting, match=said):
            predicted(denoiser(networks), [name], torch.zeros(1, 2))


def test_a_trained_network_is_kept_and_another_recipe_is_another(tmp_path: Path) -> None:
    course, reports = PointsCourse(6, 1, TINY, SMALL), []
    first = course.trained("one", tmp_path, reports.append)
    again = course.trained("one", tmp_path, reports.append)
    assert len(reports) == TINY.steps
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert len(snapshots_in(tmp_path / "snapshots" / course.stage("one"))) == 4
    assert replace(course, seed=1).stage("one") != course.stage("one")


def test_a_damaged_network_is_a_sentence(tmp_path: Path) -> None:
    course = PointsCourse(6, 1, TINY, SMALL)
    course.trained("one", tmp_path)
    (path,) = (tmp_path / "networks").iterdir()
    for content in (b"damaged", b"", save({"first.weight": torch.zeros(1)})):
        path.write_bytes(content)
        with pytest.raises(UnsupportedModel, match=r"is damaged .*; remove it, and it is trained again"):
            course.trained("one", tmp_path)


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    """A network of 16 learns where two trees are in 300 steps: its loss is far below the 1.2 of no network."""
    course = PointsCourse(16, 2, Schedule(300, 256, 8e-3, warmup_steps=10, weight_decay=0), SMALL)
    network = course.trained("one", tmp_path)
    with torch.no_grad():
        assert float(points_loss(network, SMALL, 8192)(0, generator(5))) < 0.97


def test_the_sampler_is_not_what_is_measured() -> None:
    """The exact denoiser under the benchmark's sampler leaves 1 % outside, as exact draws do, and covers the branches."""
    cell = Cell("unguided", exact=True, images=800)
    made, calls = fractal_cells.samples(cell, 0, range(400), Path())
    assert calls == 400 * (2 * fractal_cells.STEPS - 1)
    assert outlier_rate(made, Fractal(), 0) < 0.01 + 4 * math.sqrt(0.01 / 400)
    levels = scheduler()
    levels.set_timesteps(fractal_cells.STEPS)
    assert [float(levels.sigmas[0]), float(levels.sigmas[-2])] == pytest.approx([5.0, 0.002], rel=0.02)


def test_counts_that_cannot_be_measured_are_refused() -> None:
    """A quarter of 95 points is 11 of a class, which are no 12 groups; and seeds of the choice are not final ones."""
    for images, chosen_on in ((95, 48), (96, 23), (1_000_001, 48)):
        with pytest.raises(InvalidSetting, match=r"images is|chosen_on is"):
            FractalTrees(images=images, chosen_on=chosen_on)
    asked = FractalTrees(images=96, chosen_on=24)
    assert asked.images // 4 // 2 >= fractal_cells.GROUPS


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"found": 3}', '{"found": {"calls": 1}}'])
def test_a_damaged_cell_is_measured_again(content: str, tmp_path: Path) -> None:
    cell = Cell("exact draws", images=48)
    whole = fractal_cells.found(cell, tmp_path)
    (path,) = (tmp_path / "cells").iterdir()
    path.write_text(content)
    assert fractal_cells.found(cell, tmp_path) == whole
    assert Found.model_validate(json.loads(path.read_text())["found"]) == whole


def test_the_energy_distance_is_that_of_the_metric() -> None:
    size = fractal_cells.GROUPS * 5
    first, second = (
        torch.randn(size, 2, generator=generator(1)).double(),
        torch.rand(size, 2, generator=generator(2)).double(),
    )
    every, *left_out = energy_left_out(first, second).tolist()
    assert every == pytest.approx(energy_distance(first, second))
    assert left_out[2] == pytest.approx(energy_distance(*(torch.cat([one[:10], one[15:]]) for one in (first, second))))


def test_rates_are_means_over_the_classes() -> None:
    shares = [contour(fractal_cells.WORLD, label).shares for label in (0, 1)]
    full = [[0, *(1000 * one).round().int().tolist()] for one in shares]
    empty = [[500, *([0] * len(shares[0]))], full[1]]
    cell = Cell("unguided")
    every = Rates.of(cell, Found(tallies=full, energy=0, left_out=[], calls=1))
    half = Rates.of(cell, Found(tallies=empty, energy=0, left_out=[], calls=1))
    assert (float(every.outliers[0]), float(every.coverage[0])) == (0, 1)
    assert (float(half.outliers[0]), float(half.coverage[0])) == (0.5, 0.5)
    assert half.outliers.std() < 1e-9  # all or none: resampling a class changes neither
    assert len(every.coverage) == 1 + benchmark.RESAMPLES


def test_the_benchmark_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a network of 8 and few points: every claim is there, cells are kept, and the choice is on other seeds."""
    small = {name: PointsCourse(8, 2, replace(TINY, snapshots=4 if name == "main" else 0), seed=number)
             for number, name in enumerate(("main", "narrow"))}  # fmt: skip
    monkeypatch.setattr(fractal_cells, "COURSES", small)
    for module in (fractal_cells, benchmark):
        monkeypatch.setattr(module, "WEAK", ("half", "narrow"))
        monkeypatch.setattr(module, "SNAPSHOTS", {"half": (0.5, 0.25)})
        monkeypatch.setattr(module, "STEPS", 4)
        monkeypatch.setattr(module, "WORLD", SMALL)
    monkeypatch.setattr(benchmark, "SHOWN", 20)
    monkeypatch.setattr(benchmark, "UPPER_SCALES", ())
    monkeypatch.setattr(benchmark, "SCALES", (1.5, 2.0))
    monkeypatch.setattr(benchmark, "CFG_SCALES", (1.5,))
    fractal_cells.network.cache_clear()
    found = FractalTrees(images=240, chosen_on=48, first=100).run(tmp_path)
    assert len(found.claims) == 6 + 5
    assert {row.final for row in found.rows} == {True, False}
    unguided, auto = (
        next(row for row in found.rows if row.method == name and row.final) for name in ("unguided", "auto")
    )
    assert auto.calls == 2 * unguided.calls == 2 * 7  # the weak network once per evaluation of Heun
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "fractal.png", "fractal-scales.png", "fractal-any.png", "fractal-any-scales.png",
    }  # fmt: skip
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    assert FractalTrees(images=240, chosen_on=48, first=100).run(tmp_path) == found
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()} == before
    fractal_cells.network.cache_clear()
