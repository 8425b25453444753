"""Images with their settings: made once, found again, whole or not there; the same at any batch size."""

import errno
import json
import os
import random
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from steerclear.core.errors import (
    FolderConflict,
    InvalidSetting,
    NotFiniteError,
    PromptError,
    SteerclearWarning,
    UnsupportedModel,
)
from steerclear.core.guidance import Guidance
from steerclear.core.laws import Law
from steerclear.core.records import Guided, State, Step
from steerclear.core.saving import save_whole
from steerclear.guidance.classifier_free import ClassifierFreeGuidance
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.guidance.interval import IntervalGuidance
from steerclear.guidance.negative_prompt import NegativePromptGuidance
from steerclear.models.files import folder_digest
from steerclear.models.loading import Model
from steerclear.study import gallery
from steerclear.study.folders import LOCK, RUN_FILE, claim_folder, default_folder, only_process, run_folder
from steerclear.study.gallery import find_picture, picture_path, read_settings
from steerclear.study.generate import check_recipe, generate
from steerclear.study.methods import Method
from steerclear.study.recipe import Recipe
from steerclear.study.run import recipe_of, run
from steerclear.study.study import comparison

STEPS = 3


@pytest.fixture(scope="module")
def model() -> Model:
    return Model("tiny", None, tiny.stable_diffusion("dpm++-sde"), "digest")


def recipe(
    model: Model, guidance: Guidance | None = None, prompt: str = "a man", negatives: tuple[str, ...] = ()
) -> Recipe:
    return recipe_of(model, Method("m", "m", prompt, negatives, guidance or ClassifierFreeGuidance(3.0)), STEPS)


def pixels(path: Path) -> np.ndarray:
    return np.array(Image.open(path)).astype(int)


def test_image_k_is_image_k_at_any_batch_size_and_order(model: Model, tmp_path: Path) -> None:
    generate(model, recipe(model), [0, 1, 2, 3, 4], tmp_path / "five", batch_size=5)
    generate(model, recipe(model), [4, 2, 0], tmp_path / "mixed", batch_size=2)
    for seed in (4, 2, 0):
        left, right = pixels(picture_path(tmp_path / "five", seed)), pixels(picture_path(tmp_path / "mixed", seed))
        assert np.abs(left - right).max() <= 1  # the last bits of float32 may fall to either side of a rounding


def test_an_image_carries_all_that_made_it(model: Model, tmp_path: Path) -> None:
    asked = recipe(model, NegativePromptGuidance(4.0), negatives=("hat",))
    picture = generate(model, asked, [7], tmp_path)[0]
    settings = read_settings(picture.path)
    assert settings is not None
    assert Recipe.model_validate(settings["recipe"]) == asked
    assert (settings["seed"], settings["evaluations"]) == (7, 2 * STEPS)
    assert settings["branches"] == [["negative", "positive"]] * STEPS


def test_what_is_there_is_not_made_again(model: Model, tmp_path: Path) -> None:
    first = generate(model, recipe(model), [0, 1], tmp_path)
    stamps = [picture.path.stat().st_mtime_ns for picture in first]
    steps: list[tuple[int, int]] = []
    again = generate(
        model, recipe(model), [0, 1, 2], tmp_path, batch_size=2,
        on_progress=lambda done, total: steps.append((done, total)),
    )  # fmt: skip
    assert [picture.path.stat().st_mtime_ns for picture in again[:2]] == stamps
    assert steps == [(step + 1, STEPS) for step in range(STEPS)]  # one image's worth
    assert again[:2] == first


