"""Our guidances as guiders of Modular Diffusers: against diffusers' own guiders, and against the classic pipelines."""

import gc
import json
import math
import re
import warnings
import weakref
from dataclasses import dataclass
from pathlib import Path

import diffusers
import diffusers.guiders
import pytest
import torch
from diffusers.modular_pipelines.modular_pipeline import PipelineState
from diffusers.modular_pipelines.modular_pipeline_utils import ComponentSpec

import steerclear
import tiny
import tiny_modular
from mutants import Mutant
from skeleton_network import TwoNetworks
from steerclear import (
    AutoGuidance,
    ClassifierFreeGuidance,
    DynamicNegativeGuidance,
    Guider,
    IntervalGuidance,
    NegativePromptGuidance,
    RescaledGuidance,
    SteerclearWarning,
    Unguided,
    guider,
)
from steerclear.bridges.modular.conditions import Field, Fields
from steerclear.core.denoiser import Point
from steerclear.core.errors import InvalidSetting, NotFiniteError, PromptError, UnsupportedModel
from steerclear.core.guidance import Guidance, guidances, networks_of
from steerclear.core.records import Guided, State, Step
from steerclear.evidence.transition import TransitionEvidence
from steerclear.guidance.interval import active_steps
from steerclear.networks.dropout import SeededDropout
from steerclear.networks.noised_weights import NoisedWeights

SCALE = 3.0
CFG = ClassifierFreeGuidance(SCALE)
NEGATIVE = NegativePromptGuidance(SCALE)
THREE_BRANCHES = NegativePromptGuidance(SCALE, negative_scale=1.5)
DYNAMIC = DynamicNegativeGuidance(SCALE)
AUTO = AutoGuidance(2.0)
NAMES = tuple(tiny_modular.CALLS)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def guided(pipe, name, by, **settings):
    pipe.update_components(guider=by)
    return tiny_modular.latents(pipe, name, **settings)


def their_cfg(**settings):
    return diffusers.guiders.ClassifierFreeGuidance(guidance_scale=SCALE, **settings)


def is_untouched(network):
    own = vars(network)
    return "_compiled_call_impl" not in own and "forward" not in own and not network._forward_pre_hooks


# as diffusers' own guiders


@pytest.mark.parametrize("negative", ["", "beard"])
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_plain_guidance_is_bit_identical_to_that_of_diffusers(name, images, negative):
    pipe = tiny_modular.pipeline(name)
    settings = {"seeds": tuple(range(images)), "negative_prompt": negative}
    expected = guided(pipe, name, their_cfg(), **settings)
    ours = guider(NEGATIVE if negative else CFG)
    assert torch.equal(guided(pipe, name, ours, **settings), expected)
    assert ours.trace.branches == [("negative" if negative else "empty", "positive")] * 3
    assert ours.trace.evaluations.tolist() == [6.0] * images
    assert is_untouched(tiny.network_of(pipe))


@pytest.mark.parametrize("scheduler", ["ddim", "euler-ancestral", "dpm++", "unipc", "lms"])
def test_schedulers(scheduler):
    pipe = tiny_modular.pipeline("sdxl", tiny.scheduler(scheduler))
    expected = guided(pipe, "sdxl", their_cfg())
    assert torch.equal(guided(pipe, "sdxl", guider(CFG)), expected)


PICTURES = {
    "img2img": {"image": tiny.picture(), "strength": 0.7},
    "inpainting": {"image": tiny.picture(), "mask_image": tiny.mask(), "strength": 1.0},
    "controlnet": {"control_image": tiny.picture("blue")},
    "controlnet-guess": {"control_image": tiny.picture("blue"), "guess_mode": True},
}


def picture_pipeline(variant):
    control = {"controlnet": tiny.controlnet("sdxl", variant)} if variant.startswith("controlnet") else {}
    return tiny_modular.pipeline("sdxl", without=("decode",), **control)


@pytest.mark.parametrize("variant", PICTURES)
def test_pictures_as_inputs(variant):
    pipe = picture_pipeline(variant)
    expected = guided(pipe, "sdxl", their_cfg(), **PICTURES[variant], num_inference_steps=4)
    ours = guider(CFG)
    assert torch.equal(guided(pipe, "sdxl", ours, **PICTURES[variant], num_inference_steps=4), expected)
    assert ours.trace.steps[-1].index == len(ours.trace.steps) - 1


def test_img2img_of_sd3():
    pipe = tiny_modular.pipeline("sd3")
    settings = {**PICTURES["img2img"], "negative_prompt": "beard"}
    expected = guided(pipe, "sd3", their_cfg(), **settings)
    assert torch.equal(guided(pipe, "sd3", guider(NEGATIVE), **settings), expected)


@pytest.mark.parametrize("settings", [{"start": 0.25}, {"stop": 0.7}, {"start": 0.2, "stop": 0.75}])
def test_start_and_stop_are_those_of_diffusers(settings):
    pipe = tiny_modular.pipeline("sdxl")
    expected = guided(pipe, "sdxl", their_cfg(**settings), num_inference_steps=6)
    ours = guider(CFG, **settings)
    assert torch.equal(guided(pipe, "sdxl", ours, num_inference_steps=6), expected)
    assert ("positive",) in ours.trace.branches
    assert ("empty", "positive") in ours.trace.branches


SHARES = (0.0, 0.05, 0.1, 0.15, 0.25, 0.3, 1 / 3, 0.5, 0.55, 0.6, 2 / 3, 0.7, 0.75, 0.9, 0.95, 1.0)


def asked_by(guidance, index, total):
    """The branches that a guidance asks for at a step."""
    asked, at = [], Point(torch.zeros(1, 1), 0.8, 0.6, 0, index, total)
    guidance(Step(at, "epsilon", 0, lambda names, rows: asked.extend(names) or [at.sample] * len(names)), State())
    return asked


