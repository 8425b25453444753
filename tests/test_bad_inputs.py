"""What people type wrongly and what is damaged on the disk: through the program, each ends in a sentence and exit code 2."""

import json
import os
import shutil
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

import tiny
from steerclear.cli.app import main
from steerclear.core.errors import InvalidSetting, NotFiniteError, SteerclearError, SteerclearWarning, UnsupportedModel
from steerclear.core.evidence import Evidence
from steerclear.core.guidance import guidances
from steerclear.core.network import Network
from steerclear.core.shelf import entries
from steerclear.guidance.classifier_free import ClassifierFreeGuidance
from steerclear.models import loading, shipped
from steerclear.models.configs import converted_scheduler, failures_of_libraries
from steerclear.study.gallery import SETTINGS_KEY, read_settings

SMALL = ["--steps", "2", "--seeds", "0", "--guidance", "unguided"]
DEEP = "[" * 100_000
NOT_JSON = {
    "empty": b"", "half": b'{"a": ', "list": b"[]", "text": b'"words"', "pairs": b"[[1, 2]]", "latin": b'{"a": "\xff"}', "deep": DEEP.encode(),
    "deep-object": b'{"a":' * 50_000, "deep-whole": b'{"a":' + b"[" * 900 + b"]" * 900 + b"}", "number": b"9" * 5000, "zeros": bytes(64),
}  # fmt: skip
TYPED = ["", " ", "abc", "none", "nan", "-inf", "1e999", "-1", "0", "-0.0", "9" * 5000, "1,2", "1,", "[1", "[[1,2],[3]]", "{}", '{"a": 1}', "true", "maybe",
         "\udcff", "\x00", "cfg(", "cfg)", "interval(inner=", "constant(posterior", DEEP, "interval(inner=" * 3000, "a=b=c", "(", "é∑", "0x10", "1_0"]  # fmt: skip


def ends_in_a_sentence(
    arguments: list[str], capsys: pytest.CaptureFixture[str], *, codes: tuple[int, ...] = (2,)
) -> str:
    """Run the program; an error of Python would come out of it."""
    capsys.readouterr()
    assert main(arguments) in codes, arguments
    words = " ".join(capsys.readouterr().err.split())
    assert "Traceback" not in words
    assert len(words) < 5000, words[:500]
    return words


# what is typed


@pytest.fixture
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*arguments: object, **settings: object) -> None:
        raise UnsupportedModel("the settings are good")

    monkeypatch.setattr(loading, "load_model", load)


