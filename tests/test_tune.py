"""Tuning: what is varied, what is wanted, where the search looks, what it finds on seeds that it has not seen."""

import itertools
import json
import math
import os
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import steerclear
import tiny
from steerclear.core.errors import GivenTwice, InvalidSetting, SteerclearWarning, UnknownName
from steerclear.core.laboratory import Column, Measurement
from steerclear.guidance.auto import AutoGuidance
from steerclear.guidance.interval import IntervalGuidance
from steerclear.guidance.negative_prompt import NegativePromptGuidance
from steerclear.laboratories.callable import ImportedFunction
from steerclear.models import loading, shipped
from steerclear.models.defaults import Default, defaults_of
from steerclear.models.files import folder_digest
from steerclear.models.given import given_model
from steerclear.networks.shared.averages import PowerAverages, Snapshot
from steerclear.networks.shared.naming import network_text, parse_network
from steerclear.study import tuning
from steerclear.study.goals import WORST, Bounds, Goal, Limit, find_column, parse_limit
from steerclear.study.methods import SCALES
from steerclear.study.results import Results
from steerclear.study.run import run as run_study
from steerclear.study.search import Refused, Tried, search, spread
from steerclear.study.space import Choices, Space, Span, parse_varied
from steerclear.study.study import ModelAsked, comparison
from steerclear.study.tune import _checked_networks
from steerclear.study.tuned import Row, Tuned, best_of, front_of, gained, nearest_of, verdict_of
from steerclear.study.tuning import Workshop
from steerclear.telling.tuning import model_default, told, write_found

pytestmark = pytest.mark.usefixtures("few_references", "loaded_once")

COLUMNS = [
    Column(name="frechet", label="Fréchet distance", meaning="", role="score", better="lower"),
    Column(name="recall", label="recall", meaning="", role="score", better="higher"),
    Column(name="mustache", label="mustache", meaning="", percent=True, role="concept", better="lower"),
]
RunCommand = Callable[..., tuple[int, str, str]]


def numbers(**values: float) -> dict[str, Measurement]:
    return {name: Measurement(value=value) for name, value in values.items()}


def space(method: str, *varied: str, negatives: tuple[str, ...] = (), **sources: str) -> Space:
    return Space.of("a man", negatives, method, parse_varied(varied), sources, SCALES)


# what is varied


def test_a_range_is_read_and_walked() -> None:
    (scale,) = parse_varied(["auto_scale=1.0:3.0"])
    assert scale == Span("auto_scale", 1.0, 3.0)
    assert [scale.at(share) for share in (0, 0.25, 1)] == ["1", "1.5", "3"]
    (noise,) = parse_varied(["noise=0.01:1:log"])
    assert [noise.at(share) for share in (0, 0.5, 1)] == ["0.01", "0.1", "1"]
    (tries,) = parse_varied(["tries=2:7"])
    assert tries == Span("tries", 2, 7, whole=True)
    assert [tries.at(share) for share in (0, 0.49, 1)] == ["2", "4", "7"]


def test_choices_may_have_commas_and_settings() -> None:
    weak, levels = parse_varied(["weak=snapshot(step=4, width=0.1)|noised:0.2, levels=1,2|3,4"])
    assert weak == Choices("weak", ("snapshot(step=4, width=0.1)", "noised:0.2"))
    assert [levels.at(share) for share in (0, 0.49, 0.5, 1)] == ["1,2", "1,2", "3,4", "3,4"]


def test_an_interval_is_put_around_the_guidance() -> None:
    asked = space("autoguidance:inner=negative", "auto_scale=1:3, start=0:0.6", negatives=("hat",))
    found = asked.method_of({"auto_scale": "1.7", "start": "0.25"})
    inner = NegativePromptGuidance()
    assert found.guidance == IntervalGuidance(AutoGuidance(1.7, inner), start=0.25)
    assert asked.named(asked.text({"auto_scale": "1.7", "start": "0.25"})) == found
    own = space("interval:inner=cfg", "start=0:0.6")
    assert own.text({"start": "0.5"}) == "interval:inner=cfg, start=0.5"
    assert not own.in_interval


def test_defaults_are_tried_first_where_they_are_within_the_ranges() -> None:
    assert space("autoguidance", "auto_scale=1:3, start=0:0.6").defaults() == {"auto_scale": "2", "start": "0"}
    assert space("autoguidance", "auto_scale=2.5:3").defaults() is None
    assert space("cfg:5", "guidance_rescale=0:1").defaults() == {"guidance_rescale": "0"}