def test_a_batch_that_lacks_an_image_is_made_again_as_it_was(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds, rows = [9, 3, 0, 5, 7], []
    whole = {
        picture.seed: picture.path.read_bytes()
        for picture in generate(model, recipe(model), seeds, tmp_path / "a", batch_size=2)
    }
    generate(model, recipe(model), seeds, tmp_path / "b", batch_size=2)
    lacking, stays = picture_path(tmp_path / "b", 7), picture_path(tmp_path / "b", 5)
    lacking.unlink()
    stamp, forward = stays.stat().st_mtime_ns, model.pipe.unet.forward

    def counted(sample: torch.Tensor, *arguments: object, **settings: object) -> object:
        rows.append(len(sample))
        return forward(sample, *arguments, **settings)

    monkeypatch.setattr(model.pipe.unet, "forward", counted)
    generate(model, recipe(model), seeds, tmp_path / "b", batch_size=2)
    assert rows == [2 * 2] * STEPS  # seeds 5 and 7 together, empty and positive
    assert stays.stat().st_mtime_ns == stamp
    assert {seed: picture_path(tmp_path / "b", seed).read_bytes() for seed in seeds} == whole


def test_other_settings_and_damaged_files_are_made_again(model: Model, tmp_path: Path) -> None:
    path = generate(model, recipe(model), [0], tmp_path)[0].path
    whole = path.read_bytes()
    assert find_picture(tmp_path, 0, recipe(model, ClassifierFreeGuidance(3.5))) is None
    assert find_picture(tmp_path, 1, recipe(model)) is None
    path.write_bytes(whole[: len(whole) // 2])
    assert find_picture(tmp_path, 0, recipe(model)) is None
    generate(model, recipe(model), [0], tmp_path)
    assert path.read_bytes() == whole


def test_an_image_of_another_seed_or_recipe_is_not_overwritten_without_a_word(model: Model, tmp_path: Path) -> None:
    first, second, other = generate(model, recipe(model), [0, 1, 2], tmp_path)
    whole = [first.path.read_bytes(), other.path.read_bytes()]
    shutil.copyfile(second.path, first.path)
    generate(model, recipe(model, ClassifierFreeGuidance(3.5)), [2], tmp_path / "b")
    shutil.copyfile(picture_path(tmp_path / "b", 2), other.path)
    with pytest.warns(SteerclearWarning) as caught:
        generate(model, recipe(model), [0, 1, 2], tmp_path)
    assert [str(warning.message) for warning in caught if warning.category is SteerclearWarning] == [
        f"images in {tmp_path} are of another seed or other settings, and are generated again: 00000.png, 00002.png"
    ]
    assert [first.path.read_bytes(), other.path.read_bytes()] == whole


def test_a_folder_in_an_images_place_is_refused_before_the_work(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = picture_path(tmp_path / "images" / "negative", 1)
    place.mkdir(parents=True)
    monkeypatch.setattr(type(model.pipe), "__call__", lambda *arguments, **named: pytest.fail("an image was made"))
    sentence = f"{str(place)!r} is a folder, but an image will be written there; move it, or give another folder."
    with pytest.raises(FolderConflict) as caught:
        generate(model, recipe(model), [0, 1], place.parent, batch_size=1)
    assert str(caught.value) == sentence
    study = comparison("portrait photo of a man", ("hat",), (0, 1), 2, methods=("unguided", "negative"))
    with pytest.raises(FolderConflict) as caught:
        run(study, tmp_path, model=model)
    assert str(caught.value) == sentence


def test_a_full_disk_keeps_what_is_done(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = Image.Image.save, []

    def save(self: Image.Image, target: Path, **options: object) -> None:
        if len(written) == 2:
            Path(target).write_bytes(b"half of an im")
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        written.append(target)
        write(self, target, **options)

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(OSError, match="No space left"):
        generate(model, recipe(model), [0, 1, 2], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000.png", "00001.png"]


def test_nan_from_the_network_keeps_earlier_batches(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, calls = model.pipe.unet.forward, []

    def poisoned(*arguments: object, **settings: object) -> object:
        calls.append(1)
        output = forward(*arguments, **settings)
        return (output[0] * float("nan"),) if len(calls) == STEPS + 2 else output

    monkeypatch.setattr(model.pipe.unet, "forward", poisoned)
    with pytest.raises(NotFiniteError) as raised:
        generate(model, recipe(model), [0, 1], tmp_path, batch_size=1)
    assert str(raised.value).startswith(
        "the prediction of branch 'empty' is not finite at step 2 of 3 (images [0] of the batch"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["00000.png"]


def test_nan_from_the_autoencoder_is_no_image(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = model.pipe.vae.decode

    def decoded(latents: torch.Tensor, *arguments: object, **more: object) -> object:
        found = decode(latents, *arguments, **more)
        found[0][-1, 0, 0, 0] = torch.nan
        return found

    monkeypatch.setattr(model.pipe.vae, "decode", decoded)
    with pytest.raises(
        NotFiniteError, match=r"the image that the autoencoder decoded is not finite for seed 6\. .*float32"
    ):
        generate(model, recipe(model), [5, 6], tmp_path, batch_size=2)
    assert [path.name for path in tmp_path.iterdir()] == ["00005.png"]


@pytest.mark.parametrize("words", ["DefaultCPUAllocator: can't allocate memory", "Storage size calculation overflowed"])
def test_a_full_main_memory_is_a_sentence(
    words: str, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **more: object) -> None:
        raise RuntimeError(f"[enforce fail] . {words}: you tried to allocate 1920000000000 bytes.")

    monkeypatch.setattr(type(model.pipe), "prepare_latents", full)
    with pytest.raises(InvalidSetting, match="batch_size is 1, but must be small enough for the memory of cpu"):
        generate(model, recipe(model), [0], tmp_path)


def test_pngs_of_others_are_not_ours(model: Model, tmp_path: Path) -> None:
    from PIL import PngImagePlugin

    ours = generate(model, recipe(model), [0], tmp_path)[0]
    settings = read_settings(ours.path)
    assert settings is not None
    for said in ([1], {key: value for key, value in settings.items() if key != "levels"}):
        info = PngImagePlugin.PngInfo()
        info.add_text(gallery.SETTINGS_KEY, json.dumps(said))
        Image.new("RGB", (4, 4)).save(ours.path, pnginfo=info)
        assert find_picture(tmp_path, 0, recipe(model)) is None


def test_a_full_accelerator_is_a_sentence(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **settings: object) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(model.pipe.unet, "forward", full)
    with pytest.raises(InvalidSetting) as raised:
        generate(model, recipe(model), [0, 1], tmp_path)
    assert str(raised.value).startswith("batch_size is 2, but must be small enough for the memory of cpu; lower it, or")


def test_ctrl_c_keeps_earlier_batches_and_leaves_the_pipeline_plain(model: Model, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done > STEPS:
            raise KeyboardInterrupt

    kind, network = type(model.pipe), model.pipe.unet
    with pytest.raises(KeyboardInterrupt):
        generate(model, recipe(model), [0, 1, 2], tmp_path, batch_size=1, on_progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["00000.png"]
    assert type(model.pipe) is kind
    assert model.pipe.unet is network


def test_words_that_fall_off_are_named(model: Model, tmp_path: Path) -> None:
    with pytest.raises(PromptError) as raised:
        generate(model, recipe(model, prompt="a " * 75 + "over board"), [0], tmp_path)
    assert str(raised.value) == (
        "the prompt is longer than the 77 tokens that this model reads; these words are cut off: 'over board'. "
        "Shorten it, or put what matters first."
    )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_holds_one_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    claim_folder(folder, {"prompt": "a man", "steps": 3})
    claim_folder(folder, {"prompt": "a man", "steps": 3})
    claim_folder(folder, {"prompt": "a man", "steps": 2})  # nothing was done
    claim_folder(folder, {"prompt": "a man", "steps": 3})
    (folder / "00000.png").write_bytes(b"")
    with pytest.raises(FolderConflict, match=r"holds another run \(steps: 3 there, 4 now\)"):
        claim_folder(folder, {"prompt": "a man", "steps": 4})
    (folder / RUN_FILE).write_text("{")
    with pytest.raises(FolderConflict, match="is damaged"):
        claim_folder(folder, {"prompt": "a man", "steps": 3})
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mother.txt").write_text("dear")
    with pytest.raises(FolderConflict, match="is not empty and does not hold a run of steerclear"):
        claim_folder(tmp_path / "letters", {})
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / f"{RUN_FILE}.0123abcd.partial").write_text('{"pro')  # while it wrote its claim
    claim_folder(tmp_path / "killed", {"steps": 3})
    assert json.loads((tmp_path / "killed" / RUN_FILE).read_text()) == {"steps": 3}
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderConflict, match="is a file, not a folder"):
        claim_folder(tmp_path / "file", {})


def test_two_processes_never_share_a_half_written_file(tmp_path: Path) -> None:
    def first(to: Path) -> None:
        to.write_text("first")
        save_whole(tmp_path / "file", lambda other: other.write_text("second"))
        assert (tmp_path / "file").read_text() == "second"

    save_whole(tmp_path / "file", first)
    assert (tmp_path / "file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_process_left_is_cleared_and_nothing_else(tmp_path: Path) -> None:
    images = tmp_path / "images" / "cfg"
    images.mkdir(parents=True)
    (images / "00000.png").touch()
    claim = {"steps": 3}
    (tmp_path / RUN_FILE).write_text(json.dumps(claim))
    for name in ("00001.png.0123abcd.partial", "film.partial", "notes.txt"):
        (images / name).touch()
    (tmp_path / "vae.89abcdef.partial").mkdir()
    (tmp_path / "vae.89abcdef.partial" / "config.json").touch()
    with run_folder(tmp_path, claim):
        assert sorted(path.name for path in images.iterdir()) == ["00000.png", "film.partial", "notes.txt"]
        assert sorted(path.name for path in tmp_path.iterdir()) == [LOCK, "images", RUN_FILE]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", RUN_FILE]
    (images / "00001.png.0123abcd.partial").touch()
    with pytest.raises(FolderConflict), run_folder(tmp_path, {"steps": 4}):
        pass
    assert (images / "00001.png.0123abcd.partial").exists()  # the folder is another run's


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with only_process(tmp_path):
        with pytest.raises(FolderConflict) as raised, only_process(tmp_path):
            pass
        assert str(raised.value) == (
            f"another process is using the folder {str(tmp_path)!r}. Wait until it ends, or give another --outdir."
        )
    with only_process(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_refuses_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("filelock.FileLock.acquire", no_locks)
    with run_folder(tmp_path / "run", {"steps": 3}), only_process(tmp_path / "run"):
        (tmp_path / "run" / "00000.png").touch()
    assert (tmp_path / "run" / RUN_FILE).exists()


@pytest.mark.parametrize(
    "text",
    [
        "a man",
        "../../etc/passwd",
        "/",
        "C:\\x",
        "con",
        "ein Mädchen",
        "猫",
        "\x00\n",
        "x" * 100_000,
        "~",
        ".",
        "a*?<>|b",
    ],
)
def test_a_question_names_a_folder_that_is_safe_and_its_own(text: str) -> None:
    folder = default_folder("generate", [text, "hat"], {"steps": 3})
    assert folder.parent == Path("out/generate")
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,67}[a-z0-9]", folder.name)
    assert default_folder("generate", [text, "hat"], {"steps": 3}) == folder
    others = [
        default_folder("compare", [text, "hat"], {"steps": 3}),
        default_folder("generate", [text + "!", "hat"], {"steps": 3}),
        default_folder("generate", [text, "hat"], {"steps": 4}),
        default_folder("generate", [text + " without hat"], {"steps": 3}),
    ]
    assert len({folder, *others}) == 5


def test_each_bit_that_flips_in_an_image_is_noticed(model: Model, tmp_path: Path) -> None:
    path = generate(model, recipe(model), [0], tmp_path)[0].path
    whole, draw = path.read_bytes(), random.Random(19)
    positions = draw.sample(range(8 * len(whole)), 500)
    unnoticed = []
    for position in positions:
        changed = bytearray(whole)
        changed[position // 8] ^= 1 << position % 8
        path.write_bytes(changed)
        if find_picture(tmp_path, 0, recipe(model)) is not None:
            unnoticed.append(position)
    assert unnoticed == []
    with pytest.warns(SteerclearWarning, match=r"changed after generation, .* generated again: 00000\.png$"):
        generate(model, recipe(model), [0], tmp_path)
    assert path.read_bytes() == whole


def test_an_image_that_was_edited_is_made_again(model: Model, tmp_path: Path) -> None:
    """Every checksum of the file is right, and its settings are still there."""
    from PIL import PngImagePlugin

    path = generate(model, recipe(model), [0], tmp_path)[0].path
    whole = path.read_bytes()
    with Image.open(path) as image:
        image.load()
        info = PngImagePlugin.PngInfo()
        info.add_text(gallery.SETTINGS_KEY, image.info[gallery.SETTINGS_KEY])
        image.putpixel((3, 5), tuple(value ^ 1 for value in image.getpixel((3, 5))))
        image.save(path, pnginfo=info)
    assert gallery.is_whole_png(path.read_bytes())
    assert find_picture(tmp_path, 0, recipe(model)) is None
    with pytest.warns(SteerclearWarning, match="00000"):
        generate(model, recipe(model), [0], tmp_path)
    assert path.read_bytes() == whole


def test_the_trace_is_json_without_nan(model: Model, tmp_path: Path) -> None:
    guidance = IntervalGuidance(DynamicNegativeGuidance(1.0), 0.0, 0.7)
    picture = generate(model, recipe(model, guidance, negatives=("hat",)), [0], tmp_path)[0]
    assert [value is None for value in picture.trace["weight"]] == [False, False, True]
    assert picture.branches == [["positive", "conjunction"], ["positive", "conjunction"], ["positive"]]
    json.dumps(picture.trace, allow_nan=False)
    assert torch.isfinite(torch.tensor(picture.levels)).all()


def test_a_scheduler_whose_noise_is_nobodys_is_refused(tmp_path: Path) -> None:
    network = Model("tiny", None, tiny.stable_diffusion("dpm-sde"), "digest")
    with pytest.raises(UnsupportedModel, match="DPMSolverSDEScheduler takes no generator for the noise of its steps"):
        generate(network, recipe(network), [0], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_conjunction_that_is_too_long_is_refused_before_any_image(model: Model, tmp_path: Path) -> None:
    asked = recipe(model, DynamicNegativeGuidance(1.0), prompt="a " * 40, negatives=("b " * 40,))
    with pytest.raises(PromptError, match="the prompt together with the negative prompt is longer than the 77 tokens"):
        generate(model, asked, [0], tmp_path)
    assert list(tmp_path.iterdir()) == []


@dataclass(frozen=True)
class Away(Guidance):
    """Asks for the conjunction, which no setting of it is called after."""

    name: ClassVar[str] = "away"

    def branches(self, negatives: int) -> tuple[str, ...]:
        return ("positive", "conjunction")

    def __call__(self, step: Step, state: State) -> Guided:
        positive, conjunction = step.predict("positive", "conjunction")
        return Guided(2 * positive - conjunction, state)

    @classmethod
    def laws(cls) -> tuple[Law, ...]:
        return ()


def test_conjunctions_are_those_that_a_guidance_declares(model: Model, tmp_path: Path, announce) -> None:
    announce("guidance", "away", __name__)
    for guidance in (Away(), ClassifierFreeGuidance(3.0), DynamicNegativeGuidance(2.0, negative_scale=0.0)):
        asked = recipe(model, guidance, prompt="a " * 40, negatives=("b " * 40,))
        if guidance == Away():
            with pytest.raises(
                PromptError, match="the prompt together with the negative prompt is longer than the 77 tokens"
            ):
                check_recipe(model, asked)
        else:
            check_recipe(model, asked)


def test_pure_noise_is_null_in_the_settings(tmp_path: Path) -> None:
    """At zero terminal signal sigma / alpha is infinite, which JSON cannot say."""
    network = Model("tiny", None, tiny.stable_diffusion("ddim-zero-snr", prediction_type="v_prediction"), "d")
    picture = generate(network, recipe(network), [0], tmp_path)[0]
    assert picture.levels[0] is None
    assert all(level is not None for level in picture.levels[1:])
    settings = read_settings(picture.path)
    json.dumps(settings, allow_nan=False)


def test_the_digest_sees_every_byte(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    weights = tmp_path / "unet" / "weights.safetensors"
    weights.write_bytes(bytes(400_000))
    before = folder_digest(tmp_path)
    changed = bytearray(400_000)
    changed[200_000] = 1
    weights.write_bytes(changed)
    assert folder_digest(tmp_path) != before
    weights.write_bytes(bytes(400_000))
    assert folder_digest(tmp_path) == before


def test_a_scheduler_that_clips_latents_is_told_of(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.pipe, "scheduler", tiny.scheduler("ddim", clip_sample=True))
    with pytest.warns(
        SteerclearWarning, match="Scheduler has clip_sample=True, so each of its steps cuts the denoised"
    ):
        generate(model, recipe(model), [0], tmp_path)


def test_a_scheduler_that_does_not_say_its_noise_level_is_refused_before_anything_is_made(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.pipe, "scheduler", diffusers.IPNDMScheduler())
    with pytest.raises(
        UnsupportedModel, match="dynamic-negative needs the noise level of every step, and IPNDMScheduler"
    ):
        check_recipe(model, recipe(model, DynamicNegativeGuidance(1.0), negatives=("hat",)))
    (picture,) = generate(model, recipe(model), [0], tmp_path)
    assert picture.levels == [None] * STEPS
    assert picture.trace == {}
