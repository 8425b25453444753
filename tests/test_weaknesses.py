"""The laboratory of weaknesses: its figures have known answers, its cells are kept, and its networks are what they say."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_digits
from steerclear.benchmark import weak_cells
from steerclear.benchmark.claims import Claim
from steerclear.benchmark.weak_digits import CLASS, WeakDigits
from steerclear.benchmark.weak_images import WHERE_SNAPSHOTS_ARE, distances
from steerclear.benchmark.weak_portraits import WeakPortraits
from steerclear.benchmark.weak_rows import (
    HARMS,
    HELPS,
    NOTHING,
    TOO_FEW,
    Row,
    best_of,
    faults_said,
    over_sets,
    row_of,
    verdicts_of,
)
from steerclear.benchmark.weak_world import (
    ANY,
    CFG,
    EARLIER,
    NARROWER,
    OWN,
    UNGUIDED,
    Cell,
    Figured,
    Weak,
    WeaknessWorld,
    WorldAsked,
    family_named,
    has_faults_of,
)
from steerclear.benchmark.weaknesses import Weaknesses, _Bench, claims_of, figure_of
from steerclear.core.errors import InvalidSetting, UnknownName, UnsupportedModel
from steerclear.guidance.auto import AutoGuidance
from steerclear.guidance.interval import IntervalGuidance
from steerclear.guidance.unguided import Unguided
from steerclear.models.loading import load_model
from steerclear.networks.noised_weights import NoisedWeights
from steerclear.networks.shared.averages import PowerAverages, Snapshot, average_of, snapshots_in
from steerclear.telling.figures.base import LIGHT, png
from steerclear.telling.figures.weaknesses import Swept, SweptPanel, draw_weaknesses, styles_of

FIGURES = (Figured("frechet", "Fréchet distance", lower=True), Figured("recall", "recall"))


def row(
    way: str, scale: float, frechet: Sequence[float], recall: float, unguided: Sequence[float] = (4.0, 4.2, 3.8)
) -> Row:
    own = [{"frechet": one, "recall": recall, "evaluations": 60.0} for one in frechet]
    base = [{"frechet": one, "recall": 0.8, "evaluations": 30.0} for one in unguided[: len(own)]]
    scaled = Cell(OWN, CLASS) if way == UNGUIDED else Cell(OWN, CLASS, way, scale)
    if way == UNGUIDED:
        own = base
    return row_of(scaled, "" if way in (UNGUIDED, CFG) else "a family", 100, FIGURES, own, base)


def test_intervals_are_students_over_the_sets() -> None:
    found = over_sets([1.0, 2.0, 6.0])
    reach = 4.302653 * math.sqrt(7.0 / 3)  # variance 7, two degrees of freedom
    assert (found.value, found.low, found.high) == (3.0, pytest.approx(3 - reach), pytest.approx(3 + reach))
    assert over_sets([1.5]).low is None


def test_a_share_is_of_the_unguided_figure_of_the_same_seeds() -> None:
    """Sets that differ much may still agree on the share: its interval is of the pairs."""
    found = row("w", 2, [2.0, 2.12, 1.88], 0.9)
    assert found.ratio.value == pytest.approx((0.5 + 2.12 / 4.2 + 1.88 / 3.8) / 3)
    assert found.ratio.high is not None
    assert found.ratio.high < 0.52
    assert found.figures["frechet"].high is not None
    assert found.figures["frechet"].high > 2.25
    assert found.kept.value == pytest.approx(0.1)


def test_verdicts() -> None:
    helps, harms, unsure = (
        row("a", 2, [2.0, 2.1, 1.9], 0.7),
        row("b", 2, [8.0, 8.4, 7.6], 0.8),
        row("c", 2, [2, 8, 4], 0.8),
    )
    assert [one.verdict for one in (helps, harms, unsure)] == [HELPS, HARMS, NOTHING]
    assert row("a", 2, [2.0], 0.7).verdict == TOO_FEW
    said = verdicts_of([helps, row("a", 3, [1.0, 1.05, 0.95], 0.6), harms], FIGURES)
    assert len(said) == 2
    assert said[0].startswith("own, class: a (a family) helps: at its best scale, 3, Fréchet distance 1.000 [")
    assert said[0].endswith("recall -0.200")
    assert "b (a family) harms" in said[1]


def test_whether_the_same_faults_are_needed_is_decided_by_both_sorts() -> None:
    def sorted_by(same: list[float], other: list[float]) -> str:
        rows = [
            row("early", 2, same, 0.8).model_copy(update={"faults_of_main": True}),
            row("noised", 2, other, 0.8).model_copy(update={"faults_of_main": False}),
        ]
        (said,) = faults_said([*rows, row("other", 2, [0.1, 0.1, 0.1], 0.8)])  # of which nobody knows
        return said.rpartition("is ")[2]

    helps, more, harms = [2.0, 2.1, 1.9], [1.0, 1.05, 0.95], [8.0, 8.4, 7.6]
    assert sorted_by(helps, harms) == "confirmed."
    assert sorted_by(more, helps) == "refuted, though they help more."
    assert sorted_by(helps, more) == sorted_by(harms, helps) == "refuted."
    assert sorted_by(harms, harms) == sorted_by([2.0], [8.0]) == "not decided."
    assert faults_said([row("early", 2, helps, 0.8)]) == []


def test_which_weak_networks_have_the_faults_of_the_main_one() -> None:
    narrow, early = Weak(NARROWER, "runs/narrow"), Weak(EARLIER, "snapshot:runs")
    noised, other_noise, coarse = (
        Weak(family_named(how), how) for how in ("noised:0.2", "noised:0.2,seed=3", "quantized:3")
    )
    assert [has_faults_of("", one) for one in (narrow, early, noised, coarse)] == [True, True, False, False]
    assert [has_faults_of("snapshot:runs", one) for one in (early, noised)] == [True, False]
    assert [has_faults_of("noised:0.1", one) for one in (early, noised, other_noise, coarse)] == [
        False,
        True,
        False,
        False,
    ]
    assert [has_faults_of("quantized:4", one) for one in (noised, coarse)] == [False, True]
    assert has_faults_of("", Weak(family_named("runs/other"), "runs/other")) is None


def test_the_best_keeps_the_last_figure() -> None:
    unguided = row(UNGUIDED, 1, [0, 0, 0], 0)
    rows = [row("a", 2, [1.0, 1.0, 1.0], 0.7), row("a", 1.5, [2.0, 2.0, 2.0], 0.81), row("b", 2, [3.0, 3.0, 3.0], 0.9)]
    found = best_of(rows, "recall", 1.0, unguided)
    assert found is not None
    assert (found.way, found.scale) == ("a", 1.5)
    loose, lossy = best_of(rows, "recall", 0.8, unguided), best_of(rows[:1], "recall", 1.0, unguided)
    assert loose == lossy == rows[0]
    assert best_of([], "recall", 1.0, unguided) is None


class World(WeaknessWorld):
    """Samples are numbers: each seed's own, moved by the guidance's scale."""

    name = "line"
    conditions = (CLASS, ANY)
    figures = FIGURES
    bounds = {CLASS: 0.65}
    title, sampler = "a line", "none"

    def mains(self) -> dict[str, str]:
        return {OWN: ""}

    def weaknesses(self) -> dict[str, Weak]:
        return {"first": Weak("one", "f"), "second": Weak("two", "s")}

    def made_with(self, main: str, weak: Weak | None) -> str:
        return f"{main} {weak}"

    def draw(
        self, cell: Cell, main: str, weak: Weak | None, seeds: Sequence[int], on_samples: Callable[[int], None]
    ) -> dict[str, torch.Tensor]:
        on_samples(len(seeds))
        return {"x": torch.tensor([cell.scale * seed for seed in seeds]), "evaluations": torch.full((len(seeds),), 3.0)}

    def measure(self, condition: str, samples: Any) -> dict[str, float]:
        return {"frechet": float(samples["x"].sum()), "recall": 0.5}


def test_claims_have_the_bounds_of_the_world() -> None:
    rows = [row(UNGUIDED, 1, [0, 0, 0], 0), row(CFG, 2, [3.0, 3.0, 3.0], 0.6), row("a", 2, [2.0, 2.1, 1.9], 0.9)]
    found: list[Claim] = list(claims_of(rows, World()))
    assert [(one.bound, one.met) for one in found] == [("<= 0.65", True), (">= 0.8", True), ("<= 1", True)]
    assert "classifier-free guidance at its best scale, 2: 3.000 [3.000, 3.000], recall -0.200" in found[0].claim
    assert found[2].value == 1.0  # one evaluation of the weak network per step, no more
    corrupted = [one.model_copy(update={"main": "noised"}) for one in rows]
    assert next(claims_of(corrupted, World())).bound == "<= 1"  # what is promised is promised of the main network
    assert list(claims_of(rows[:2], World())) == []


def test_parts_are_kept_and_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weak_cells, "PART", 4)
    drawn: list[int] = []

    def shelf(count: int, weak: str = "f") -> weak_cells.Shelf:
        return weak_cells.Shelf(World(), tmp_path, {OWN: ""}, {"first": Weak("one", weak)}, count)

    cell = Cell(OWN, CLASS, "first", 2.0)
    assert shelf(6).missing(cell, 1) == 6
    shelf(6).draw(cell, 1, drawn.append)
    assert drawn == [4, 2]
    more = shelf(11)
    assert more.missing(cell, 1) == 7  # the first part is there; the second was too short
    more.draw(cell, 1, drawn.append)
    assert drawn == [4, 2, 4, 3]
    found = more.samples(cell, 1)
    assert found is not None
    assert found["x"].tolist() == [2.0 * (weak_cells.APART + place) for place in range(11)]
    fewer = shelf(3).figures(cell, 1)
    assert fewer == {"frechet": 2.0 * (3 * weak_cells.APART + 3), "recall": 0.5, "evaluations": 3.0}
    assert shelf(6, "another network").samples(cell, 1) is None  # a network that changed: its samples are drawn again
    assert shelf(6, "another network").figures(cell, 1) is None
    (tmp_path / cell.folder / f"{weak_cells.APART:08d}.safetensors").write_bytes(b"damaged")
    assert shelf(11).missing(cell, 1) == 4


def test_a_cell_is_what_it_says() -> None:
    assert Cell(OWN, CLASS).guidance() == Unguided()
    assert Cell(OWN, CLASS, "w", 2.0).guidance() == AutoGuidance(2.0)
    inside = Cell(OWN, CLASS, "w", 2.0, 0.2, 0.7)
    assert inside.guidance() == IntervalGuidance(AutoGuidance(2.0), 0.2, 0.7)
    assert (Cell(OWN, CLASS).evaluations(30), inside.evaluations(30)) == (30, 45)
    assert Cell("own", "class", "1/16 of the training", 1.5).folder == "own_class_1-16-of-the-training_1.5_0-1"
    assert inside.unguided == Cell(OWN, CLASS)


def test_a_long_name_makes_a_folder_that_can_be() -> None:
    """A path is typed for a network, and nothing else is said of it."""
    one, other = (Cell(OWN, CLASS, f"snapshot:folder=/{'runs/' * 60}{name}", 2.0).folder for name in "ab")
    assert max(len(one), len(other)) < 200
    assert one != other
    assert "/" not in one
    assert Cell("../..", CLASS, "../a", 2.0).folder == "..-.._class_..-a_2_0-1"


@pytest.mark.parametrize(
    "settings",
    [
        {"weak": "a b=noised:0.1; A-b=noised:0.2"},
        {"weak": "none", "cfg_scales": "1.50000001 1.50000002"},
        {"weak": "none", "mains": "one=noised:0.1; One=noised:0.2"},
    ],
)
def test_cells_that_would_take_turns_in_one_folder_are_refused(model: Path, tmp_path: Path, settings: Any) -> None:
    with pytest.raises(InvalidSetting, match="what is swept is "):
        replace(asked(model), **settings).run(tmp_path)


def test_what_is_said_twice_is_swept_once(model: Path, tmp_path: Path) -> None:
    one = replace(asked(model), weak="none", conditions="class,class", intervals="0-1 0-1", cfg_scales="2 2.0")
    assert [cell.way for cell in _Bench(one, tmp_path).cells()] == ["unguided", "cfg"]


# digits


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_digits.write_model(tmp_path_factory.mktemp("weaknesses") / "model")


@pytest.fixture(scope="module")
def training(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Snapshots of a made-up training of the tiny model, that ends with its own weights."""
    folder, network = tmp_path_factory.mktemp("training"), load_model(str(model)).pipe.unet
    names = [name for name, _ in network.named_parameters()]
    for step in range(2, 33, 2):
        averages = PowerAverages([value.detach() * step / 32 for value in network.parameters()])
        Snapshot.write(folder / WHERE_SNAPSHOTS_ARE[0] / f"{step:07d}.safetensors", step, names, averages)
    return folder


