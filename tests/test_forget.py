"""The benchmark of forgetting a class: its figures have known answers, and its runs can be shared and resumed."""

import itertools
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import forget_tables
import tiny_digits
from steerclear.benchmark import forget, forget_rows
from steerclear.benchmark.forget import (
    ANCESTRAL,
    ODE,
    PUBLISHED,
    REDRAWN,
    SDE,
    TRUTH,
    UNGUIDED,
    WAYS,
    Forget,
    Way,
    claims_of,
    figure_of,
    without,
)
from steerclear.benchmark.forget_cells import Cell, Looked, load_cell
from steerclear.benchmark.forget_rows import (
    FIGURES,
    ForClass,
    Row,
    Yardstick,
    at_safety,
    counted,
    divergence,
    row_of,
    variation,
)
from steerclear.core.errors import InvalidSetting, UnknownName, UnsupportedModel
from steerclear.core.guidance import Guidance
from steerclear.core.parsing import parse_part
from steerclear.features.label_classifier import LABEL_CLASSIFIER
from steerclear.laboratories.digits import REFERENCE
from steerclear.telling.figures.base import save


def drawn(count: int, seed: int, balance: list[float] | None = None, shift: float = 0.0) -> Looked:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.ones(10) if balance is None else torch.tensor(balance)
    labels = torch.multinomial(weights, count, replacement=True, generator=generator)
    features = torch.randn(count, 5, generator=generator) + shift
    return Looked(labels, features, torch.full((count,), 30.0))


def row(way: str, strength: float, safety: float, figure: float, sampler: str = SDE, steps: int = 30) -> Row:
    """Ten classes that differ a little, so that there are intervals."""
    classes = []
    for number in range(10):
        small = 1 + 0.01 * (number - 4.5)
        values = dict.fromkeys(FIGURES, figure * small) | {"safety": safety}
        classes.append(ForClass(number=number, evaluations=60.0, **values))
    return row_of(way, strength, sampler, steps, 100, classes)


@pytest.mark.parametrize("images", [50, 400])
def test_the_divergence_of_equal_balances_is_zero_on_average(images: int) -> None:
    """Its plain estimate would be 8 / (2 n) + 8 / (2 m): .09 nats for 50 images, .02 for 400."""
    generator = torch.Generator().manual_seed(images)
    weights = torch.rand(9, generator=generator) + 0.5

    def counts(n: int) -> torch.Tensor:
        labels = torch.multinomial(weights, n, replacement=True, generator=generator)
        return torch.bincount(labels, minlength=9).double()

    found = torch.tensor([divergence(counts(images), counts(500)) for _ in range(2000)])
    assert abs(float(found.mean())) < 4 * float(found.std()) / math.sqrt(2000) + 0.02 / images
    assert float(found.std()) > 0.001


def test_the_divergence_of_large_counts_is_that_of_the_balances() -> None:
    p, q = torch.tensor([0.1, 0.2, 0.7]), torch.tensor([0.3, 0.3, 0.4])
    expected = float(torch.nn.functional.kl_div(q.double().log(), p.double(), reduction="sum"))
    assert divergence(p * 1e9, q * 1e9) == pytest.approx(expected, abs=1e-6)
    assert divergence(torch.tensor([100.0, 0.0]), torch.tensor([1e9, 1e9])) == pytest.approx(math.log(2), abs=1e-6)
    assert variation(p * 100, q * 100) == pytest.approx(0.3)
    assert counted(torch.tensor([0, 1, 1, 2, 2, 2, 2]), 4, 1).tolist() == [1, 4, 0]


def test_perfect_images_have_no_distance_and_moved_ones_have_theirs() -> None:
    """Perfect: as many of the truth's own kind; shifted: the squared shift of the means is the Fréchet distance."""
    real = drawn(4000, 2)
    stick = Yardstick(drawn(4000, 1), real.labels, real.features, 10)
    perfect = [stick.measure(number, without(drawn(150, 10 + number), number, 100)) for number in range(10)]
    mean = row_of("perfect", 0, SDE, 30, 100, perfect)
    assert mean.safety.value == 1
    for name in ("divergence", "divergence_data", "frechet", "frechet_real"):
        figure = getattr(mean, name)
        assert figure.low < 0.01, name
        assert abs(figure.value) < 0.04, name
    moved = stick.measure(3, drawn(2000, 5, shift=0.6))
    assert moved.frechet == pytest.approx(5 * 0.36, abs=0.15)
    assert moved.frechet_real == pytest.approx(5 * 0.36, abs=0.15)
    assert moved.safety == pytest.approx(0.9, abs=0.03)
    half = [2.0 if number < 5 else 0.0 for number in range(10)]  # without 9: 4/9 of the truth is missing
    assert stick.measure(9, drawn(5000, 6, half)).divergence == pytest.approx(math.log(9 / 5), abs=0.05)
    assert stick.measure(9, drawn(5000, 6, half)).variation == pytest.approx(4 / 9, abs=0.03)