def test_an_interval_has_the_steps_that_diffusers_guiders_have():
    """Every pair of bounds, every number of steps: the same steps in diffusers, in IntervalGuidance and in our guider."""
    compared = different = 0
    for start, stop in ((start, stop) for start in SHARES for stop in SHARES if start < stop):
        theirs, ours = their_cfg(start=start, stop=stop), IntervalGuidance(CFG, start, stop)
        for total in (1, 2, 3, 7, 10, 19, 20, 28, 30, 49, 50):
            for index in range(total):
                theirs.set_state(step=index, num_inference_steps=total, timestep=torch.tensor(0))
                active = "empty" in asked_by(ours, index, total)
                assert active == (index in active_steps(start, stop, total))
                different += theirs._is_cfg_enabled() != active
                compared += 1
    assert (different, compared) == (0, 120 * 219)


def test_an_interval_is_a_guider_that_starts_and_stops():
    """The same images from diffusers' guider, from ours, and from steer on the classic pipeline."""
    pipe, modular = classic_and_modular("sdxl")
    for start, stop in ((0.0, 0.5), (0.2, 0.75), (0.4, 1.0)):
        settings = {"num_inference_steps": 7, "seeds": (0, 1)}
        expected = guided(modular, "sdxl", their_cfg(start=start, stop=stop), **settings)
        ours = guider(IntervalGuidance(CFG, start, stop))
        assert torch.equal(guided(modular, "sdxl", ours, **settings), expected)
        assert torch.equal(guided(modular, "sdxl", guider(CFG, start=start, stop=stop), **settings), expected)
        with steerclear.steer(pipe, IntervalGuidance(CFG, start, stop)) as run:
            assert torch.allclose(run_classic(pipe, "sdxl", **settings), expected, rtol=0, atol=2e-5)
        assert run.trace.branches == ours.trace.branches


@pytest.mark.parametrize("door", ["start and stop", "interval"])
def test_where_a_sampler_evaluates_twice_whole_steps_are_guided(door):
    pipe = tiny_modular.pipeline("sdxl", tiny.scheduler("heun"))
    by = guider(CFG, start=0.25, stop=0.75) if door == "start and stop" else guider(IntervalGuidance(CFG, 0.25, 0.75))
    guided(pipe, "sdxl", by, num_inference_steps=4)
    inside, outside = ("empty", "positive"), ("positive",)
    assert by.trace.branches == [outside, inside, inside, outside]
    assert [[further.branches for further in step.further] for step in by.trace.steps] == [
        [outside],
        [inside],
        [inside],
        [],
    ]
    assert by.trace.evaluations.tolist() == [11.0]
    assert repr(by.trace) == "Trace(4 steps, 1 image, 11 evaluations per image; shows guidance_norm)"


def test_an_interval_without_a_step_says_so():
    pipe = tiny_modular.pipeline("sdxl")
    with pytest.warns(SteerclearWarning, match=r"no effect: start=0\.5 and stop=0\.6 leave none of the 3 steps to cfg"):
        guided(pipe, "sdxl", guider(IntervalGuidance(CFG, 0.5, 0.6)))
    with pytest.warns(
        SteerclearWarning, match=r"start=50 and stop=60 leave none of the 3 steps to cfg, whose noise levels"
    ):
        guided(pipe, "sdxl", guider(IntervalGuidance(CFG, 50.0, 60.0, by="sigma")))


def test_a_scheduler_that_clips_latents_is_told_of():
    pipe = tiny_modular.pipeline("sdxl", tiny.scheduler("ddim", clip_sample=True))
    with pytest.warns(
        SteerclearWarning, match="DDIMScheduler has clip_sample=True, so each of its steps cuts the denoised"
    ):
        guided(pipe, "sdxl", guider(CFG))


def test_a_scheduler_that_does_not_say_its_noise_level():
    pipe = tiny_modular.pipeline("sdxl", diffusers.EDMEulerScheduler())
    expected = guided(pipe, "sdxl", their_cfg())
    ours = guider(CFG)
    assert torch.equal(guided(pipe, "sdxl", ours), expected)
    assert [math.isnan(level) for level in ours.trace.levels] == [True] * 3
    assert ours.trace.names == []
    counted = Counted(pipe.unet)
    with pytest.raises(
        UnsupportedModel, match="dynamic-negative needs the noise level of every step, and EDMEulerSched"
    ):
        guided(pipe, "sdxl", guider(DYNAMIC, "beard"))
    assert counted.calls == 0


def test_what_a_guidance_leaves_open_is_settled_as_for_every_learned_network():
    """The prior is one half, and the log-odds are frozen below sigma / alpha = 1."""
    pipe, ends = tiny_modular.pipeline("sdxl", tiny.scheduler("euler-ancestral")), []
    for settings in ({}, {"prior": 0.5, "stop_below": 1.0}, {"prior": 0.5, "stop_below": 0.0}):
        ours = guider(DynamicNegativeGuidance(2.0, evidence=TransitionEvidence(**settings)), "beard")
        ends.append((guided(pipe, "sdxl", ours), ours.trace.table("posterior"), ours.trace.levels))
    assert torch.equal(ends[0][0], ends[1][0])
    posterior, without_stop, levels = ends[0][1], ends[2][1], ends[0][2]
    frozen = [step for step, level in enumerate(levels) if level < 1]
    assert frozen[0] > 0
    assert all(torch.equal(posterior[step], posterior[frozen[0] - 1]) for step in frozen)
    assert not torch.equal(without_stop[frozen[0]], posterior[frozen[0]])