@pytest.mark.parametrize("name", sorted(guidances()))
@pytest.mark.usefixtures("nothing_is_loaded")
def test_whatever_a_guidance_is_given_ends_in_a_sentence(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for parameter in guidances()[name].parameters():
        for text in TYPED:
            said = ends_in_a_sentence(["generate", "a man", "--guidance", name, "--set", f"{parameter}={text}"], capsys)
            assert said.startswith("steerclear: ")


@pytest.mark.parametrize("name", sorted(entries("evidence", Evidence)))
@pytest.mark.usefixtures("nothing_is_loaded")
def test_whatever_an_evidence_is_given_ends_in_a_sentence(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for parameter in entries("evidence", Evidence)[name].parameters():
        for text in TYPED:
            said = ends_in_a_sentence(
                ["generate", "a man", "--guidance", "dynamic-negative", "--set", f"evidence={name}", "--set", f"evidence.{parameter}={text}"],
                capsys,
            )  # fmt: skip
            assert said.startswith("steerclear: ")


@pytest.mark.parametrize("setting", [*TYPED, "=", ".=1", "a..b=1", "inner.", ".".join(["inner"] * 5000) + "=1", "=1", "guidance_scale.x=1"])  # fmt: skip
@pytest.mark.usefixtures("nothing_is_loaded")
def test_whatever_follows_set_ends_in_a_sentence(setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cfg", "interval", "autoguidance"):
        ends_in_a_sentence(["generate", "a man", "--guidance", name, "--set", setting], capsys)


@pytest.mark.parametrize("name", sorted(Network.known()))
def test_whatever_a_weak_network_is_given_is_read_or_refused(name: str) -> None:
    from steerclear.networks.shared.naming import parse_network

    for parameter in Network.known()[name].parameters():
        for text in TYPED:
            try:
                parse_network(f"{name}:{parameter}={text}")
            except SteerclearError as error:
                assert len(str(error)) < 1000  # noqa: PT017


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("evidence.volume=none", "the settings are good"),
        ("evidence.innovation=no", "the settings are good"),
        ("evidence.volume=abc", "volume is 'abc', but must be a table like [1, 0], [4, -2], or none."),
        (f"evidence.volume={DEEP}", "volume is '[[["),
    ],
)
@pytest.mark.usefixtures("nothing_is_loaded")
def test_settings_as_people_type_them(setting: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = ends_in_a_sentence(["generate", "a man", "--guidance", "dynamic-negative", "--set", setting], capsys)
    assert said.startswith(f"steerclear: {sentence}")


# models


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with the noise levels and the sampler of the one that ships, and with a weak network."""
    folder = tmp_path_factory.mktemp("model") / "whole"
    pipe = tiny.stable_diffusion(prediction_type="v_prediction")
    pipe.scheduler = diffusers.DPMSolverMultistepScheduler.from_pretrained(shipped()["portraits"] / "scheduler")
    pipe.save_pretrained(folder)
    pipe.unet.save_pretrained(folder / "weak")
    return folder


@pytest.fixture
def model(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, and a place to be in."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(whole, tmp_path / "model", copy_function=os.link)
    return Path("model")


def rewrite(path: Path, content: bytes) -> None:
    path.unlink()  # it is a link
    path.write_bytes(content)


def configured(path: Path, **settings: Any) -> None:
    rewrite(path, json.dumps({**json.loads(path.read_text()), **settings}).encode())


def generated(*arguments: str) -> list[str]:
    return ["generate", "a man", "--model", "model", "--outdir", "out", *SMALL, *arguments]


NUMBER_OF_BETAS = "a list with a number from 0 to 1 for each of num_train_timesteps, or null"
PREDICTIONS = "one of epsilon, sample, v_prediction, flow_prediction, original_sample, trigflow or null"
SIZE = "a whole number of at least 1, a list of them or null"


@pytest.mark.parametrize(
    ("file", "setting", "value", "allowed"),
    [
        *[("unet/config.json", "sample_size", value, SIZE) for value in ("16", "abc", 0, -1, 1.5, {}, [0], True, 1e300)],
        *[("vae/config.json", "scaling_factor", value, "a number above 0 or null") for value in ("0.18", 0, -1, [], {}, True, float("nan"))],
        *[("scheduler/scheduler_config.json", "num_train_timesteps", value, "a whole number of at least 1") for value in (0, -5, "1000", None, 1.5, [])],
        *[("scheduler/scheduler_config.json", "trained_betas", value, NUMBER_OF_BETAS) for value in ([], "abc", 0, ["a"], [1e-4], {}, [float("inf")] * 1000, [2.0] * 1000)],
        *[("scheduler/scheduler_config.json", "beta_end", value, "a number from 0 to 1 or null") for value in (1e12, -0.1, "0.02", [])],
        *[("unet/config.json", setting, value, SIZE) for setting in ("in_channels", "out_channels", "cross_attention_dim") for value in (-4, 0, "4", {})],
        *[("scheduler/scheduler_config.json", "prediction_type", value, PREDICTIONS) for value in ("abc", 1, [])],
    ],
)  # fmt: skip
def test_a_configuration_that_no_run_can_compute_with_is_refused(
    file: str, setting: str, value: Any, allowed: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configured(model / file, **{setting: value})
    said = ends_in_a_sentence(generated(), capsys)
    assert said.startswith(f"steerclear: the model 'model' cannot be loaded: {setting} in {file} is ")
    assert said.endswith(f"but must be {allowed}. Copy the file again.")
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("file", "settings", "sentence"),
    [
        ("vae/config.json", {"block_out_channels": []}, "its vae is damaged or incomplete: list index out of range"),
        ("vae/config.json", {"norm_num_groups": 0}, "its vae is damaged or incomplete: integer modulo by zero"),
        ("unet/config.json", {"attention_head_dim": 0}, "its unet is damaged or incomplete: integer division or modulo by zero"),
        ("text_encoder/config.json", {"hidden_size": "abc"}, "Validation error for field 'hidden_size': TypeError: Field 'hidden_size' expected int, got str (value: 'abc')"),
        ("tokenizer/tokenizer_config.json", {"model_max_length": "abc"}, "its tokenizer has model_max_length 'abc', which is not a number"),
        ("model_index.json", {"vae": []}, "the model 'model' cannot be loaded: list index out of range"),
        ("scheduler/scheduler_config.json", {"timestep_spacing": "abc"}, "abc is not supported. Please make sure to choose one of"),
        ("unet/config.json", {"norm_eps": "abc"}, "the model cannot generate images with these settings: TypeError in torch"),
        ("unet/config.json", {"downsample_padding": -1}, "the model cannot generate images with these settings: RuntimeError in torch"),
        ("unet/config.json", {"sample_size": None}, "the model cannot generate images with these settings: TypeError in diffusers"),
        ("tokenizer/tokenizer_config.json", {"pad_token": None}, "the model cannot generate images with these settings: ValueError in transformers"),
    ],
)  # fmt: skip
def test_whatever_libraries_raise_for_a_model_is_a_sentence(
    file: str, settings: dict[str, Any], sentence: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configured(model / file, **settings)
    assert sentence in ends_in_a_sentence(generated(), capsys)


@pytest.mark.parametrize("content", NOT_JSON.values(), ids=NOT_JSON)
@pytest.mark.parametrize(
    "file",
    ["model_index.json", "unet/config.json", "vae/config.json", "scheduler/scheduler_config.json", "text_encoder/config.json",
     "tokenizer/tokenizer_config.json", "weak/config.json"],
)  # fmt: skip
def test_a_damaged_file_of_a_model_is_a_sentence(
    file: str, content: bytes, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(model / file, content)
    said = ends_in_a_sentence(generated(), capsys)
    assert f"model/{file}" in said
    assert " is not a configuration file: " in said
    assert said.endswith(". Copy the file again.")
    assert not Path("out").exists()


def test_what_is_not_of_a_library_is_not_said_to_be() -> None:
    with pytest.raises(UnsupportedModel, match="IndexError in torch"), failures_of_libraries():
        torch.nn.Embedding(2, 3)(torch.tensor([5]))
    for error in (OSError("full"), MemoryError(), NotFiniteError("a", "b", "c"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, failures_of_libraries():
            raise error
        assert caught.value is error
    with pytest.raises(ZeroDivisionError), failures_of_libraries():
        exec("1 / 0", {"__name__": "steerclear.core.engine"})


# schedulers


SCHEDULERS = sorted(kind.__name__ for kind in diffusers.DPMSolverMultistepScheduler().compatibles)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_compatible_scheduler_makes_images_or_says_why_not(
    name: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = ends_in_a_sentence(generated("--scheduler", name, "--steps", "4"), capsys, codes=(0, 2))
    refused = name in ("DPMSolverSDEScheduler", "EDMEulerScheduler")
    assert Path("out/00000.png").exists() != refused, said
    left_out = "warning: DEISMultistepScheduler does not accept all settings of the model's DPMSolverMultistepScheduler: algorithm_type is 'deis' instead of 'sde-dpmsolver++'"
    assert (left_out in said) == (name == "DEISMultistepScheduler")


def test_a_scheduler_takes_over_what_it_knows() -> None:
    current = diffusers.DPMSolverMultistepScheduler.from_pretrained(shipped()["portraits"] / "scheduler")
    with pytest.warns(SteerclearWarning, match="algorithm_type is 'deis' instead of 'sde-dpmsolver"):
        made = converted_scheduler(diffusers.DEISMultistepScheduler, current)
    assert torch.equal(made.alphas_cumprod, current.alphas_cumprod)
    kept = ("prediction_type", "timestep_spacing", "use_karras_sigmas", "solver_order", "lower_order_final")
    assert {name: made.config[name] for name in kept} == {name: current.config[name] for name in kept}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = converted_scheduler(diffusers.DDIMScheduler, current)
    assert dict(other.config) == dict(diffusers.DDIMScheduler.from_config(current.config).config)


def test_how_a_model_was_trained_is_not_replaced() -> None:
    current = diffusers.DDPMScheduler(beta_schedule="sigmoid")
    with pytest.raises(UnsupportedModel) as caught:
        converted_scheduler(diffusers.EulerDiscreteScheduler, current)
    assert str(caught.value).startswith(
        "EulerDiscreteScheduler does not accept the settings of the model's DDPMScheduler: sigmoid is not implemented"
    )


# a run's folder


@pytest.fixture(scope="module")
def made(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and what a run with it made."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copytree(whole, folder / "model", copy_function=os.link)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(RUN) == 0
    return folder


RUN = ["generate", "a man", "--negative-prompt", "hat", "--model", "model", "--outdir", "out", "--steps", "2", "--seeds", "0",
       "--guidance", "dynamic-negative", "--guidance-scale", "1"]  # fmt: skip


@pytest.fixture
def image(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The image of a copy of it."""
    monkeypatch.chdir(tmp_path)
    for name in ("model", "out"):
        shutil.copytree(made / name, name)
    return Path("out/00000.png")


def said_instead(path: Path, words: str) -> None:
    """The same pixels, with other words about them."""
    with Image.open(path) as image:
        image.load()
    info = PngImagePlugin.PngInfo()
    info.add_text(SETTINGS_KEY, words)
    image.save(path, pnginfo=info)


def settings_of(path: Path) -> dict[str, Any]:
    with Image.open(path) as image:
        return json.loads(image.info[SETTINGS_KEY])


def is_made_again(image: Path, capsys: pytest.CaptureFixture[str], made: Path) -> None:
    assert image.read_bytes() != (made / image).read_bytes()
    said = ends_in_a_sentence(RUN, capsys, codes=(0,))
    assert (
        "warning: images in out changed after generation, or are of an earlier version, and are generated again: 00000.png"
        in said
    )
    assert image.read_bytes() == (made / image).read_bytes()


OTHER_TYPES = [None, "abc", -1.5, True, [], [[1]], {"weight": 3}, {"weight": ["a"]}, {"weight": []}, [["positive"]] * 9, [None] * 9,
               float("nan"), ["\udcff"], [[[]]]]  # fmt: skip


@pytest.mark.parametrize("key", ["digest", "seed", "trace", "levels", "branches", "evaluations"])
def test_an_image_whose_words_are_of_another_type_is_none_of_ours(key: str, image: Path) -> None:
    settings = settings_of(image)
    assert read_settings(image) == settings
    for value in OTHER_TYPES:
        if (key, value) != ("digest", "abc"):  # which is another recipe's
            said_instead(image, json.dumps({**settings, key: value}))
            assert read_settings(image) is None, value
    said_instead(image, json.dumps({name: value for name, value in settings.items() if name != key}))
    assert read_settings(image) is None


@pytest.mark.parametrize(
    ("key", "value"), [("trace", {"weight": 3}), ("branches", 1), ("levels", "abc"), ("evaluations", [])]
)
def test_an_image_whose_words_are_damaged_is_made_again(
    key: str, value: Any, image: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said_instead(image, json.dumps({**settings_of(image), key: value}))
    is_made_again(image, capsys, made)


@pytest.mark.parametrize("content", NOT_JSON.values(), ids=NOT_JSON)
def test_an_image_whose_words_are_no_json_is_none_of_ours(content: bytes, image: Path) -> None:
    said_instead(image, content.decode("latin-1"))
    assert read_settings(image) is None


def test_an_image_too_large_to_be_opened_is_made_again(
    image: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = image.read_bytes()
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    image.write_bytes(whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:])
    is_made_again(image, capsys, made)


@pytest.mark.parametrize("size", [(1, 1), (128, 128), (64, 16), (20_000, 20_000)], ids=str)
def test_an_image_of_another_size_is_made_again(
    size: tuple[int, int], image: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text(SETTINGS_KEY, json.dumps(settings_of(image)))
    Image.new("1" if max(size) > 1000 else "RGB", size).save(image, pnginfo=info)
    is_made_again(image, capsys, made)


@pytest.mark.parametrize("content", NOT_JSON.values(), ids=NOT_JSON)
def test_a_damaged_record_of_a_run_is_a_sentence(
    content: bytes, image: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out/run.json").write_bytes(content)
    ends_in_a_sentence(RUN, capsys, codes=(0, 2))
    assert image.read_bytes() == (made / image).read_bytes()


# guiders


@pytest.mark.parametrize("content", NOT_JSON.values(), ids=NOT_JSON)
def test_a_damaged_file_of_a_guider_is_a_sentence(content: bytes, tmp_path: Path) -> None:
    from steerclear.bridges.modular.guider import Guider

    (tmp_path / "guider_config.json").write_bytes(content)
    with pytest.raises(
        InvalidSetting, match=r"the content of .*guider_config.json is 'damaged', but must be a JSON object"
    ):
        Guider.from_pretrained(tmp_path)


def test_numbers_of_all_libraries_bound_a_guider(tmp_path: Path) -> None:
    from steerclear.bridges.modular.guider import guider

    bounded = guider(ClassifierFreeGuidance(), start=np.float32(0.25), stop=torch.tensor(0.5))
    bounded.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "guider_config.json").read_text())
    assert (saved["start"], saved["stop"]) == (0.25, 0.5)


# a training run's folder


def test_damaged_captions_are_a_sentence(tmp_path: Path) -> None:
    from steerclear.training.portraits import Workshop
    from steerclear.training.presets import PRESETS

    (tmp_path / "captions.json").write_text(DEEP)
    with pytest.raises(
        InvalidSetting, match="must be a list of captions per portrait; it is nested more than 64 levels"
    ):
        _ = Workshop(tmp_path, PRESETS["cpu"], 0, "cpu", lambda progress: None).captions