def asked(model: Path, **settings: Any) -> Weaknesses:
    own = {
        "images": 50,
        "sets": 2,
        "num_inference_steps": 2,
        "scales": "2",
        "cfg_scales": "2",
        "weak": "noised 0.1",
        **settings,
    }
    return Weaknesses(model=str(model), **own)


def test_a_run_is_resumed_and_says_what_helps(model: Path, training: Path, tmp_path: Path) -> None:
    said: list[str] = []

    def on_stage(stage: str) -> Callable[[int, int], None]:
        said.append(stage)
        return lambda done, total: None

    one = asked(model, conditions="class, any", intervals="0-1 0.5-1")
    found = one.run(tmp_path, on_stage)
    assert said == ["2,500 network evaluations in 16 sets of samples"]  # of 100 samples: 2 without, 4 and 3 with a push
    ways = [(one.condition, one.way, one.start, one.evaluations) for one in found.rows]
    assert ways == [
        (CLASS, UNGUIDED, 0, 2), (CLASS, CFG, 0, 4), (CLASS, "noised 0.1", 0, 4), (CLASS, CFG, 0.5, 3), (CLASS, "noised 0.1", 0.5, 3),
        (ANY, UNGUIDED, 0, 2), (ANY, "noised 0.1", 0, 4), (ANY, "noised 0.1", 0.5, 3),
    ]  # fmt: skip
    assert [set(one.figures) for one in found.rows[:1]] == [{"frechet", "precision", "recall", "balance", "as_asked"}]
    assert "as_asked" not in found.rows[5].figures
    assert len(found.verdicts) == 6
    assert json.loads((tmp_path / "weaknesses.json").read_text())["weak"] == {"noised 0.1": "noised:0.1"}
    assert (tmp_path / "weaknesses.png").is_file()
    again = one.run(tmp_path, on_stage)
    assert said[1].startswith("0 network evaluations")
    assert again == found
    assert replace(one, only_join=True).run(tmp_path).rows == found.rows
    with pytest.raises(InvalidSetting, match="there is nothing of"):
        replace(one, only_join=True, images=200).run(tmp_path)