def test_a_disabled_guider_leaves_the_plain_prediction():
    pipe = tiny_modular.pipeline("sd3")
    expected = guided(pipe, "sd3", their_cfg(enabled=False))
    ours = guider(CFG, enabled=False)
    assert torch.equal(guided(pipe, "sd3", ours), expected)
    assert torch.equal(guided(pipe, "sd3", guider(Unguided())), expected)
    ours.enable()
    assert torch.equal(guided(pipe, "sd3", ours), guided(pipe, "sd3", their_cfg(), negative_prompt=""))


def test_a_guider_that_is_enabled_on_the_way_guides_from_there_on():
    pipe = tiny_modular.pipeline("sd3")
    expected = guided(pipe, "sd3", guider(CFG, start=0.34))
    ours = guider(CFG, enabled=False)
    with tiny.network_of(pipe).register_forward_hook(lambda *_: ours.enable()):
        after_the_first = guided(pipe, "sd3", ours)
    assert torch.equal(expected, after_the_first)
    assert [step.index for step in ours.trace.steps] == [0, 1, 2]
    assert ours.trace.branches == [("positive",), ("empty", "positive"), ("empty", "positive")]


@pytest.mark.parametrize("guidance", [THREE_BRANCHES, DYNAMIC, AUTO], ids=lambda guidance: guidance.name)
@pytest.mark.parametrize(("name", "never"), [("sd3", {"enabled": False}), ("sdxl", {"start": 0.5, "stop": 0.5})])
def test_a_guider_that_is_never_active_lacks_nothing(name, never, guidance):
    whole, pipe = (tiny_modular.pipeline(name, without=without) for without in ((), ("text_encoder", "decode")))
    whole.update_components(guider=their_cfg())
    state = whole(prompt="a red hat", **tiny_modular.SIZE, num_inference_steps=1)
    embeddings = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    given = {"prompt": None, **{field: state.get(field) for field in embeddings}}
    expected = guided(pipe, name, their_cfg(**never), **given)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", SteerclearWarning)
        assert torch.equal(guided(pipe, name, guider(guidance, "beard", **never), **given), expected)
    said = [str(warning.message) for warning in said if warning.category is SteerclearWarning]
    no_step = (
        "the guidance has no effect: start=0.5 and stop=0.5 leave none of the 3 steps to it; set them farther apart"
    )
    assert said == ([] if "enabled" in never else [no_step])


def test_half_precision():
    pipe = tiny_modular.pipeline("sd3").to(torch.bfloat16)
    expected = guided(pipe, "sd3", their_cfg(), negative_prompt="")
    assert expected.dtype == torch.bfloat16
    assert torch.equal(guided(pipe, "sd3", guider(CFG)), expected)


@pytest.mark.parametrize(("mistake", "equal"), [("none", True), ("branches swapped", False), ("scale", False)])
@pytest.mark.parametrize("name", NAMES)
def test_mistakes_are_caught(name, mistake, equal):
    pipe, ours = tiny_modular.pipeline(name), guider(CFG)
    expected = guided(pipe, name, their_cfg(), negative_prompt="")
    ours.guidance = Mutant(SCALE, mistake=mistake)
    found = guided(pipe, name, ours, negative_prompt="")
    assert torch.equal(found, expected) == equal
    assert torch.allclose(found, expected, rtol=0, atol=2e-5) == equal


def test_rescale_is_that_of_diffusers():
    pipe = tiny_modular.pipeline("sdxl")
    expected = guided(pipe, "sdxl", their_cfg(guidance_rescale=0.7))
    found = guided(pipe, "sdxl", guider(ClassifierFreeGuidance(SCALE, guidance_rescale=0.7)))
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(found, guided(pipe, "sdxl", their_cfg()), atol=1e-3)


def test_sd3_without_a_negative_prompt_is_guided_all_the_same():
    """diffusers' own guider then runs the prompt twice, and guides nothing."""
    pipe = tiny_modular.pipeline("sd3")
    expected = guided(pipe, "sd3", their_cfg(), negative_prompt="")
    assert torch.equal(guided(pipe, "sd3", guider(CFG)), expected)
    assert not torch.allclose(guided(pipe, "sd3", their_cfg()), expected, atol=1e-2)


def test_a_pipeline_without_text_encoders():
    whole = tiny_modular.pipeline("sdxl")
    whole.update_components(guider=their_cfg())
    state = whole(prompt="a red hat", negative_prompt="beard", **tiny_modular.SIZE, num_inference_steps=1)
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    given = {"prompt": None, **{name: state.get(name) for name in names}}
    pipe = tiny_modular.pipeline("sdxl", without=("text_encoder", "decode"))
    expected = guided(whole, "sdxl", their_cfg(), negative_prompt="beard")
    assert torch.equal(guided(pipe, "sdxl", guider(CFG), **given), expected)
    ours = guider(NEGATIVE)
    assert torch.equal(guided(pipe, "sdxl", ours, **given), expected)
    assert ours.trace.branches[0] == ("negative", "positive")
    with pytest.raises(PromptError, match="'empty', and the prompt was given as embeddings"):
        guided(pipe, "sdxl", guider(THREE_BRANCHES), **given)


def test_a_state_that_another_pipeline_began():
    """Text encoders in one pipeline, the network in another: there are texts, and nothing that could encode more."""
    text, pipe = tiny_modular.pipeline("sdxl"), tiny_modular.pipeline("sdxl", without=("text_encoder", "decode"))
    text.update_components(guider=their_cfg())
    whole = text(prompt="a red hat", negative_prompt="beard", **tiny_modular.SIZE, num_inference_steps=1)
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    state = PipelineState({name: whole.get(name) for name in ("prompt", "negative_prompt", *names)})
    expected = guided(text, "sdxl", their_cfg(), negative_prompt="beard")
    assert torch.equal(guided(pipe, "sdxl", guider(NEGATIVE), prompt=None, state=state), expected)
    with pytest.raises(PromptError, match="has no block that makes prompt_embeds of a prompt"):
        guided(pipe, "sdxl", guider(THREE_BRANCHES), prompt=None, state=state)
    with pytest.raises(PromptError, match="has no tokenizer, so it cannot read 'a red hat, beard'"):
        guided(pipe, "sdxl", guider(DynamicNegativeGuidance(1.0)), prompt=None, state=state)


