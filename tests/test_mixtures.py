"""The exact worlds' benchmark: its distance, its perturbed scores, its cells and claims."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor

import mixture_tables
from steerclear.benchmark import mixture_cells, mixtures
from steerclear.benchmark.mixture_cells import WORLDS, Cell, denoiser_of, guidance_of, scheduler_of
from steerclear.benchmark.mixtures import Curve, MixtureBenchmark, Mixtures
from steerclear.core.denoiser import Branch, Point
from steerclear.core.errors import InvalidSetting, TooFewSamples, UnfitFeatures
from steerclear.core.noise import PREDICTION_TYPES, to_noise
from steerclear.core.sampling import sample
from steerclear.metrics.sliced_wasserstein import directions, left_out_distances, sliced_wasserstein
from steerclear.telling.figures.fronts import Line, Panel, draw_fronts
from steerclear.testbeds.perturbed import PerturbedDenoiser
from steerclear.testbeds.scattered import Scattered
from steerclear.testbeds.spiral import Spiral

BRANCHES = tuple(Branch.parse(name) for name in ("positive", "conjunction"))


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_the_distance_is_scipys_along_each_direction(width: int) -> None:
    first, second = draw(40, width, seed=1), 2 * draw(40, width, seed=2) + 0.3
    expected = [wasserstein_distance(first @ one, second @ one) for one in directions(width).T]
    assert sliced_wasserstein(first, second) == pytest.approx(sum(expected) / len(expected), rel=1e-12)
    assert sliced_wasserstein(first, first.flip(0)) == 0


def test_a_shift_in_the_plane_has_its_mean_projection() -> None:
    """The mean of |cos| is 2 / pi."""
    first = draw(100, 2, seed=1)
    shift = torch.tensor([3.0, -4.0], dtype=torch.float64)
    assert sliced_wasserstein(first, first + shift) == pytest.approx(5 * 2 / math.pi, rel=1e-3)


def test_left_out_is_the_distance_of_what_stays() -> None:
    first, second, groups = draw(12, 3, seed=1), draw(12, 3, seed=2), torch.tensor([0, 1, 2] * 4)
    expected = [sliced_wasserstein(first[groups != one], second[groups != one]) for one in range(3)]
    assert left_out_distances(first, second, groups).tolist() == pytest.approx(expected, rel=1e-12)


def test_sets_that_cannot_be_compared() -> None:
    with pytest.raises(TooFewSamples, match="needs at least 5 samples, as many as in the other set, and was given 4"):
        sliced_wasserstein(draw(4, 2, seed=1), draw(5, 2, seed=2))
    with pytest.raises(UnfitFeatures):
        sliced_wasserstein(draw(4, 2, seed=1), draw(4, 3, seed=2))


def test_the_nearest_component_is_mahalanobis() -> None:
    world = Spiral().world
    x, apart = world.full.sample(range(5)), []
    assert world.full.axes is not None
    for mean, variances, axes in zip(world.full.means, world.full.variances, world.full.axes, strict=True):
        covariance = axes @ torch.diag(variances) @ axes.mT
        apart.append(((x - mean) @ torch.linalg.inv(covariance) * (x - mean)).sum(1).sqrt())
    assert torch.allclose(world.full.deviations(x), torch.stack(apart).amin(0))


def test_the_balance_of_perfect_samples_is_the_targets() -> None:
    for world in (Spiral().world, Scattered(16).world):
        count = 6000
        truth = world.target.log_weights.exp()
        error = (truth * (1 - truth) / count).sqrt()
        assert ((world.balance(world.target.sample(range(count))) - truth).abs() < 4 * error + 0.002).all()
        # what is left of the concept does not count
        assert ((world.balance(world.full.sample(range(count))) - truth).abs() < 5 * error + 0.002).all()


@pytest.mark.parametrize("level", [0.1, 0.5, 2.0, 8.0])
def test_the_error_is_the_share_of_the_score_that_it_says(level: float) -> None:
    world = Scattered(16)
    network = PerturbedDenoiser(world.denoiser(), shared=0.1, own=0.02)
    y = world.draws(range(2000)) + level * draw(2000, 16, seed=3)
    exact = world.world.full.denoised_and_noise(y, 1.0, level)[1]
    first, second = network.errors(y, 1.0, level, BRANCHES)
    share = float(first.square().mean().sqrt() / exact.square().mean().sqrt())
    apart = float((first - second).square().mean().sqrt() / exact.square().mean().sqrt())
    assert share == pytest.approx(math.hypot(0.1, 0.02), rel=0.15)
    assert apart == pytest.approx(math.sqrt(2) * 0.02, rel=0.15)
    # smooth: to a neighbour at a tenth of the samples' spread it changes by about ROUGHNESS times that
    near = network.errors(y + 0.1 * math.hypot(1, level) * draw(2000, 16, seed=4), 1.0, level, BRANCHES)[0]
    assert float((near - first).square().mean().sqrt() / first.square().mean().sqrt()) < 0.35


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_the_error_is_the_same_in_every_space_and_per_image(kind: str) -> None:
    world = Scattered(6)
    network = PerturbedDenoiser(world.denoiser(kind))
    x = draw(5, 6, seed=1)
    together = network.predict(Point(x, 0.6, 0.8, 0, 0, 1), BRANCHES, None)
    exact = world.world.full.denoised_and_noise(x, 0.6, 0.8)[1]
    expected = exact + network.errors(x, 0.6, 0.8, BRANCHES)[0]
    assert torch.allclose(to_noise(together[0], x, 0.6, 0.8, kind), expected, atol=1e-12)
    alone = network.predict(Point(x[3:4], 0.6, 0.8, 0, 0, 1), BRANCHES, None)
    rows = network.predict(Point(x, 0.6, 0.8, 0, 0, 1), BRANCHES, torch.tensor([3]))
    for one, other, row in zip(together, alone, rows, strict=True):
        assert torch.allclose(one[3], other[0], rtol=1e-12, atol=1e-12)
        assert torch.allclose(one[3], row[0], rtol=1e-12, atol=1e-12)


def test_without_an_error_the_scores_are_exact() -> None:
    world = Scattered(6)
    nothing = PerturbedDenoiser(world.denoiser("sample"), shared=0, own=0)
    x = draw(5, 6, seed=1)
    for network, level in ((nothing, (0.6, 0.8)), (PerturbedDenoiser(world.denoiser("sample")), (0.0, 1.0))):
        point = Point(x, *level, 0, 0, 1)
        assert torch.equal(
            network.predict(point, BRANCHES, None)[0], world.denoiser("sample").predict(point, BRANCHES, None)[0]
        )
    with pytest.raises(InvalidSetting, match="own is -1, but must be a finite number of at least 0"):
        PerturbedDenoiser(world.denoiser(), own=-1)


@pytest.mark.parametrize("world", WORLDS)
def test_an_unrelated_concept_never_shows(world: str) -> None:
    """The concept's components are far from all that the prompt shows; even a prior of one half leaves it no draw."""
    testbed, cell = WORLDS[world], Cell(world, "negative", related=False)
    concept = denoiser_of(cell).mixture(Branch.parse("conjunction"))  # type: ignore[attr-defined]
    assert float(testbed.world.full.deviations(concept.means).min()) > 6
    drawn = testbed.draws(range(2000))
    odds = concept.log_density(drawn) - testbed.world.full.log_density(drawn)
    assert float(odds.sigmoid().mean()) < 1e-3