def test_image_k_depends_on_its_seed_alone(model: Path) -> None:
    cell, weak = Cell(OWN, CLASS, "w", 2.0), Weak("noised", "noised:0.1")

    def drawn(seeds: range, batch_size: int) -> dict[str, torch.Tensor]:
        world = WeakDigits(WorldAsked(str(model), num_inference_steps=3, batch_size=batch_size))
        return dict(world.draw(cell, "", weak, seeds, lambda count: None))

    together, apart = drawn(range(6), 250), drawn(range(3, 6), 1)
    torch.testing.assert_close(together["features"][3:], apart["features"], atol=2e-3, rtol=1e-3)  # of half precision
    assert together["asked"].tolist() == [0, 1, 2, 3, 4, 5]  # those of the real images
    assert together["evaluations"].tolist() == [6.0] * 6


def test_scale_one_is_unguided_and_the_last_snapshot_is_the_network(model: Path, training: Path) -> None:
    world = WeakDigits(WorldAsked(str(model), str(training), num_inference_steps=3))
    weak = world.weaknesses()
    assert (
        weak["1/16 of the training"].how == f"snapshot:folder={training.as_posix()}/snapshots/denoiser,step=2,width=0.1"
    )
    assert "1/32 of the training" not in weak  # before the first snapshot
    assert len({one.family for one in weak.values()}) >= 6
    assert len(weak) >= 12

    def drawn(cell: Cell, how: str | None, main: str = "") -> torch.Tensor:
        other = None if how is None else Weak("w", how)
        return world.draw(cell, main, other, range(4), lambda count: None)["features"]

    plain = drawn(Cell(OWN, CLASS), None)
    at_end = f"snapshot:folder={training}/snapshots/denoiser,step=32,width=0.05"
    assert torch.equal(drawn(Cell(OWN, CLASS, "w", 1.0), None), plain)
    guided = drawn(Cell(OWN, CLASS, "w", 2.0), weak["1/4 of the training"].how)
    assert float((guided - plain).abs().max()) > 0.01
    as_main = drawn(Cell("last", CLASS), None, at_end)
    torch.testing.assert_close(as_main, plain, atol=2e-3, rtol=1e-3)
    assert torch.equal(drawn(Cell(OWN, CLASS), None), plain)  # the pipeline has its own network again


