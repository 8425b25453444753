"""Models by name, end to end through the program: every family, LoRAs, weak networks, offload; and what is refused."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import tiny
from steerclear.cli.app import main
from steerclear.core.errors import NotFiniteError, SteerclearWarning, UnsupportedModel
from steerclear.core.sums import write_sums
from steerclear.features.portrait_classifier import PortraitClassifier, read
from steerclear.models import shipped
from steerclear.models.files import file_digest, located
from steerclear.models.loading import load_model
from steerclear.models.loras import LoRA
from steerclear.study.gallery import read_settings
from steerclear.study.results import Results

TEXT_TO_IMAGE = ("sd", "sdxl", "sd3", "flux", "flux-distilled", "pixart", "pixart-sigma")
SMALL = ["--steps", "2", "--height", "16", "--width", "16"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Folder of a saved tiny pipeline of a family; each is saved once."""
    root = tmp_path_factory.mktemp("models")

    def folder(name: str) -> Path:
        if not (root / name).is_dir():
            tiny.family(name).save_pretrained(root / name)
            if name == "dit":  # diffusers reads the names of classes from there, and does not write them
                index = json.loads((root / name / "model_index.json").read_text())
                (root / name / "model_index.json").write_text(json.dumps({**index, "id2label": tiny.LABELS}))
        return root / name

    return folder


def lora_file(folder: Path, pipe: Any, name: str = "style.safetensors", strength: float = 5.0) -> Path:
    """A LoRA with random weights for a pipeline's network."""
    from peft import LoraConfig, get_peft_model_state_dict

    network = tiny.network_of(pipe)
    torch.manual_seed(8)
    network.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    layers = {key: strength * value for key, value in get_peft_model_state_dict(network).items()}
    type(pipe).save_lora_weights(folder, layers, weight_name=name)
    return folder / name


def source_of(model: Any) -> Any:
    return model.networks["weak"].source


def pixels(path: Path) -> np.ndarray:
    return np.array(Image.open(path)).astype(int)


def generate(*arguments: str | Path) -> int:
    return main(["generate", "a man", *map(str, arguments), *SMALL])


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("name", TEXT_TO_IMAGE)
def test_image_k_of_a_run_is_image_k_alone_in_every_family(name: str, folders: Any, tmp_path: Path) -> None:
    guided = ["--model", folders(name), "--guidance", "negative", "--negative-prompt", "hat", "--guidance-scale", "2"]
    assert generate(*guided, "--seeds", "3-5", "--batch-size", "3", "--outdir", tmp_path / "three") == 0
    assert generate(*guided, "--seeds", "4", "--outdir", tmp_path / "one") == 0
    together, alone = pixels(tmp_path / "three" / "00004.png"), pixels(tmp_path / "one" / "00004.png")
    assert np.abs(together - alone).max() <= 1
    assert np.abs(together - pixels(tmp_path / "three" / "00005.png")).max() > 8  # another seed is another image
    settings = read_settings(tmp_path / "one" / "00004.png")
    assert settings is not None
    assert (settings["evaluations"], settings["branches"]) == (4, [["negative", "positive"]] * 2)


def test_a_class_stands_for_a_prompt_where_the_model_has_classes(folders: Any, tmp_path: Path) -> None:
    common = ["--model", str(folders("dit")), "--guidance", "negative", "--seeds", "3-4", "--steps", "2"]
    assert main(["generate", "hen", "--negative-prompt", "3", *common, "--outdir", str(tmp_path / "name")]) == 0
    assert main(["generate", "5", "--negative-prompt", "tench", *common, "--outdir", str(tmp_path / "number")]) == 0
    assert main(["generate", "7", "--negative-prompt", "tench", *common, "--outdir", str(tmp_path / "other")]) == 0
    by_name, by_number, other = (pixels(tmp_path / way / "00004.png") for way in ("name", "number", "other"))
    assert np.array_equal(by_name, by_number)
    assert not np.array_equal(by_name, other)


@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "flux"])
def test_loras_are_in_the_image_and_in_its_recipe(name: str, folders: Any, tmp_path: Path) -> None:
    style = lora_file(tmp_path / "lora", tiny.family(name))
    plain = ["--model", folders(name), "--guidance", "unguided", "--seeds", "1"]
    assert generate(*plain, "--outdir", tmp_path / "plain") == 0
    for scale in ("1", "0.5", "0"):
        assert generate(*plain, "--lora", f"{style}:{scale}", "--outdir", tmp_path / scale) == 0
    twice = ["--lora", f"{style}:0.2", "--lora", f"{style}:0.3"]
    assert generate(*plain, *twice, "--outdir", tmp_path / "twice") == 0
    images = {way: pixels(tmp_path / way / "00001.png") for way in ("plain", "1", "0.5", "0", "twice")}
    assert np.array_equal(images["0"], images["plain"])
    assert np.abs(images["1"] - images["plain"]).max() > 1
    assert np.abs(images["1"] - images["0.5"]).max() > 1
    assert np.abs(images["twice"] - images["0.5"]).max() <= 1  # a LoRA's change is linear in its scale
    settings = read_settings(tmp_path / "twice" / "00001.png")
    assert settings is not None
    digest = file_digest(style)
    assert settings["recipe"]["loras"] == [
        {"name": str(style), "scale": 0.2, "digest": digest}, {"name": str(style), "scale": 0.3, "digest": digest},
    ]  # fmt: skip