def test_networks_are_filled_or_chosen() -> None:
    asked = space(
        "autoguidance", "auto_scale=1:3, step=1:4, width=0.05:0.2", weak="snapshot:folder=d,step={step},width={width}"
    )
    values = {"auto_scale": "2.5", "step": "3", "width": "0.1"}
    assert asked.networks_of(values) == {"weak": "snapshot:folder=d,step=3,width=0.1"}
    assert asked.text(values) == "autoguidance:auto_scale=2.5"
    chosen = space("autoguidance", "weak=noised:0.1|dropout:0.2")
    assert chosen.networks_of({"weak": "dropout:0.2"}) == {"weak": "dropout:0.2"}


def test_whole_numbers_are_of_settings_that_take_no_others() -> None:
    (tries,) = space("redraw", "tries=2:8", negatives=("hat",)).varied
    (scale,) = space("cfg", "guidance_scale=1:3").varied
    assert isinstance(tries, Span)
    assert isinstance(scale, Span)
    assert (tries.whole, scale.whole) == (True, False)
    assert scale.at(0.1) == "1.2"


# what is wanted


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("recall >= unguided", Limit("recall", False, 1.0, "unguided")), ("frechet<0.9*default", Limit("frechet", True, 0.9, "default")),
        ("collateral shift <= 0.02", Limit("collateral shift", True, 0.02)), ("mustache <= 2 %", Limit("mustache", True, 0.02)),
        ("recall > -1e-3", Limit("recall", False, -1e-3)),
    ],
)  # fmt: skip
def test_limits_are_read(text: str, expected: Limit) -> None:
    assert parse_limit(text) == expected
    assert parse_limit(expected.written) == expected


def test_measurements_have_a_name_and_a_label() -> None:
    for name in ("frechet", "Frechet", "fréchet_distance", " Fréchet distance "):
        assert find_column(name, COLUMNS).name == "frechet"
    with pytest.raises(UnknownName, match=r"did you mean 'recall'"):
        find_column("recal", COLUMNS)


def test_violations_are_shares_of_the_bound() -> None:
    goal = Goal.of(
        "minimise", "frechet", [parse_limit("recall >= 0.5 * unguided"), parse_limit("mustache <= 2 %")], COLUMNS
    )
    bounds = goal.against(numbers(recall=0.8), None)
    assert bounds.numbers == (0.4, 0.02)
    assert bounds.violations(numbers(recall=0.3, mustache=0.01)) == pytest.approx((0.25, -0.5))
    assert bounds.violations(numbers(recall=0.4)) == (0.0, WORST)
    with pytest.raises(InvalidSetting, match="unguided has none of recall"):
        goal.against(numbers(frechet=1.0), None)


def test_a_limit_is_broken_by_more_than_the_interval() -> None:
    bounds = Bounds(
        Goal("minimise", "frechet", (Limit("mustache", True, 0.02), Limit("recall", False, 0.5))), (0.02, 0.5)
    )
    within = {
        "mustache": Measurement(value=0.03, low=0.01, high=0.05),
        "recall": Measurement(value=0.4, low=0.3, high=0.5),
    }
    assert bounds.broken(within) == ()
    beyond = {"mustache": Measurement(value=0.03, low=0.021, high=0.05), "recall": Measurement(value=0.49)}
    assert [one.name for one in bounds.broken(beyond)] == ["mustache", "recall"]
    assert [one.name for one in bounds.broken({})] == ["mustache", "recall"]


# where the search looks


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_the_first_points_are_spread(dimensions: int) -> None:
    """The share of points in a box is near its volume: the star discrepancy of 64 points, well below that of chance."""
    varied = [Span(f"x{place}", 0.0, 1.0) for place in range(dimensions)]
    points = [[float(one[span.key]) for span in varied] for one in spread(varied, 64)]
    generator = random.Random(0)

    def discrepancy(points: list[list[float]]) -> float:
        corners = itertools.product([k / 8 for k in range(1, 9)], repeat=dimensions)
        return max(
            abs(
                sum(all(x < end for x, end in zip(point, corner, strict=True)) for point in points) / 64
                - math.prod(corner)
            )
            for corner in corners
        )

    by_chance = [discrepancy([[generator.random() for _ in varied] for _ in range(64)]) for _ in range(20)]
    assert discrepancy(points) < 0.6 * sorted(by_chance)[10]