def test_a_narrow_network_at_a_part_of_its_training(model: Path, training: Path, tmp_path: Path) -> None:
    """The folder gives its shape, the snapshot its weights."""
    narrow = tmp_path / "narrow"
    own = load_model(str(model)).pipe.unet
    own.save_pretrained(narrow)
    world = WeakDigits(WorldAsked(str(model), narrow=str(narrow), narrow_training=str(training)))
    found = {name: weak for name, weak in world.weaknesses().items() if name.startswith("narrow")}
    assert list(found) == ["narrow", *(f"narrow, 1/{share} of its training" for share in (16, 8, 4, 2))]
    half: Any = world._weak(found["narrow, 1/4 of its training"])
    weights = average_of(snapshots_in(training / WHERE_SNAPSHOTS_ARE[0]), 8, 0.1)
    assert {name: tuple(value.shape) for name, value in half.named_parameters()} == {
        name: tuple(value.shape) for name, value in weights.items()
    }
    for name, value in half.named_parameters():
        torch.testing.assert_close(value.detach(), weights[name])
    one, other = (world.made_with("", found[name]) for name in ("narrow", "narrow, 1/4 of its training"))
    assert one != other


def test_a_main_network_with_a_fault_of_known_origin(model: Path) -> None:
    """Its weights are those of the kind, and a weak network of the same kind has the same fault, stronger."""
    world = WeakDigits(WorldAsked(str(model)))
    main = world._main("noised:0.1")
    kind = NoisedWeights(0.1)
    path, layer = "conv_in", world.own.conv_in
    expected = kind.changed_weight(path, layer.weight.detach())
    torch.testing.assert_close(main.conv_in.weight.detach(), expected)
    stronger = kind.changed_weight(path, expected)
    other = NoisedWeights(0.1, 1).changed_weight(path, expected)

    def alike(one: torch.Tensor) -> float:
        faults = torch.stack([(expected - layer.weight.detach()).flatten(), (one - expected).flatten()])
        return float(torch.corrcoef(faults)[0, 1])

    assert alike(stronger) == pytest.approx(1, abs=1e-4)
    assert abs(alike(other)) < 0.4