def test_another_lora_scale_is_another_run(folders: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    style = lora_file(tmp_path / "lora", tiny.family("sd"))
    common = ["--model", folders("sd"), "--guidance", "unguided", "--seeds", "1", "--outdir", tmp_path / "run"]
    assert generate(*common, "--lora", f"{style}:0.5") == 0
    assert (
        generate(*common, "--lora", f"{style}:0.5", "--offload", "group") == 0
    )  # where it is made is not what is asked
    assert generate(*common, "--lora", f"{style}:0.6") == 2
    assert "holds another run (loras: [" in printed(capsys)


@pytest.mark.parametrize("offload", ["model", "group"])
@pytest.mark.parametrize("name", ["sd", "sd3"])
def test_offload_changes_nothing_but_the_memory(
    name: str, offload: str, folders: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.family(name).components["unet" if name == "sd" else "transformer"].save_pretrained(tmp_path / "weak")
    arguments = ["--model", folders(name), "--guidance", "autoguidance", "--weak", tmp_path / "weak", "--seeds", "0"]
    assert generate(*arguments, "--outdir", tmp_path / "plain") == 0
    assert generate(*arguments, "--offload", offload, "--outdir", tmp_path / "offloaded") == 0
    assert f"warning: --offload {offload} saves no memory on the cpu" in printed(capsys)
    assert np.array_equal(pixels(tmp_path / "plain" / "00000.png"), pixels(tmp_path / "offloaded" / "00000.png"))


@pytest.mark.parametrize("name", ["sdxl", "sd3", "flux", "pixart"])
def test_a_weak_network_is_a_folder_of_a_network_or_of_a_whole_pipeline(
    name: str, folders: Any, tmp_path: Path
) -> None:
    """Autoguidance with the network itself as its weak one is the plain prediction, exactly."""
    part = "unet" if name == "sdxl" else "transformer"
    folder = folders(name)
    assert generate("--model", folder, "--guidance", "unguided", "--seeds", "0", "--outdir", tmp_path / "plain") == 0
    for way, weak in (("network", folder / part), ("pipeline", folder)):
        arguments = ["--guidance", "autoguidance", "--set", "auto_scale=3", "--weak", weak, "--seeds", "0"]
        assert generate("--model", folder, *arguments, "--outdir", tmp_path / way) == 0
        assert np.abs(pixels(tmp_path / way / "00000.png") - pixels(tmp_path / "plain" / "00000.png")).max() <= 1
    model = load_model(str(folder), weak=str(folder))
    assert source_of(model).digest == source_of(load_model(str(folder), weak=str(folder / part))).digest
    assert type(model.networks["weak"].network) is type(getattr(model.pipe, part))


def test_a_weak_network_is_a_kind_with_settings(folders: Any, tmp_path: Path) -> None:
    common = ["--model", folders("sdxl"), "--guidance", "autoguidance", "--seeds", "0"]
    for strength in ("0", "0.3"):
        weak = f"noised:strength={strength}"
        assert generate(*common, "--weak", weak, "--outdir", tmp_path / strength) == 0
    assert (
        generate("--model", folders("sdxl"), "--guidance", "unguided", "--seeds", "0", "--outdir", tmp_path / "plain")
        == 0
    )
    images = {way: pixels(tmp_path / way / "00000.png") for way in ("0", "0.3", "plain")}
    assert np.abs(images["0"] - images["plain"]).max() <= 1
    assert np.abs(images["0.3"] - images["plain"]).max() > 1
    settings = read_settings(tmp_path / "0.3" / "00000.png")
    assert settings is not None
    assert settings["recipe"]["networks"] == {"weak": {"source": "noised:strength=0.3", "digest": None}}


def test_a_lora_can_be_what_the_weak_network_lacks_or_has(folders: Any, tmp_path: Path) -> None:
    style = lora_file(tmp_path / "lora", tiny.family("sd"))
    common = ["--model", folders("sd"), "--guidance", "autoguidance", "--set", "auto_scale=2", "--seeds", "0"]
    without = ["--lora", style, "--weak", "without-lora"]
    assert generate(*common, *without, "--outdir", tmp_path / "without") == 0
    having = ["--lora", f"{style}:0", "--weak", "with-lora:adapter=lora_1"]
    assert generate(*common, *having, "--outdir", tmp_path / "with") == 0
    assert np.abs(pixels(tmp_path / "without" / "00000.png") - pixels(tmp_path / "with" / "00000.png")).max() > 1


def test_comparing_a_model_without_a_laboratory_says_what_is_not_measured(
    folders: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    style = lora_file(tmp_path / "lora", tiny.family("sd3"))
    arguments = ["compare", "a man", "--negative-prompt", "hat", "--negative-prompt", "tie", "--model", str(folders("sd3")),
                 "--lora", f"{style}:0.5", "--seeds", "0-1", "--outdir", str(tmp_path / "run"), "--format", "json", *SMALL]  # fmt: skip
    assert main(arguments) == 0
    found = Results.model_validate_json(capsys.readouterr().out)
    names = ["unguided", "without", "cfg", "negative", "dynamic-negative"]
    assert [method.name for method in found.methods] == names
    assert [column.name for column in found.columns] == ["moved", "evaluations"]
    assert [method.evaluations / 2 for method in found.methods] == [1, 2, 2, 2, 4]
    assert (found.height, found.width, found.device, found.offload) == (16, 16, "cpu", "none")
    assert found.loras == [LoRA(str(style), 0.5, file_digest(style))]
    notes = " ".join(found.notes)
    assert (
        "has been measured under the schedulers of Stable Diffusion (docs/measured.md), and not under flow matching"
        in notes
    )
    assert "ships no attribute classifier and its truth is not known" in notes
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"{style}, scale 0.5" in page
    assert "16 × 16" in page


def cached_on_the_hub(cache: Path, repository: str, source: Path) -> None:
    """Put a folder where the hub's client looks for what it fetched before."""
    home = cache / f"models--{repository.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("0" * 40)
    shutil.copytree(source, home / "snapshots" / ("0" * 40))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("owner/model", "owner/model"),
        ("./models/sd", "./models/sd"),
        ("~/models/sd", "HOME/models/sd"),
        ("https://huggingface.co/owner/model", "owner/model"),
        ("https://huggingface.co/owner/model/", "owner/model"),
        ("huggingface.co/owner/model", "owner/model"),
        ("https://hf.co/owner/model?library=diffusers", "owner/model"),
        ("https://huggingface.co/owner/model/tree/main", "owner/model"),
        ("https://huggingface.co/owner/model/tree/main/unet", "owner/model/unet"),
        ("https://huggingface.co/owner/model/tree/v1.1", "owner/model@v1.1"),
        ("https://huggingface.co/owner/model/blob/main/a/style.safetensors", "owner/model/a/style.safetensors"),
        ("https://huggingface.co/owner/model/resolve/main/style.safetensors?download=true", "owner/model/style.safetensors"),
        ("https://huggingface.co/datasets/owner/model", "https://huggingface.co/datasets/owner/model"),
        ("https://example.com/owner/model", "https://example.com/owner/model"),
    ],
)  # fmt: skip
def test_places_as_people_copy_them(typed: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "HOME")
    assert located(typed) == meant


def test_addresses_are_found_as_names_are(
    folders: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(folders("sd"), tmp_path / "models" / "sd")
    style = lora_file(tmp_path / "lora", tiny.family("sd"), "pytorch_lora_weights.safetensors")
    cached_on_the_hub(tmp_path / "hub", "me/whole", folders("sd"))
    cached_on_the_hub(tmp_path / "hub", "me/style", style.parent)
    url = "https://huggingface.co/me"
    expected = load_model(str(folders("sd")), weak=str(folders("sd")), loras=[f"{style}:0.5"])
    for weak in (f"{url}/whole/tree/main/unet", f"{url}/whole"):
        found = load_model("~/models/sd", weak=weak, loras=[f"{url}/style/blob/main/{style.name}:0.5"])
        assert source_of(found).digest == source_of(expected).digest
        assert found.loras[0].digest == expected.loras[0].digest
        assert (found.digest, found.name) == (expected.digest, str(tmp_path / "models" / "sd"))
    fetched = []
    monkeypatch.setattr(
        "diffusers.DiffusionPipeline.download", lambda name, **more: fetched.append((name, more)) or folders("sd")
    )
    assert load_model(f"{url}/whole/tree/v2").name == "me/whole@v2"
    assert load_model(f"{url}/whole").name == "me/whole"
    assert [(name, more["revision"]) for name, more in fetched] == [("me/whole", "v2"), ("me/whole", None)]
    assert generate("--model", f"{url}/whole/tree/main/unet", "--outdir", tmp_path / "o") == 2
    assert "'me/whole/unet' is only a part of 'me/whole'; give 'me/whole'." in printed(capsys)
    assert generate("--model", folders("sd"), "--weak", f"{url}/whole/tree/main/vae", "--outdir", tmp_path / "o") == 2
    assert "'me/whole/vae' is only a part of 'me/whole'; give 'me/whole'." in printed(capsys)


def test_names_on_the_hub_are_found_where_it_was_fetched_before(
    folders: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    style = lora_file(tmp_path / "lora", tiny.family("sd"), "pytorch_lora_weights.safetensors")
    for repository, source in (
        ("me/whole", folders("sd")),
        ("me/part", folders("sd") / "unet"),
        ("me/style", style.parent),
    ):
        cached_on_the_hub(tmp_path / "hub", repository, source)
    by_folder = load_model(str(folders("sd")), weak=str(folders("sd")), loras=[f"{style}:0.5"])
    for weak in ("me/whole", "me/part"):
        for lora in ("me/style:0.5", f"me/style/{style.name}:0.5"):
            by_name = load_model(str(folders("sd")), weak=weak, loras=[lora])
            assert source_of(by_name).digest == source_of(by_folder).digest
            assert by_name.loras[0].digest == by_folder.loras[0].digest


@pytest.mark.parametrize(("guidance", "sentences"), [("cfg", 1), ("autoguidance", 0)])
def test_a_weak_network_that_no_guidance_asks_for_is_said(
    guidance: str, sentences: int, folders: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weak = ["--weak", "noised:strength=0.1", "--model", folders("sd"), "--seeds", "1"]
    assert generate("--guidance", guidance, *weak, "--outdir", tmp_path / "generate") == 0
    assert printed(capsys).count("the weak network 'noised:strength=0.1' has no effect") == sentences
    compared = [
        "compare",
        "a man",
        "--methods",
        f"unguided,{guidance}",
        *weak,
        *SMALL,
        "--outdir",
        tmp_path / "compare",
    ]
    assert main([str(argument) for argument in compared]) == 0
    assert printed(capsys).count("the weak network 'noised:strength=0.1' has no effect") == sentences


def test_a_comparison_that_is_refused_claims_no_folder(
    folders: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["compare", "a man", "--methods", "autoguidance", "--model", str(folders("sd")), "--seeds", "1", *SMALL]
    asked += ["--outdir", str(tmp_path / "run")]
    assert main(asked) == 2
    assert "give --weak another network" in printed(capsys)
    assert main([*asked, "--weak", "noised:strength=0.1"]) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--lora", "nowhere.safetensors"], "there is no LoRA 'nowhere.safetensors'; give a .safetensors file"),
        (["--lora", "me/nothing"], "the LoRA 'me/nothing' is found neither locally nor on the hub ("),
        (["--lora", "pickled.bin"], "the LoRA 'pickled.bin' is not a .safetensors file, and other formats can run code"),
        (["--lora", "empty"], "the LoRA 'empty' holds no safetensors file; name one file: empty/FILE.safetensors"),
        (["--lora", "two"], "the LoRA 'two' holds several files: a.safetensors, b.safetensors; name one file"),
        (["--lora", "broken.safetensors"], "the LoRA 'broken.safetensors' cannot be loaded: "),
        (["--lora", "sd3.safetensors"], "the LoRA 'sd3.safetensors' c"),
        (["--lora", "style.safetensors:nan"], "the scale of --lora style.safetensors is nan, but must be a finite number."),
        (["--lora", ""], "--lora is '', but must be a file, a folder or a hub id"),
        (["--weak", ""], "--weak is '', but must be a folder, a hub id or a kind of network; leave it out for the model's own."),
        (["--weak", "noisd:strength=1"], "the weak network 'noisd:strength=1' is not a folder, a hub id or a kind ("),
        (["--weak", "noised:strenth=1"], "there is no parameter of noised 'strenth'; did you mean 'strength'?"),
        (["--weak", "without-lora"], "the pipeline's network has no LoRA"),
        (["--weak", "empty"], "the weak network 'empty' cannot be loaded: empty has no config.json, so it holds no network."),
        (["--weak", "me/nothing"], "the weak network 'me/nothing' is found neither locally nor on the hub ("),
        (["--weak", "sd3"], "its config.json names SD3Transformer2DModel, and this model's network is a UNet2DConditionModel."),
        (["--weak", "pickled"], "the weak network 'pickled' cannot be loaded: "),
        (["--offload", "disk"], "there is no way of offloading 'disk'. Available: group, model, none, sequential."),
        (["--device", "cuda:99"], "device is 'cuda:99', but must be one that torch can use here"),
        (["--model", "img2img"], "is a StableDiffusionImg2ImgPipeline, which starts from an image (image)"),
        (["--model", "wide"], "is a StableDiffusionInpaintPipeline, which starts from an image (image, mask_image)"),
        (["--model", "unknown"], "steerclear does not know how DDPMPipeline calls its network"),
        (["--model", "no-json"], "model_index.json is not a configuration file: Expecting"),
        (["--model", "no-object"], "model_index.json is not a configuration file: it is JSON, but not an object: list. Copy the file again."),
        (["--model", "pickled-model"], "the model 'pickled-model' cannot be loaded: "),
        (["--model", "own-code"], "the model 'own-code' cannot be loaded: "),
        (["--model", "me/nothing"], "the model 'me/nothing' is found neither locally nor on the hub ("),
        (["--height", "4"], "Invalid value for '--height'"),
        (["--model", "empty-part"], "the folder 'empty-part' lacks unet, which its model_index.json names"),
        (["--height", "17"], "height is 17, but must be a multiple of 8 for a StableDiffusionPipeline."),
        (["--width", "18"], "width is 18, but must be a multiple of 8 for a StableDiffusionPipeline."),
        (["--guidance", "autoguidance"], "autoguidance asks for the weak network, and none is given; give --weak another network of the same shape"),
        (["--guidance", "autoguidance", "--weak", "noised:strength=0.1", "--offload", "group"], "so it cannot be copied for another network"),
        (["--offload", "sequential"], "offload is 'sequential', but must be 'none', 'model' or 'group' on the cpu"),
    ],
)  # fmt: skip
def test_what_cannot_be_loaded_is_one_sentence_and_exit_code_2(
    arguments: list[str], sentence: str, bad: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(bad)
    own = [] if "--model" in arguments else ["--model", "sd"]
    assert main(["generate", "a man", *own, *arguments, "--seeds", "0", "--steps", "2", "--outdir", "out"]) == 2
    shown = printed(capsys)
    assert sentence in shown
    assert "Traceback" not in shown
    assert not (bad / "out").exists()  # no folder is claimed by what never began


PYTHON = re.compile(r"\w\(|\w=['\"]|\bpipe\.|\.to\b|\bsteer\b|\b[a-z]+_[a-z_]*(offload|lora|adapters|prompt)\b")
"""What is no word of the command line: a call, a keyword argument, a method, an argument's name."""


@pytest.mark.parametrize(
    ("model", "arguments", "sentence"),
    [
        ("sd", ["--guidance", "negative"], "has no negative to push away from, so that part of it has no effect; give --negative-prompt"),
        ("dit", ["--guidance", "negative"], "has no effect; give --negative-prompt"),
        ("dit", ["--guidance", "dynamic-negative", "--negative-prompt", "2"], "such as --guidance dynamic-negative --set concept=negative"),
        ("sd", ["--weak", "without-lora"], "the pipeline's network has no LoRA, or it is fused into the weights; add one with --lora"),
        ("sd", ["--weak", "with-lora:adapter=lora_1", "--lora", "STYLE:0.5"], "switch it off there with scale 0, as in --lora FILE:0"),
        ("sd", ["--weak", "without-lora", "--lora", "STYLE:0"], "give one a scale other than 0, as in --lora FILE:0.8"),
        ("sd", ["--weak", "dropped-layers:layers="], "but must be paths of layers; several have commas between them."),
        ("sd", ["--offload", "model", "--guidance", "cfg"], "warning: --offload model saves no memory on the cpu, because the weights are in main memory anyway; combine it with --device cuda"),
        ("sd", ["--weak", "noised:strength=0.1", "--offload", "group"], "take that off, or use --offload model to save memory"),
        ("sd", [], "give --weak another network of the same shape, or a kind such as noised:0.1"),
        ("flux-distilled", ["--guidance", "cfg"], "at the cost of further evaluations; take --guidance-scale 1, unless both are meant"),
    ],
)  # fmt: skip
def test_the_command_line_speaks_its_own_words(
    model: str, arguments: list[str], sentence: str, folders: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    style = lora_file(tmp_path / "lora", tiny.family("sd")) if "STYLE" in " ".join(arguments) else ""
    arguments = [argument.replace("STYLE", str(style)) for argument in arguments]
    guidance = [] if "--guidance" in arguments else ["--guidance", "autoguidance"]
    size = [] if model == "dit" else SMALL[2:]
    prompt = "1" if model == "dit" else "a man"
    main(["generate", prompt, "--model", str(folders(model)), *guidance, *arguments, "--seeds", "0", "--steps", "2",
          *size, "--outdir", str(tmp_path / "o")])  # fmt: skip
    said = printed(capsys).replace(str(tmp_path), "")
    assert sentence in said
    assert not PYTHON.search(said), PYTHON.search(said)


def test_weak_networks_and_negatives_that_do_nothing_new_are_said_once(
    folders: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["compare", "a man", "--model", str(folders("sd")), "--seeds", "0", *SMALL]
    twice = ["--negative-prompt", "hat", "--negative-prompt", "hat"]
    for weak, reason in (("noised:0", "its strength is 0"), (str(folders("sd")), "it is the pipeline's own network")):
        assert main([*common, *twice, "--weak", weak, "--outdir", str(tmp_path / reason)]) == 0
        said = printed(capsys)
        assert said.count(f"warning: the weak network has no effect: {reason}, so autoguidance has nothing") == 1
        assert "give one that is worse, such as --weak noised:0.1" in said
        assert said.count("warning: the negative prompt 'hat' is given 2 times, and each adds its own push") == 1


def test_python_speaks_python(folders: Any) -> None:
    """The same advice, for those who call."""
    with pytest.raises(UnsupportedModel, match=r"pipe.load_lora_weights\(..., adapter_name=...\)"):
        load_model(str(folders("sd")), weak="without-lora")
    with pytest.warns(SteerclearWarning, match=r"offload='model' saves no memory .* combine it with device='cuda'"):
        load_model(str(folders("sd")), offload="model")


@pytest.fixture(scope="module")
def bad(folders: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good model, and with all kinds of bad ones."""
    import diffusers

    root = tmp_path_factory.mktemp("bad")
    shutil.copytree(folders("sd"), root / "sd")
    lora_file(root, tiny.family("sd"))
    lora_file(root, tiny.family("sd3"), "sd3.safetensors")
    (root / "pickled.bin").write_bytes(b"")
    (root / "broken.safetensors").write_bytes(b"nothing of the kind")
    (root / "empty").mkdir()
    (root / "two").mkdir()
    for name in ("a.safetensors", "b.safetensors"):
        (root / "two" / name).write_bytes(b"")
    shutil.copytree(folders("sd3") / "transformer", root / "sd3")
    tiny.unet().save_pretrained(root / "pickled", safe_serialization=False)
    tiny.family("sd", "img2img").save_pretrained(root / "img2img")
    tiny.family("sd", "inpaint-wide").save_pretrained(root / "wide")
    network = diffusers.UNet2DModel(block_out_channels=(8,), down_block_types=("DownBlock2D",),
                                    up_block_types=("UpBlock2D",), norm_num_groups=4, layers_per_block=1)  # fmt: skip
    diffusers.DDPMPipeline(network, tiny.scheduler("ddpm")).save_pretrained(root / "unknown")
    for name, text in (("no-json", "{"), ("no-object", "[]"), ("empty-part", '{"unet": []}')):
        (root / name).mkdir()
        (root / name / "model_index.json").write_text(text)
    shutil.copytree(folders("sd"), root / "pickled-model")
    (root / "pickled-model" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(tiny.unet().state_dict(), root / "pickled-model" / "unet" / "diffusion_pytorch_model.bin")
    shutil.copytree(folders("sd"), root / "own-code")
    index = json.loads((root / "own-code" / "model_index.json").read_text())
    index["unet"] = ["own_network", "OwnNetwork"]
    (root / "own-code" / "model_index.json").write_text(json.dumps(index))
    (root / "own-code" / "unet" / "own_network.py").write_text("raise SystemExit('code of the model was run')")
    return root


def test_a_lora_without_peft_is_a_sentence(folders: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                           capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    style = lora_file(tmp_path, tiny.family("sd"))
    monkeypatch.setattr("steerclear.models.loras.find_spec", lambda name: None)
    assert generate("--model", folders("sd"), "--lora", style, "--seeds", "0", "--outdir", tmp_path / "o") == 2
    assert "a LoRA needs the package peft, which is not installed; install it: pip install peft" in printed(capsys)


def test_a_family_without_loras_says_so(folders: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    style = lora_file(tmp_path, tiny.family("sd"))
    assert generate("--model", folders("pixart"), "--lora", style, "--seeds", "0", "--outdir", tmp_path / "o") == 2
    assert "PixArtAlphaPipeline takes no LoRA: diffusers has no LoRA loader for it" in printed(capsys)


def test_comparing_classes_is_refused(folders: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "hen", "--model", str(folders("dit")), "--outdir", str(tmp_path / "o")]) == 2
    assert "is a DiTPipeline, which takes classes, but compare needs a model that takes prompts" in printed(capsys)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["hem"], "there is no class label 'hem'; did you mean 'hen'?"),
        (["1000"], "must be a class from 0 to 999"),
        (["hen", "--height", "16"], "height is 16, but must be left out: a DiTPipeline makes images of one size"),
        (["hen", "--negative-prompt", "hat"], "there is no class label 'hat'"),
    ],
)
def test_what_is_no_class_is_a_sentence(
    arguments: list[str], sentence: str, folders: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--model", str(folders("dit")), "--seeds", "0", "--steps", "1", "--outdir", str(tmp_path / "o")]
    assert main(["generate", *arguments, *common]) == 2
    assert sentence in printed(capsys)


def test_a_scheduler_whose_noise_no_image_owns_is_refused(
    folders: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "stochastic"
    shutil.copytree(folders("sd3"), folder)
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "stochastic_sampling": True}))
    assert generate("--model", folder, "--seeds", "0", "--outdir", tmp_path / "o") == 2
    assert "StableDiffusion3Pipeline gives it no generators to draw from" in printed(capsys)


@pytest.mark.parametrize(("name", "limit"), [("sdxl", 77), ("sd3", 256), ("flux", 512), ("pixart", 120)])
def test_words_that_fall_off_are_named_in_every_family(
    name: str, limit: int, folders: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", str(folders(name)), "--seeds", "0", "--outdir", str(tmp_path / "o"), *SMALL]
    assert main(["generate", "a " * limit + "over board", *arguments]) == 2
    shown = printed(capsys)
    assert f"the prompt is longer than the {limit} tokens that this model reads; these words are cut off: '" in shown
    assert "over board'. Shorten it" in shown
    assert not (tmp_path / "o").exists()


def test_a_warning_of_offload_is_a_warning_in_python_too(folders: Any) -> None:
    with pytest.warns(SteerclearWarning, match="saves no memory on the cpu"):
        load_model(str(folders("sd")), offload="group")


UNET, VAE = "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"
ENCODER = "text_encoder/model.safetensors"


def without(file: str, *tensors: str) -> Callable[[Path], None]:
    """Takes tensors out of a file of a model's folder."""

    def broken(folder: Path) -> None:
        weights = load_file(folder / file)
        for name in tensors:
            del weights[next(key for key in weights if key.endswith(name))]
        save_file(weights, folder / file, {"format": "pt"})

    return broken


def emptied(part: str, *names: str) -> Callable[[Path], None]:
    """Takes files, or all of them, out of a part of a model's folder."""

    def broken(folder: Path) -> None:
        for path in [folder / part / name for name in names] or list((folder / part).iterdir()):
            path.unlink()

    return broken


def configured(file: str, **settings: Any) -> Callable[[Path], None]:
    """Changes settings in a file of a model's folder."""

    def broken(folder: Path) -> None:
        (folder / file).write_text(json.dumps({**json.loads((folder / file).read_text()), **settings}))

    return broken


@pytest.mark.parametrize(
    ("name", "breaks", "sentence"),
    [
        ("sd", emptied("tokenizer", "tokenizer.json"), "its tokenizer knows no words; the folder broken/tokenizer lacks merges.txt or tokenizer.json or vocab.json."),
        ("sd", emptied("tokenizer"), "its tokenizer knows no words; the folder broken/tokenizer lacks "),
        ("sd", emptied("tokenizer", "tokenizer_config.json"), "its tokenizer has model_max_length 1e+30, and its text encoder reads 77 tokens at most; the folder broken/tokenizer lacks tokenizer_config.json"),
        ("pixart", emptied("tokenizer"), "its tokenizer knows no words; the folder broken/tokenizer lacks "),
        ("sd", without(ENCODER, "final_layer_norm.weight"), "its text_encoder lacks final_layer_norm.weight in its files; copy them again."),
        ("sd", without(ENCODER, *(f"layers.{layer}.mlp.fc1.{kind}" for layer in (0, 1) for kind in ("weight", "bias"))), "its text_encoder lacks encoder.layers.0.mlp.fc1.bias, encoder.layers.0.mlp.fc1.weight, encoder.layers.1.mlp.fc1.bias and 1 more in its files; copy them again."),
        ("pixart", without(ENCODER, "shared.weight"), "its text_encoder lacks "),
        ("sd", without(UNET, "conv_in.weight"), "its unet lacks conv_in.weight in its files; copy them again."),
        ("sd", without(VAE, "decoder.conv_out.bias"), "its vae lacks decoder.conv_out.bias in its files; copy them again."),
        ("sd3", without("transformer/diffusion_pytorch_model.safetensors", "proj_out.bias"), "its transformer lacks proj_out.bias in its files; copy them again."),
        ("sd", configured("unet/config.json", cross_attention_dim=24), "its unet has weights of other shapes than its config.json says; copy both from one network."),
        ("sd", emptied("unet", "config.json"), "its unet is damaged or incomplete: "),
    ],
)  # fmt: skip
def test_a_model_that_is_not_whole_is_refused_by_what_it_lacks(
    name: str, breaks: Callable[[Path], None], sentence: str, folders: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folders(name), "broken")
    if name == "pixart":  # the class that models have; the tiny one's refuses to be made of nothing
        configured("model_index.json", tokenizer=["transformers", "T5Tokenizer"])(Path("broken"))
    breaks(Path("broken"))
    assert generate("--model", "broken", "--seeds", "0", "--outdir", "out") == 2
    shown = printed(capsys)
    assert f"the model 'broken' cannot be loaded: {sentence}" in shown
    assert "Traceback" not in shown
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("breaks", "sentence"),
    [
        (configured("unet/config.json", cross_attention_dim=24), "the other network does not fit: its cross_attention_dim is 24, and the pipeline's network has 16;"),
        (configured("unet/config.json", block_out_channels=[8, 32]), "the weak network 'weak' cannot be loaded: it has weights of other shapes than its config.json says"),
        (without(UNET, "conv_in.weight"), "the weak network 'weak' cannot be loaded: it lacks conv_in.weight in its files;"),
    ],
)  # fmt: skip
def test_a_weak_network_that_does_not_fit_is_refused_in_our_words(
    breaks: Callable[[Path], None], sentence: str, folders: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folders("sd"), "weak")
    breaks(Path("weak"))
    with pytest.raises(UnsupportedModel) as refused:
        load_model(str(folders("sd")), weak="weak")
    assert str(refused.value).startswith(sentence)
    assert "ignore_mismatched_sizes" not in str(refused.value)


def test_files_in_other_forms_are_whole_too(folders: Any, tmp_path: Path) -> None:
    """Networks in several files, and an autoencoder whose attention has the names of earlier years."""
    shutil.copytree(folders("sd"), tmp_path / "forms")
    for part, network in (("unet", tiny.unet()), ("text_encoder", tiny.text_encoder())):
        emptied(part)(tmp_path / "forms")
        network.save_pretrained(tmp_path / "forms" / part, max_shard_size="20KB")
        assert len(list((tmp_path / "forms" / part).glob("*.safetensors"))) > 1
    earlier = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(tmp_path / "forms" / VAE)
    for now, before in earlier.items():
        weights = {key.replace(f".{now}.", f".{before}."): value for key, value in weights.items()}
    save_file(weights, tmp_path / "forms" / VAE, {"format": "pt"})
    found, own = load_model(str(tmp_path / "forms")).pipe, load_model(str(folders("sd"))).pipe
    for part in ("unet", "vae", "text_encoder"):
        expected = getattr(own, part).state_dict()
        for key, value in getattr(found, part).state_dict().items():
            assert torch.equal(value, expected[key]), (part, key)


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        (None, "classifier.safetensors cannot be read ("),
        (b"nothing of the kind", "classifier.safetensors cannot be read ("),
        ({"conv_in.weight": torch.zeros(2, 3)}, "is not that of portraits: the shape of its feature_scale is missing, but must be ()"),
        ({**PortraitClassifier().state_dict(), "head.bias": torch.zeros(5)}, "the shape of its head.bias is (5,), but must be (23,); copy the model again."),
        ({**PortraitClassifier().state_dict(), "other": torch.zeros(1)}, "the shape of its other is (1,), but must be missing; copy the model again."),
    ],
)  # fmt: skip
def test_a_classifier_that_is_none_is_refused(weights: Any, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "classifier.safetensors"
    if isinstance(weights, bytes):
        path.write_bytes(weights)
    elif weights is not None:
        save_file(weights, path)
    with pytest.raises(UnsupportedModel) as refused:
        PortraitClassifier.load(path)
    assert sentence in str(refused.value)


@pytest.mark.parametrize("broken", ["head.bias", "body.0.weight", "feature_scale"])
def test_a_classifier_that_gives_nan_reads_nothing(broken: str) -> None:
    classifier = PortraitClassifier().eval()
    classifier.state_dict()[broken].fill_(float("nan"))
    with pytest.raises(NotFiniteError, match=r"the classifier's output is not finite for these images\."):
        read(classifier, torch.zeros(2, 3, 64, 64, dtype=torch.uint8))


def test_damaged_weights_are_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "model"
    shutil.copytree(shipped()["portraits"], folder)
    for name in ("unet/diffusion_pytorch_model.safetensors", "weak/diffusion_pytorch_model.safetensors"):
        weights = bytearray((folder / name).read_bytes())
        weights[len(weights) // 2] ^= 4
        (folder / name).write_bytes(weights)
        capsys.readouterr()
        assert generate("--model", folder, "--seeds", "0", "--outdir", tmp_path / "o") == 2
        assert printed(capsys) == (
            f"steerclear: the model {str(folder)!r} is damaged: {name} in {folder} does not match its digest in SHA256SUMS. "
            "Copy or install it again, or remove SHA256SUMS if you changed the weights on purpose."
        )
        shutil.copyfile(shipped()["portraits"] / name, folder / name)


@pytest.mark.parametrize(
    ("given", "part"), [("mm", "unet"), ("mm/unet", "unet"), ("mm/weak", "weak"), (".", "weak"), ("alone", "")]
)
def test_damaged_weak_weights_are_noticed(
    given: str, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / given.partition("/")[0].replace(".", "mm")
    shutil.copytree(shipped()["portraits"] / ("" if part else "weak"), folder)
    if not part:
        write_sums(folder)
    name = Path(part, "diffusion_pytorch_model.safetensors").as_posix()
    damaged = [name, "text_encoder/model.safetensors"] if part else [name]  # of a pipeline only its network is read
    whole = {file: (folder / file).read_bytes() for file in damaged}
    for file, weights in whole.items():
        middle = len(weights) // 2
        (folder / file).write_bytes(weights[:middle] + bytes([weights[middle] ^ 4]) + weights[middle + 1 :])
    monkeypatch.chdir(folder / part if given == "." else tmp_path)
    asked = ["--guidance", "autoguidance", "--weak", given, "--seeds", "0", "--steps", "1", "--outdir", tmp_path / "o"]
    assert generate("--model", "portraits", *asked) == 2
    assert printed(capsys) == (
        f"steerclear: the weak network {given!r} is damaged: {name} in {folder} does not match its digest in SHA256SUMS. "
        "Copy or install it again, or remove SHA256SUMS if you changed the weights on purpose."
    )
    (folder / name).write_bytes(whole[name])
    assert generate("--model", "portraits", *asked) == 0


def test_all_weights_that_ship_have_their_digest() -> None:
    for folder in shipped().values():
        named = [line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()]
        assert named == sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.safetensors"))
