"""Claims are held against their bounds, and say so when they are not met."""

import gc
import itertools
import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import tiny
from steerclear.benchmark import timing
from steerclear.benchmark.bridge import Bridge
from steerclear.benchmark.claims import Benchmark, Experiment, OnStage, at_least, at_most, experiments
from steerclear.benchmark.memory import Leftovers, leftovers, peak_bytes
from steerclear.benchmark.networks import STABLE_DIFFUSION, Size, network_settings
from steerclear.benchmark.overhead import Overhead
from steerclear.benchmark.shipped import largest_distance_by_chance
from steerclear.benchmark.tracking import moved_ratio
from steerclear.cli.app import main
from steerclear.cli.commands.benchmark import _commands as benchmark_commands
from steerclear.core import shelf
from steerclear.core.errors import InvalidSetting
from steerclear.core.laboratory import Measurement
from steerclear.core.records import State, Trace
from steerclear.models.loading import load_model
from steerclear.testbeds.portraits import indicators, posterior

SMALL = ["--seeds", "0-47", "--steps", "1", "--batch-size", "16"]


def test_a_claim_keeps_its_bound_or_not() -> None:
    measured = Measurement(value=0.9, low=0.8, high=0.95, interval="wilson")
    assert at_least("precision", 0.85, measured).met
    assert not at_least("precision", 0.91, measured).met
    assert at_most("error", 0.06, 0.06).met
    claim = at_most("error", 0.06, 0.0601)
    assert (claim.met, claim.bound, claim.low) == (False, "<= 0.06", None)