def valley(values: Mapping[str, str]) -> dict[str, Measurement]:
    """Least at (1.7, 0.3) without a limit; with recall at least 0.95 at (1.5, 0.3)."""
    scale, start = float(values["scale"]), float(values["start"])
    return numbers(frechet=(scale - 1.7) ** 2 + (start - 0.3) ** 2, recall=1.1 - 0.1 * scale)


VALLEY = parse_varied(["scale=1.0:4.0, start=0:0.9"])
FREE = Bounds(Goal("minimise", "frechet"), ())
LIMITED = Bounds(Goal("minimise", "frechet", (Limit("recall", False, 0.95),)), (0.95,))


@pytest.mark.parametrize(("bounds", "least"), [(FREE, 0.0), (LIMITED, 0.04)])
def test_the_search_comes_near_the_best_point(bounds: Bounds, least: float) -> None:
    tried = search(VALLEY, bounds, valley, 16)
    best = min(value for one in tried if one.keeps(bounds) and (value := one.value(bounds)) is not None)
    assert best == pytest.approx(least, abs=1e-3)
    assert len({tuple(sorted(one.values.items())) for one in tried}) == 16


def test_what_is_to_be_greatest_is_found_too() -> None:
    bounds = Bounds(Goal("maximise", "recall", (Limit("frechet", True, 0.5),)), (0.5,))
    best = max(one.measurements["recall"].value for one in search(VALLEY, bounds, valley, 14) if one.keeps(bounds))
    assert 0.96 < best <= 1.1 - 0.1 * (1.7 - math.sqrt(0.5))


def test_a_search_that_was_stopped_goes_on_as_it_would_have() -> None:
    whole = search(VALLEY, LIMITED, valley, 12, seed=3)
    kept = search(VALLEY, LIMITED, valley, 10, seed=3)
    assert search(VALLEY, LIMITED, valley, 12, seed=3, kept=kept) == whole
    assert kept == whole[:10]


def test_nothing_is_measured_twice_and_a_small_space_ends() -> None:
    asked: list[Mapping[str, str]] = []

    def measure(values: Mapping[str, str]) -> dict[str, Measurement]:
        asked.append(values)
        return numbers(frechet=float(values["a"]) + len(values["b"]))

    tried = search(parse_varied(["a=1:3, b=x|yy"]), FREE, measure, 12)
    assert len(tried) == len(asked) == 6
    assert min(tried, key=lambda one: one.measurements["frechet"].value).values == {"a": "1", "b": "x"}


def test_what_cannot_be_measured_is_passed_over() -> None:
    def measure(values: Mapping[str, str]) -> dict[str, Measurement]:
        if float(values["scale"]) > 2.5:
            raise Refused("too strong")
        return valley(values)

    tried = search(VALLEY, FREE, measure, 18)
    assert {one.refused for one in tried} == {None, "too strong"}
    assert min(one.value(FREE) or math.inf for one in tried if one.refused is None) < 0.02
    assert sum(one.refused is not None for one in tried[8:]) < 4  # half of the box is refused


# what is chosen


def row(frechet: float, recall: float, beyond: float, role: Any = "trial") -> Row:
    return Row(role=role, method="cfg", measurements=numbers(frechet=frechet, recall=recall), violations=[beyond])


def test_the_best_the_nearest_and_the_front() -> None:
    goal = LIMITED.goal
    rows = [row(2.0, 0.96, -0.1), row(1.0, 0.9, 0.2), row(1.5, 0.97, -0.2), row(3.0, 0.99, -0.3), row(3.5, 0.98, -0.3)]
    assert best_of(rows, goal) == 2
    assert best_of(rows, Goal("maximise", "frechet", goal.limits)) == 4
    assert front_of(rows, goal) == [3, 2, 1]  # from the greatest recall
    assert (best_of(rows[1:2], goal), nearest_of([row(9.0, 0.2, 0.8), *rows[1:2]], goal)) == (None, 1)
    assert nearest_of([Row(role="trial", method="cfg", refused="no")], goal) is None


