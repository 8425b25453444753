"""The door from Python: the same images as from the command line, on anybody's pipeline, which stays as it was."""

import copy
import dataclasses
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from diffusers import DiffusionPipeline, EulerDiscreteScheduler
from peft import LoraConfig
from PIL import Image

import steerclear
import tiny
from steerclear.cli.app import main
from steerclear.core.errors import (
    FolderConflict,
    InvalidSetting,
    MissingPackage,
    PromptError,
    SteerclearWarning,
    UnknownName,
    UnsupportedModel,
)
from steerclear.guidance.classifier_free import ClassifierFreeGuidance
from steerclear.guidance.negative_prompt import NegativePromptGuidance
from steerclear.models import files, loading
from steerclear.models.given import given_model, pipeline_digest
from steerclear.models.loading import Model
from steerclear.models.loras import LoRA
from steerclear.models.networks import NetworkSource
from steerclear.networks.dropped_layers import DroppedLayers
from steerclear.study.again import Before
from steerclear.study.commands import generate_command
from steerclear.study.results import Results
from steerclear.study.study import ModelAsked, Study
from steerclear.telling.comparison import Comparison, asked_model

MAN = "portrait photo of a man"
ATTACK = '<script>alert("1")</script>'
FEW: dict[str, Any] = {"seeds": range(2), "num_inference_steps": 3, "progress": False}

pytestmark = pytest.mark.usefixtures("few_references", "loaded_once")


def pixels(folder: Path, results: Results) -> np.ndarray:
    """``[methods, seeds, height, width, 3]``"""
    return np.array([[np.array(Image.open(folder / one.file)) for one in each.images] for each in results.methods])


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny.stable_diffusion("dpm++-sde")


@pytest.fixture(scope="module")
def by_pipe(few_references: None, loaded_once: None) -> Comparison:
    pipe = loading.load_model("portraits").pipe
    return steerclear.compare(pipe, MAN, negative_prompt="mustache", methods=["cfg", "dynamic-negative"], **FEW)


@pytest.fixture(scope="module")
def tiny_comparison(pipe: Any) -> Comparison:
    return steerclear.compare(pipe, "a man", "hat", methods=["cfg", "negative"], **FEW)


# the images


def test_images_are_those_of_the_command_line(by_pipe: Comparison, tmp_path: Path) -> None:
    options = ["--negative-prompt", "mustache", "--methods", "cfg,dynamic-negative", "--seeds", "0-1", "--steps", "3"]
    assert main(["compare", MAN, *options, "--outdir", str(tmp_path / "line")]) == 0
    line = Results.model_validate_json((tmp_path / "line" / "results.json").read_text())
    named = steerclear.compare("portraits", MAN, "mustache", methods=["cfg", "dynamic-negative"], **FEW)
    expected = pixels(tmp_path / "line", line)
    assert expected.shape == (2, 2, 64, 64, 3)
    assert np.array_equal(pixels(by_pipe.folder, by_pipe.results), expected)
    assert np.array_equal(pixels(named.folder, named.results), expected)
    assert [method.measurements for method in by_pipe.results.methods] == [one.measurements for one in line.methods]
    assert (by_pipe.results.model, named.results.model_digest) == ("portraits", line.model_digest)


def test_generated_images_are_those_of_the_comparison(by_pipe: Comparison) -> None:
    pipe = loading.load_model("portraits").pipe
    images = steerclear.generate(pipe, MAN, "mustache", guidance=steerclear.DynamicNegativeGuidance(3.0), **FEW)
    compared = by_pipe.results.methods[1]
    assert np.array_equal(np.array([np.array(one) for one in images]), pixels(by_pipe.folder, by_pipe.results)[1])
    assert images.traces == [one.trace for one in compared.images]
    assert images.recipe.digest() == compared.recipe_digest


def test_image_k_of_a_batch_is_image_k_alone(pipe: Any) -> None:
    together = steerclear.generate(pipe, "a man", "hat", seeds=[0, 1, 2], num_inference_steps=3, batch_size=3)
    alone = steerclear.generate(pipe, "a man", "hat", seeds=[2], num_inference_steps=3)
    assert np.array_equal(np.array(together[2]), np.array(alone[0]))


def test_images_are_there_while_they_are_iterated(pipe: Any) -> None:
    sizes = [image.size for image in steerclear.generate(pipe, "a man", **FEW)]
    assert sizes == [(16, 16), (16, 16)]