@pytest.fixture(scope="module")
def folder(few_references: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    for name in ("shipped", "autoguidance"):
        assert main(["benchmark", name, "--outdir", str(folder), *SMALL]) == 0
    return folder


def test_the_shipped_models_claims_are_all_there(folder: Path) -> None:
    result = Benchmark.model_validate_json((folder / "shipped.json").read_text())
    assert (result.seeds, result.num_inference_steps) == ("0-47", 1)
    assert result.model_digest == load_model("portraits").digest
    claims = [claim.claim for claim in result.claims]
    for words in ("largest distance", "precision", "recall", "a red hat", "a mustache", '"without mustache" adds',
                  "under the negative prompt", "dB", "hair right", "mustache right, on men"):  # fmt: skip
        assert any(words in claim for claim in claims), words


def test_autoguidance_is_held_against_unguided_at_its_best_scale(folder: Path) -> None:
    result = Benchmark.model_validate_json((folder / "autoguidance.json").read_text())
    assert result.weak_digest == load_model("portraits").networks["weak"].source.digest
    shipped = Benchmark.model_validate_json((folder / "shipped.json").read_text())
    plain = {
        claim.claim.rpartition(" ")[2]: claim.value
        for claim in shipped.claims
        if 'photo of a man", scale 1' in claim.claim
    }
    precision, recall, frechet = result.claims
    assert (precision.bound, recall.bound) == (f">= {plain['precision']:g}", f">= {plain['recall']:g}")
    swept = re.findall(r"([\d.]+): (-?[\d.]+)", frechet.claim.partition("swept ")[2])
    assert [scale for scale, _ in swept] == ["1.1", "1.25", "1.5"]
    scale, least = min(swept, key=lambda pair: float(pair[1]))
    assert frechet.claim.startswith(f"autoguidance {scale}: ")
    assert frechet.value == pytest.approx(float(least), abs=0.006)


def test_parts_that_do_not_depend_on_the_sampler_are_met(folder: Path) -> None:
    result = Benchmark.model_validate_json((folder / "shipped.json").read_text())
    parts = [claim for claim in result.claims if "autoencoder" in claim.claim]
    assert len(parts) == 12
    assert [claim.claim for claim in parts if not claim.met] == []


def test_a_second_run_makes_no_image_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    for name in ("shipped", "autoguidance"):
        first = json.loads((folder / f"{name}.json").read_text())
        assert main(["benchmark", name, "--outdir", str(folder), *SMALL, "--format", "json"]) == 0
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")} == before
        assert json.loads(capsys.readouterr().out) == first


def test_overhead_is_a_claim_with_its_bound(tmp_path: Path) -> None:
    result = Overhead(images=1, steps=2, pairs=1).run(tmp_path)
    assert Benchmark.model_validate_json((tmp_path / "overhead.json").read_text()) == result
    (claim,) = result.claims
    assert claim.bound == "<= 1.05"
    assert claim.met == (claim.value <= 1.05)


@dataclass(frozen=True)
class Doubling(Experiment):
    """A stranger's benchmark: twice a number.

    Args:
        number: what is doubled.
        model: a word.
    """

    name = "doubling"

    number: float = 1.5
    model: str = "portraits"

    def measure(self, folder: Path, on_stage: OnStage) -> Benchmark:
        on_stage("doubling")(1, 1)
        claims = [at_most(f"twice {self.number:g}", 4, 2 * self.number)]
        return Benchmark(
            model=self.model, model_digest=None, scheduler="s", num_inference_steps=1, seeds="0", claims=claims
        )


def test_a_benchmark_says_whether_running_again_continues() -> None:
    told = {
        name: next(one.help for one in command.params if one.name == "outdir")
        for name, command in benchmark_commands().items()
    }
    anew = {name for name, text in told.items() if text == "For the results; running again measures everything anew."}
    assert anew == {"real", "bridge", "overhead", "judges"}
    assert {told[name] for name in told.keys() - anew} == {"For images and figures; running again continues."}


def test_one_class_is_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {*experiments()} >= {"autoguidance", "bridge", "overhead", "shipped", "tracking"}
    point = SimpleNamespace(load=lambda: sys.modules[__name__])
    monkeypatch.setattr(shelf, "entry_points", lambda group: [point] if group == "steerclear.benchmark" else [])
    for cached in (shelf.entries, benchmark_commands):
        cached.cache_clear()
    try:
        arguments = ["benchmark", "doubling", "--number", "2.5", "--model", "m", "--outdir", str(tmp_path)]
        assert main([*arguments, "--format", "json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert json.loads((tmp_path / "doubling.json").read_text()) == found
        assert (found["model"], found["claims"][0]["value"], found["claims"][0]["met"]) == ("m", 5.0, False)
        assert main(["benchmark", "doubling", "--help"]) == 0
        assert "What is doubled." in " ".join(capsys.readouterr().out.split())
        assert main([*arguments[:2], "--number", "many"]) == 2
    finally:
        for cached in (shelf.entries, benchmark_commands):
            cached.cache_clear()


@pytest.mark.parametrize("kind", [Overhead, Bridge])
def test_a_benchmark_refuses_what_it_cannot_count(kind: type[Experiment]) -> None:
    with pytest.raises(InvalidSetting, match="pairs is 0, but must be a whole number of at least 1"):
        kind(pairs=0)


TINY = Size(channels=(8, 8, 8, 8), text_width=8, latents=8, heads=1)


def test_the_cost_of_steering_is_held_to_its_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in ("medium", "large"):
        monkeypatch.setattr(Bridge, size, TINY)
    stages: dict[str, list[tuple[int, int]]] = {}
    result = Bridge(pairs=1, memory_runs=1).run(
        tmp_path, lambda stage: lambda done, total: stages.setdefault(stage, []).append((done, total))
    )
    assert Benchmark.model_validate_json((tmp_path / "bridge.json").read_text()) == result
    claims = {claim.claim.partition(":")[0]: claim for claim in result.claims}
    exact = [claim for claim in result.claims if claim.bound == "<= 0"]
    assert [claim.met for claim in exact] == [True] * 4  # nothing left behind, and the very same image
    assert claims["objects that the block made, each watched by a weak reference"].value >= 5
    assert not claims["millions of parameters of the medium network"].met  # far from 20 million
    memory = result.claims[-1]
    assert memory.value == pytest.approx(1, abs=0.1)
    assert memory.low <= memory.value <= memory.high
    assert [counted[-1] for counted in stages.values()] == [(2, 2), (12, 12), (4, 4)]


def test_the_random_network_of_stable_diffusions_size_has_its_number_of_parameters() -> None:
    """859.5 million: the UNet of the released Stable Diffusion 1.5."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        network = UNet2DConditionModel(**network_settings(STABLE_DIFFUSION))
    assert sum(parameter.numel() for parameter in network.parameters()) == 859_520_964


def test_stand_ins_without_memory_are_not_counted() -> None:
    from torch._subclasses import FakeTensorMode

    kept: list[torch.Tensor] = []

    def leaves(look: Callable[[], None]) -> None:
        with FakeTensorMode():
            kept.append(torch.zeros(1000))
        kept.extend((torch.zeros(1000, device="meta"), torch.zeros(10)))
        look()

    assert leftovers(leaves).tensor_bytes == 40


def test_what_is_left_behind_is_counted() -> None:
    kept: list[object] = []

    def leaves(look: Callable[[], None]) -> None:
        state = State()
        kept.extend((state, torch.zeros(10)))
        look()

    left = leftovers(leaves)
    assert (left.made, left.alive, left.tensor_bytes) == (1, 1, 40)
    assert left.objects >= 2
    assert leftovers(lambda look: look()) == Leftovers(made=0, alive=0, tensor_bytes=0, objects=0)


def test_what_only_one_of_several_runs_leaves_behind_is_counted() -> None:
    runs, kept = itertools.count(), []

    def leaves(look: Callable[[], None]) -> None:
        state, tensor = State(), torch.zeros(10)
        look()
        if next(runs) == 2:
            kept.extend((state, tensor))

    left = leftovers(leaves)
    assert (left.made, left.alive, left.tensor_bytes) == (1, 1, 40)


def test_tensors_that_were_there_before_may_grow() -> None:
    weight, kept = torch.nn.Parameter(torch.zeros(10)), []

    def grows(look: Callable[[], None]) -> None:
        weight.data = torch.zeros(len(weight) + 10)

    def looks(look: Callable[[], None]) -> None:
        kept.append(weight.detach())  # the same memory

    assert leftovers(grows).tensor_bytes == 40
    assert leftovers(looks).tensor_bytes == 0


def test_the_collector_is_left_as_it_was() -> None:
    def fails(look: Callable[[], None]) -> None:
        raise ValueError("it fails")

    gc.unfreeze()
    try:
        leftovers(lambda look: None)
        assert gc.get_freeze_count() == 0
        with pytest.raises(ValueError, match="it fails"):
            leftovers(fails)
        assert gc.get_freeze_count() == 0
    finally:
        gc.freeze()
    frozen = gc.get_freeze_count()
    leftovers(lambda look: None)
    assert gc.get_freeze_count() >= frozen


@pytest.mark.parametrize(("kept_a_run", "objects"), [(0, 0), (1, 1), (3, 3)])
@pytest.mark.parametrize("noise", [-1, 1])
def test_objects_that_come_or_go_by_the_way_are_not_counted(kept_a_run: int, objects: int, noise: int) -> None:
    runs = itertools.count()
    kept: list[list[int]] = []
    by_the_way: list[list[int]] = []

    def leaves(look: Callable[[], None]) -> None:
        kept.extend([] for _ in range(kept_a_run))
        run = next(runs)
        if run == 0:
            by_the_way.append([])
        if run == 2:
            by_the_way.append([]) if noise > 0 else by_the_way.pop()

    assert leftovers(leaves).objects == objects


def test_who_looks_twice_sees_what_came_between() -> None:
    """Also where the second has the first one's place in memory."""
    kept: list[Trace] = []

    def leaves(look: Callable[[], None]) -> None:
        gone = Trace()
        look()
        del gone
        kept.append(Trace())
        look()

    left = leftovers(leaves)
    assert (left.made, left.alive) == (2, 1)


def test_what_replaces_something_older_is_seen() -> None:
    """Also where it has its place in memory."""
    kept: list[Trace] = []

    def leaves(look: Callable[[], None]) -> None:
        kept.clear()
        kept.append(Trace())
        look()

    left = leftovers(leaves)
    assert (left.made, left.alive) == (1, 1)


def test_a_peak_is_at_least_what_was_held() -> None:
    before = peak_bytes()
    del_me = torch.ones(2**26, dtype=torch.uint8)
    assert peak_bytes() >= before
    assert peak_bytes() >= del_me.nbytes


def test_runs_alternate_and_their_median_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    times = iter([9, 9, 1, 2, 6, 2, 1, 1])  # the first two are not counted: 2 / 1, then 6 / 2 (other first), then 1 / 1
    monkeypatch.setattr(timing, "seconds", lambda action, device: (action(), next(times))[1])
    ratio = timing.time_ratio(lambda: order.append("plain"), lambda: order.append("other"), 3)
    assert order == ["other", "plain", "plain", "other", "other", "plain", "plain", "other"]
    assert (ratio.value, ratio.low, ratio.high) == (2.0, None, None)


def test_the_interval_of_a_median_holds_it_as_often_as_it_says() -> None:
    """Against simulation: medians of 9 exponential numbers, whose true median is ln 2."""
    draws = torch.distributions.Exponential(1.0).sample((20_000, 9)).sort(dim=1).values
    low, high = timing.median_interval(list(range(9)))
    held = (draws[:, low] <= math.log(2)) & (math.log(2) <= draws[:, high])
    assert float(held.double().mean()) == pytest.approx(1 - 2 * 10 / 2**9, abs=0.006)


def test_too_few_images_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "shipped", "--seeds", "0-7", "--outdir", str(tmp_path)]) == 2
    assert "seeds is '0-7', but must be at least 48; fewer give no Fréchet distance." in " ".join(
        capsys.readouterr().err.split()
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "family", "sentence"),
    [
        (["shipped"], "sd", "has no classifier.safetensors, which recognizes what portraits show"),
        (["overhead"], "dit", "is a DiTPipeline, which takes classes, but this benchmark needs a prompt"),
        (["bridge", "--device", "gpu"], None, "device is 'gpu', but must be one that torch can use here"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_runs(
    kind: list[str], family: str | None, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = []
    if family is not None:
        tiny.family(family).save_pretrained(tmp_path / family)
        model = ["--model", str(tmp_path / family)]
    assert main(["benchmark", *kind, *model, "--outdir", str(tmp_path / "out")]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_the_largest_distance_by_chance_of_one_portrait_is_a_sum_over_all_portraits() -> None:
    prompt = "a woman wearing a red hat"
    attributes, probability = posterior(prompt)
    shown = torch.stack([column.double() for column in indicators(attributes).values()])
    truth = (shown * probability).sum(1, keepdim=True)
    exact = float(((shown - truth).abs().amax(0) * probability).sum())
    assert largest_distance_by_chance(prompt, 1, draws=20_000) == pytest.approx(exact, abs=0.005)
    # many portraits come near the truth as one over the square root of their number
    few, many = (largest_distance_by_chance(prompt, images) for images in (100, 1600))
    assert few / many == pytest.approx(4, rel=0.1)


def test_the_moved_ratio_is_the_ratio_of_two_means() -> None:
    """Two images without the concept moved by 1 and 3 gray levels, two with it by 4 and 4."""
    reference = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
    images = reference + torch.tensor([1, 3, 4, 4], dtype=torch.uint8)[:, None, None, None]
    measured = moved_ratio(images, reference, torch.tensor([False, False, True, True]))
    assert measured.value == 0.5
    assert measured.low is not None
    assert measured.high is not None
    assert 0.25 <= measured.low < 0.5 < measured.high <= 0.75


def test_the_tracking_is_held_against_the_negative_prompt_on_each_scheduler(
    few_references: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["benchmark", "tracking", "--schedulers", "euler_a, dpm++ 2m", "--outdir", str(tmp_path), *SMALL]
    assert main([*arguments, "--format", "json"]) == 0
    result = Benchmark.model_validate_json((tmp_path / "tracking.json").read_text())
    assert json.loads(capsys.readouterr().out) == json.loads(result.model_dump_json())
    assert [claim.claim.partition(":")[0] for claim in result.claims] == ["euler_a"] * 2 + ["dpm++ 2m"] * 2
    rate, distance = result.claims[2:]  # after one step no image shows the concept, so none of them had it to lose
    found = {
        name: float(number) for name, number in re.findall(r"(cfg|negative|dynamic-negative) (-?[\d.]+)", rate.claim)
    }
    assert found["dynamic-negative"] == pytest.approx(rate.value, abs=5e-4)
    assert float(rate.bound.removeprefix("<= ")) == pytest.approx(0.5 * found["cfg"], abs=5e-4)
    assert "Fréchet distance" in distance.claim
    assert "collateral shift, less chance: cfg" in distance.claim