def test_a_gain_has_the_interval_of_a_difference() -> None:
    one, other = Measurement(value=1.0, low=0.9, high=1.2), Measurement(value=1.5, low=1.1, high=1.6)
    assert gained(FREE.goal, one, other) == pytest.approx((0.5, 0.5 - math.hypot(0.2, 0.4), 0.5 + math.hypot(0.1, 0.1)))
    assert gained(Goal("maximise", "frechet"), one, other) == pytest.approx(
        (-0.5, -0.5 - math.hypot(0.1, 0.1), -0.5 + math.hypot(0.2, 0.4))
    )
    assert gained(FREE.goal, one, None) == (None, None, None)


@pytest.mark.parametrize(
    ("within", "found", "unguided", "gain", "expected"),
    [
        (True, 0.99, 0.99, (0.5, 0.1, 0.9), "use"), (True, 0.99, 0.99, (0.5, -0.1, 1.1), "leave off"),
        (True, 0.99, 0.99, (-0.5, -0.9, -0.1), "leave off"), (False, 0.99, 0.99, (0.5, 0.1, 0.9), "none"),
        (True, 0.90, 0.99, (0.5, 0.1, 0.9), "none"), (True, 0.99, 0.90, (-0.5, -0.9, -0.1), "use"),
    ],
)  # fmt: skip
def test_the_verdict(within: bool, found: float, unguided: float, gain: tuple[float, ...], expected: str) -> None:
    rows = {"found": row(1.0, found, 0.0, "found"), "unguided": row(1.5, unguided, 0.0, "unguided")}
    assert verdict_of(LIMITED.goal, within, rows, LIMITED, gain) == expected


# a tuning


STEPS = 8


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny.stable_diffusion()


def calls(folder: Path | None, pipe: Any, **settings: Any) -> Any:
    """Tune the interval of classifier-free guidance, which costs a further evaluation at each of its steps."""
    asked: dict[str, Any] = {
        "guidance": "cfg:3", "vary": "start=0:0.875", "minimise": "network calls", "subject_to": "evaluations >= 11",
        "trials": 12, "seeds": "100-101", "final_seeds": "0-1", "num_inference_steps": STEPS, "judge": "none", "folder": folder,
    }  # fmt: skip
    return steerclear.tune(pipe, "a man", **(asked | settings))


def test_the_cheapest_interval_that_is_allowed_is_found(pipe: Any, tmp_path: Path) -> None:
    """cfg from start on takes 8 + (8 - int(8 start)) evaluations in 8 steps, so 11 is reached and nothing between."""
    found = calls(tmp_path / "t", pipe)
    for one in found.tuned.trials:
        assert one.value("evaluations") == 2 * STEPS - int(STEPS * float(one.values["start"]))
    assert found.tuned.within
    assert found.tuned.best.value("evaluations") == 11
    assert found.tuned.at_the_end("found").value("evaluations") == 11
    assert found.tuned.at_the_end("default").value("evaluations") == 2 * STEPS
    assert found.tuned.verdict == "use"  # unguided has 8 and does not keep the limit
    assert found.guidance.startswith("interval:inner=cfg(guidance_scale=3), start=0.6")
    written = Tuned.model_validate_json((tmp_path / "t" / "tune.json").read_text())
    assert written == found.tuned
    assert f"Take {found.guidance}" in repr(found)