def test_the_guidance_that_is_taken_where_none_is_named(pipe: Any) -> None:
    assert steerclear.generate(pipe, "a man", **FEW).recipe.guidance["_class_name"] == "ClassifierFreeGuidance"
    found = steerclear.generate(pipe, "a man", ["hat", "beard"], **FEW).recipe
    assert (found.guidance["_class_name"], found.negative_prompts) == ("DynamicNegativeGuidance", ("hat", "beard"))
    classes = steerclear.generate(tiny.family("dit"), "1", "2", **FEW).recipe
    assert classes.built_guidance() == NegativePromptGuidance()
    assert steerclear.generate(pipe, "a man", guidance="unguided", **FEW).recipe.guidance == {"_class_name": "Unguided"}


# the pipeline


def test_nothing_stays_on_the_pipeline() -> None:
    pipe = tiny.stable_diffusion("dpm++-sde")
    del pipe._progress_bar_config
    before, settings, scheduler = dict(vars(pipe)), dict(pipe.config), copy.deepcopy(vars(pipe.scheduler))
    modules = {name: dict(vars(part)) for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    kinds = {name: type(part) for name, part in pipe.components.items()}
    steerclear.compare(
        pipe,
        "a man",
        "hat",
        methods=["cfg", "autoguidance-dynamic-negative"],
        weak=DroppedLayers(("mid_block",)),
        **FEW,
    )
    assert list(vars(pipe)) == list(before)
    assert all(value is before[name] for name, value in vars(pipe).items())
    assert dict(pipe.config) == settings
    assert {name: type(part) for name, part in pipe.components.items()} == kinds
    for name, kept in modules.items():
        assert vars(pipe.components[name]).keys() == kept.keys()
        assert not pipe.components[name]._forward_hooks
    assert vars(pipe.scheduler).keys() == scheduler.keys()
    for name, value in vars(pipe.scheduler).items():
        same = torch.equal(value, scheduler[name]) if isinstance(value, torch.Tensor) else value == scheduler[name]
        assert same, name


def test_a_pipeline_without_files_is_named_after_its_class(tiny_comparison: Comparison) -> None:
    results = tiny_comparison.results
    assert (results.model, results.device, results.networks) == ("StableDiffusionPipeline", "cpu", {})
    assert results.scheduler == (
        'DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", beta_end=0.012, beta_schedule="scaled_linear", '
        "beta_start=0.00085, steps_offset=1)"
    )
    assert [method.name for method in results.methods] == ["cfg", "negative"]
    assert [column.name for column in results.columns] == ["moved", "evaluations"]


def test_a_digest_says_weights_settings_and_adapters() -> None:
    plain = pipeline_digest(tiny.stable_diffusion())
    assert pipeline_digest(tiny.stable_diffusion()) == plain
    assert pipeline_digest(tiny.stable_diffusion("euler")) == plain  # recipes name the scheduler
    pipe = tiny.stable_diffusion()
    with torch.no_grad():
        next(pipe.vae.parameters()).flatten()[0] += 1
    found = {
        plain,
        pipeline_digest(pipe),
        pipeline_digest(tiny.stable_diffusion(network=tiny.unet(flip_sin_to_cos=False))),
    }
    found.add(pipeline_digest(tiny.stable_diffusion().to(dtype=torch.float16)))
    pipe = tiny.stable_diffusion()
    pipe.unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q"]), "style")
    for scale in (1.0, 0.5):
        pipe.set_adapters(["style"], [scale])
        found.add(pipeline_digest(pipe))
    assert len(found) == 6


@pytest.mark.parametrize("offload", ["layers", "networks", "groups"])
def test_offloaded_weights_wait_as_they_did(offload: str, pipe: Any) -> None:
    waiting = tiny.stable_diffusion("dpm++-sde")
    if offload == "layers":
        cpu_offload(waiting.unet, torch.device("cpu"))
        assert next(waiting.unet.parameters()).is_meta
    elif offload == "networks":
        waiting.enable_model_cpu_offload(device="cpu")
    else:
        waiting.enable_group_offload(torch.device("cpu"), offload_type="leaf_level")
    assert pipeline_digest(waiting) == pipeline_digest(pipe)
    images, expected = (list(steerclear.generate(one, "a man", "hat", **FEW)) for one in (waiting, pipe))
    assert np.array_equal(np.array(images), np.array(expected))
    assert next(waiting.unet.parameters()).is_meta is (offload == "layers")


def test_weights_that_are_not_in_memory_are_refused() -> None:
    pipe = tiny.stable_diffusion()
    pipe.unet.to("meta")
    with pytest.raises(UnsupportedModel, match="of the pipeline's unet are not in memory"):
        pipeline_digest(pipe)


def test_a_weak_network_is_named(pipe: Any) -> None:
    kinds = given_model(pipe, "dropped-layers:mid_block", {"perturbed": DroppedLayers(("mid_block",))}).networks
    source = NetworkSource("dropped-layers:layers=mid_block")
    assert {name: one.source for name, one in kinds.items()} == {"weak": source, "perturbed": source}
    other, another = (given_model(pipe, tiny.unet(seed=seed)).networks["weak"].source for seed in (9, 10))
    assert (other.source, len(other.digest)) == ("UNet2DConditionModel", 16)
    assert other.digest != another.digest


def test_autoguidance_joins_where_there_is_a_weak_network(pipe: Any) -> None:
    found = steerclear.compare(pipe, "a man", weak=DroppedLayers(("mid_block",)), **FEW).results
    assert [method.name for method in found.methods] == ["unguided", "cfg", "autoguidance"]
    assert found.networks == {"weak": NetworkSource("dropped-layers:layers=mid_block")}


# the folder


def test_a_temporary_folder_is_there_as_long_as_the_comparison(pipe: Any) -> None:
    found = steerclear.compare(pipe, "a man", methods=["cfg"], **FEW)
    folder = found.folder
    assert sorted(path.name for path in (folder / "images" / "cfg").iterdir()) == ["00000.png", "00001.png"]
    del found
    assert not folder.exists()


def test_a_run_is_saved_and_goes_on(tiny_comparison: Comparison, pipe: Any, tmp_path: Path) -> None:
    page = tiny_comparison.report(tmp_path / "kept")
    assert page == tmp_path / "kept" / "report.html"
    names = {path.relative_to(tmp_path / "kept").as_posix() for path in (tmp_path / "kept").rglob("*.*")}
    assert names >= {
        "report.html",
        "grid.png",
        "results.json",
        "run.json",
        "images/cfg/00001.png",
    }
    image = tmp_path / "kept" / "images" / "cfg" / "00001.png"
    made = image.stat().st_mtime_ns
    again = steerclear.compare(
        pipe, "a man", "hat", methods=["cfg", "negative"], folder=tmp_path / "kept", **FEW | {"seeds": "0-2"}
    )
    assert image.stat().st_mtime_ns == made
    assert np.array_equal(
        pixels(again.folder, again.results)[:, :2], pixels(tiny_comparison.folder, tiny_comparison.results)
    )
    assert again.save(tmp_path / "kept") == tmp_path / "kept"
    with pytest.raises(FolderConflict, match="holds another run"):
        steerclear.compare(pipe, "a woman", "hat", methods=["cfg"], folder=tmp_path / "kept", **FEW)
    with pytest.raises(FolderConflict, match="holds another run"):
        steerclear.compare(pipe, "a woman", methods=["cfg"], **FEW).save(tmp_path / "kept")


# what is shown


class Loads(HTMLParser):
    """Elements, and everything that is loaded from an address."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_notebook_shows_the_table_and_the_grid(tiny_comparison: Comparison) -> None:
    shown = Loads(tiny_comparison._repr_html_())
    assert shown.tags.count("th") == 3
    assert shown.tags.count("td") == 6
    assert "negative prompt" in shown.text
    assert [address[:22] for address in shown.addresses] == ["data:image/png;base64,"]


def test_prompts_are_escaped(pipe: Any) -> None:
    for shown in (
        steerclear.compare(pipe, ATTACK, methods=["unguided"], **FEW),
        steerclear.generate(pipe, ATTACK, **FEW),
    ):
        found = Loads(shown._repr_html_())
        assert "script" not in found.tags
        assert ATTACK in found.text
        assert all(address.startswith("data:image/png;base64,") for address in found.addresses)


def test_a_terminal_shows_the_table(by_pipe: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    lines = repr(by_pipe).splitlines()
    assert lines[0].startswith("“portrait photo of a man”, but no “mustache”")
    assert lines[2].split() == [
        "method",
        "mustache",
        "↓",
        "collateral",
        "shift",
        "↓",
        "moved",
        "↓",
        "network",
        "calls",
        "↓",
    ]
    rates = [each.measurements["mustache"].value for each in by_pipe.results.methods]
    row = next(line for line in lines if line.startswith("dynamic negative"))
    assert row.split()[2:4] == [f"{100 * rates[1]:.0f}", "%"]
    assert row.split()[-1] == "9"


def test_images_say_what_they_are(pipe: Any) -> None:
    images = steerclear.generate(pipe, "a man", guidance=ClassifierFreeGuidance(2.0), **FEW)
    assert repr(images) == "Images(2 of 'a man', seeds 0-1, cfg, 6 evaluations per image)"
    assert (len(images), images.seeds, [path.name for path in images.paths]) == (2, [0, 1], ["00000.png", "00001.png"])
    assert [axes.get_label() for axes in images.figure("guidance_norm").axes] == ["run/guidance_norm"]


def test_figures_by_name(tiny_comparison: Comparison) -> None:
    assert [axes.get_label() for axes in tiny_comparison.figure("grid", columns=1).axes] == ["cfg/0", "negative/0"]
    with pytest.raises(UnknownName, match="no figure 'gird'; did you mean 'grid'"):
        tiny_comparison.figure("gird")
    with pytest.raises(UnknownName, match="parameter of grid 'column'; did you mean 'columns'"):
        tiny_comparison.figure("grid", column=2)


def test_rows_are_the_measurements(by_pipe: Comparison) -> None:
    row, measured = by_pipe.rows()[1], by_pipe.results.methods[1].measurements
    assert (row["method"], row["negative_prompt"], row["evaluations"]) == ("dynamic-negative", ["mustache"], 9.0)
    mustache = measured["mustache"]
    assert [row[f"mustache{end}"] for end in ("", "_low", "_high")] == [mustache.value, mustache.low, mustache.high]
    assert row["mustache_truth"] == 0.0


def test_without_pandas_it_is_said_what_to_install(
    tiny_comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingPackage, match=r"to_pandas\(\) needs the package pandas.* pip install pandas\."):
        tiny_comparison.to_pandas()
    frame = SimpleNamespace(set_index=lambda name: (name, frame.rows), rows=None)
    monkeypatch.setitem(
        sys.modules, "pandas", SimpleNamespace(DataFrame=lambda rows: frame.__setattr__("rows", rows) or frame)
    )
    assert tiny_comparison.to_pandas() == ("method", tiny_comparison.rows())


def test_the_call_that_asks_the_same_again(tiny_comparison: Comparison) -> None:
    assert tiny_comparison.results.command == (
        "steerclear.compare(pipe, 'a man', negative_prompt='hat', seeds=range(0, 2), num_inference_steps=3, "
        "methods=['cfg', 'negative'])"
    )


def test_progress_is_shown_where_it_is_asked_for(pipe: Any, capsys: pytest.CaptureFixture[str]) -> None:
    steerclear.generate(pipe, "a man", seeds=[0], num_inference_steps=1)
    assert capsys.readouterr().err == ""  # no terminal
    steerclear.generate(pipe, "a man", seeds=[0], num_inference_steps=1, progress=True)
    assert "1/1" in capsys.readouterr().err


# what is refused


@pytest.fixture
def model(pipe: Any) -> Model:
    return given_model(pipe)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"prompt": " "}, PromptError, "the prompt is empty"),
        ({"negative_prompt": 3}, InvalidSetting, "negative_prompt"),
        ({"seeds": 3}, InvalidSetting, "seeds"),
        ({"seeds": [1, 1]}, InvalidSetting, "the seed 1 is given twice"),
        ({"methods": "cgf,negative"}, UnknownName, "did you mean 'cfg'"),
        ({"methods": 3}, InvalidSetting, "methods is 3, but must be names"),
        ({"methods": ["cgf"]}, UnknownName, "did you mean 'cfg'"),
        ({"batch_size": 0}, InvalidSetting, "batch_size is 0"),
        ({"weak": DroppedLayers(("mid_block",))}, InvalidSetting, "left out beside a loaded model"),
        ({"model": 3}, InvalidSetting, "model is <class 'int'>, but must be a pipeline"),
        ({"model": None}, InvalidSetting, "model is <class 'NoneType'>"),
        ({"height": 16_392}, InvalidSetting, "height is 16392, but must be a whole number from 8 to 16384"),
        ({"model": "portrait"}, UnknownName, "did you mean 'portraits'"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    change: dict[str, Any], error: type[Exception], words: str, model: Model
) -> None:
    asked = {"model": model, "prompt": "a man", "negative_prompt": (), **FEW} | change
    with pytest.raises(error, match=words):
        steerclear.compare(asked.pop("model"), asked.pop("prompt"), asked.pop("negative_prompt"), **asked)


def test_a_pipeline_that_starts_from_an_image_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="starts from an image"):
        steerclear.generate(tiny.family("sd", "img2img"), "a man")


def test_a_block_around_it_does_not_matter(pipe: Any) -> None:
    plain = steerclear.generate(pipe, "a man", **FEW)
    with steerclear.steer(pipe, ClassifierFreeGuidance(9.0)) as run:
        inside = steerclear.generate(pipe, "a man", **FEW)
        assert run.trace.steps == []
    assert np.array_equal(np.array(list(inside)), np.array(list(plain)))


# the study of a call


@pytest.fixture
def line(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def line(*arguments: object) -> tuple[int, str]:
        code = main([str(argument) for argument in arguments])
        return code, " ".join(capsys.readouterr().err.split())

    return line


GIVEN: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "a name": (lambda: "portraits", {}),
    "a model": (lambda: loading.load_model("portraits", scheduler="dpm++ 2m", dtype="bfloat16"),
                {"scheduler": 'DPMSolverMultistepScheduler(algorithm_type="dpmsolver++")', "dtype": "bfloat16"}),
    "a pipeline": (lambda: loading.load_model("portraits").pipe, {}),
    "a pipeline changed": (lambda: with_scheduler(loading.load_model("portraits", dtype="bfloat16").pipe),
                           {"scheduler": "EulerDiscreteScheduler", "dtype": "bfloat16"}),
}  # fmt: skip


def with_scheduler(pipe: Any) -> Any:
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    return pipe


@pytest.mark.parametrize("given", GIVEN)
def test_a_study_of_python_is_asked_again_in_the_terminal(given: str, tmp_path: Path, line: Any) -> None:
    """study.json loads the same model, and the terminal finds every image."""
    model, expected = GIVEN[given]
    once = {"seeds": [1], "num_inference_steps": 1, "progress": False, "judge": "none"}
    steerclear.compare(model(), MAN, "mustache", methods=["cfg"], folder=tmp_path, **once)
    study = Study.from_json((tmp_path / "study.json").read_text())
    assert study.model == ModelAsked("portraits", **expected)
    image = tmp_path / "images/cfg/00001.png"
    before, made = image.stat().st_mtime_ns, Results.model_validate_json((tmp_path / "results.json").read_text())
    assert line("compare", "--recipe", tmp_path, "--outdir", tmp_path, "--quiet") == (0, "")
    assert image.stat().st_mtime_ns == before
    again = Results.model_validate_json((tmp_path / "results.json").read_text())
    assert again.methods[0].recipe_digest == made.methods[0].recipe_digest
    assert Study.from_json((tmp_path / "study.json").read_text()).digest() == study.digest()


def test_the_terminal_adds_the_weak_network_to_the_run_of_a_pipeline(tmp_path: Path, line: Any) -> None:
    once = {"seeds": [1], "num_inference_steps": 1, "progress": False, "judge": "none"}
    pipe = loading.load_model("portraits").pipe
    found = steerclear.compare(pipe, MAN, folder=tmp_path, **once).results
    assert [one.name for one in found.methods] == ["unguided", "cfg"]
    image = tmp_path / "images/cfg/00001.png"
    made = image.stat().st_mtime_ns
    assert line("compare", "--recipe", tmp_path, "--outdir", tmp_path, "--quiet") == (0, "")
    assert sorted(one.name for one in (tmp_path / "images").iterdir()) == ["autoguidance", "cfg", "unguided"]
    assert image.stat().st_mtime_ns == made


def test_a_study_names_loras_networks_and_configuration(pipe: Any) -> None:
    model = dataclasses.replace(
        given_model(pipe, weak="noised:0.1"),
        name="one.safetensors",
        config="portraits",
        loras=(LoRA("style", 0.5, "d"),),
    )
    own = dataclasses.replace(model.networks["weak"], source=NetworkSource("weak", "d"))
    model = dataclasses.replace(model, networks={**model.networks, "own": own})
    asked = asked_model(model)
    assert asked.networks == (("weak", "noised:strength=0.1"),)
    assert (asked.name, asked.config, asked.loras) == ("one.safetensors", "portraits", ("style:0.5",))
    assert asked.scheduler.startswith("DPMSolverMultistepScheduler(")  # type: ignore[union-attr]


def test_the_digest_of_a_pipeline_says_of_what_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    tiny.stable_diffusion().save_pretrained(folder)
    loaded = [DiffusionPipeline.from_pretrained(folder) for _ in range(4)]
    diffusers.utils.logging.enable_progress_bar()
    generator = torch.get_rng_state()
    assert given_model(loaded[0]).digest == files.folder_digest(folder)
    assert diffusers.utils.logging.is_progress_bar_enabled()  # what is loaded to compare leaves no trace
    assert torch.equal(torch.get_rng_state(), generator)
    with torch.no_grad():
        next(loaded[1].unet.parameters()).flatten()[0].add_(1e-3)
    loaded[2].tokenizer.add_tokens(["new"])
    loaded[3].vae.register_to_config(scaling_factor=0.5)
    for changed in loaded[1:]:
        assert given_model(changed).digest == f"memory:{pipeline_digest(changed)}"
    assert given_model(tiny.stable_diffusion()).digest.startswith("memory:")


def test_a_pipeline_without_a_place_has_no_command(tiny_comparison: Comparison) -> None:
    results = tiny_comparison.results
    assert generate_command(results, results.methods[0]) is None
    on_hub = results.model_copy(update={"model": "owner/model"})
    assert "--model owner/model" in (generate_command(on_hub, on_hub.methods[0]) or "")


def test_recipes_of_memory_are_not_compared_with_files(by_pipe: Comparison) -> None:
    model = loading.load_model("portraits")
    before = Before(
        by_pipe.folder, {}, None, {"model": "memory:1", "weak": model.networks["weak"].source.digest, "loras": ()}
    )
    with pytest.warns(SteerclearWarning) as told:
        before.warn_of_other_files(model, {})
    assert [str(one.message) for one in told] == [
        f"the model of {by_pipe.folder} was given in Python, so nothing says whether it had the same weights as the files now"
    ]


@pytest.mark.parametrize(
    ("seeds", "negatives", "methods", "words"),
    [
        (np.arange(2), np.array(["hat"]), np.array(["cfg"]), "('hat',), seeds=(0, 1), num_inference_steps=3, methods=('cfg',)"),
        ((seed for seed in (0, 1)), {"hat": 1}.keys(), "cfg", "('hat',), seeds=(0, 1), num_inference_steps=3, methods='cfg'"),
        (torch.arange(2), ["hat"], iter(["cfg"]), "['hat'], seeds=(0, 1), num_inference_steps=3, methods=('cfg',)"),
    ],
)  # fmt: skip
def test_arguments_may_be_anything_with_several_values(
    seeds: Any, negatives: Any, methods: Any, words: str, pipe: Any
) -> None:
    asked = {"num_inference_steps": 3, "progress": False}
    results = steerclear.compare(pipe, "a man", negatives, seeds=seeds, methods=methods, **asked).results
    assert (results.seeds, results.negative_prompts, len(results.methods)) == ("0-1", ["hat"], 1)
    assert results.command == f"steerclear.compare(pipe, 'a man', negative_prompt={words})"


def test_several_methods_in_one_text(pipe: Any) -> None:
    found = steerclear.compare(pipe, "a man", "hat", methods="cfg:guidance_scale=2, negative", **FEW).results.methods
    assert [one.name for one in found] == ["cfg-guidance_scale-2", "negative"]


def test_errors_of_folders_name_the_argument(pipe: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for function in (steerclear.generate, steerclear.compare):
        with pytest.raises(FolderConflict, match=r"does not hold a run of steerclear; give another folder\."):
            function(pipe, "a man", folder=tmp_path, **FEW)


def test_images_are_a_sequence(pipe: Any) -> None:
    images = steerclear.generate(pipe, "a man", guidance="dynamic-negative", negative_prompt="hat", **FEW)
    some = images[-1:]
    assert (len(some), images[5:]) == (1, [])
    assert np.array_equal(np.array(some[0]), np.array(images[1]))
    with pytest.raises(UnknownName, match="there is no measurement in this trace 'bogus'"):
        images.figure("bogus")


@pytest.mark.parametrize("name", [3, None])
def test_a_figure_that_is_not_named(name: Any, tiny_comparison: Comparison) -> None:
    with pytest.raises(UnknownName, match=f"there is no figure {name}"):
        tiny_comparison.figure(name)


def test_a_run_is_not_copied_into_itself(tiny_comparison: Comparison) -> None:
    with pytest.raises(FolderConflict, match="is inside the folder that would be copied into it"):
        tiny_comparison.save(tiny_comparison.folder / "inner")
    assert not (tiny_comparison.folder / "inner").exists()