def test_distances_have_known_answers() -> None:
    generator = torch.Generator().manual_seed(0)
    real, same = torch.randn(2, 800, 4, generator=generator)
    near = distances(same, real)
    assert abs(near["frechet"]) < 0.05
    assert min(near["precision"], near["recall"]) > 0.9
    moved = distances(same + 1.0, real)
    assert moved["frechet"] == pytest.approx(4.0, abs=0.4)
    narrow = distances(0.2 * same, real)
    assert narrow["precision"] > 0.95
    assert narrow["recall"] < 0.2


def test_portraits_are_measured_against_true_ones(tmp_path: Path) -> None:
    world = WeakPortraits(WorldAsked(num_inference_steps=1, batch_size=2))
    seen = world.draw(
        Cell(OWN, "prompt", "narrow", 2.0), "", world.weaknesses()["narrow"], range(2), lambda count: None
    )
    assert seen["evaluations"].tolist() == [2.0, 2.0]
    assert world.prompts(ANY, range(2)) == ["", ""]
    reference = torch.randn(80, 8, generator=torch.Generator().manual_seed(1))
    world._true["portrait photo of a man", 2000] = reference
    assert world.measure("prompt", {"features": reference})["precision"] == 1.0


# what is refused


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"world": "moon"}, "there is no world 'moon'"),
        ({"images": 10}, "images is 10, but must be a whole number from 50"),
        ({"sets": 0}, "sets is 0"),
        ({"intervals": "0.5-0.2"}, "intervals is '0.5-0.2', but must be two shares of the steps"),
        ({"scales": "strong"}, "scales is 'strong', but must be numbers"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], error: str) -> None:
    with pytest.raises((InvalidSetting, UnknownName), match=error):
        Weaknesses(**settings)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"conditions": "prompt"}, "there is no condition 'prompt'"),
        ({"prompt": "a man"}, "prompt is 'a man', but must be left out: the world digits has none"),
        ({"weak": "noised 0.15"}, "there is no weak network 'noised 0.15'"),
        ({"mains": "dull"}, "there is no main 'dull'"),
        ({"mains": "dropped=dropped-layers"}, "one of the kinds snapshot, noised and quantized"),
        ({"training": "nowhere", "weak": "average 0.2"}, "training is 'nowhere', but must be the folder of a training"),
        ({"model": "portraits", "weak": "noised:0.1"}, "has no classifier.safetensors or no reference.safetensors"),
    ],
)
def test_networks_that_cannot_be_are_refused(model: Path, tmp_path: Path, settings: dict[str, Any], error: str) -> None:
    one = replace(asked(model), **settings)
    with pytest.raises((InvalidSetting, UnknownName, UnsupportedModel), match=error):
        one.run(tmp_path)