def test_unguided_images_without_a_class_cost_those_that_were_thrown_away() -> None:
    looked = Looked(torch.tensor([3, 1, 3, 2, 5, 3]), torch.arange(6.0)[:, None], torch.full((6,), 50.0))
    found = without(looked, 3, 2)
    assert found.features.flatten().tolist() == [1, 3]
    assert found.evaluations.tolist() == [100, 100]  # four images were drawn for two
    assert len(without(looked, 3, 9)) == 3


def test_a_way_where_it_is_safe() -> None:
    """A coin for every image: halfway in the safety is halfway in the figures, and in every class."""
    rows = [row("negative prompt", 5, 1.0, 0.8), row("negative prompt", 2, 0.98, 0.2)]
    found = at_safety(rows)
    assert found is not None
    assert (found.strength, found.divergence.value) == (pytest.approx(3.5), pytest.approx(0.5))
    assert 0.99 <= found.safety.value < 0.99 + 1e-6
    assert [one.frechet for one in found.classes] == pytest.approx([0.5 * (1 + 0.01 * (k - 4.5)) for k in range(10)])
    assert at_safety(rows[1:]) is None
    assert at_safety([]) is None
    assert at_safety(rows[:1]) == rows[0]


def test_claims_at_equal_safety() -> None:
    rows = [
        row("negative prompt", 3, 0.99, 0.3), row("safe latent strong", 3, 0.95, 0.3), row("transition", 1, 0.995, 0.09),
        row("transition", 1, 0.995, 0.25, steps=50), row(PUBLISHED, 1, 0.99, 0.2, ANCESTRAL, 1000),
        row(UNGUIDED, 0, 0.9, 0.01), row(REDRAWN, 0, 1.0, -0.001),
    ]  # fmt: skip
    found = [(claim.claim.split(":")[0].split(", strength")[0], claim.bound, claim.met) for claim in claims_of(rows)]
    ours, slower = "transition, dpm++ 2m sde, 30 steps", "transition, dpm++ 2m sde, 50 steps"
    assert [one for one in found if one[0] == ours] == [
        (ours, ">= 0.99", True), (ours, "<= 0.1", True), (ours, "<= 0.24", True), (ours, found[5][1], True),
        (ours, found[6][1], True),
    ]  # fmt: skip
    assert [one[2] for one in found if one[0] == slower] == [True, False, False, False, False]
    assert ("safe latent strong, dpm++ 2m sde, 30 steps", ">= 0.99", False) in found
    assert ("drawn again, dpm++ 2m sde, 30 steps", "<= 0", True) in found
    assert not any("unguided" in one[0] for one in found)


def test_the_figure_has_a_panel_for_each_kind_and_figure(tmp_path: Path) -> None:
    rows = [row("transition", strength, 0.9 + 0.03 * strength, 0.1 / strength) for strength in (1, 3)]
    rows += [row("negative prompt", 2, 0.97, 0.4, ODE), row(REDRAWN, 0, 1.0, -0.01)]
    figure = figure_of(rows)
    assert [axes.get_label() for axes in figure.axes] == [
        "KL divergence, nats: stochastic, few steps", "Fréchet distance: stochastic, few steps",
        "KL divergence, nats: deterministic", "Fréchet distance: deterministic",
    ]  # fmt: skip
    lines = {line.get_label(): line for line in figure.legends[0].get_lines()}
    assert set(lines) == {"transition", "drawn again", "negative prompt", "99 % safe"}
    first = figure.axes[0]
    shown = (
        next(line for line in first.get_lines() if line.get_marker() != "None" and len(line.get_xdata()) == 2)
        .get_xydata()
        .tolist()
    )
    assert shown == [[pytest.approx(0.07), pytest.approx(0.1)], [pytest.approx(0.01), pytest.approx(0.1 / 3)]]
    again = next(line for line in first.get_lines() if len(line.get_xdata()) == 1)
    assert again.get_xydata().tolist() == [[pytest.approx(0.5 / 1000), pytest.approx(-0.01)]]
    assert first.get_xlim()[0] > first.get_xlim()[1]
    assert save(figure, tmp_path / "forget.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", WAYS)
