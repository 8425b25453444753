"""The fractal world in the laboratory of weaknesses: its samples are those of its networks, its figures those of the truth."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from steerclear.benchmark import fractal_cells, weak_fractal
from steerclear.benchmark.fractal_cells import WORLD, scheduler
from steerclear.benchmark.weak_fractal import CLASS, MAIN, WeakFractal
from steerclear.benchmark.weak_world import ANY, OWN, Cell, Weak, WorldAsked
from steerclear.benchmark.weaknesses import Weaknesses
from steerclear.core.errors import InvalidSetting
from steerclear.core.sampling import sample
from steerclear.guidance.auto import AutoGuidance
from steerclear.networks.shared.averages import PowerAverages, Snapshot
from steerclear.testbeds.fractal import NO_CLASS
from steerclear.training import points
from steerclear.training.points import COURSES, PointsDenoiser, course_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Small networks of short trainings."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(COURSES):
            short = replace(course_of(16, snapshots=16), batch_size=64)
            patch.setitem(COURSES, name, replace(COURSES[name], width=16, schedule=short))  # type: ignore[index]
        patch.setattr(weak_fractal, "MAIN_STEPS", 16)
        patch.setattr(points, "MAIN_STEPS", 16)
        fractal_cells.network.cache_clear()
        yield tmp_path_factory.mktemp("points")
        fractal_cells.network.cache_clear()


def world_of(folder: Path) -> WeakFractal:
    return WeakFractal(WorldAsked(training=str(folder), num_inference_steps=4))


def test_points_are_those_of_the_networks(folder: Path) -> None:
    """Every row against the sampler itself; the weak network is asked as often as the main one."""
    world = world_of(folder)
    weak = world.weaknesses()
    assert len(weak) >= 12
    assert len({one.family for one in weak.values()}) >= 5
    seeds = range(5, 11)
    for name in ("narrow", "1/4 of the training", "noised 0.2"):
        found = world.draw(Cell(OWN, CLASS, name, 2.0), "", weak[name], seeds, lambda count: None)
        networks = {"weak": world._weak(weak[name].how, "")}
        for row, seed in enumerate(seeds):
            alone = sample(
                PointsDenoiser(world._main(""), networks, seed % 2), AutoGuidance(2.0), scheduler(), [seed], WORLD.shape,
                num_inference_steps=4,
            )  # fmt: skip
            torch.testing.assert_close(found["points"][row], alone.samples[0], atol=1e-4, rtol=1e-4)
        assert found["evaluations"].tolist() == [14.0] * 6  # Heun's 4 steps are 7 points
        assert found["label"].tolist() == [1, 0, 1, 0, 1, 0]


def test_identities(folder: Path) -> None:
    world = world_of(folder)

    def drawn(cell: Cell, how: str | None = None, main: str = "") -> torch.Tensor:
        return world.draw(cell, main, None if how is None else Weak("w", how), range(4), lambda count: None)["points"]

    plain = drawn(Cell(OWN, ANY))
    assert torch.equal(drawn(Cell(OWN, ANY, "w", 1.0), "narrow"), plain)
    assert torch.equal(drawn(Cell(OWN, ANY, "w", 3.0), MAIN), plain)  # away from itself
    faulty = drawn(Cell("faulty", ANY), main="noised:0.3")
    assert float((faulty - plain).abs().max()) > 1e-3
    assert torch.equal(drawn(Cell("faulty", ANY, "w", 1.0), "noised:0.3", "noised:0.3"), faulty)
    pushed = drawn(Cell("faulty", ANY, "w", 2.0), "noised:0.3", "noised:0.3")
    assert float((pushed - faulty).abs().max()) > 1e-4  # the weak one has the main one's fault twice


def test_exact_draws_have_the_figures_of_the_truth(folder: Path) -> None:
    drawn = [WORLD.of(label).drawn(4000, torch.Generator().manual_seed(3)).float() for label in (0, 1)]
    samples = {"points": torch.cat(drawn), "label": torch.arange(2, dtype=torch.uint8).repeat_interleave(4000)}
    found = world_of(folder).measure(CLASS, samples)
    assert found["outliers"] == pytest.approx(0.01, abs=0.004)
    assert found["coverage"] > 0.99
    assert abs(found["energy"]) < 0.01
    moved = {**samples, "points": samples["points"] + torch.tensor([0.0, 0.3])}
    worse = world_of(folder).measure(CLASS, moved)
    assert worse["outliers"] > 0.3
    assert worse["energy"] > 0.02
    whole = {
        "points": WORLD.of(NO_CLASS).drawn(4000, torch.Generator().manual_seed(3)),
        "label": torch.full((4000,), NO_CLASS),
    }
    assert world_of(folder).measure(ANY, whole)["outliers"] == pytest.approx(0.01, abs=0.005)


def test_the_command_runs_on_points(folder: Path, tmp_path: Path) -> None:
    one = Weaknesses(
        "fractal", training=str(folder), weak="narrow; early, trained to its end; mine=early", conditions="class, any", scales="2",
        cfg_scales="2", images=60, sets=2, num_inference_steps=2,
    )  # fmt: skip
    found: Any = one.run(tmp_path)
    assert [row.way for row in found.rows] == [
        "unguided", "cfg", "narrow", "early, trained to its end", "mine", "unguided", "narrow", "early, trained to its end", "mine"
    ]  # fmt: skip
    assert found.rows[3].sets == found.rows[4].sets  # the same network under another name
    assert next(claim.bound for claim in found.claims) == "<= 0.25"
    with pytest.raises(InvalidSetting, match="model is 'digits', but must be left out: the world fractal has none"):
        replace(one, model="digits").run(tmp_path)
    with pytest.raises(InvalidSetting, match=r"'dropout:0.1', but must be one of the kinds snapshot, noised"):
        replace(one, weak="dropout:0.1").run(tmp_path)


def test_snapshots_from_elsewhere_have_their_digest_in_what_decides_the_samples(folder: Path, tmp_path: Path) -> None:
    world = world_of(folder)
    network = world._main("")
    names = [name for name, _ in network.named_parameters()]
    how, found = f"snapshot:folder={tmp_path.as_posix()}", []
    for factor in (0.9, 0.5):
        averages = PowerAverages([factor * value.detach() for value in network.parameters()])
        Snapshot.write(tmp_path / "0000001.safetensors", 1, names, averages)
        found.append((world.made_with("", Weak("any", how)), world.made_with(how, None)))
    assert len({one for pair in found for one in pair}) == 4
    own = world.weaknesses()["1/4 of the training"]
    missing = world_of(tmp_path / "not yet trained")
    assert missing.made_with("", missing.weaknesses()["1/4 of the training"])  # needs no file
    assert own.how in world.made_with("", own)
