"""Models that are one file: the same images as the folder's, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
from single_files import save_single_file
from steerclear.cli.app import main
from steerclear.core.errors import InvalidSetting, UnsupportedModel
from steerclear.models import shipped
from steerclear.models.loading import load_model
from steerclear.study.gallery import read_settings

MAN = "portrait photo of a man"
FEW = ["--seeds", "0-1", "--steps", "2", "--format", "json"]


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model as one file."""
    folder = tmp_path_factory.mktemp("single")
    return save_single_file(load_model("portraits").pipe, folder / "one.safetensors")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*arguments: object) -> tuple[int, str]:
        code = main([str(argument) for argument in arguments])
        return code, " ".join(capsys.readouterr().err.split())

    return run


def test_its_images_are_those_of_the_folder(
    portraits: Path, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    """To the bit: the same weights in the same networks."""
    names: list[list[object]] = [["portraits"], [portraits, "--config", "portraits"]]
    for place, name in enumerate(names):
        assert run("generate", MAN, *FEW, "--model", *name, "--outdir", tmp_path / str(place))[0] == 0
    for seed in ("00000.png", "00001.png"):
        said = [read_settings(tmp_path / place / seed) for place in ("0", "1")]
        assert said[0]["pixels"] == said[1]["pixels"]  # type: ignore[index]
    assert said[1]["recipe"]["config"] == "portraits"  # type: ignore[index]


def test_what_it_is(portraits: Path, tmp_path: Path) -> None:
    """Weights and configuration decide the digest; a folder's own weak network is not the file's."""
    one = load_model(portraits, config="portraits")
    assert (one.name, one.config, one.networks) == (str(portraits), "portraits", {})
    for key, weight in load_model("portraits").pipe.unet.state_dict().items():
        torch.testing.assert_close(one.pipe.unet.state_dict()[key], weight, rtol=0, atol=0)
    weights = load_file(portraits)
    weights["model.diffusion_model.out.2.bias"] = weights["model.diffusion_model.out.2.bias"] + 1
    save_file(weights, tmp_path / "other.safetensors")
    other = load_model(tmp_path / "other.safetensors", config="portraits")
    assert len({one.digest, other.digest, load_model("portraits").digest}) == 3
    assert load_model(portraits, config=shipped()["portraits"]).digest == one.digest


def test_without_a_configuration_the_hub_is_asked(portraits: Path, run: Callable[..., tuple[int, str]]) -> None:
    code, said = run("generate", MAN, "--model", portraits)
    assert code == 2
    assert said.startswith(
        f"steerclear: the model '{portraits}': the configuration 'stable-diffusion-v1-5/stable-diffusion-v1-5' is found "
        f"neither locally nor on the hub ("
    )
    assert said.endswith("give a folder with --config.")


@pytest.mark.parametrize(
    ("model", "config", "sentence"),
    [
        ("old.ckpt", "portraits", "steerclear: the model 'old.ckpt' is not a .safetensors file. Other formats can run code when they are opened, so steerclear does not read them; get its .safetensors form."),
        ("owner/model/old.bin", None, "steerclear: the model 'owner/model/old.bin' is not a .safetensors file. Other"),
        ("none.safetensors", None, "steerclear: there is no model file 'none.safetensors' here; give the path of a .safetensors file, or a file on the hub like owner/model/file.safetensors."),
        ("https://huggingface.co/owner/model/blob/main/a.safetensors", None, "steerclear: the model 'owner/model/a.safetensors' is found neither locally nor on the hub ("),
        ("portraits", "portraits", "steerclear: --config is 'portraits', but must be given with a single .safetensors file; the model 'portraits' is a folder with a configuration of its own; leave it out."),
        ("ONE", "nowhere", "steerclear: there is no configuration 'nowhere'; give a local folder in diffusers' layout, a hub id, or one of portraits, digits."),
        ("ONE", "EMPTY", "steerclear: the configuration 'EMPTY' has no model_index.json; give the folder that has one."),
        ("ONE", "owner/model", "steerclear: the model 'ONE': the configuration 'owner/model' is found neither"),
        ("DAMAGED", "portraits", "steerclear: the model 'DAMAGED' cannot be loaded: it is damaged or not a safetensors file. Copy it again."),
        ("LACKING", "portraits", "steerclear: the model 'LACKING' cannot be loaded: it lacks weights that its configuration names. Copy it again, or give the configuration of its own kind."),
        ("ONE", "SMALLER", "steerclear: the model 'ONE' cannot be loaded: its weights have other shapes than its configuration says. Give the configuration of its own kind."),
        ("WITHOUT_TEXT", "portraits", "steerclear: the model 'WITHOUT_TEXT' cannot be loaded: Failed to load CLIPTextModel. Weights for this component appear to be missing in the checkpoint."),
    ],
)  # fmt: skip
def test_what_is_refused(
    model: str, config: str | None, sentence: str, portraits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    run: Callable[..., tuple[int, str]],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    places = {"ONE": portraits, "EMPTY": tmp_path / "empty"}
    (tmp_path / "empty").mkdir()
    if config == "SMALLER":
        tiny.family("sd").save_pretrained(tmp_path / "small")
        places[config] = tmp_path / "small"
    if model in ("DAMAGED", "LACKING", "WITHOUT_TEXT"):
        places[model] = tmp_path / "made.safetensors"
        weights = load_file(portraits)
        if model == "DAMAGED":
            places[model].write_bytes(portraits.read_bytes()[:1000])
        elif model == "LACKING":
            del weights["model.diffusion_model.out.2.bias"]
            save_file(weights, places[model])
        else:
            save_file({k: one for k, one in weights.items() if not k.startswith("cond_stage")}, places[model])
    given: list[object] = ["--config", places.get(config, config)] if config else []
    code, said = run("generate", MAN, *FEW, "--model", places.get(model, model), *given)
    for name, path in places.items():
        said = said.replace(f"'{path}'", f"'{name}'")
    assert (code, said[: len(sentence)]) == (2, sentence)


def test_a_pickle_in_the_configuration_is_not_opened(portraits: Path, tmp_path: Path) -> None:
    tiny.family("sd").save_pretrained(tmp_path / "sd")
    (tmp_path / "sd/unet/diffusion_pytorch_model.safetensors").rename(tmp_path / "sd/unet/diffusion_pytorch_model.bin")
    with pytest.raises(
        UnsupportedModel, match=r"diffusion_pytorch_model\.bin can run code when it is opened; remove it"
    ):
        load_model(portraits, config=tmp_path / "sd")


@pytest.mark.parametrize("config", [3, ["portraits"]])
def test_a_configuration_is_a_name(config: Any) -> None:
    with pytest.raises(InvalidSetting, match="but must be a model's name, its folder or its hub id, or None"):
        load_model("one.safetensors", config=config)
