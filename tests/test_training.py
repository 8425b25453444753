"""Training can be stopped and resumed, is repeatable from its seed, and ends in a folder that diffusers loads."""

import errno
import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import safetensors.torch
import torch
from diffusers import DPMSolverMultistepScheduler
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from steerclear.cli.app import _os_sentence, main
from steerclear.core.errors import FolderConflict, InvalidSetting, TrainingDiverged, UnknownName, UnsupportedModel
from steerclear.core.saving import save_whole
from steerclear.core.sums import check_sums
from steerclear.models.loading import load_model
from steerclear.training import command, data, loop, pack
from steerclear.training.autoencoder import peak_signal_to_noise
from steerclear.training.diffusion import DECISIVE, LARGEST_BETA, build_scheduler, training_timesteps
from steerclear.training.digits import COURSES
from steerclear.training.loop import Progress, Report, Schedule, fast_arithmetic, train
from steerclear.training.presets import PRESETS, Preset
from steerclear.training.references import expected_latents

SCHEDULE = Schedule(steps=12, batch_size=4, learning_rate=0.05, warmup_steps=3, decay=0.5, ema_decay=0.9)


def line() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(2, 1)


def loss_of(model: nn.Module):
    def loss(step: int, generator: torch.Generator) -> Tensor:
        x = torch.randn(SCHEDULE.batch_size, 2, generator=generator)
        return ((model(x) - x.sum(1, keepdim=True)) ** 2).mean()

    return loss


def weights(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def fit(folder: Path, *, seed: int = 0, report: Report = lambda progress: None) -> list[Tensor]:
    model = line()
    train("line", model, loss_of(model), SCHEDULE, folder, seed=seed, report=report)
    return weights(model)


def stopping_after(step: int) -> Report:
    def report(progress: Progress) -> None:
        if progress.step == step:
            raise KeyboardInterrupt

    return report


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole")
    for step in (2, 5):
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "parts", report=stopping_after(step))
    assert same(fit(tmp_path / "parts"), whole)
    assert same(fit(tmp_path / "again"), whole)
    assert not same(fit(tmp_path / "other", seed=1), whole)


def test_ctrl_c_keeps_every_step(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "parts", report=stopping_after(7))
    steps: list[int] = []
    resumed = fit(tmp_path / "parts", report=lambda progress: steps.append(progress.step))
    assert steps == [8, 9, 10, 11, 12]
    assert same(resumed, fit(tmp_path / "whole"))


def test_ctrl_c_before_the_first_step_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    model = line()

    def interrupted(step: int, generator: torch.Generator) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("line", model, interrupted, SCHEDULE, tmp_path / "parts", seed=0, report=lambda progress: None)
    assert same(fit(tmp_path / "parts"), fit(tmp_path / "whole"))


def test_a_gradient_that_is_not_finite_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    model = line()

    def loss(step: int, generator: torch.Generator) -> Tensor:
        square = loss_of(model)(step, generator)
        return square + (0 * square).sqrt() if step == 3 else square  # finite, and its gradient is infinity times 0

    with pytest.raises(TrainingDiverged, match=r"gradient .* became .* at step 3"):
        train("line", model, loss, SCHEDULE, tmp_path, seed=0, report=lambda progress: None)
    assert all(bool(weight.isfinite().all()) for weight in weights(model))


def test_a_loss_that_is_not_finite_stops_and_says_where(tmp_path: Path) -> None:
    model = line()

    def loss(step: int, generator: torch.Generator) -> Tensor:
        return loss_of(model)(step, generator) * (float("nan") if step == 3 else 1.0)

    with pytest.raises(TrainingDiverged, match="the loss of stage 'line' became nan at step 3"):
        train("line", model, loss, SCHEDULE, tmp_path, seed=0, report=lambda progress: None)


