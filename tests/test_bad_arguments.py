"""Bad arguments of the whole Python API: each is one sentence of ours, before anything is made."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import steerclear
import tiny
from steerclear.core.errors import SteerclearError
from steerclear.models.loading import Model, load_model
from steerclear.study.generate import generate
from steerclear.study.methods import Method
from steerclear.study.recipe import Recipe
from steerclear.study.results import Results
from steerclear.study.run import recipe_of, run
from steerclear.study.study import comparison
from steerclear.telling.report import write_report
from steerclear.testbeds.mixture import MixtureDenoiser
from steerclear.testbeds.spiral import Spiral

MAN, CFG = "a man", steerclear.ClassifierFreeGuidance(3.0)
SURROGATE = "mustache \udcff"


@pytest.fixture(scope="module")
def model() -> Model:
    return Model("tiny", None, tiny.stable_diffusion("dpm++-sde"), "digest")


def recipe(model: Model) -> Recipe:
    return recipe_of(model, Method("cfg", "cfg", MAN, (), CFG), 2)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"prompt": 5}, "the prompt is 5, but must be a text."),
        ({"prompt": None}, "the prompt is None, but must be a text."),
        ({"prompt": ["a man"]}, r"the prompt is \['a man'\], but must be a text."),
        ({"prompt": ""}, "the prompt is empty"),
        ({"prompt": SURROGATE}, "has a lone surrogate, which is not a character; leave it out."),
        ({"negative_prompts": "mustache"}, "negative_prompts is 'mustache', but must be a tuple of texts; a single one needs a comma"),
        ({"negative_prompts": (5,)}, "the negative prompt is 5, but must be a text."),
        ({"negative_prompts": None}, "negative_prompts is None, but must be a tuple of texts"),
        ({"negative_prompts": (SURROGATE,)}, "has a lone surrogate, which is not a character; leave it out."),
        ({"negative_prompts": 5}, "negative_prompts is 5, but must be a tuple of texts"),
        ({"seeds": ()}, r"seeds is \(\), but must be at least one"),
        ({"seeds": 5}, "seeds is 5, but must be a sequence of whole numbers"),
        ({"seeds": None}, "seeds is None, but must be a sequence of whole numbers"),
        ({"seeds": "0-3"}, "seeds is '0-3', but must be a sequence of whole numbers"),
        ({"seeds": (0.5,)}, "a seed is 0.5, but must be a whole number from 0 to 4294967295."),
        ({"seeds": (1.0,)}, "a seed is 1.0, but must be a whole number"),
        ({"seeds": (True,)}, "a seed is True, but must be a whole number"),
        ({"seeds": (-1,)}, "a seed is -1, but must be a whole number from 0 to 4294967295."),
        ({"seeds": (2**32,)}, "a seed is 4294967296, but must be a whole number"),
        ({"seeds": (math.nan,)}, "a seed is nan, but must be a whole number"),
        ({"seeds": ("1",)}, "a seed is '1', but must be a whole number"),
        ({"seeds": (1, 2, 1)}, "the seed 1 is given twice; give it once."),
        ({"num_inference_steps": 0}, "num_inference_steps is 0, but must be a whole number from 1 to 1000."),
        ({"num_inference_steps": -1}, "num_inference_steps is -1, but must be"),
        ({"num_inference_steps": math.nan}, "num_inference_steps is nan, but must be"),
        ({"num_inference_steps": 2.5}, "num_inference_steps is 2.5, but must be"),
        ({"num_inference_steps": "30"}, "num_inference_steps is '30', but must be"),
        ({"num_inference_steps": None}, "num_inference_steps is None, but must be"),
        ({"num_inference_steps": 1001}, "num_inference_steps is 1001, but must be"),
        ({"guidance_scale": math.nan}, "guidance_scale is nan, but must be a finite number."),
        ({"guidance_scale": "3"}, "guidance_scale is '3', but must be a finite number."),
        ({"guidance_scale": None}, "guidance_scale is None, but must be a finite number."),
        ({"auto_scale": math.inf}, "auto_scale is inf, but must be a finite number."),
        ({"methods": ()}, r"methods is \(\), but must be at least one name, or None for the standard ones."),
        ({"methods": "cfg"}, "methods is 'cfg', but must be names of methods"),
        ({"methods": 5}, "methods is 5, but must be names of methods"),
        ({"methods": (5,)}, r"methods is \(5,\), but must be names of methods"),
        ({"methods": (CFG,)}, "but must be names of methods"),
        ({"methods": ("cgf",)}, "there is no method 'cgf'; did you mean 'cfg'"),
        ({"methods": ("cfg", "cfg")}, "the method 'cfg' is given twice; give it once."),
        ({"methods": ("cfg", "", "negative")}, "methods is 'cfg,,negative', but must be names of methods, separated by commas; there is an empty name between commas."),
        ({"height": 7}, "height is 7, but must be a whole number from 8 to 16384."),
        ({"height": 0}, "height is 0, but must be a whole number from 8 to 16384."),
        ({"height": 17}, "height is 17, but must be a multiple of 8"),
        ({"height": 16.0}, "height is 16.0, but must be a whole number from 8 to 16384."),
        ({"width": "16"}, "width is '16', but must be a whole number from 8 to 16384."),
        ({"width": math.nan}, "width is nan, but must be a whole number from 8 to 16384."),
    ],
)  # fmt: skip
def test_questions(settings: dict[str, Any], sentence: str, model: Model, tmp_path: Path) -> None:
    asked = {
        "prompt": MAN,
        "negative_prompts": (),
        "seeds": (0,),
        "num_inference_steps": 2,
        "methods": ("cfg",),
    } | settings
    with pytest.raises(SteerclearError, match=sentence):
        run(comparison(**asked), tmp_path / "run", model=model)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"model": "portraits"}, "model is 'portraits', but must be a Model; load one with load_model."),
        ({"study": MAN}, "study is 'a man', but must be a Study."),
        ({"folder": 5}, "folder is 5, but must be a path."),
        ({"folder": None}, "folder is None, but must be a path."),
        ({"folder": ""}, "folder is '', but must be a path; '.' is the folder you are in."),
        ({"folder": "a\0b"}, r"folder is 'a\\x00b', but must be a path; take the character NUL out of it."),
        ({"folder": "~nobody-of-this-name/x"}, "it names no home folder that is known here; write it in full."),
        ({"on_progress": 5}, "on_progress is 5, but must be a function, or None."),
        ({"on_method": "cfg"}, "on_method is 'cfg', but must be a function, or None."),
        ({"batch_size": 0}, "batch_size is 0, but must be a whole number of at least 1."),
        ({"batch_size": -1}, "batch_size is -1, but must be a whole number of at least 1."),
        ({"batch_size": 1.5}, "batch_size is 1.5, but must be a whole number of at least 1."),
        ({"batch_size": "16"}, "batch_size is '16', but must be a whole number of at least 1."),
        ({"batch_size": None}, "batch_size is None, but must be a whole number of at least 1."),
    ],
)
def test_compare(arguments: dict[str, Any], sentence: str, model: Model, tmp_path: Path) -> None:
    given = {
        "model": model,
        "study": comparison(MAN, (), (0,), 2, methods=("cfg",)),
        "folder": tmp_path / "run",
    } | arguments
    with pytest.raises(SteerclearError, match=sentence):
        run(given.pop("study"), given.pop("folder"), **given)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"model": None}, "model is None, but must be a Model; load one with load_model."),
        ({"recipe": MAN}, "recipe is 'a man', but must be a Recipe."),
        ({"seeds": (1, 1)}, "the seed 1 is given twice; give it once."),
        ({"seeds": (0.5,)}, "a seed is 0.5, but must be a whole number"),
        ({"seeds": (-1,)}, "a seed is -1, but must be a whole number"),
        ({"seeds": 3}, "seeds is 3, but must be a sequence of whole numbers"),
        ({"folder": 5}, "folder is 5, but must be a path."),
        ({"folder": ""}, "folder is '', but must be a path; '.' is the folder you are in."),
        ({"folder": "a\0b"}, r"folder is 'a\\x00b', but must be a path; take the character NUL out of it."),
        ({"folder": "~nobody-of-this-name/x"}, "it names no home folder that is known here; write it in full."),
        ({"on_progress": 5}, "on_progress is 5, but must be a function, or None."),
        ({"batch_size": 0}, "batch_size is 0, but must be a whole number of at least 1."),
        ({"batch_size": -1}, "batch_size is -1, but must be a whole number of at least 1."),
        ({"batch_size": math.nan}, "batch_size is nan, but must be a whole number of at least 1."),
    ],
)
def test_generate(arguments: dict[str, Any], sentence: str, model: Model, tmp_path: Path) -> None:
    given = {"model": model, "recipe": recipe(model), "seeds": (0,), "folder": tmp_path / "run"} | arguments
    with pytest.raises(SteerclearError, match=sentence):
        generate(given.pop("model"), given.pop("recipe"), given.pop("seeds"), given.pop("folder"), **given)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("prompt", "negatives", "numbers", "sentence"),
    [
        (5, (), (2,), "the prompt is 5, but must be a text."),
        ("", (), (2,), "the prompt is empty"),
        (MAN, (SURROGATE,), (2,), "has a lone surrogate, which is not a character; leave it out."),
        (MAN, (), (0,), "num_inference_steps is 0, but must be a whole number from 1 to 1000."),
        (MAN, (), (math.nan,), "num_inference_steps is nan, but must be"),
        (MAN, (), (2, 7), "height is 7, but must be a whole number from 8 to 16384."),
        (MAN, (), (2, 16, "16"), "width is '16', but must be a whole number from 8 to 16384."),
    ],
)
def test_recipes(prompt: Any, negatives: Any, numbers: tuple[Any, ...], sentence: str, model: Model) -> None:
    with pytest.raises(SteerclearError, match=sentence):
        recipe_of(model, Method("cfg", "cfg", prompt, negatives, CFG), *numbers)


def test_no_seeds_are_no_images(model: Model, tmp_path: Path) -> None:
    assert generate(model, recipe(model), (), tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": "n\udcff"}, r"the model is 'n\\udcff', but must be a name without lone surrogates; rename it\.$"),
        ({"name": 5}, "the model is 5, but must be a name, a folder or a hub id."),
        ({"name": None}, "the model is None, but must be a name, a folder or a hub id."),
        ({"name": ""}, "there is no model folder or shipped model ''"),
        ({"name": "nowhere"}, "there is no model folder or shipped model 'nowhere'"),
        ({"name": "a\0b"}, "there is no model folder or shipped model"),
        ({"weak": 5}, "the weak network is 5, but must be a folder, a hub id or a kind of network, as text; give"),
        ({"weak": steerclear.NoisedWeights()}, "the weak network is NoisedWeights.*, as text; give a network to steer"),
        ({"loras": "style.safetensors"}, "loras is 'style.safetensors', but must be a sequence of texts"),
        ({"loras": 5}, "loras is 5, but must be a sequence of texts"),
        ({"loras": [5]}, r"loras is \[5\], but must be a sequence of texts"),
        ({"device": 5}, r"device is 5, but must be one that torch can use here; .*[^.]\.$"),
        ({"device": "gpu"}, "device is 'gpu', but must be one that torch can use here"),
        ({"device": None}, "device is None, but must be one that torch can use here"),
        ({"dtype": torch.float16}, "there is no dtype torch.float16"),
        ({"dtype": 16}, "there is no dtype 16"),
        ({"dtype": ["float32"]}, "there is no dtype"),
        ({"offload": True}, "there is no way of offloading True"),
        ({"offload": ["model"]}, "there is no way of offloading"),
        ({"scheduler": 5}, "scheduler is 5, but must be a name, such as 'euler a'"),
    ],
)  # fmt: skip
def test_load_model(arguments: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    given: dict[str, Any] = {"name": "portraits"} | arguments
    with pytest.raises(SteerclearError, match=sentence):
        load_model(given.pop("name"), **given)


PIPE = tiny.stable_diffusion("dpm++-sde")
STEER: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    ((None, CFG), {}, "steerclear does not know how NoneType calls its network"),
    (("portraits", CFG), {}, "steerclear does not know how str calls its network"),
    ((PIPE, None), {}, "guidance is None, but must be a guidance"),
    ((PIPE, "cfg"), {}, "guidance is 'cfg', but must be a guidance"),
    ((PIPE, steerclear.ClassifierFreeGuidance), {}, "but must be a guidance"),
    ((PIPE, CFG, 5), {}, "negative_prompt is 5, but must be a text or a list of texts"),
    ((PIPE, CFG, ""), {}, "an empty text names no concept"),
    ((PIPE, CFG, []), {}, "an empty text names no concept"),
    ((PIPE, CFG, [5]), {}, "a negative prompt must be a text, but one of them is 5"),
    ((PIPE, CFG, SURROGATE), {}, "has a lone surrogate, which is not a character; leave it out."),
    ((PIPE, CFG, ["hat", SURROGATE]), {}, "has a lone surrogate, which is not a character; leave it out."),
    ((PIPE, CFG, {"hat": 1}), {}, "but must be a text or a list of texts"),
    ((PIPE, CFG), {"weak": "noised"}, "weak is 'noised', but must be a network"),
    ((PIPE, CFG), {"weak": 5}, "weak is 5, but must be a network"),
    ((PIPE, CFG), {"weak": steerclear.NoisedWeights}, "but must be a network"),
    ((PIPE, CFG), {"negative_class_labels": 3}, "StableDiffusionPipeline does not have it"),
    ((PIPE, CFG), {"max_batch": 0}, "max_batch is 0, but must be a whole number of at least 1."),
    ((PIPE, CFG), {"max_batch": 2.0}, "max_batch is 2.0, but must be a whole number"),
    ((PIPE, CFG), {"max_batch": "2"}, "max_batch is '2', but must be a whole number"),
    ((PIPE, CFG), {"max_batch": math.nan}, "max_batch is nan, but must be a whole number"),
    (
        (PIPE, steerclear.AutoGuidance(2.0)),
        {},
        r"autoguidance asks for the weak network, and none is given; give steer\(\.\.\., weak=\.\.\.\) another",
    ),
]


@pytest.mark.parametrize(("arguments", "settings", "sentence"), STEER)
def test_steer(arguments: tuple[Any, ...], settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SteerclearError, match=sentence), steerclear.steer(*arguments, **settings):
        pass


@pytest.mark.parametrize(
    ("arguments", "settings", "sentence"),
    [
        ((None,), {}, "guidance is None, but must be a guidance"),
        ((5,), {}, "guidance is 5, but must be a guidance"),
        ((CFG, 5), {}, "negative_prompt is 5, but must be a text or a list of texts"),
        ((CFG, SURROGATE), {}, "has a lone surrogate, which is not a character; leave it out."),
        ((CFG, ""), {}, "an empty text names no concept"),
        ((CFG,), {"weak": "noised"}, "weak is 'noised', but must be a network"),
        ((CFG,), {"start": math.nan}, "start is nan, but must be a finite number from 0 to 1."),
        ((CFG,), {"start": "0"}, "start is '0', but must be a finite number from 0 to 1."),
        ((CFG,), {"stop": 2}, "stop is 2, but must be a finite number from 0 to 1."),
        ((CFG,), {"start": 0.5, "stop": 0.2}, "start is 0.5, but must be"),
        ((CFG,), {"stop": None}, "stop is None, but must be"),
        ((CFG,), {"enabled": "no"}, "enabled is 'no', but must be True or False."),
        ((CFG,), {"enabled": None}, "enabled is None, but must be True or False."),
    ],
)
def test_guider(arguments: tuple[Any, ...], settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SteerclearError, match=sentence):
        steerclear.guider(*arguments, **settings)


def sampled(**changed: Any) -> Any:
    world = MixtureDenoiser(Spiral().world)
    given = {
        "denoiser": world,
        "guidance": CFG,
        "scheduler": tiny.scheduler("ddim"),
        "seeds": [0],
        "shape": (2,),
    } | changed
    names = ("denoiser", "guidance", "scheduler", "seeds", "shape")
    first = [given.pop(name) for name in names]
    return steerclear.sample(*first, **given)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"guidance": None}, "guidance is None, but must be a guidance"),
        ({"denoiser": None}, "denoiser is None, but must be a denoiser"),
        ({"scheduler": None}, "scheduler is None, but must be a diffusers scheduler"),
        ({"scheduler": "ddim"}, "scheduler is 'ddim', but must be a diffusers scheduler"),
        ({"seeds": []}, r"seeds is \(\), but must be at least one"),
        ({"seeds": 5}, "seeds is 5, but must be a sequence of whole numbers"),
        ({"seeds": [0.5]}, "a seed is 0.5, but must be a whole number"),
        ({"seeds": [-1]}, "a seed is -1, but must be a whole number"),
        ({"seeds": [1, 1]}, "the seed 1 is given twice; give it once."),
        ({"shape": 2}, "shape is 2, but must be a sequence of whole numbers of at least 1."),
        ({"shape": (0,)}, r"shape is \(0,\), but must be a sequence of whole numbers of at least 1."),
        ({"shape": (-2,)}, "but must be a sequence of whole numbers of at least 1."),
        ({"shape": (2.0,)}, "but must be a sequence of whole numbers of at least 1."),
        ({"num_inference_steps": 0}, "num_inference_steps is 0, but must be a whole number of at least 1."),
        ({"num_inference_steps": math.nan}, "num_inference_steps is nan, but must be a whole number of at least 1."),
        ({"num_inference_steps": "3"}, "num_inference_steps is '3', but must be a whole number of at least 1."),
        ({"negatives": -1}, "negatives is -1, but must be a whole number of at least 0."),
        ({"negatives": 1.5}, "negatives is 1.5, but must be a whole number of at least 0."),
        ({"dtype": "float32"}, "dtype is 'float32', but must be a floating-point dtype of torch"),
        ({"dtype": torch.int64}, "dtype is torch.int64, but must be a floating-point dtype of torch"),
    ],
)
def test_sample(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SteerclearError, match=sentence):
        sampled(**changed)


def test_folders_may_be_texts_and_numbers_any_librarys(model: Model, tmp_path: Path) -> None:
    seeds: Any = np.array([3, 4])
    numbers: Any = {"num_inference_steps": np.int64(2), "guidance_scale": np.float32(3), "height": torch.tensor(16)}
    study = comparison(MAN, [], range(2), methods=["cfg"], **numbers)
    found = run(study, str(tmp_path / "run"), model=model, batch_size=np.int64(2))
    assert (found.num_inference_steps, found.height) == (2, 16)
    assert (found.seeds, [method.name for method in found.methods]) == ("0-1", ["cfg"])
    assert write_report(Results.model_validate(found), str(tmp_path / "run")).is_file()
    pictures = generate(model, recipe(model), seeds, str(tmp_path / "images"))
    assert [(picture.seed, picture.path.name) for picture in pictures] == [(3, "00003.png"), (4, "00004.png")]
    assert load_model_takes_a_path()


def load_model_takes_a_path() -> bool:
    from steerclear.models import shipped

    return load_model(shipped()["portraits"]).digest == load_model("portraits").digest  # type: ignore[arg-type]


CONSTRUCTED: list[tuple[Callable[[], Any], str]] = [
    (lambda: steerclear.ClassifierFreeGuidance(math.nan), "guidance_scale is nan"),
    (lambda: steerclear.ClassifierFreeGuidance("3"), "guidance_scale is '3'"),
    (lambda: steerclear.ClassifierFreeGuidance(None), "guidance_scale is None"),
    (lambda: steerclear.ClassifierFreeGuidance([3.0]), r"guidance_scale is \[3.0\]"),
    (lambda: steerclear.AutoGuidance(2.0, "cfg"), "inner is 'cfg', but must be a guidance"),
    (lambda: steerclear.AutoGuidance(2.0, steerclear.ClassifierFreeGuidance), "but must be a guidance"),
    (lambda: steerclear.IntervalGuidance(5), "inner is 5, but must be a guidance"),
    (lambda: steerclear.IntervalGuidance(CFG, start=0.5, stop=0.2), "start is 0.5, but must be below stop"),
    (lambda: steerclear.IntervalGuidance(CFG, start=math.nan), "start is nan"),
    (lambda: steerclear.IntervalGuidance(CFG, by="step"), "by is 'step', but must be fraction or sigma."),
    (lambda: steerclear.RescaledGuidance(CFG, 2.0), "guidance_rescale is 2.0"),
    (lambda: steerclear.RescaledGuidance(None, 0.5), "inner is None, but must be a guidance"),
    (lambda: steerclear.DynamicNegativeGuidance(3.0, evidence="constant"), "evidence is 'constant', but must be"),
    (lambda: steerclear.DynamicNegativeGuidance(3.0, concept="both"), "concept is 'both'"),
    (lambda: steerclear.ConstantEvidence(2.0), "posterior is 2.0"),
    (lambda: steerclear.ConstantEvidence("half"), "posterior is 'half'"),
    (lambda: steerclear.TransitionEvidence(prior=0), "prior is 0.0, but must be between 0 and 1"),
    (lambda: steerclear.TransitionEvidence(prior=math.nan), "prior is nan"),
    (lambda: steerclear.TransitionEvidence(prior="half"), "prior is 'half'"),
    (lambda: steerclear.PublishedEvidence(prior=2), "prior is 2"),
    (lambda: steerclear.NegativePromptGuidance(negative_scale=math.nan), "negative_scale is nan"),
    (lambda: steerclear.DynamicNegativeGuidance(3.0, negative_scale="strong"), "negative_scale is .strong."),
    (lambda: steerclear.TransitionEvidence(temperature=0), "temperature is 0"),
    (lambda: steerclear.TransitionEvidence(stop_below=-1), "stop_below is -1"),
    (lambda: steerclear.OracleEvidence(5), "log_odds is 5"),
    (lambda: steerclear.NoisedWeights(-1), "strength is -1"),
    (lambda: steerclear.NoisedWeights(strength="loud"), "strength is 'loud'"),
    (lambda: steerclear.NoisedWeights(seed=1.5), "seed is 1.5"),
    (lambda: steerclear.QuantizedWeights(1), "bits is 1"),
    (lambda: steerclear.QuantizedWeights(4.0), "bits is 4.0"),
    (lambda: steerclear.SeededDropout(1.0), "probability is 1.0"),
    (lambda: steerclear.SeededDropout(layers="mid"), "layers is 'mid'"),
    (lambda: steerclear.NarrowContext(0), "tokens is 0"),
    (lambda: steerclear.NarrowContext(None), "tokens is None"),
    (lambda: steerclear.DroppedLayers("mid_block"), "layers is 'mid_block'"),
    (lambda: steerclear.WithLora(""), "adapter is ''"),
    (lambda: steerclear.WithLora(5), "adapter is 5"),
    (lambda: steerclear.WithoutLora("style"), "adapters is 'style'"),
    (lambda: steerclear.OtherNetwork("folder"), "network is 'folder'"),
]


@pytest.mark.parametrize(("make", "sentence"), CONSTRUCTED)
def test_guidances_evidences_and_weak_networks(make: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(SteerclearError, match=sentence):
        make()