def test_a_tuning_goes_on_where_it_was_and_makes_no_image_twice(pipe: Any, tmp_path: Path) -> None:
    calls(tmp_path / "parts", pipe, trials=3)
    images = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").rglob("*.png")}
    parts = calls(tmp_path / "parts", pipe, trials=6).tuned
    whole = calls(tmp_path / "whole", pipe, trials=6).tuned
    assert [one.values for one in parts.trials] == [one.values for one in whole.trials]
    assert parts.trials == whole.trials
    assert images.items() <= {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").rglob("*.png")}.items()
    assert calls(tmp_path / "parts", pipe, trials=4).tuned.trials == whole.trials[:4]


def test_another_question_in_the_folder_is_refused(pipe: Any, tmp_path: Path) -> None:
    calls(tmp_path, pipe, trials=1)
    with pytest.raises(steerclear.SteerclearError, match=r"vary: 'start=0:0\.875' there, 'start=0:0\.5' now"):
        calls(tmp_path, pipe, trials=1, vary="start=0:0.5")


def test_nothing_that_keeps_the_limits_is_said_with_the_nearest(pipe: Any) -> None:
    found = calls(None, pipe, trials=3, subject_to="evaluations <= 4")
    assert (found.tuned.verdict, found.tuned.within, found.guidance) == ("none", False, None)
    nearest = min(found.tuned.trials, key=lambda one: one.value("evaluations"))
    assert found.tuned.best == nearest
    assert told(found.tuned)[0].startswith(
        f"Nothing that was tried keeps evaluations <= 4. The nearest is {nearest.method}: "
    )
    assert model_default(found.tuned) is None


def test_what_is_no_better_than_no_guidance_is_left_off(pipe: Any) -> None:
    found = calls(None, pipe, trials=2, subject_to=())
    assert (found.tuned.verdict, found.guidance) == ("leave off", None)
    assert found.tuned.gain == STEPS - found.tuned.at_the_end("found").value("evaluations")
    assert told(found.tuned)[0].startswith("Leave cfg:3 off: with the best settings that were found, interval:")
    default = model_default(found.tuned)
    assert default is not None
    assert default.guidance is None
    assert "has a better network calls than no guidance" in default.why


def test_a_judge_and_networks_of_ones_own(tmp_path: Path) -> None:
    """The weak network is chosen: each trial is the comparison of its method with its network, number for number."""
    pipe, judge = tiny.stable_diffusion(), ImportedFunction("red_pixels:colours")
    found = steerclear.tune(
        pipe, "a man", guidance="autoguidance", vary=["auto_scale=1.5:3", "weak=noised:0.5|noised:2.0"], maximise="red",
        subject_to="moved >= 0", trials=3, seeds=range(50, 58), final_seeds=range(8), num_inference_steps=2, judge=judge,
        folder=tmp_path, reference_images=8, truth="redrawn",
    )  # fmt: skip
    assert found.tuned.default is None
    assert "the model lacks a network" in told(found.tuned)[-1]
    assert {one.networks["weak"] for one in found.tuned.trials} == {"noised:0.5", "noised:2.0"}
    best = found.tuned.best
    assert best is not None
    again = steerclear.compare(
        pipe, "a man", methods=["unguided", best.method], weak=best.networks["weak"], seeds=range(8), num_inference_steps=2,
        judge=judge, reference_images=8, truth="redrawn",
    )  # fmt: skip
    end = found.tuned.at_the_end("found")
    assert end is not None
    assert end.measurements["red"] == again.results.methods[1].measurements["red"]
    assert end.measurements["moved"] == again.results.methods[1].measurements["moved"]
    drawn = [path.relative_to(tmp_path).parts[1] for path in tmp_path.glob("search/*/reference")]
    assert len(drawn) == 1 + len({one.networks["weak"] for one in found.tuned.trials})


def test_trials_of_a_network_that_was_trained_again_are_not_taken_for_its_own(tmp_path: Path) -> None:
    pipe = tiny.stable_diffusion()
    place = tmp_path / "snapshots"

    def snapshot(factor: float) -> None:
        names = [name for name, _ in pipe.unet.named_parameters()]
        averages = PowerAverages([factor * value.detach() for value in pipe.unet.parameters()])
        Snapshot.write(place / "0000001.safetensors", 1, names, averages)

    def go() -> None:
        steerclear.tune(
            pipe, "a man", guidance="autoguidance", vary=["auto_scale=1.5:3", f"weak=snapshot:{place}|noised:2.0"],
            minimise="evaluations", trials=1, seeds=[50, 51], final_seeds=[0, 1], num_inference_steps=1, judge="none",
            folder=tmp_path / "t",
        )  # fmt: skip

    snapshot(0.9)
    go()
    go()
    shutil.rmtree(tmp_path / "t" / "final")  # as where it was stopped before
    snapshot(0.5)
    with pytest.raises(steerclear.SteerclearError, match=r"networks\.weak=snapshot:"):
        go()


def test_a_network_that_cannot_be_is_said_before_any_image(pipe: Any, tmp_path: Path) -> None:
    """A name that leaves the folder, and a source that only its far end shows to be wrong."""
    for networks, said in (({"../x": "noised:{a}"}, r"is '\.\./x'"), ({"weak": "dropout:{a}"}, r"is 1\.5")):
        with pytest.raises(InvalidSetting, match=said):
            calls(tmp_path / "t", pipe, networks=networks, vary="start=0:0.5, a=0.1:1.5")
        assert not [*tmp_path.rglob("*.png")]


def test_the_home_folder_is_found_for_networks_that_are_varied(
    pipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    pipe.unet.save_pretrained(tmp_path / "unet")
    digests = _checked_networks(space("autoguidance", "weak=~/unet|noised:0.1"), given_model(pipe))
    assert [*digests] == ["networks.weak=~/unet"]


def test_a_copy_of_the_truth_that_was_stopped_leaves_none(
    pipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a copy would be taken for the whole."""
    drawn = tmp_path / "search" / "own-networks" / "reference"
    drawn.mkdir(parents=True)
    (drawn / "a.png").write_bytes(b"a")
    shop = Workshop(None, None, tmp_path, {}, False)  # type: ignore[arg-type]
    monkeypatch.setattr(tuning, "claim_folder", lambda folder, *rest: folder.mkdir(parents=True))
    monkeypatch.setattr(tuning, "identity", lambda *rest: {})

    def stopped(source: Path, to: Path) -> None:
        to.mkdir()
        (to / "a.png").write_bytes(b"")
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "copytree", stopped)
    with pytest.raises(KeyboardInterrupt):
        shop._share_reference(tmp_path / "search" / "weak-1", None, None)  # type: ignore[arg-type]
    assert [*(tmp_path / "search" / "weak-1").iterdir()] == []


def test_a_default_of_fewer_trials_goes_with_what_it_was_found_by(pipe: Any, tmp_path: Path) -> None:
    found = calls(tmp_path / "t", pipe, trials=1, subject_to=()).tuned
    write_found(found, tmp_path)
    assert defaults_of(str(tmp_path)).keys() == {"cfg"}
    write_found(found.model_copy(update={"verdict": "none"}), tmp_path)
    assert defaults_of(str(tmp_path)) == {}


def test_a_pipeline_keeps_its_own_networks(pipe: Any) -> None:
    loaded = steerclear.load_model("portraits")
    other = loading.with_networks(loaded, {"weak": "noised:0.2"})
    assert loaded.networks["weak"].source.digest is not None
    assert other.networks["weak"].source.source == network_text(parse_network("noised:0.2"))
    assert (other.pipe is loaded.pipe, loading.with_networks(loaded, {}) is loaded) == (True, True)


def test_the_figure_has_a_panel_for_each_question(pipe: Any) -> None:
    found = calls(None, pipe, trials=4)
    front, over, held_out = found.figure().axes
    stars = [line for line in over.lines if line.get_marker() == "*"]
    assert stars[0].get_xdata()[0] == float(found.tuned.best.values["start"])
    assert sum(line.get_marker() == "o" for line in over.lines) == 4
    assert (front.get_xlabel(), over.get_xlabel(), held_out.get_xlabel()) == ("network calls", "start", "seeds 0-1")
    assert [label.get_text() for label in held_out.get_xticklabels()] == ["unguided", "default", "found"]


def test_a_direction_that_is_worse_is_warned_of(pipe: Any) -> None:
    with pytest.warns(
        SteerclearWarning, match="evaluations is better where it is lower, and is to be maximised as asked"
    ):
        calls(None, pipe, trials=1, minimise=None, maximise="evaluations", subject_to=())


# a model's own default


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., str]:
    """A folder with the shipped portraits, and defaults of its own."""

    def make(**defaults: Default) -> str:
        folder = tmp_path / "own"
        shutil.copytree(shipped()["portraits"], folder, copy_function=os.link)
        entries = {name: one.entry() for name, one in defaults.items()}
        (folder / "steerclear.json").write_text(json.dumps({"defaults": entries}))
        return str(folder)

    return make


def compared(model: str, methods: tuple[str, ...] | None = None, **scales: float) -> Results:
    study = comparison("a man", (), (0,), 1, methods=methods, model=ModelAsked(model), judge="none", **scales)
    return run_study(study, Path(model).parent / study.digest())


def test_compare_says_why_a_model_leaves_autoguidance_off(own: Callable[..., str]) -> None:
    model = own(autoguidance=Default(None, "no scale has a better Fréchet distance than no guidance"))
    found = compared(model)
    assert [one.name for one in found.methods] == ["unguided", "cfg"]
    said = "Autoguidance is left out: no scale has a better Fréchet distance than no guidance. To see it, take methods='autoguidance'."
    assert said in found.notes
    assert [one.name for one in compared(model, auto_scale=1.5).methods] == ["unguided", "cfg", "autoguidance"]


def test_who_names_a_method_gets_it(own: Callable[..., str]) -> None:
    model = own(autoguidance=Default(None, "no scale is better"))
    assert [one.guidance["auto_scale"] for one in compared(model, ("autoguidance",)).methods] == [2.0]


def test_a_models_own_default_is_what_compare_runs(own: Callable[..., str]) -> None:
    text = "interval:inner=autoguidance(auto_scale=1.25), start=0.5"
    model = own(autoguidance=Default(text, "it is the best of 30."))
    study = comparison("a man", (), (0,), model=ModelAsked(model))
    assert study.methods[2].guidance == IntervalGuidance(AutoGuidance(1.25), start=0.5)
    assert comparison("a man", (), (0,), auto_scale=1.5, model=ModelAsked(model)).methods[2].guidance == AutoGuidance(
        1.5
    )
    assert f"Autoguidance runs as {text}, this model's default: it is the best of 30." in compared(model).notes


def test_defaults_are_in_no_digest_of_the_model(own: Callable[..., str]) -> None:
    model = Path(own(autoguidance=Default(None, "no")))
    assert folder_digest(model) == folder_digest(shipped()["portraits"])
    assert defaults_of(str(model)) == {"autoguidance": Default(None, "no")}
    assert defaults_of("somebody/elsewhere") == {}


@pytest.mark.parametrize("content", ["", "[]", '{"defaults": {"autoguidance": null}}', '{"defaults": {"autoguidance": {"guidance": 3}}}', '{"defaults": 3}',
    '{"defaults": {"autoguidance": {"guidance": "nonsense", "why": "x"}}}', '{"defaults": {"autoguidance": {"guidance": "autoguidance:auto_scale=much", "why": "x"}}}',
    '{"defaults": {"autoguidance": {"guidance": "interval:inner=interval(inner=interval(", "why": "x"}}}', 100000 * "["])  # fmt: skip
def test_damaged_defaults_are_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "steerclear.json").write_text(content)
    with pytest.raises(InvalidSetting, match=r"steerclear\.json"):
        defaults_of(str(tmp_path))


# what is typed wrongly


GOOD = {
    "prompt": "portrait photo of a man", "--guidance": "autoguidance", "--vary": "auto_scale=1:3", "--minimise": "kernel distance",
    "--subject-to": "recall >= unguided", "--seeds": "100-115", "--final-seeds": "0-15", "--steps": "1",
}  # fmt: skip
CASES: list[tuple[dict[str, str | None], str]] = [
    ({"prompt": None}, "there is no prompt"),
    ({"prompt": ""}, "the prompt is empty"),
    (
        {"--guidance": None},
        "guidance is none, but must be the name of what is to be tuned; give --guidance, such as autoguidance.",
    ),
    ({"--guidance": "autoguidence"}, "did you mean 'autoguidance'"),
    ({"--guidance": "autoguidance(", "--vary": "auto_scale=1:2"}, "close the parenthesis"),
    ({"--vary": None}, "vary is '', but must be key=low:high"),
    ({"--vary": "auto_scale"}, "vary is 'auto_scale', but must be key=low:high"),
    ({"--vary": "auto_scal=1:3"}, "there is no setting to vary 'auto_scal'; did you mean 'auto_scale'?"),
    ({"--vary": "auto_scale=1"}, "the range of auto_scale is '1', but must be two numbers"),
    (
        {"--vary": "auto_scale=3:1"},
        "the range of auto_scale is '3:1', but must be two finite numbers, the lower one first",
    ),
    ({"--vary": "auto_scale=1:inf"}, "the range of auto_scale is '1:inf'"),
    ({"--vary": "auto_scale=0:3:log"}, "must be above 0 where equal ratios"),
    ({"--vary": "auto_scale=1:3:lin"}, "must be two numbers, or choices"),
    ({"--vary": "auto_scale=1|1"}, "the choice '1' of auto_scale is given twice"),
    ({"--vary": "auto_scale=1||2"}, "with | between them, none empty"),
    ({"--vary": "auto_scale=1|fast"}, "auto_scale is 'fast'"),
    ({"--vary": "auto_scale=1:2, auto_scale=2:3"}, "the varied auto_scale is given twice, as 1:2 and as 2:3"),
    ({"--vary": "inner=1:2"}, "it is no number"),
    ({"--vary": "stop=0:1"}, "start is 0.0, but must be below stop (0)"),
    ({"--vary": "weak=0:1"}, "must be choices of sources, with | between them"),
    ({"--vary": "weak=noised:0.1|no/such/folder/at/all"}, "is not a folder, a hub id or a kind"),
    ({"--vary": "weak=noised:0.1|noised:0.2", "--weak": "noised:0.3"}, "the weak network is given twice"),
    ({"--network": "weak=noised:{noise}"}, "network is '{noise}', but must be a name that --vary has"),
    ({"--set": "auto_scale=2"}, "auto_scale is given twice"),
    (
        {"--guidance": "without", "--negative-prompt": "hat", "--vary": "start=0:0.5"},
        "one with the prompt itself inside an interval",
    ),
    ({"--minimise": None}, "the objective is 'missing', but must be given by --minimise or --maximise"),
    ({"--maximise": "recall"}, "the objective is 'given twice'"),
    ({"--minimise": ""}, "the objective is ''"),
    ({"--minimise": "frechett"}, "there is no measurement 'frechett'; did you mean 'frechet'?"),
    ({"--minimise": "frechet"}, "the number of --seeds is 16, but must be at least 48"),
    ({"--minimise": "frechet", "--seeds": "100-163"}, "the number of --final-seeds is 16, but must be at least 48"),
    ({"--subject-to": "recall"}, "subject to is 'recall', but must be 'NAME <= NUMBER'"),
    ({"--subject-to": "recall == 0.5"}, "subject to is 'recall == 0.5'"),
    ({"--subject-to": "recall >= many"}, "subject to is 'recall >= many'"),
    ({"--subject-to": "recall >= nan"}, "subject to is 'recall >= nan'"),
    ({"--subject-to": "recal >= 0.5"}, "there is no measurement 'recal'; did you mean 'recall'?"),
    ({"--subject-to": "recall >= 0.5, recall >= 0.5"}, "the limit 'recall >= 0.5' is given twice"),
    ({"--seeds": "0-20"}, "0-15 would be in both"),
    ({"--seeds": "many"}, "seeds"),
    ({"--final-seeds": ""}, "seeds"),
    ({"--images": "17"}, "--images is 17, but must be at most the number of seeds, 16"),
    ({"--images": "0"}, "--images"),
    ({"--trials": "0"}, "--trials"),
    ({"--judge": "nobody"}, "there is no laboratory 'nobody'"),
    ({"--judge": "none"}, "there is no measurement 'kernel distance'"),
    ({"--model": "digit"}, "digit"),
]


@pytest.mark.parametrize(("changed", "sentence"), CASES, ids=[" ".join(f"{key} {value}" for key, value in changed.items()) for changed, _ in CASES])  # fmt: skip
def test_what_is_typed_wrongly_ends_in_a_sentence(
    changed: dict[str, str | None], sentence: str, run: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {**GOOD, **changed}
    prompt = [given.pop("prompt")] if given["prompt"] is not None else []
    given.pop("prompt", None)
    words = [word for name, value in given.items() if value is not None for word in (name, value)]
    code, out, said = run("tune", *prompt, *words)
    assert (code, out) == (2, "")
    assert sentence in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_said_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch, pipe: Any, tmp_path: Path
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        steerclear.SteerclearError, match=r"steerclear tune needs the package optuna, .*: pip install optuna"
    ):
        calls(tmp_path / "t", pipe)
    assert not (tmp_path / "t").exists()


def test_damaged_trials_are_said(pipe: Any, tmp_path: Path) -> None:
    calls(tmp_path, pipe, trials=1)
    (tmp_path / "trials.json").write_text("{")
    with pytest.raises(InvalidSetting, match="remove it; the images are kept, and are measured again"):
        calls(tmp_path, pipe, trials=1)


def test_two_limits_that_say_the_same_are_refused() -> None:
    with pytest.raises(GivenTwice):
        Goal.of("minimise", "frechet", [parse_limit("recall >= 1"), parse_limit("Recall >= 1.0")], COLUMNS)


def test_trials_are_what_was_tried() -> None:
    one = Tried({"a": "1"}, numbers(frechet=2.0))
    assert (one.value(FREE), one.keeps(FREE), Tried({"a": "1"}, refused="no").keeps(FREE)) == (2.0, True, False)
