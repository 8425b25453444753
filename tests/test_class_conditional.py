"""The pipeline of images with classes: what a prompt means, what comes out, and that it is loaded as any model is."""

import json
import warnings

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from torch.nn import functional as F

import tiny
from steerclear.bridges.diffusers.asking import check_asking, check_prompt
from steerclear.bridges.diffusers.steer import steer
from steerclear.bridges.surroundings import decoder
from steerclear.core.errors import InvalidSetting, PromptError, SteerclearWarning, UnsupportedModel
from steerclear.guidance.classifier_free import ClassifierFreeGuidance
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.models.class_conditional import ClassConditionalPipeline
from steerclear.models.loading import load_model

ANY = len(tiny.CLASS_NAMES)


@pytest.fixture
def pipe():
    return tiny.family("classes")


@pytest.fixture
def folder(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("hat", 0), ("a hat", 0), ("The Hat.", 0), ("red hat", 1), ("a photo of a red hat", 1), ("3", 7), ("three", 7),
        ("the digit 3", 7), ("a handwritten three", 7), ("", ANY), ("  ", ANY), ("any", ANY), ("any digit", ANY),
        ("any, 3", 7), ("3, any", 7), ("beard, a beard", 2), (", 3", 7),
    ],
)  # fmt: skip
def test_a_prompt_is_a_class(pipe, text, number):
    assert pipe.class_number(text) == number
    labels, negative = pipe.encode_prompt(["cat", text], num_images_per_prompt=2, negative_prompt=[text, "cat"])
    assert labels.tolist() == [6, 6, number, number]
    assert negative.tolist() == [number, number, 6, 6]
    assert labels.dtype == negative.dtype == torch.long


@pytest.mark.parametrize("text", ["dog", "hats", "a", "red", "big hat", "hat red", "any dog", "3 without 5", "four"])
def test_other_texts_are_refused_with_the_classes(pipe, text):
    for ask in (pipe.class_number, lambda text: check_prompt(pipe, "prompt", text), pipe):
        with pytest.raises(PromptError, match=r"is no class of this model; it has hat, red hat, .*'any'"):
            ask(text)
    with (
        pytest.raises(PromptError, match="is no class of this model"),
        steer(pipe, ClassifierFreeGuidance(), negative_prompt=text),
    ):
        pass


def test_two_classes_are_no_class(pipe):
    with pytest.raises(PromptError, match=r"names several classes, and an image has one.*concept=negative"):
        pipe.class_number("hat, beard")

    def end(prompt, guidance):
        with steer(pipe, guidance, negative_prompt="beard") as run:
            latents = pipe(prompt, num_inference_steps=2, generator=tiny.generators(0), output_type="latent").images
        return latents, run

    with pytest.raises(PromptError, match="concept=negative"):
        end("hat", DynamicNegativeGuidance())
    _, run = end("hat", DynamicNegativeGuidance(concept="negative"))
    assert run.evaluations.tolist() == [6.0]
    joint, _ = end("any", DynamicNegativeGuidance())  # any image that is a beard: a beard
    assert torch.equal(end("", DynamicNegativeGuidance(concept="negative"))[0], joint)


def test_the_network_is_told_the_classes(pipe):
    """By hand: the guided prediction is that of the network for its own classes."""
    told = []
    pipe.unet.register_forward_pre_hook(lambda *call: told.append(call[2]["class_labels"].tolist()), with_kwargs=True)
    pipe(["3", ""], negative_prompt=["cat", ""], num_inference_steps=1, output_type="latent")
    pipe(["3", ""], num_inference_steps=1, output_type="latent", num_images_per_prompt=2)
    pipe("3", guidance_scale=1.0, num_inference_steps=1, output_type="latent")
    assert told == [[6, ANY, 7, ANY], [ANY] * 4 + [7, 7, ANY, ANY], [7]]