# the figure


def test_lines_can_be_told_apart_and_the_figure_is_repeatable() -> None:
    """Families share a colour; no two lines share colour, marker and dash."""
    lines = [
        Swept(f"{family} {place}", str(family), ((1.5, 2.0, 1.9, 2.1),)) for family in range(9) for place in range(5)
    ]
    styles = styles_of(lines, LIGHT)
    assert len({(one["color"], one["marker"], str(one["linestyle"])) for one in styles.values()}) == len(lines)
    assert len({styles[f"3 {place}"]["color"] for place in range(5)}) == 1
    far = Swept("far", "f", ((1.5, 90.0, 80.0, 95.0), (2.0, 3.0, 2.5, 3.5)))
    panel = SweptPanel("digits", "Fréchet distance", (*lines[:3], far), (2.0, 1.8, 2.2), clipped=True)
    figure = draw_weaknesses([panel, replace(panel, clipped=False)], 2)
    first, second = figure.axes
    assert first.get_ylim()[1] < 5 < 90 < second.get_ylim()[1]
    assert list(
        next(line for line in first.lines if len(line.get_xdata()) == 2 and line.get_marker() != "None").get_ydata()
    ) == [4.0, 3.0]
    assert png(figure) == png(draw_weaknesses([panel, replace(panel, clipped=False)], 2))


def test_the_figure_has_a_panel_for_each_setting_and_figure() -> None:
    rows = [row(UNGUIDED, 1, [0, 0, 0], 0), row(CFG, 2, [5.0, 5.0, 5.0], 0.6), row("a", 2, [2.0, 2.1, 1.9], 0.9)]
    figure: Any = figure_of(rows, World())
    assert [axes.get_ylabel() for axes in figure.axes] == ["Fréchet distance", "recall"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["classifier-free", "a", "unguided"]
    harmful, helpful = (line for line in figure.axes[0].lines if line.get_marker() != "None")
    assert (harmful.get_alpha(), helpful.get_alpha()) == (0.5, 1.0)