@pytest.mark.parametrize(("there", "used"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_cpu_without_instructions_for_bfloat16_learns_in_float32(
    monkeypatch: pytest.MonkeyPatch, there: bool, used: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": there, "amx_bf16": False})
    with fast_arithmetic("cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == used


def test_a_torch_that_cannot_tell_learns_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not loop.computes_in_bfloat16("cpu")
    with fast_arithmetic("cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_the_rate_rises_stays_and_falls() -> None:
    schedule = Schedule(steps=100, batch_size=1, learning_rate=1.0, warmup_steps=10, decay=0.4)
    assert [schedule.rate(step) for step in (0, 4, 9, 59)] == [0.1, 0.5, 1.0, 1.0]
    assert [round(schedule.rate(step), 12) for step in (60, 80, 99)] == [1.0, 0.5, 0.025]


def test_signal_to_noise_of_a_known_error() -> None:
    images = torch.full((1, 3, 4, 4), 100, dtype=torch.uint8)
    assert float(peak_signal_to_noise(images, images + 10)) == pytest.approx(28.1308036, abs=1e-5)  # 20 log10(25.5)


@pytest.fixture
def tiny_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(batch_size: int) -> Schedule:
        return Schedule(2, batch_size, 1e-3)

    preset = Preset(
        images=16, captions_each=2, autoencoder_channels=(8, 16, 16), denoiser_channels=(12, 24, 24), weak_channels=(6, 12, 12),
        autoencoder=short(4), denoiser=short(4), weak=short(4), classifier=short(8),
    )  # fmt: skip
    monkeypatch.setitem(command.PRESETS, "cpu", preset)
    monkeypatch.setitem(command.PRESETS, "cpu-weak", replace(preset, denoiser=replace(preset.denoiser, steps=0)))


def train_portraits(
    folder: Path, outdir: Path, *, preset: str = "cpu", seed: int = 0, resume: bool = False, start_from: str | None = None,
    device: str = "cpu", report: Report = lambda progress: None,
) -> None:  # fmt: skip
    """The command under test, with what most of its tests give it."""
    command.train_portraits(
        preset, folder, outdir, seed=seed, device=device, resume=resume, start_from=start_from, report=report
    )


def test_the_whole_workshop_ends_in_a_pipeline(tiny_preset: None, tmp_path: Path) -> None:
    stages: list[str] = []

    def go(folder: Path, outdir: Path, *, resume: bool = False) -> None:
        train_portraits(folder, outdir, resume=resume, report=lambda progress: stages.append(progress.stage))

    go(tmp_path / "work", tmp_path / "out")
    learnt = ["autoencoder", "denoiser", "weak", "classifier"]
    assert [stage for stage in dict.fromkeys(stages) if stage in learnt] == learnt
    assert set(stages) - set(learnt) == {"portraits", "latents", "siblings", "captions", "tokens"}
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(tmp_path / "out")
    pipe.set_progress_bar_config(disable=True)
    assert pipe.tokenizer.model_max_length == 77
    image = pipe("a man", num_inference_steps=1, generator=torch.Generator().manual_seed(0)).images[0]
    assert image.size == (64, 64)

    assert not [path for path in (tmp_path / "out").rglob("*.json") if str(tmp_path) in path.read_text()]
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").rglob("*.safetensors")} == {0o644}

    with pytest.raises(FolderConflict, match="holds a training run; add --resume"):
        go(tmp_path / "work", tmp_path / "out")
    stages.clear()
    go(tmp_path / "work", tmp_path / "again", resume=True)  # every stage has its file: nothing is trained again
    assert stages == []
    go(tmp_path / "fresh", tmp_path / "repeated")
    for path in (tmp_path / "out").rglob("*.safetensors"):
        ours = load_file(path)
        for folder in ("again", "repeated"):
            theirs = load_file(tmp_path / folder / path.relative_to(tmp_path / "out"))
            assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_training_stopped_before_its_last_stage_goes_on_with_the_same_command(
    tiny_preset: None, tmp_path: Path
) -> None:
    def stop(progress: Progress) -> None:
        if progress.stage == "weak":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_portraits(tmp_path / "work", tmp_path / "out", report=stop)
    assert not (tmp_path / "out").exists()  # no half of a pipeline
    train_portraits(tmp_path / "work", tmp_path / "out", resume=True)
    assert (tmp_path / "out/weak/diffusion_pytorch_model.safetensors").exists()


@pytest.mark.parametrize("there", [False, True])
def test_a_training_stopped_while_it_packs_goes_on_with_the_same_command(
    tiny_preset: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    half = "out/.partial.*.partial" if there else "out.*.partial"

    def stop(network: nn.Module) -> None:
        if any(
            (folder / "unet").exists() for folder in tmp_path.glob(half)
        ):  # the pipeline is written, its weak network is not
            raise KeyboardInterrupt
        return stored(network)

    stored = pack._stored
    monkeypatch.setattr(pack, "_stored", stop)
    if there:  # an empty folder may be there, and it stays: it may be a mount
        (tmp_path / "out").mkdir()
    with pytest.raises(KeyboardInterrupt):
        train_portraits(tmp_path / "work", tmp_path / "out")
    assert list(tmp_path.glob("out/*")) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == (["out", "work"] if there else ["work"])
    monkeypatch.setattr(pack, "_stored", stored)
    if there:
        monkeypatch.chdir(tmp_path / "out")
    train_portraits(tmp_path / "work", Path(".") if there else tmp_path / "out", resume=True)
    if there:
        assert Path("weak/diffusion_pytorch_model.safetensors").exists()  # seen by who stands in the folder
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "work"]
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert found == {
        "SHA256SUMS",
        "classifier.safetensors",
        "model_index.json",
        "scheduler",
        "text_encoder",
        "tokenizer",
        "unet",
        "vae",
        "weak",
    }


@pytest.mark.parametrize("there", [False, True])
def test_what_a_killed_packing_left_gives_way(tiny_preset: None, tmp_path: Path, there: bool) -> None:
    out = tmp_path / "out"
    left = [out / ".partial", out / ".partial.0123abcd.partial"] if there else [tmp_path / "out.0123abcd.partial"]
    for folder in left:
        (folder / "unet").mkdir(parents=True)
        (folder / "unet" / "config.json").touch()
    train_portraits(tmp_path / "work", out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "work"]
    assert not any(folder.exists() for folder in left)
    assert (out / "model_index.json").exists()


def test_weights_that_were_packed_are_known_again(tiny_preset: None, tmp_path: Path) -> None:
    train_portraits(tmp_path / "work", tmp_path / "out")
    check_sums("the pipeline", tmp_path / "out")
    weights = tmp_path / "out" / "classifier.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(UnsupportedModel, match=r"the pipeline is damaged: classifier\.safetensors in "):
        check_sums("the pipeline", tmp_path / "out")


@pytest.mark.parametrize(
    ("module", "unwritten"),
    [(data, "portraits.safetensors"), (loop, "checkpoints/autoencoder.safetensors"), (safetensors.torch, "vae")],
)
def test_a_full_disk_is_a_sentence(
    tiny_preset: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    module: ModuleType, unwritten: str,
) -> None:  # fmt: skip
    def full(*arguments: object, **named: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(module, "save_file", full)
    arguments = ["train", "portraits", "--folder", str(tmp_path / "work"), "--outdir", str(tmp_path / "out")]
    assert main(arguments) == 2
    kept = "" if unwritten == "portraits.safetensors" else "; what was done is kept"  # it is the first
    assert (
        f"steerclear: the disk is full, so {str(tmp_path / 'work' / unwritten)!r} could not be written{kept}. "
        "Make room and run it again."
    ) in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "work" / unwritten).exists()


def test_an_error_of_the_system_that_a_library_tells_of_is_one(tmp_path: Path) -> None:
    def told(path: Path) -> None:
        raise Exception("Permission denied (os error 13)")  # as tokenizers does

    def untold(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as writing to an open file does

    def other(path: Path) -> None:
        raise SafetensorError("no such dtype")

    with pytest.raises(PermissionError) as caught:
        save_whole(tmp_path / "vae", told)
    assert caught.value.filename == str(tmp_path / "vae")
    with pytest.raises(OSError, match="No space left on device") as full:
        save_whole(tmp_path / "vae", untold)
    assert full.value.filename == str(tmp_path / "vae")
    with pytest.raises(SafetensorError, match="no such dtype"):
        save_whole(tmp_path / "vae", other)


def test_what_could_not_be_written_whole_gives_its_room_back(tmp_path: Path) -> None:
    def half_a_file(path: Path) -> None:
        path.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def half_a_folder(path: Path) -> None:
        path.mkdir()
        half_a_file(path / "config.json")

    for save in (half_a_file, half_a_folder):
        with pytest.raises(OSError, match="No space left on device"):
            save_whole(tmp_path / "vae", save)
        assert list(tmp_path.iterdir()) == []


def test_what_takes_long_says_how_far_it_has_come(
    tiny_preset: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "AT_ONCE", 5)
    said: list[Progress] = []
    train_portraits(tmp_path / "parts", tmp_path / "out", report=said.append)
    for stage in ("portraits", "latents", "siblings", "captions", "tokens"):
        steps = [(progress.step, progress.steps, progress.loss) for progress in said if progress.stage == stage]
        assert steps == [(5, 16, None), (10, 16, None), (15, 16, None), (16, 16, None)]
    monkeypatch.setattr(loop, "AT_ONCE", 16)
    train_portraits(tmp_path / "whole", tmp_path / "again")
    for name in ("portraits", "latents", "siblings", "tokens"):  # the same ones, but for the last bits of the encoder
        ours, theirs = (load_file(tmp_path / folder / f"{name}.safetensors") for folder in ("parts", "whole"))
        assert ours.keys() == theirs.keys()
        for key in ours:
            torch.testing.assert_close(
                ours[key], theirs[key], rtol=0, atol=1e-4 if name in ("latents", "siblings") else 0
            )
    assert (tmp_path / "parts/captions.json").read_text() == (tmp_path / "whole/captions.json").read_text()


def test_a_run_does_not_go_on_under_other_code(
    tiny_preset: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(progress: Progress) -> None:
        if progress.stage != "portraits":  # something is done
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_portraits(tmp_path / "work", tmp_path / "out", report=stop)
    monkeypatch.setattr(command, "_program", lambda places: "another")
    with pytest.raises(FolderConflict, match=r"program: '[0-9a-f]{16}' there, 'another' now.* another --folder"):
        train_portraits(tmp_path / "work", tmp_path / "out", resume=True)


def test_a_run_does_not_go_on_in_another_arithmetic(
    tiny_preset: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(progress: Progress) -> None:
        if progress.stage != "portraits":  # something is done
            raise KeyboardInterrupt

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    with pytest.raises(KeyboardInterrupt):
        train_portraits(tmp_path / "work", tmp_path / "out", report=stop)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    with pytest.raises(
        FolderConflict,
        match=r"holds another run \(arithmetic: 'bfloat16' there, 'float32' now\)\. Give another --folder",
    ):
        train_portraits(tmp_path / "work", tmp_path / "out", resume=True)


def test_the_checkpoints_are_not_kept_where_the_pipeline_is_to_be(tmp_path: Path) -> None:
    with pytest.raises(FolderConflict, match=r"out/work' is inside '.*out', .*; give another --folder"):
        train_portraits(tmp_path / "out/work", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("device", ["foo", "meta"])
def test_a_device_that_cannot_be_used_is_refused_before_anything_is_done(tmp_path: Path, device: str) -> None:
    with pytest.raises(InvalidSetting, match=f"device is '{device}', but must be one that torch can use here"):
        train_portraits(tmp_path / "work", tmp_path / "out", device=device)
    assert list(tmp_path.iterdir()) == []


def test_a_preset_for_learning_on_wants_a_pipeline_to_start_from(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"cpu-further.*--start-from portraits"):
        train_portraits(tmp_path, tmp_path, preset="cpu-further")
    assert list(tmp_path.iterdir()) == []


def test_training_goes_on_from_a_finished_pipeline(tiny_preset: None, tmp_path: Path) -> None:
    def go(name: str, seed: int, start_from: str | None = None) -> Path:
        stages: list[str] = []
        train_portraits(
            tmp_path / name, tmp_path / f"{name}-out", seed=seed, start_from=start_from,
            report=lambda progress: stages.append(progress.stage),
        )  # fmt: skip
        learnt = {"denoiser", "weak"} if start_from else {"autoencoder", "denoiser", "weak", "classifier"}
        assert set(stages) == {"portraits", "latents", "siblings", "captions", "tokens"} | learnt
        return tmp_path / f"{name}-out"

    def same(part: str) -> bool:
        ours, theirs = (load_file(next((out / part).rglob("*.safetensors"))) for out in (first, further))
        return all(torch.equal(ours[name], theirs[name]) for name in ours)

    first = go("first", 0)
    further = go("further", 1, str(first))
    assert same("vae")
    assert json.loads((first / "tokenizer/tokenizer.json").read_text())["padding"] is None
    assert (first / "tokenizer/tokenizer.json").read_text() == (further / "tokenizer/tokenizer.json").read_text()
    assert (first / "classifier.safetensors").read_bytes() == (further / "classifier.safetensors").read_bytes()
    # two steps of a rate of at most 1e-3 move a weight by no more than 2e-3: it is the same network, learned on
    before, after = (load_file(out / "unet/diffusion_pytorch_model.safetensors") for out in (first, further))
    moved = max(float((before[name].float() - after[name].float()).abs().max()) for name in before)
    assert 0 < moved < 3e-3

    weak = tmp_path / "weak-out"
    train_portraits(tmp_path / "weak", weak, preset="cpu-weak", seed=1, start_from=str(further))
    for part in ("unet", "text_encoder", "vae"):
        kept, as_it_was = (load_file(next((out / part).rglob("*.safetensors"))) for out in (weak, further))
        assert kept.keys() == as_it_was.keys()
        assert all(torch.equal(kept[name], as_it_was[name]) for name in kept)
    path = "weak/diffusion_pytorch_model.safetensors"
    again, before = load_file(weak / path), load_file(further / path)  # of the same seed, on the same text encoder
    assert all(torch.equal(again[name], before[name]) for name in before)

    with pytest.raises(
        UnsupportedModel, match=r"lacks vae, tokenizer, classifier\.safetensors, unet, text_encoder; give portraits"
    ):
        go("third", 1, str(tmp_path))


def test_a_training_that_stops_early_is_the_first_part_of_the_whole(tmp_path: Path) -> None:
    """Its rates, its snapshots and its weights are those that the whole has there."""
    whole = Schedule(8, 4, 1e-2, warmup_steps=2, decay=0.75, snapshots=4)
    kept = {}
    for name, schedule in (("whole", whole), ("part", replace(whole, stop=4))):
        torch.manual_seed(0)
        model, steps = nn.Linear(3, 2), []

        def loss(step: int, generator: torch.Generator, model: nn.Module = model) -> torch.Tensor:
            return (model(torch.randn(4, 3, generator=generator)) - 1).square().mean()

        def report(progress: Progress, steps: list[tuple[int, int]] = steps) -> None:
            steps.append((progress.step, progress.steps))

        train("net", model, loss, schedule, tmp_path / name, seed=0, report=report)
        assert steps == [(step, schedule.last) for step in range(1, schedule.last + 1)]
        files = sorted((tmp_path / name / "snapshots/net").iterdir())
        kept[name] = [load_file(path) for path in files[:2]]
        assert len(files) == schedule.last // 2
    for one, other in zip(kept["whole"], kept["part"], strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_run_that_is_stopped_at_a_snapshot_has_it_afterwards(tmp_path: Path) -> None:
    schedule = replace(SCHEDULE, snapshots=4)

    def go(folder: Path, report: Report) -> dict[str, dict[str, Tensor]]:
        model = line()
        train("line", model, loss_of(model), schedule, folder, seed=0, report=report)
        return {path.name: load_file(path) for path in sorted((folder / "snapshots/line").iterdir())}

    whole = go(tmp_path / "whole", lambda progress: None)
    for step in (6, 12):
        with pytest.raises(KeyboardInterrupt):
            go(tmp_path / "parts", stopping_after(step))
    parts = go(tmp_path / "parts", lambda progress: None)
    assert [*parts] == [*whole] == [f"{step:07d}.safetensors" for step in (3, 6, 9, 12)]
    for name, tensors in whole.items():
        assert all(torch.equal(parts[name][key], value) for key, value in tensors.items())


def test_a_quarter_of_the_training_is_a_new_denoiser_on_a_finished_text_encoder(
    tiny_preset: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_portraits(tmp_path / "first", tmp_path / "first-out")
    quarter = replace(
        command.PRESETS["cpu"], denoiser=Schedule(8, 4, 1e-3, snapshots=8, stop=2), learns_on=True, anew=True
    )
    monkeypatch.setitem(command.PRESETS, "cpu-quarter", quarter)
    with pytest.raises(InvalidSetting, match=r"cpu-quarter.*--start-from portraits"):
        train_portraits(tmp_path / "none", tmp_path / "none-out", preset="cpu-quarter")
    train_portraits(
        tmp_path / "work", tmp_path / "out", preset="cpu-quarter", seed=1, start_from=str(tmp_path / "first-out")
    )
    before, after = (
        {part: load_file(next((out / part).glob("*.safetensors"))) for part in ("text_encoder", "unet")}
        for out in (tmp_path / "first-out", tmp_path / "out")
    )
    assert all(
        torch.equal(before["text_encoder"][name], after["text_encoder"][name]) for name in before["text_encoder"]
    )
    moved = max(
        float((before["unet"][name].float() - after["unet"][name].float()).abs().max()) for name in before["unet"]
    )
    assert moved > 0.01  # two steps of at most 1e-3 would not come so far from the finished one
    model = load_model(str(tmp_path / "out"), weak=f"snapshot:{tmp_path / 'work/snapshots/denoiser'},step=1")
    assert model.networks["weak"].network.step == 1


def test_presets_that_make_something_left_to_gain() -> None:
    quarter, whole = PRESETS["cpu-quarter"], PRESETS["cpu"]
    assert quarter.denoiser.last * 4 == whole.denoiser.steps
    assert [quarter.denoiser.rate(step) for step in (0, 1249)] == [whole.denoiser.rate(step) for step in (0, 1249)]
    sixteenth = whole.denoiser.steps // 16
    assert quarter.denoiser.keeps(sixteenth + 1)  # of 64 snapshots the fourth: 312.5 steps
    narrow, own = COURSES["narrow"], COURSES["cpu"]
    assert sum(narrow.channels) < sum(own.channels)
    assert narrow.denoiser.steps < own.denoiser.steps
    assert own.denoiser.snapshots == 24  # every 500 steps
    assert {narrow.denoiser.snapshots, whole.denoiser.snapshots, whole.weak.snapshots} == {32}


def test_thirty_steps_of_the_shipped_sampler_keep_the_rates_of_an_exact_world() -> None:
    """A quarter, and a tenth, of the data lies 9.4 away from the rest: as far as a beard moves the latents.

    Too few steps where it is decided lose the rarer kind: on equal steps in log(sigma / alpha) from 20,291 thirty steps
    leave 0.238 and 0.086; these leave 0.245 and 0.093.
    """
    scheduler, points, distance = build_scheduler(), 200_000, 9.4
    for share in (0.25, 0.1):
        scheduler.set_timesteps(30)
        generator = torch.Generator().manual_seed(0)
        kinds = torch.tensor([[[-share * distance], [(1 - share) * distance]]]).expand(points, -1, -1)
        log_weight = torch.tensor([[1 - share, share]]).log().expand(points, -1)
        sample = torch.randn(points, 1, generator=generator)
        for timestep, ratio in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
            alpha = 1 / (1 + ratio**2).sqrt().expand(points, 1)
            expected = expected_latents(sample, alpha, ratio * alpha, kinds, log_weight)
            velocity = (alpha * sample - expected) / (ratio * alpha)
            sample = scheduler.step(velocity, timestep, sample, generator=generator).prev_sample
        drawn = float((sample > (0.5 - share) * distance).double().mean())
        assert drawn == pytest.approx(share, abs=0.008)


def test_the_scheduler_is_written_in_plain_json() -> None:
    def refused(constant: str) -> None:
        raise AssertionError(constant)

    written = json.loads(build_scheduler().to_json_string(), parse_constant=refused)
    assert len(written["trained_betas"]) == 1000


def test_the_schedule_is_the_cosine_one_but_for_its_last_steps() -> None:
    shipped, cosine = build_scheduler(), DPMSolverMultistepScheduler(beta_schedule="squaredcos_cap_v2")
    assert torch.equal(shipped.alphas_cumprod[:990], cosine.alphas_cumprod[:990])
    assert float(shipped.betas.max()) == pytest.approx(LARGEST_BETA)
    ratio = ((1 - shipped.alphas_cumprod) / shipped.alphas_cumprod).sqrt()
    assert float(ratio[-1]) == pytest.approx(194.6, abs=0.1)
    shipped.set_timesteps(30)
    assert int((shipped.sigmas > 41).sum()) == 8


def test_half_of_every_batch_is_drawn_where_portraits_are_decided() -> None:
    alphas_cumprod = build_scheduler().alphas_cumprod
    drawn = [training_timesteps(64, alphas_cumprod, torch.Generator().manual_seed(seed)) for seed in range(500)]
    anywhere, decisive = torch.cat([some[::2] for some in drawn]), torch.cat([some[1::2] for some in drawn])
    assert (int(anywhere.min()), int(anywhere.max())) == (0, 999)
    assert float(anywhere.double().mean()) == pytest.approx(499.5, abs=1)
    ratio = ((1 - alphas_cumprod) / alphas_cumprod).sqrt().double()
    # evenly in log(sigma / alpha): the share of each octave is log 2 / log(highest / lowest), but for the rounding to timesteps
    for octave in (1.0, 2.0, 4.0, 8.0):
        share = ((ratio[decisive] >= octave) & (ratio[decisive] < 2 * octave)).double().mean()
        assert float(share) == pytest.approx(math.log(2) / math.log(DECISIVE[1] / DECISIVE[0]), abs=0.02)
    assert float(ratio[decisive].min()) == pytest.approx(DECISIVE[0], rel=0.01)
    highest = float(ratio[ratio >= DECISIVE[1]].min())  # the first timestep there
    assert float(ratio[decisive].max()) == highest < 1.12 * DECISIVE[1]
    # a batch of an odd number reaches as far
    seeds = range(500)
    few = torch.stack([training_timesteps(3, alphas_cumprod, torch.Generator().manual_seed(seed)) for seed in seeds])
    assert int(few[:, ::2].min()) < 10
    assert int(few[:, ::2].max()) >= 990
    assert 0.97 * DECISIVE[1] <= float(ratio[few[:, 1]].max()) <= highest


def test_an_unknown_preset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="there is no preset 'tpu'"):
        train_portraits(tmp_path, tmp_path, preset="tpu")
    assert list(tmp_path.iterdir()) == []


def test_what_is_in_the_way_is_said_with_a_remedy(tmp_path: Path) -> None:
    def said(act: Callable[[], object]) -> str:
        try:
            act()
        except OSError as error:
            return _os_sentence(error)
        raise AssertionError("nothing is in the way")

    file, folder, remedy = (
        tmp_path / "file",
        tmp_path / "folder",
        "move it, or give another --outdir (training: or --folder).",
    )
    file.touch()
    folder.mkdir()
    wants_folder = f"{str(file)!r} is a file, but a folder is needed there; {remedy}"
    assert said(lambda: file.mkdir(exist_ok=True)) == wants_folder
    assert said(lambda: (file / "images/cfg").mkdir(parents=True)) == wants_folder
    assert said(lambda: (file / "run.json").write_text("")) == wants_folder
    assert said(lambda: folder.replace(file)) == wants_folder
    wants_file = f"{str(folder)!r} is a folder, but a file is needed there; {remedy}"
    assert said(lambda: folder.write_text("")) == wants_file
    assert said(lambda: file.replace(folder)) == wants_file
    assert said(folder.mkdir) == f"File exists {str(folder)!r}."
    assert _os_sentence(OSError(errno.ENOSPC, "No space left on device")).startswith(
        "the disk is full, so a file could not"
    )


@pytest.mark.parametrize("arguments", [[], ["guidance"], ["train"]])
def test_without_arguments_there_is_the_help_and_no_more(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert "Usage:" in printed.out + printed.err
    assert "steerclear:" not in printed.err


def test_a_command_that_there_is_not_is_still_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "nope"]) == 2
    assert "steerclear: No such command 'nope'." in capsys.readouterr().err


def test_every_file_that_a_training_follows_from_is_there() -> None:
    assert all(list(command.PACKAGE.glob(place)) for place in command.PROGRAM)
    assert {path.name for place in command.PROGRAM for path in command.PACKAGE.glob(place)} >= {
        "seeds.py",
        "drawing.py",
    }
    for places in (command.PROGRAM, command.DIGITS_PROGRAM):  # averages make the snapshots
        assert command.PACKAGE / "networks/shared/averages.py" in {
            path for one in places for path in command.PACKAGE.glob(one)
        }