# as the classic pipelines under steer


def classic_and_modular(name, sampler="euler"):
    """The same networks in both kinds of pipeline; at noise levels that keep the latents of random networks near 1."""
    scheduler = (
        tiny.scheduler(sampler, prediction_type="v_prediction") if name == "sdxl" else tiny.scheduler("flow-euler")
    )
    modular = tiny_modular.pipeline(name, scheduler)
    kind = {"sdxl": diffusers.StableDiffusionXLPipeline, "sd3": diffusers.StableDiffusion3Pipeline}[name]
    parts = {**tiny.FAMILIES[name].parts(None), tiny_modular.NETWORK[name]: tiny.network_of(modular)}
    pipe = kind(**parts, scheduler=scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe, modular


def run_classic(pipe, name, prompt="a red hat", *, seeds=(0, 1), **settings):
    count = len(seeds) if isinstance(prompt, str) else len(seeds) // len(prompt)
    own = {**tiny_modular.CALLS[name], "num_inference_steps": 3, "output_type": "latent", **settings}
    return pipe(prompt, num_images_per_prompt=count, generator=tiny.generators(*seeds), **own).images


STEERED = {
    "plain": (CFG, None),
    "negative": (NEGATIVE, "beard"),
    "three branches": (THREE_BRANCHES, "beard"),
    "two negatives": (THREE_BRANCHES, ["beard", "glasses"]),
    "dynamic": (DYNAMIC, "beard"),
    "dynamic, two": (DynamicNegativeGuidance(1.0, negative_scale=2.0, concept="negative"), ["beard", "glasses"]),
    "autoguidance": (AUTO, None),
    "autoguidance and a negative": (AutoGuidance(2.0, THREE_BRANCHES), "beard"),
    "interval": (IntervalGuidance(DYNAMIC, 0.0, 0.5), "beard"),
}
"""The guidances of the comparison with steer, and their negative prompts."""


@pytest.mark.parametrize("case", STEERED)
@pytest.mark.parametrize("name", ["sdxl", "sd3"])
def test_a_guider_gives_what_steer_gives_on_the_classic_pipeline(name, case):
    pipe, modular = classic_and_modular(name)
    guidance, negatives = STEERED[case]
    weak = tiny_modular.network(name, seed=7) if networks_of(guidance, 1) else None
    ours = guider(guidance, negatives, weak)
    found = guided(modular, name, ours, seeds=(0, 1))
    with steerclear.steer(pipe, guidance, negatives, weak) as run:
        expected = run_classic(pipe, name)
    assert torch.allclose(found, expected, rtol=0, atol=2e-5)
    assert ours.trace.branches == run.trace.branches
    assert torch.equal(ours.trace.evaluations, run.trace.evaluations)
    for shown in run.trace.names:
        assert torch.allclose(ours.trace.table(shown), run.trace.table(shown), rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("sampler", ["dpm++-sde", "heun", "kdpm2", "ddpm"])
def test_it_does_so_for_samplers_that_draw_noise_or_evaluate_twice(sampler):
    pipe, modular = classic_and_modular("sdxl", sampler)
    ours = guider(DYNAMIC, "beard")
    found = guided(modular, "sdxl", ours, seeds=(0, 1))
    with steerclear.steer(pipe, DYNAMIC, "beard") as run:
        assert torch.allclose(found, run_classic(pipe, "sdxl"), rtol=0, atol=2e-5)
    assert ours.trace.levels == run.trace.levels
    assert [step.index for step in ours.trace.steps] == [step.index for step in run.trace.steps]


@pytest.mark.parametrize("name", ["sdxl", "sd3"])
def test_it_does_so_for_two_networks_in_one_step(name):
    pipe, modular = classic_and_modular(name)
    networks = {"weak": SeededDropout(0.2), "perturbed": tiny_modular.network(name, seed=7)}
    ours = guider(TwoNetworks(), weak=networks["weak"], networks={"perturbed": networks["perturbed"]})
    found = guided(modular, name, ours, seeds=(0, 1))
    with steerclear.steer(pipe, TwoNetworks(), networks=networks) as run:
        assert torch.allclose(found, run_classic(pipe, name), rtol=0, atol=2e-5)
    assert ours.trace.branches == run.trace.branches == [("positive", "perturbed:positive", "weak:positive")] * 3
    assert torch.allclose(found[1:], guided(modular, name, ours, seeds=(1,)), rtol=0, atol=2e-5)
    assert is_untouched(tiny.network_of(modular))
    with pytest.raises(UnsupportedModel, match="two-networks asks for the perturbed network, and none is given"):
        guided(modular, name, guider(TwoNetworks(), weak=networks["weak"]))


def test_networks_of_a_guider_are_saved_with_it_as_weak_is(tmp_path):
    ours = guider(AUTO, weak=NoisedWeights(0.3), networks={"perturbed": SeededDropout(0.2), "other": tiny.unet()})
    assert ours.config["networks"]["perturbed"] == SeededDropout(0.2).to_config()
    assert ours.config["networks"]["other"] is None
    again = ours.new(start=0.5)
    assert (again.weak, again.networks) == (ours.weak, ours.networks)
    ours.networks = {"perturbed": SeededDropout(0.4)}
    assert ours.config["networks"] == {"perturbed": SeededDropout(0.4).to_config()}
    with pytest.raises(InvalidSetting, match="the weak network is given twice"):
        guider(AUTO, weak=NoisedWeights(), networks={"weak": NoisedWeights()})


@pytest.mark.parametrize("kind", [NoisedWeights(0.3), SeededDropout(0.2)], ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", ["sdxl", "sd3"])
def test_it_does_so_for_a_weak_network_made_of_its_own(name, kind):
    pipe, modular = classic_and_modular(name)
    ours = guider(AUTO, weak=kind)
    found = guided(modular, name, ours, seeds=(0, 1))
    with steerclear.steer(pipe, AUTO, weak=kind):
        assert torch.allclose(found, run_classic(pipe, name), rtol=0, atol=2e-5)
    assert torch.allclose(found[1:], guided(modular, name, ours, seeds=(1,)), rtol=0, atol=2e-5)
    assert is_untouched(tiny.network_of(modular))


@pytest.mark.parametrize("name", ["sdxl", "sd3"])
def test_it_does_so_for_a_list_of_prompts(name):
    pipe, modular = classic_and_modular(name)
    images = 1 if name == "sdxl" else 2  # diffusers 0.42 then mixes up the prompts' pooled embeddings in modular SDXL
    settings = {"prompt": ["a red hat", "a blue car"], "seeds": tuple(range(2 * images))}
    found = guided(modular, name, guider(DYNAMIC, "beard"), **settings)
    with steerclear.steer(pipe, DYNAMIC, "beard"):
        assert torch.allclose(found, run_classic(pipe, name, **settings), rtol=0, atol=2e-5)


@pytest.mark.parametrize("case", ["three branches", "dynamic", "autoguidance"])
def test_guidances_matter(case):
    """The comparisons mean something: each of the guidances has a visible effect on these tiny networks."""
    pipe = tiny_modular.pipeline("sd3")
    guidance, negatives = STEERED[case]
    weak = tiny_modular.network("sd3", seed=7) if networks_of(guidance, 1) else None
    found = guided(pipe, "sd3", guider(guidance, negatives, weak))
    for other in (CFG, Unguided()):
        assert float((found - guided(pipe, "sd3", guider(other))).abs().max()) > 1e-3


# what runs


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", ["three branches", "dynamic, two", "autoguidance and a negative"])
def test_an_image_of_a_batch_is_the_image_alone(name, case):
    pipe = tiny_modular.pipeline(name)
    guidance, negatives = STEERED[case]
    weak = tiny_modular.network(name, seed=7) if networks_of(guidance, 1) else None
    pipe.to(torch.float64)
    ours = guider(guidance, negatives, None if weak is None else weak.to(torch.float64))
    alone = [guided(pipe, name, ours, seeds=(seed,)) for seed in (0, 1, 2)]
    together = guided(pipe, name, ours, seeds=(0, 1, 2))
    assert torch.allclose(together, torch.cat(alone), rtol=1e-9, atol=1e-9)


class Counted:
    """How often a network ran, and on how many images."""

    def __init__(self, network):
        self.calls = self.images = 0
        network.register_forward_hook(self._count)

    def _count(self, network, inputs, outputs):
        self.calls += 1
        self.images += len(outputs[0])


def test_what_is_not_asked_for_is_not_run():
    pipe = tiny_modular.pipeline("sdxl")
    counted = Counted(pipe.unet)
    ours = guider(IntervalGuidance(CFG, 0.0, 0.5))
    guided(pipe, "sdxl", ours, num_inference_steps=4)
    assert counted.calls == 6
    assert ours.trace.branches == [("empty", "positive")] * 2 + [("positive",)] * 2
    assert ours.trace.evaluations.tolist() == [6.0]


def test_a_weak_network_is_found_under_guidances_that_do_not_ask_for_it_themselves():
    pipe, weak = tiny_modular.pipeline("sd3"), tiny_modular.network("sd3", seed=7)
    expected = guided(pipe, "sd3", guider(AUTO, weak=weak))
    nested = AutoGuidance(1.0, RescaledGuidance(IntervalGuidance(AUTO), 0.0))
    assert torch.equal(guided(pipe, "sd3", guider(nested, weak=weak)), expected)
    refused(UnsupportedModel, "none is given", guider(nested))


def test_autoguidance_runs_one_weak_evaluation_more():
    pipe, weak = tiny_modular.pipeline("sd3"), tiny_modular.network("sd3", seed=7)
    main, other = Counted(pipe.transformer), Counted(weak)
    ours = guider(AutoGuidance(2.0, CFG), weak=weak)
    guided(pipe, "sd3", ours)
    assert (main.calls, other.calls) == (6, 3)
    assert ours.trace.branches == [("empty", "positive", "weak:positive")] * 3
    assert ours.trace.evaluations.tolist() == [9.0]


@dataclass(frozen=True)
class HalfTheBatch(ClassifierFreeGuidance):
    """Guides the second image only; runs the other branch of that one alone."""

    def __call__(self, step, state):
        positive = step.predict_one("positive")
        rows = torch.tensor([1])
        empty = step.predict_one("empty", rows=rows)
        guided = positive.clone()
        guided[rows] = empty + self.guidance_scale * (positive[rows] - empty)
        return Guided(guided, state)


@pytest.mark.parametrize("name", NAMES)
def test_a_part_of_the_batch(name):
    pipe = tiny_modular.pipeline(name, tiny.scheduler("ddim") if name == "sdxl" else None)
    counted = Counted(tiny.network_of(pipe))
    ours = guider(CFG)
    ours.guidance = HalfTheBatch(SCALE)
    found = guided(pipe, name, ours, seeds=(0, 1))
    assert counted.images == 9
    assert ours.trace.evaluations.tolist() == [3.0, 6.0]
    assert torch.allclose(found[:1], guided(pipe, name, guider(Unguided())), rtol=0, atol=2e-5)
    assert torch.allclose(found[1:], guided(pipe, name, guider(CFG), seeds=(1,)), rtol=0, atol=2e-5)


def test_every_run_starts_anew():
    pipe, ours = tiny_modular.pipeline("sd3"), guider(DYNAMIC, "beard")
    first = guided(pipe, "sd3", ours)
    trace = ours.trace
    assert torch.equal(guided(pipe, "sd3", ours), first)
    assert ours.trace is not trace
    assert torch.equal(ours.trace.table("posterior"), trace.table("posterior"))
    other = guided(pipe, "sd3", ours, prompt="a blue car", seeds=(0, 1), num_inference_steps=2)
    assert len(other) == 2
    assert len(ours.trace.steps) == 2
    assert len(trace.steps) == 3


def test_two_networks_one_after_the_other_share_a_guider():
    """As in Wan 2.2: a guider for the noisy steps and one for the others, which may be the same."""
    from diffusers.modular_pipelines.wan.modular_blocks_wan22 import Wan22Blocks

    pipe = tiny_modular.pipeline("wan", blocks=Wan22Blocks, transformer_2=tiny_modular.network("wan", seed=8))
    pipe.update_components(guider=their_cfg(), guider_2=their_cfg())
    expected = tiny_modular.latents(pipe, "wan", num_inference_steps=4)
    ours = guider(CFG)
    pipe.update_components(guider=ours, guider_2=ours)
    assert torch.equal(tiny_modular.latents(pipe, "wan", num_inference_steps=4), expected)
    assert [step.index for step in ours.trace.steps] == [0, 1, 2, 3]


# left as it was


class Broken(Exception):
    pass


def breaks_at(network, call, error):
    """The network raises at its so-manieth call."""
    calls = []

    def hook(network, inputs):
        calls.append(1)
        if len(calls) == call:
            raise error

    return network.register_forward_pre_hook(hook)


@pytest.mark.parametrize("error", [Broken, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["main", "weak"])
@pytest.mark.parametrize("name", NAMES)
def test_after_an_exception_everything_is_as_before(name, where, error):
    pipe, weak = tiny_modular.pipeline(name), tiny_modular.network(name, seed=7)
    network = tiny.network_of(pipe)
    ours = guider(AutoGuidance(2.0, DYNAMIC), "beard", weak)
    expected = guided(pipe, name, ours)
    breaking = breaks_at(network if where == "main" else weak, 2, error)
    with pytest.raises(error) as held:  # with its frames, in which the loop is still in the middle of a step
        guided(pipe, name, ours)
    breaking.remove()
    assert is_untouched(network)
    assert is_untouched(weak)
    assert len(ours.trace.steps) == (0 if where == "main" else 1)
    assert torch.equal(guided(pipe, name, ours), expected)
    assert held.type is error


def test_second_weights_are_not_held_after_an_exception(monkeypatch):
    from steerclear.networks.shared import second_weights as changed_weights

    made = []

    def watched(network, change, make=changed_weights.second_weights):
        second = make(network, change)
        made.extend(weakref.ref(layer) for _, layer in second.pairs)
        return second

    monkeypatch.setattr(changed_weights, "second_weights", watched)
    pipe, ours = tiny_modular.pipeline("sd3"), guider(AUTO, weak=NoisedWeights(0.3))
    breaks_at(pipe.transformer, 3, Broken)  # that of the second step: a weak pass runs the hooks of the network, too
    with pytest.raises(Broken):
        guided(pipe, "sd3", ours)
    gc.collect()
    assert made
    assert all(layer() is None for layer in made)


def test_an_exception_between_taking_over_and_the_network():
    """A ControlNet runs in between: what it leaves behind is not seen by anybody, and gone with the next run."""
    pipe, weak = picture_pipeline("controlnet"), tiny_modular.network("sdxl", seed=7)
    ours, settings = guider(AUTO, weak=weak), PICTURES["controlnet"]
    expected = guided(pipe, "sdxl", ours, **settings)
    plain = guided(pipe, "sdxl", their_cfg(), **settings)
    counted = Counted(weak)
    breaking = breaks_at(pipe.controlnet, 2, Broken)  # the first is that of the positive, the second the weak one's
    with pytest.raises(Broken) as held:
        guided(pipe, "sdxl", ours, **settings)
    breaking.remove()
    assert torch.equal(guided(pipe, "sdxl", their_cfg(), **settings), plain)
    assert counted.calls == 0
    assert torch.equal(guided(pipe, "sdxl", ours, **settings), expected)
    assert is_untouched(pipe.unet)
    assert held.type is Broken


def test_a_finished_run_is_not_held():
    pipe, ours = tiny_modular.pipeline("sd3"), guider(AUTO, weak=tiny_modular.network("sd3", seed=7))
    pipe.update_components(guider=ours)
    latents = weakref.ref(tiny_modular.latents(pipe, "sd3"))
    gc.collect()
    assert latents() is None


def test_a_guider_and_steer_share_a_network():
    pipe, modular = classic_and_modular("sd3")
    ours = guider(AUTO, weak=tiny_modular.network("sd3", seed=7))
    expected = guided(modular, "sd3", ours)
    with steerclear.steer(pipe, CFG):
        own = run_classic(pipe, "sd3")
        assert torch.equal(guided(modular, "sd3", ours), expected)
        assert torch.equal(run_classic(pipe, "sd3"), own)
    assert is_untouched(modular.transformer)


# saved and loaded


@pytest.mark.parametrize("name", sorted(guidances()))
def test_every_guidance_is_saved_and_loaded(name, tmp_path):
    guidance = guidances()[name]()
    guidance = guidance if guidance.redrawing() is None else guidance.changed(tries=1)
    ours = guider(guidance, ["beard", "hat"], start=0.25)
    ours.save_pretrained(tmp_path)
    again = ComponentSpec("guider", Guider, pretrained_model_name_or_path=str(tmp_path)).load()
    assert again.guidance == guidance
    assert again.negatives == ours.negatives
    assert json.loads((tmp_path / "guider_config.json").read_text())["start"] == 0.25
    assert again.config["start"] == 0.25
    again.guidance = CFG
    assert again.new().guidance == CFG
    assert Guidance.from_pretrained(tmp_path) == guidance


def test_the_file_of_a_plain_guidance_is_one_of_a_guider(tmp_path):
    guidance = IntervalGuidance(NEGATIVE, 0.25, 0.5)
    guidance.save_pretrained(tmp_path)
    assert Guider.from_pretrained(tmp_path).guidance == guidance


def test_a_loaded_guider_guides_as_the_saved_one(tmp_path):
    pipe, weak = tiny_modular.pipeline("sd3"), tiny_modular.network("sd3", seed=7)
    ours = guider(AutoGuidance(2.0, DYNAMIC), "beard", weak)
    expected = guided(pipe, "sd3", ours)
    ours.save_pretrained(tmp_path)
    again = Guider.from_pretrained(tmp_path)
    with pytest.raises(
        UnsupportedModel, match=r"none is given; .* set guider\.weak or guider\.networks on a guider that was loaded"
    ):
        guided(pipe, "sd3", again)
    again.weak = weak
    assert torch.equal(guided(pipe, "sd3", again), expected)


@pytest.mark.parametrize("kind", [NoisedWeights(0.3, 5), SeededDropout(0.2, layers=("*.attn*",))])
def test_a_kind_of_weak_network_is_saved_with_the_guider(kind, tmp_path):
    guider(AUTO, weak=kind).save_pretrained(tmp_path)
    again = Guider.from_pretrained(tmp_path)
    assert again.weak == kind
    again.weak = NoisedWeights(0.1)  # what is set later is saved as well
    again.save_pretrained(tmp_path)
    assert Guider.from_pretrained(tmp_path).weak == NoisedWeights(0.1)
    with pytest.raises(InvalidSetting, match="weak is 3, but must be a network"):
        again.weak = 3


def test_a_changed_copy():
    weak = tiny_modular.network("sd3", seed=7)
    ours = guider(AUTO, weak=weak, stop=0.5)
    assert (ours.new().guidance, ours.new().weak, ours.new().config["stop"]) == (AUTO, weak, 0.5)
    changed = ours.new(guidance=CFG, weak=None)
    assert (changed.guidance, changed.weak, changed.config["stop"]) == (CFG, None, 0.5)


def test_a_pipeline_does_not_save_its_guider_but_takes_it_from_its_folder(tmp_path):
    pipe, ours = tiny_modular.pipeline("wan"), guider(NEGATIVE, "beard")
    expected = guided(pipe, "wan", ours)
    pipe.save_pretrained(str(tmp_path), overwrite_modular_index=True)
    assert not (tmp_path / "guider").exists()  # diffusers 0.42; when it does, the page on guiders can lose a paragraph
    ours.save_pretrained(tmp_path / "guider")
    spec = ComponentSpec("guider", Guider, pretrained_model_name_or_path=str(tmp_path), subfolder="guider")
    fresh = tiny_modular.pipeline("wan")
    assert torch.equal(guided(fresh, "wan", spec.load()), expected)


def test_pushing_to_the_hub(monkeypatch):
    pushed = {}

    class Created:
        repo_id = "me/my-guider"

    def upload(self, folder, repo_id, **settings):
        pushed[repo_id] = json.loads((Path(folder) / "guider_config.json").read_text())

    monkeypatch.setattr("diffusers.utils.hub_utils.create_repo", lambda *args, **kwargs: Created)
    monkeypatch.setattr(Guider, "_upload_folder", upload)
    guider(NEGATIVE, "beard").push_to_hub("my-guider")
    assert pushed["me/my-guider"]["guidance"] == NEGATIVE.to_config()
    assert pushed["me/my-guider"]["negative_prompt"] == "beard"


# refused, and said


def test_the_examples_of_the_page_are_python():
    page = (Path(__file__).parents[1] / "docs" / "guiders.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        compile(block, "guiders.md", "exec")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weak": "noised"}, r"weak is 'noised', but must be a network \(a torch module\) or one of SeededDropout"),
        ({"start": "0.5"}, r"start is '0\.5', but must be a finite number from 0 to 1"),
        ({"stop": -1}, "stop is -1, but must be a finite number from 0 to 1"),
    ],
)
def test_settings_that_are_none_are_refused(settings, message):
    with pytest.raises(InvalidSetting, match=message):
        guider(AUTO, **settings)


def test_what_is_no_guidance_is_refused():
    with pytest.raises(InvalidSetting, match=r"guidance is 3\.0, but must be a guidance; such as"):
        guider(3.0)
    with pytest.raises(PromptError, match="an empty text names no concept"):
        guider(NEGATIVE, " ")


def test_a_refused_run_leaves_the_trace_of_the_last_one():
    pipe, ours = tiny_modular.pipeline("sd3"), guider(DYNAMIC, "b" * 8)
    guided(pipe, "sd3", ours)
    trace = ours.trace
    for wrong in ({"prompt": "b" * 27}, {"negative_prompt": "hat"}):
        with pytest.raises(PromptError):
            guided(pipe, "sd3", ours, **wrong)
        assert ours.trace is trace
    assert len(trace.steps) == 3


def test_so_does_one_whose_weak_network_does_not_fit():
    pipe, ours = tiny_modular.pipeline("sd3"), guider(AUTO, weak=tiny_modular.network("sd3", seed=7))
    guided(pipe, "sd3", ours)
    trace = ours.trace
    ours.weak = torch.nn.Linear(2, 2)
    with pytest.raises(UnsupportedModel, match="does not fit"):
        guided(pipe, "sd3", ours)
    assert ours.trace is trace
    assert len(trace.steps) == 3


def refused(error, message, ours, name="sd3", **settings):
    pipe = tiny_modular.pipeline(name)
    counted = Counted(tiny.network_of(pipe))
    with pytest.raises(error, match=message):
        guided(pipe, name, ours, **settings)
    assert counted.calls == 0


@pytest.mark.parametrize("name", NAMES)
def test_refusals_come_before_the_first_evaluation(name):
    refused(UnsupportedModel, "autoguidance asks for the weak network, and none is given", guider(AUTO), name)
    refused(PromptError, "is given twice", guider(NEGATIVE, "beard"), name, negative_prompt="hat")


def test_a_negative_prompt_for_the_second_text_encoder_alone_is_refused():
    refused(PromptError, "negative_prompt_2 is 'beard', and negative_prompt is not", guider(CFG), "sdxl",
            negative_prompt_2="beard")  # fmt: skip


@pytest.mark.parametrize(("name", "tokens"), [("sdxl", 77), ("sd3", 32), ("wan", 32)])
def test_long_prompts_are_refused(name, tokens):
    refused(PromptError, f"longer than the {tokens} tokens", guider(NEGATIVE, "beard " * 30), name)
    together = "b" * (tokens - 5)  # fits alone, and not behind the prompt
    refused(PromptError, f"'a red hat, b.* is longer than the {tokens} tokens", guider(DYNAMIC, together), name)


def test_a_text_that_only_a_later_step_asks_for_is_refused_before_the_first():
    late = IntervalGuidance(DYNAMIC, 0.5, 1.0)
    refused(PromptError, "is longer than the 32 tokens", guider(late, "b" * 27), "sd3")


def test_a_weak_network_that_does_not_fit():
    refused(UnsupportedModel, "the other network does not fit: its in_channels", guider(AUTO, weak=tiny.unet()))


def test_a_negative_prompt_that_is_missing():
    pipe = tiny_modular.pipeline("sd3")
    ours = guider(CFG)
    ours.guidance = Asks("negative")
    with pytest.raises(PromptError, match=r"there are 0 negatives; give negative_prompt to steerclear\.guider"):
        guided(pipe, "sd3", ours)
    ours.guidance = Asks("other:positive")
    with pytest.raises(
        UnsupportedModel, match=r"asks for the other network, and none is given; give steerclear\.guider\("
    ):
        guided(pipe, "sd3", ours)


@dataclass(frozen=True)
class Asks(Unguided):
    branch: str = "positive"

    def branches(self, negatives):
        return (self.branch,)

    def __call__(self, step, state):
        return Guided(step.predict_one(self.branch), state)


def test_an_inactive_step_takes_the_prompts_prediction_whatever_is_declared():
    pipe = tiny_modular.pipeline("sd3")
    ours = guider(Asks("negative"), "beard", start=0.5)
    guided(pipe, "sd3", ours)
    assert ours.trace.branches == [("positive",), ("negative",), ("negative",)]


def test_what_is_not_finite_is_named():
    pipe = tiny_modular.pipeline("sd3")
    pipe.transformer.proj_out.bias.data.fill_(float("nan"))
    with pytest.raises(NotFiniteError, match="the prediction of branch 'empty' is not finite at step 1 of 3"):
        guided(pipe, "sd3", guider(CFG))


def test_texts_of_another_length_are_refused():
    fields = Fields({"embeds": Field("prompt_embeds", torch.zeros(2, 7, 4), None)})
    assert fields.under("negative", {"prompt_embeds": torch.ones(1, 7, 4)}).embeds.shape == (2, 7, 4)
    with pytest.raises(UnsupportedModel, match="the negative_2 prompt does not have the prompt's"):
        fields.under("negative_2", {"prompt_embeds": torch.ones(1, 5, 4)})


def test_a_loop_that_takes_all_conditions_before_it_runs_one_is_refused():
    class Hasty(Guider):
        def prepare_inputs(self, data):
            return list(super().prepare_inputs(data))

    refused(UnsupportedModel, "asked for the next condition before it had run the last", Hasty(guidance=CFG))


def test_a_guider_outside_of_a_modular_pipeline_says_so():
    ours = guider(CFG)
    ours.set_state(0, 3, torch.tensor(999))
    with pytest.raises(UnsupportedModel, match="called from outside of a modular pipeline"):
        ours.prepare_inputs({"prompt_embeds": torch.zeros(1)})
    with pytest.raises(UnsupportedModel, match="before the loop had run all of its conditions"):
        ours([])


def test_what_has_no_effect_is_warned_of():
    pipe = tiny_modular.pipeline("sd3")
    with pytest.warns(SteerclearWarning, match="the negative prompt has no effect: cfg does not look at negative"):
        guided(pipe, "sd3", guider(CFG), negative_prompt="beard")
    with pytest.warns(SteerclearWarning, match="the weak network has no effect: cfg with these settings never asks"):
        guided(pipe, "sd3", guider(CFG, weak=tiny_modular.network("sd3", seed=7)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", SteerclearWarning)
        guided(pipe, "sd3", guider(NEGATIVE), negative_prompt="beard")
        guided(pipe, "sd3", guider(CFG))


def test_a_distilled_network_is_warned_of():
    pipe = tiny_modular.pipeline("sdxl", unet=tiny.unet(time_cond_proj_dim=8, **tiny.XL_NETWORK))
    expected = guided(pipe, "sdxl", their_cfg())
    with pytest.warns(SteerclearWarning, match="the network of this StableDiffusionXLModularPipeline is distilled"):
        assert torch.equal(guided(pipe, "sdxl", guider(CFG)), expected)


def test_without_t5_the_words_that_clip_does_not_read_are_refused():
    pipe = tiny_modular.pipeline("sd3")
    pipe.update_components(text_encoder_3=None, tokenizer_3=None)
    with pytest.raises(PromptError, match="77"):
        guided(pipe, "sd3", guider(NEGATIVE, "b " * 100), max_sequence_length=256)