def test_images_are_the_latents_unfolded(pipe):
    generator = tiny.generators(0, 1)
    latents = pipe(["3", "hat"], generator=generator, num_inference_steps=2, output_type="latent").images
    assert latents.shape == (2, 4, 8, 8)
    pixels = pipe(["3", "hat"], generator=tiny.generators(0, 1), num_inference_steps=2, output_type="pt").images
    assert pixels.shape == (2, 3, 16, 16)
    back = F.pixel_unshuffle((pixels[:, :1] * 2 - 1 + 0.5) / 0.6, 2)
    inside = (pixels[:, :1] > 0) & (pixels[:, :1] < 1)
    shown = F.pixel_unshuffle(inside.float(), 2) > 0
    assert float((back - latents)[shown].abs().max()) <= 1e-5
    assert float(shown.float().mean()) > 0.2
    assert torch.equal(decoder(pipe, (None, None), None)(latents), pixels)
    arrays = pipe(["3", "hat"], generator=tiny.generators(0, 1), num_inference_steps=2, output_type="np").images
    assert np.array_equal(arrays, pixels.permute(0, 2, 3, 1).numpy())
    picture = pipe("3", generator=tiny.generators(0), num_inference_steps=2).images[0]
    assert (picture.size, picture.mode) == ((16, 16), "RGB")
    assert np.abs(np.asarray(picture) / 255 - arrays[0]).max() <= 0.5 / 255 + 1e-5


def test_saved_and_loaded_it_makes_the_same(pipe, folder):
    index = json.loads((folder / "model_index.json").read_text())
    assert (index["_class_name"], index["mean"], index["patch"]) == ("ClassConditionalPipeline", -0.5, 2)
    arguments = {"negative_prompt": "cat", "num_inference_steps": 2, "output_type": "latent"}
    expected = pipe("3", generator=tiny.generators(4), **arguments).images
    for again in (ClassConditionalPipeline.from_pretrained(folder), load_model(str(folder)).pipe):
        again.set_progress_bar_config(disable=True)
        assert again.classes == tiny.CLASS_NAMES
        assert torch.equal(again("3", generator=tiny.generators(4), **arguments).images, expected)


def test_the_hub_may_hold_one(folder, monkeypatch):
    """diffusers' own class looks for the class by name among its own, and does not find it."""
    fetched = []

    def download(cls, name, **settings):
        fetched.append((cls.__name__, name))
        if cls is DiffusionPipeline:
            raise AttributeError("module diffusers has no attribute ClassConditionalPipeline")
        return str(folder)

    monkeypatch.setattr(DiffusionPipeline, "download", classmethod(download))
    assert load_model("somebody/digits").pipe.classes == tiny.CLASS_NAMES
    assert fetched == [("DiffusionPipeline", "somebody/digits"), ("ClassConditionalPipeline", "somebody/digits")]


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"class_names": {"0": "hat"}}, r"num_class_embeds of the unet is 9, but must be 2"),
        ({"class_names": dict.fromkeys(map(str, range(8)), "hat")}, "a different name for every class"),
        ({"patch": 1}, r"in_channels of the unet is 4, but must be 1: 1 channels of patches of 1 x 1"),
        ({"class_names": {}}, "num_class_embeds"),
    ],
)
def test_folders_whose_parts_do_not_fit_are_refused(folder, changed, match):
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | changed))
    with pytest.raises(UnsupportedModel, match=match):
        load_model(str(folder))


def test_bad_arguments(pipe):
    with pytest.raises(InvalidSetting, match=r"height is 16, .* left out"):
        check_asking(pipe, 16, None)
    for wrong, match in (
        ({"output_type": "jpg"}, "output_type"),
        ({"latents": torch.zeros(1, 4, 4, 4)}, "shape of latents"),
        ({"generator": tiny.generators(0, 1)}, "number of generators is 2, but must be 1"),
        ({"prompt_embeds": torch.tensor([9])}, r"whole numbers from 0 to 8 \(no class\)"),
    ):
        with pytest.raises(InvalidSetting, match=match):
            pipe("3", **wrong)
    for wrong in ({"prompt": None}, {"prompt": []}, {"prompt": [3]}, {"negative_prompt": ["3", "cat"]}):
        with pytest.raises(PromptError):
            pipe(**{"prompt": "3", **wrong})


def test_schedulers_that_clip_are_warned_of():
    pipe = tiny.family("classes", scheduler_name="ddim", clip_sample=True)
    with steer(pipe, ClassifierFreeGuidance()), pytest.warns(SteerclearWarning, match="clip_sample"):
        pipe("3", num_inference_steps=1, output_type="latent")
    with warnings.catch_warnings():
        warnings.simplefilter("error", SteerclearWarning)
        pipe = tiny.family("classes")
        with steer(pipe, ClassifierFreeGuidance()) as run:
            pipe("3", num_inference_steps=1, output_type="latent")
    assert run.forwards == 1