def test_every_way_is_a_guidance_and_its_strengths_rise(name: str) -> None:
    way = WAYS[name]
    assert isinstance(parse_part(way.guidance.format(strength="2", prior="0.1"), Guidance), Guidance)
    assert all(list(strengths) == sorted(strengths) for strengths in way.at.values())


def test_no_two_cells_share_a_file_or_a_seed_by_chance() -> None:
    cells = [cell for ladder in Forget().ladders() for rung in ladder for cell in rung]
    assert len({cell.file for cell in cells}) == len(cells)
    parts = {cell.seeds for cell in cells}
    firsts = sorted(part.start for part in parts)
    longest = max(len(part) for part in parts)
    assert all(later == one or later - one >= longest for one, later in itertools.pairwise(firsts))
    truth, unguided, guided = (
        {seed for cell in cells if (cell.way if cell.way in (TRUTH, UNGUIDED) else "") == way for seed in cell.seeds}
        for way in (TRUTH, UNGUIDED, "")
    )
    assert not truth & unguided
    assert not truth & guided
    assert not unguided & guided


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"world": "letters"}, UnknownName, "there is no world 'letters'"),
        ({"classes": "8-10"}, InvalidSetting, "classes is '8-10', but must be numbers from 0 to 9"),
        ({"classes": "x"}, InvalidSetting, "is 'x', but must be"),
        ({"methods": "transitoin"}, UnknownName, "there is no method 'transitoin'; did you mean 'transition'"),
        ({"methods": "transition:x"}, InvalidSetting, "a strength is 'x', but must be a number of at least 0"),
        ({"settings": "dpm++ 2m 31"}, UnknownName, "there is no setting 'dpm\\+\\+ 2m 31'"),
        ({"images": 3}, InvalidSetting, "images is 3, but must be a whole number of at least 20"),
        ({"batch_size": 0}, InvalidSetting, "batch_size is 0"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Forget(**settings)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of digits with random weights, its classifier, and features of "real" images."""
    return tiny_digits.write_model(tmp_path_factory.mktemp("forget") / "model")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps, and all kinds of ways; the second strength of a negative prompt is never drawn, as the first is safe."""
    prior = "(prior={prior})"
    monkeypatch.setattr(forget_rows, "FLOORS", 1)
    monkeypatch.setattr(forget, "ORDER", ((SDE, 2), (ODE, 2), (ANCESTRAL, 3)))
    monkeypatch.setattr(forget, "WAYS", {
        TRUTH: Way("unguided", 1, {(SDE, 2): (0,)}, 2.0),
        UNGUIDED: Way("unguided", 1, {(SDE, 2): (0,)}, 1.5),
        "negative prompt": Way("negative:guidance_scale={strength}", 2, {(SDE, 2): (2, 3)}),
        "oracle gate": Way("dynamic-negative:guidance_scale=1,negative_scale={strength},concept=negative,"
                           "evidence=preview" + prior, 2, {(ODE, 2): (1,)}),
        PUBLISHED: Way("dynamic-negative:guidance_scale=1,negative_scale={strength},concept=negative,"
                       "evidence=published" + prior, 2, {(ANCESTRAL, 3): (1,)}, 0.5),
    })  # fmt: skip


def looked(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {path.name: load_file(path) for path in sorted((folder / "cells").iterdir())}


def test_runs_share_a_folder_and_go_on_where_they_were(model: Path, few: None, tmp_path: Path) -> None:
    def run(to: str, **settings: Any) -> tuple[Any, list[str]]:
        said: list[str] = []
        asked = Forget(model=str(model), images=20, **settings)
        return asked.run(tmp_path / to, lambda stage: said.append(stage) or (lambda done, total: None)), said

    half, said = run("shared", classes="0-4")
    assert half.claims == []
    assert {len(one.classes) for one in half.rows} == {5}
    run("shared", classes="5-9", batch_size=7)
    joined, said = run("shared", only_join=True)
    assert said == []
    assert {len(one.classes) for one in joined.rows} == {10}
    assert [one.way for one in joined.rows][:3] == [UNGUIDED, REDRAWN, "negative prompt"]
    again, said = run("shared")
    assert said[0].startswith("at most ")
    assert again.claims == joined.claims
    assert (tmp_path / "shared/forget.png").exists()
    assert (tmp_path / "shared/forget.json").exists()
    at_once, _ = run("whole")
    shared, whole = looked(tmp_path / "shared"), looked(tmp_path / "whole")
    assert {*whole} <= {*shared}
    for name, tensors in whole.items():  # batches of 7 and of 20: an image does not depend on its neighbors
        assert torch.equal(tensors["labels"], shared[name]["labels"])
        torch.testing.assert_close(tensors["features"], shared[name]["features"], rtol=2e-2, atol=2e-3)
    assert at_once.claims[0].claim == joined.claims[0].claim
    evaluations = {one.way: one.evaluations for one in joined.rows}
    assert (evaluations[UNGUIDED], evaluations["negative prompt"], evaluations[PUBLISHED]) == (2, 4, 6)


def test_a_cell_is_drawn_again_if_it_is_damaged_short_or_of_something_else(
    model: Path, few: None, tmp_path: Path
) -> None:
    def run(images: int = 20, folder: Path = model) -> None:
        Forget(model=str(folder), images=images, classes="3", methods="negative prompt:2").run(tmp_path)

    run()
    path, reference = sorted((tmp_path / "cells").iterdir())
    assert reference.name == "reference_0_dpm++-2m-sde_2_3.safetensors"  # always drawn: all is measured against it
    made = {name: value.clone() for name, value in load_file(path).items()}  # the file changes below
    cell = Cell("negative prompt", 2, SDE, 2, 3, 20, 4)
    assert path.name == cell.file == "negative-prompt_2_dpm++-2m-sde_2_3.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    run()
    assert all(torch.equal(made[name], again) for name, again in load_file(path).items())
    run(images=25)
    assert len(load_file(path)["labels"]) == 25
    first = load_file(path)["features"][:20]
    torch.testing.assert_close(first, made["features"], rtol=2e-2, atol=2e-3)
    assert load_cell(path, 25, {"model": "another"}) is None


def test_what_is_joined_is_all_that_is_there(model: Path, few: None, tmp_path: Path) -> None:
    asked = Forget(model=str(model), images=20, classes="3")
    with pytest.raises(InvalidSetting, match="there is nothing of the model"):
        replace(asked, only_join=True).run(tmp_path)
    for strengths in ("1.5", "4"):  # the weaker was safe, so a run of both would not have drawn the stronger
        replace(asked, methods=f"negative prompt:{strengths}").run(tmp_path)
    (tmp_path / "cells" / "notes.safetensors").write_text("another file")
    joined = replace(asked, only_join=True).run(tmp_path)
    assert [(one.way, one.strength) for one in joined.rows] == [("negative prompt", 1.5), ("negative prompt", 4.0)]
    one = replace(asked, only_join=True, methods="negative prompt:4").run(tmp_path)
    assert [row.strength for row in one.rows] == [4.0]


def test_another_kind_of_model_is_refused(model: Path, few: None, tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="model is 'portraits', but must be a model of the classes 0, 1, 2"):
        Forget(images=20, model="portraits", methods=TRUTH).run(tmp_path)
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "model" / REFERENCE).unlink()
    with pytest.raises(InvalidSetting, match=r"data is None, but must be a folder with the real images"):
        Forget(images=20, model=str(tmp_path / "model"), methods=TRUTH).run(tmp_path)
    (tmp_path / "model" / LABEL_CLASSIFIER).unlink()
    with pytest.raises(UnsupportedModel, match=r"has no classifier\.safetensors, which tells its classes apart"):
        Forget(images=20, model=str(tmp_path / "model"), methods=TRUTH).run(tmp_path)


def test_the_page_has_the_tables_of_what_was_measured() -> None:
    page = (forget_tables.MEASURED.parents[1] / "forgetting.md").read_text()
    assert forget_tables.written_into(page) == page


def test_the_tables_take_every_method_where_it_is_safe() -> None:
    rows = [row("negative prompt", 2, 0.98, 0.2), row("negative prompt", 5, 1.0, 0.8), row(UNGUIDED, 0, 0.9, 0.01),
            row("safe latent max", 1, 0.5, 0.2), row("safe latent max", 2, 0.6, 0.3)]  # fmt: skip
    found = forget.ForgetBenchmark(
        model="digits",
        model_digest=None,
        scheduler="",
        num_inference_steps=1,
        seeds="0",
        claims=claims_of(rows),
        rows=rows,
    )
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in forget_tables.safe(found).splitlines()]
    assert [line[:5] for line in lines[2:]] == [
        ["negative prompt", "dpm++ 2m sde, 30", "3.5", "60", "0.990"], [UNGUIDED, "dpm++ 2m sde, 30", "", "60", "0.900"],
        ["safe latent max", "dpm++ 2m sde, 30", "2", "60", "0.600"],
    ]  # fmt: skip
    assert lines[2][5].startswith("0.500 [0.4")