def test_the_negative_prompt_is_a_constant_weight() -> None:
    """D = D_p - v (D_c - D_p), at every point."""
    cell = Cell("16", "negative", 0.7)
    network = denoiser_of(cell)
    made = sample(network, guidance_of(cell), scheduler_of(cell), [5], (16,), num_inference_steps=2, negatives=1,
                  dtype=torch.float64)  # fmt: skip
    scheduler = scheduler_of(cell)
    scheduler.set_timesteps(2)
    x = torch.randn(1, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    for s, t in zip(scheduler.sigmas.tolist(), scheduler.timesteps, strict=False):
        point = Point(x, 1 / math.hypot(1, s), s / math.hypot(1, s), t, 0, 1)
        positive, concept = network.predict(point, BRANCHES, None)
        x = scheduler.step(positive - 0.7 * (concept - positive), t, x, return_dict=False)[0]
    assert torch.allclose(made.samples, x.double(), atol=1e-6)


def test_figures_at_a_share_removed_are_interpolated() -> None:
    removed = torch.tensor([[0.0, 0.0], [0.8, 0.5], [1.0, 0.7]], dtype=torch.float64)
    figures = torch.tensor([[9.0, 9.0], [0.1, 1.0], [0.4, 2.0]], dtype=torch.float64)
    found = Curve(removed, figures, figures).at(figures, 0.9)
    # half way between .8 and 1 the logarithm is half way between those of .1 and .4; the second never gets there
    assert found.tolist() == pytest.approx([0.2, 2.0])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Mixtures:
    monkeypatch.setattr(mixtures, "WORLDS", {"2": WORLDS["2"]})
    sweeps = {"negative": (0.5, 2), "published": (1,), "tracking": (1, 2), "oracle": (0.5, 1)}
    monkeypatch.setattr(mixtures, "SWEEPS", {name: sweeps.get(name, own) for name, own in mixtures.SWEEPS.items()})
    monkeypatch.setattr(mixtures, "PUBLISHED_STEPS", 30)
    monkeypatch.setattr(mixtures, "SAMPLERS", {"2m": "DPM-Solver++(2M)"})
    return Mixtures(images=300)


def test_the_claims_come_from_the_rows_and_nothing_is_sampled_again(
    small: Mixtures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = small.run(tmp_path)
    assert isinstance(result, MixtureBenchmark)
    assert json.loads((tmp_path / "mixtures.json").read_text()) == json.loads(result.model_dump_json())
    assert {one.samples for one in result.rows} == {288, 96}  # 300 is rounded down to groups of one size
    ours = next(one for one in result.rows if one.method == "tracking" and one.scores == "exact" and one.strength == 1)
    claim = result.claims[0]
    assert claim.claim.startswith("2 dimensions, exact scores, DPM-Solver++(2M): share removed at strength 1")
    assert (claim.value, claim.bound) == (pytest.approx(ours.removed[0], abs=1e-5), ">= 0.9")
    assert ours.calls == 60
    again = {
        one.method: one.calls
        for one in result.rows
        if one.scores == "exact" and one.samples == 288 and one.concept == "related"
    }
    assert (again["unguided"], again["negative"], again["exact draws"]) == (30, 60, 0)
    assert again["redraw"] == pytest.approx(30 / 0.7, rel=0.2)  # 1 / (1 - prior) draws of one evaluation a step
    monkeypatch.setattr(mixture_cells, "measure", lambda cell: pytest.fail("sampled again"))
    assert small.run(tmp_path) == result
    assert len(list((tmp_path / "cells").iterdir())) == len(result.rows)


def test_a_cell_is_its_recipe() -> None:
    cell = Cell("2", "tracking")
    changed = [
        {"strength": 2.0},
        {"error": 0.1},
        {"related": False},
        {"first": 0},
        {"images": 12},
        {"steps": 31},
        {"sampler": "sde"},
    ]
    assert len({cell.digest(), *(replace(cell, **one).digest() for one in changed)}) == 1 + len(changed)  # type: ignore[arg-type]
    assert Cell("2", "tracking").digest() == cell.digest()


def test_a_front_draws_its_points() -> None:
    panel = Panel(
        "title",
        "across",
        "up",
        (Line("ours", ((10.0, 0.5), (90.0, 0.1))), Line("theirs", ((50.0, 2.0),))),
        0.05,
        (100.0, 0.05),
    )
    axes = draw_fronts([panel] * 4, columns=3).axes
    assert len(axes) == 4
    assert axes[0].get_yscale() == "log"
    drawn = [line.get_xydata().tolist() for line in axes[0].lines]
    assert [[10.0, 0.5], [90.0, 0.1]] in drawn
    assert [[50.0, 2.0]] in drawn
    assert [[100.0, 0.05]] in drawn


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(InvalidSetting, match="images is 71, but must be a whole number of at least 72"):
        Mixtures(images=71)


def test_the_page_has_the_tables_of_what_was_measured() -> None:
    page = (mixture_tables.MEASURED.parents[1] / "exact-worlds.md").read_text()
    assert mixture_tables.written_into(page) == page
