"""Steering unmodified Stable Diffusion pipelines: against diffusers itself, and against loops written by hand."""

import copy
import gc
import math
import pickle
import threading
import warnings
import weakref
from dataclasses import dataclass
from typing import ClassVar

import diffusers
import PIL.Image
import pytest
import torch

import tiny
from mutants import Mutant
from steerclear.bridges.diffusers.call import current
from steerclear.bridges.diffusers.steer import steer
from steerclear.core.errors import (
    InvalidSetting,
    NotFiniteError,
    PromptError,
    SteerclearWarning,
    UnsupportedModel,
)
from steerclear.core.guidance import Guidance, guidances, networks_of
from steerclear.core.records import Guided
from steerclear.evidence.constant import ConstantEvidence
from steerclear.guidance.auto import AutoGuidance
from steerclear.guidance.classifier_free import ClassifierFreeGuidance
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.guidance.interval import IntervalGuidance
from steerclear.guidance.negative_prompt import NegativePromptGuidance
from steerclear.guidance.redraw import Redraw
from steerclear.guidance.unguided import Unguided
from steerclear.networks.noised_weights import NoisedWeights

STEPS = 3
SCALE = 3.0
PROMPT = "a red hat"
CFG = ClassifierFreeGuidance(SCALE)
NEGATIVE = NegativePromptGuidance(SCALE)
THREE_BRANCHES = NegativePromptGuidance(SCALE, negative_scale=1.5)

pytestmark = pytest.mark.filterwarnings("ignore:Should have ta>=t0")  # torchsde, under DPMSolverSDE


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def pipe():
    return tiny.stable_diffusion("ddim", prediction_type="v_prediction")


def trajectory(pipe, prompt=PROMPT, *, seeds=(0,), **settings):
    """The latents after every step, ``[steps, images, ...]``."""
    seen = []

    def see(pipe, index, timestep, tensors):
        seen.append(tensors["latents"].clone())
        return tensors

    own = {"num_inference_steps": STEPS, "output_type": "latent", "callback_on_step_end": see, **settings}
    pipe(prompt, generator=tiny.generators(*seeds), **own)
    return torch.stack(seen)


def steered(pipe, guidance, negative_prompt=None, *, weak=None, max_batch=None, **settings):
    with steer(pipe, guidance, negative_prompt, weak, max_batch=max_batch) as run:
        latents = trajectory(pipe, **settings)
    return latents, run


def is_untouched(pipe):
    return (
        current.get() is None
        and "_steerclear_original_class" not in vars(type(pipe))
        and "_steerclear_original_class" not in vars(type(pipe.scheduler))
        and "_compiled_call_impl" not in vars(pipe.unet)
        and not {"encode_prompt", "__call__"} & set(vars(pipe))
        and not {"step", "scale_model_input"} & set(vars(pipe.scheduler))
    )


class Counted:
    """How often a network ran, and on how many rows."""

    def __init__(self, network):
        self.calls = self.rows = 0
        network.register_forward_pre_hook(self._count)

    def _count(self, network, inputs):
        self.calls += 1
        self.rows += len(inputs[0])


# bit by bit as diffusers


@pytest.mark.parametrize("negative", [None, "beard"])
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("name", tiny.SCHEDULERS)
def test_plain_guidance_is_bit_identical_to_diffusers(name, images, negative):
    space = {} if name == "dpm++-flow" else {"prediction_type": "v_prediction"}
    pipe = tiny.stable_diffusion(name, **space)
    settings = {"seeds": range(images), "num_images_per_prompt": images}
    expected = trajectory(pipe, guidance_scale=SCALE, negative_prompt=negative, **settings)
    found, run = steered(pipe, CFG if negative is None else NEGATIVE, negative, **settings)
    assert torch.equal(found, expected)
    assert run.forwards == len(expected)
    assert is_untouched(pipe)


UNREADABLE = {
    "EDMEulerScheduler": {},
    "EDMDPMSolverMultistepScheduler": {},
    "CMStochasticIterativeScheduler": {"clip_denoised": False},
    "IPNDMScheduler": {},
}
"""Schedulers that do not say the noise level of a step, or take another space than any that is converted."""


def unreadable_pipeline(name):
    pipe = tiny.stable_diffusion()
    pipe.scheduler = getattr(diffusers, name)(**UNREADABLE[name])
    return pipe


@pytest.mark.parametrize("name", UNREADABLE)
def test_plain_guidance_needs_no_noise_level(name):
    pipe = unreadable_pipeline(name)
    settings = {"seeds": (0, 1), "num_images_per_prompt": 2, "num_inference_steps": 5}
    expected = trajectory(pipe, guidance_scale=SCALE, **settings)
    found, run = steered(pipe, CFG, **settings)
    assert torch.equal(found, expected)
    expected = trajectory(pipe, guidance_scale=SCALE, negative_prompt="beard", **settings)
    found, run = steered(pipe, NEGATIVE, "beard", **settings)
    assert torch.equal(found, expected)
    assert run.trace.evaluations.tolist() == [10.0, 10.0]
    assert [math.isnan(level) for level in run.trace.levels] == [True] * 5
    assert run.trace.names == []
    for guidance in (
        AutoGuidance(2.0, NEGATIVE),
        IntervalGuidance(THREE_BRANCHES, 0.2, 0.8),
        DynamicNegativeGuidance(2.0, negative_scale=0.0),
    ):
        weak = tiny.unet(seed=8) if networks_of(guidance, 1) else None
        _, run = steered(pipe, guidance, None if "dynamic" in guidance.name else "beard", weak=weak, **settings)
        assert len(run.trace.steps) == 5


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize(
    "guidance",
    [
        DynamicNegativeGuidance(SCALE),
        IntervalGuidance(CFG, 0.5, 5.0, by="sigma"),
        AutoGuidance(2.0, IntervalGuidance(DynamicNegativeGuidance(), 0.5)),
    ],
    ids=lambda guidance: guidance.name,
)  # fmt: skip
def test_a_guidance_that_needs_the_noise_level_is_refused_before_anything_runs(name, guidance):
    pipe = unreadable_pipeline(name)
    counted, encoded = Counted(pipe.unet), []
    pipe.text_encoder.register_forward_pre_hook(lambda *_: encoded.append(1))
    weak = tiny.unet(seed=8) if networks_of(guidance, 1) else None
    with pytest.raises(UnsupportedModel) as raised:
        steered(pipe, guidance, "beard", weak=weak)
    assert str(raised.value).startswith(f"{guidance.name} needs the noise level of every step, and {name} ")
    assert str(raised.value).endswith(
        "; use another scheduler, such as DPMSolverMultistepScheduler, or a guidance that needs no noise level, such as negative or "
        "cfg"
    )
    assert counted.calls == len(encoded) == 0
    assert is_untouched(pipe)


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize(
    ("name", "settings", "rows", "evaluations"),
    [
        ("pndm", {}, 10, 11),
        ("pndm", {"skip_prk_steps": False}, 10, 19),
        ("heun", {}, 10, 19),
        ("kdpm2", {}, 10, 19),
        ("kdpm2-ancestral", {}, 10, 19),
        ("dpm-sde", {}, 10, 19),
        ("dpm++-singlestep", {}, 10, 10),
        ("euler", {}, 10, 10),
    ],
)
def test_a_row_of_the_trace_is_a_step(name, settings, rows, evaluations, images):
    pipe = tiny.stable_diffusion(name, prediction_type="v_prediction", **settings)
    _, run = steered(pipe, CFG, num_inference_steps=10, num_images_per_prompt=images, seeds=range(images))
    assert [step.index for step in run.trace.steps] == list(range(rows))
    assert run.trace.table("guidance_norm").shape == (rows, images)
    assert run.evaluations.tolist() == [2.0 * evaluations] * images
    assert len(run.trace.steps) + sum(len(step.further) for step in run.trace.steps) == evaluations
    assert run.trace.levels == sorted(run.trace.levels, reverse=True)
    assert repr(run) == (
        f"Run({evaluations} forwards, Trace(10 steps, {images} image{'s' * (images > 1)}, {2 * evaluations} evaluations per "
        f"image; shows guidance_norm))"
    )


def test_image_to_image_counts_its_own_steps():
    """The last part of a schedule, also where a step has further evaluations."""
    for name, evaluations in (("pndm", 6), ("heun", 9), ("euler", 5)):
        pipe = tiny.stable_diffusion(name, diffusers.StableDiffusionImg2ImgPipeline)
        settings = {"image": PIL.Image.new("RGB", (16, 16), "red"), "strength": 0.5, "num_inference_steps": 10}
        _, run = steered(pipe, IntervalGuidance(CFG, 0.0, 0.61), **settings)
        assert [step.index for step in run.trace.steps] == [0, 1, 2, 3, 4]
        assert len(run.trace.steps) + sum(len(step.further) for step in run.trace.steps) == evaluations
        assert run.trace.branches == [("empty", "positive")] * 3 + [("positive",)] * 2


@pytest.mark.parametrize(
    ("guidance", "said"),
    [
        (IntervalGuidance(CFG, 0.5, 0.55), "start=0.5 and stop=0.55 leave none of the 6 steps to cfg; set them farther apart"),
        (AutoGuidance(1.0, IntervalGuidance(CFG, 0.5, 0.55)), "start=0.5 and stop=0.55 leave none of the 6 steps to cfg"),
        (IntervalGuidance(CFG, 30.0, 40.0, by="sigma"),
         "start=30 and stop=40 leave none of the 6 steps to cfg, whose noise levels sigma / alpha fall from "),
        (IntervalGuidance(IntervalGuidance(CFG, 0.0, 0.4), 0.5, 1.0),
         "start=0 and stop=0.4 leave none of the interval around it to cfg; let the two overlap"),
        (IntervalGuidance(CFG, 0.5, 0.7), None),
        (IntervalGuidance(IntervalGuidance(CFG, 0.0, 0.6), 0.4, 1.0), None),
        (IntervalGuidance(CFG, 0.0, 40.0, by="sigma"), None),
    ],
    ids=str,
)  # fmt: skip
def test_an_interval_without_a_step_has_no_effect_and_says_so(pipe, guidance, said):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SteerclearWarning)
        _, run = steered(pipe, guidance, num_inference_steps=6)
    found = [str(warning.message) for warning in caught if warning.category is SteerclearWarning]
    assert len(found) == (said is not None)
    assert all(message.startswith(f"the guidance has no effect: {said}") for message in found)
    assert (("empty", "positive") in run.trace.branches) == (said is None)


def test_autoguidance_around_an_interval_without_a_step_still_acts(pipe):
    with warnings.catch_warnings():
        warnings.simplefilter("error", SteerclearWarning)
        _, run = steered(
            pipe, AutoGuidance(2.0, IntervalGuidance(CFG, 0.5, 0.55)), weak=tiny.unet(seed=8), num_inference_steps=6
        )
    assert run.trace.branches == [("positive", "weak:positive")] * 6


@pytest.mark.parametrize("name", ["ddim", "ddpm", "lcm", "heun", "euler", "tcd"])
def test_a_scheduler_that_clips_latents_is_told_of(name):
    pipe = tiny.stable_diffusion(name)
    plain = trajectory(pipe, guidance_scale=SCALE)
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, clip_sample=True)
    expected = trajectory(pipe, guidance_scale=SCALE)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SteerclearWarning)
        assert torch.equal(steered(pipe, CFG)[0], expected)
    found = [str(warning.message) for warning in caught if warning.category is SteerclearWarning]
    clips = name not in ("euler", "tcd")  # these have no such setting, or never look at it
    assert torch.equal(expected, plain) != clips
    said = (
        f"{type(pipe.scheduler).__name__} has clip_sample=True, so each of its steps cuts the denoised prediction to the range "
        f"of pixels after the guidance, and the samples of this model are latents, whose range is wider: its images are "
        f"spoiled, and so is what a dynamic guidance tracks; make the scheduler again with these set to False, as "
        f"from_config(scheduler.config, clip_sample=False)"
    )
    assert found == [said] * clips


@pytest.mark.parametrize("name", ["ddim", "euler", "heun", "dpm++", "unipc"])
def test_networks_that_predict_noise_too(name):
    pipe = tiny.stable_diffusion(name)
    expected = trajectory(pipe, guidance_scale=SCALE)
    assert torch.equal(steered(pipe, CFG)[0], expected)


@pytest.mark.parametrize(("mistake", "equal"), [("none", True), ("branches swapped", False), ("scale", False)])
def test_mistakes_are_caught(pipe, mistake, equal):
    expected = trajectory(pipe, guidance_scale=SCALE)
    found, _ = steered(pipe, Mutant(SCALE, mistake=mistake))
    assert torch.equal(found, expected) == equal
    assert torch.allclose(found, expected, rtol=0, atol=1e-6) == equal


def test_text_matters(pipe):
    """The comparisons mean something: each of the texts has a visible effect on these tiny networks."""
    ends = [trajectory(pipe, "a red hat", guidance_scale=s)[-1] for s in (1.0, SCALE)]
    ends.append(trajectory(pipe, "a blue car", guidance_scale=SCALE)[-1])
    ends.append(trajectory(pipe, "a red hat", guidance_scale=SCALE, negative_prompt="beard")[-1])
    for index, left in enumerate(ends):
        for right in ends[:index]:
            assert float((left - right).abs().max()) > 1e-2


def test_without_guidance_it_is_the_pipeline_without_guidance(pipe):
    expected = trajectory(pipe, guidance_scale=1.0)
    assert torch.equal(steered(pipe, Unguided(), guidance_scale=1.0)[0], expected)
    assert torch.allclose(steered(pipe, Unguided())[0], expected, rtol=0, atol=1e-5)


def test_rescale_on_the_guidance_is_the_pipelines_own(pipe):
    expected = trajectory(pipe, guidance_scale=SCALE, guidance_rescale=0.7)
    found, _ = steered(pipe, ClassifierFreeGuidance(SCALE, guidance_rescale=0.7))
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(found, trajectory(pipe, guidance_scale=SCALE), atol=1e-3)


def test_rescale_of_the_call_is_honoured_bit_by_bit(pipe):
    expected = trajectory(pipe, guidance_scale=SCALE, guidance_rescale=0.7)
    assert torch.equal(steered(pipe, CFG, guidance_rescale=0.7)[0], expected)
    assert torch.equal(steered(pipe, IntervalGuidance(CFG), guidance_rescale=0.7)[0], expected)
    with pytest.warns(SteerclearWarning, match=r"set twice: 0\.7 in the pipeline's call and 0\.5 on the guidance cfg"):
        steered(pipe, ClassifierFreeGuidance(SCALE, guidance_rescale=0.5), guidance_rescale=0.7)


def test_scale_of_the_call_changes_nothing_and_says_so(pipe):
    expected = trajectory(pipe, guidance_scale=SCALE)
    with pytest.warns(SteerclearWarning, match=r"guidance_scale=9\.0 .* the guidance cfg has 3\.0; set it there"):
        found, _ = steered(pipe, CFG, guidance_scale=9.0)
    assert torch.equal(found, expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error", SteerclearWarning)
        steered(pipe, CFG, guidance_scale=SCALE)
        steered(pipe, IntervalGuidance(CFG), guidance_scale=SCALE)


def test_lists_of_prompts_and_embeddings(pipe):
    prompts, settings = ["a red hat", "a blue car"], {"num_images_per_prompt": 2, "seeds": range(4)}
    expected = trajectory(pipe, prompts, guidance_scale=SCALE, **settings)
    assert torch.equal(steered(pipe, CFG, prompt=prompts, **settings)[0], expected)

    embedded, _ = pipe.encode_prompt(prompts, "cpu", 1, False)
    with pytest.warns(
        SteerclearWarning, match="the empty prompt is encoded by the pipeline.* give negative_prompt_embeds"
    ):
        assert torch.equal(steered(pipe, CFG, prompt=None, prompt_embeds=embedded, **settings)[0], expected)

    negatives = ["beard", "wheel"]
    expected = trajectory(pipe, prompts, guidance_scale=SCALE, negative_prompt=negatives, **settings)
    with steer(pipe, NEGATIVE):
        assert torch.equal(trajectory(pipe, prompts, negative_prompt=negatives, **settings), expected)


def test_a_negative_prompt_is_encoded_as_diffusers_encodes_it(pipe):
    """diffusers skips layers of the prompt's encoding but not of the negative prompt's."""
    vars(pipe.text_encoder)["text_model"] = pipe.text_encoder  # where diffusers 0.42 looks for the last norm
    expected = trajectory(pipe, guidance_scale=SCALE, negative_prompt="beard", clip_skip=1)
    assert torch.equal(steered(pipe, NEGATIVE, "beard", clip_skip=1)[0], expected)
    assert not torch.equal(trajectory(pipe, guidance_scale=SCALE, negative_prompt="beard"), expected)


def test_images_and_dtypes(pipe):
    expected = pipe(PROMPT, num_inference_steps=2, guidance_scale=SCALE, generator=tiny.generators(0), output_type="np")
    with steer(pipe, CFG):
        found = pipe(PROMPT, num_inference_steps=2, generator=tiny.generators(0), output_type="np")
    assert (found.images == expected.images).all()
    pipe.to(torch.bfloat16)
    expected = trajectory(pipe, guidance_scale=SCALE)
    assert torch.equal(steered(pipe, CFG)[0], expected)
    assert expected.dtype == torch.bfloat16


@pytest.mark.parametrize("channels", [4, 9])
def test_inpainting(channels):
    network = tiny.unet(in_channels=channels)
    pipe = tiny.stable_diffusion("ddim", diffusers.StableDiffusionInpaintPipeline, network)
    image, mask = PIL.Image.new("RGB", (16, 16), "red"), PIL.Image.new("L", (16, 16), 255)
    mask.paste(0, (0, 0, 8, 16))
    settings = {"image": image, "mask_image": mask, "strength": 1.0}
    expected = trajectory(pipe, guidance_scale=SCALE, **settings)
    assert torch.equal(steered(pipe, CFG, **settings)[0], expected)
    three, run = steered(pipe, THREE_BRANCHES, "beard", **settings)
    assert run.evaluations.tolist() == [3.0 * STEPS]
    assert not torch.equal(three, expected)


@pytest.mark.parametrize("name", ["ddim", "dpm++", "dpm++-singlestep", "heun", "euler-ancestral"])
def test_image_to_image(name):
    pipe = tiny.stable_diffusion(name, diffusers.StableDiffusionImg2ImgPipeline)
    settings = {"image": PIL.Image.new("RGB", (16, 16), "red"), "strength": 0.5, "num_inference_steps": 6}
    expected = trajectory(pipe, guidance_scale=SCALE, **settings)
    found, run = steered(pipe, CFG, **settings)
    assert torch.equal(found, expected)
    evaluations = len(run.trace.steps) + sum(len(step.further) for step in run.trace.steps)
    assert evaluations == len(expected)
    assert len(run.trace.steps) == 3
    assert run.trace.levels == sorted(run.trace.levels, reverse=True)


# against loops written by hand


def embedded(pipe, *texts):
    return [pipe.encode_prompt(text, "cpu", 1, False)[0] for text in texts]


def by_hand(pipe, guide):
    """DDIM from the same noise; ``guide(sample, timestep)`` gives each step's prediction."""
    pipe.scheduler.set_timesteps(STEPS)
    latents = torch.randn(1, 4, 8, 8, generator=tiny.generators(0)[0])
    seen = []
    with torch.no_grad():
        for timestep in pipe.scheduler.timesteps:
            latents = pipe.scheduler.step(guide(latents, timestep), timestep, latents).prev_sample
            seen.append(latents)
    return torch.stack(seen)


def close(left, right):
    return torch.allclose(left, right, rtol=1e-5, atol=1e-5)


def test_three_branches_by_hand(pipe):
    empty, positive, negative = embedded(pipe, "", PROMPT, "beard")

    def guide(sample, timestep):
        e, p, n = (pipe.unet(sample, timestep, text).sample for text in (empty, positive, negative))
        return e + SCALE * (p - e) - 1.5 * (n - e)

    found, run = steered(pipe, THREE_BRANCHES, "beard")
    assert close(found, by_hand(pipe, guide))
    assert run.trace.branches == [("empty", "positive", "negative")] * STEPS


def test_several_negatives_by_hand(pipe):
    empty, positive, *negatives = embedded(pipe, "", PROMPT, "beard", "wheel")

    def guide(sample, timestep):
        e, p, n, m = (pipe.unet(sample, timestep, text).sample for text in (empty, positive, *negatives))
        return e + SCALE * (p - e) - 1.5 * (n - e) - 1.5 * (m - e)

    found, run = steered(pipe, THREE_BRANCHES, ["beard", "wheel"])
    assert close(found, by_hand(pipe, guide))
    assert run.forwards == STEPS


def test_conjunction_by_hand(pipe):
    """At a constant posterior of 1/2 the weight is 1: the prompt's prediction is pushed away from both together."""
    from steerclear.evidence.constant import ConstantEvidence

    positive, both = embedded(pipe, PROMPT, PROMPT + ", beard")

    def guide(sample, timestep):
        p, c = (pipe.unet(sample, timestep, text).sample for text in (positive, both))
        return p - (c - p)

    found, run = steered(pipe, DynamicNegativeGuidance(1.0, evidence=ConstantEvidence(0.5)), "beard")
    assert close(found, by_hand(pipe, guide))
    assert run.trace.branches == [("positive", "conjunction")] * STEPS


def test_weak_network_by_hand(pipe):
    weak = tiny.unet(seed=8, channels=(4, 8))
    (positive,) = embedded(pipe, PROMPT)

    def guide(sample, timestep):
        strong, bad = (network(sample, timestep, positive).sample for network in (pipe.unet, weak))
        return bad + 2.5 * (strong - bad)

    counted = Counted(weak)
    found, run = steered(pipe, AutoGuidance(2.5), weak=weak)
    assert counted.calls == counted.rows == STEPS
    assert run.forwards == 2 * STEPS
    assert close(found, by_hand(pipe, guide))


def test_a_network_may_be_its_own_weak_one(pipe):
    """The push is then zero: what is compared with is the network itself, not a steered one."""
    found, run = steered(pipe, AutoGuidance(5.0), weak=pipe.unet)
    assert torch.equal(found, steered(pipe, Unguided())[0])
    assert run.evaluations.tolist() == [2.0 * STEPS]


@dataclass(frozen=True)
class OnlySome(Guidance):
    """Asks for the negative of some images only."""

    name: ClassVar[str] = "only-some"

    def branches(self, negatives):
        return ("positive", "negative")

    def __call__(self, step, state):
        positive, rows = step.predict_one("positive"), torch.tensor([2, 0])
        guided = positive.clone()
        guided[rows] = positive[rows] - 0.5 * (step.predict_one("negative", rows=rows) - positive[rows])
        return Guided(guided, state)

    @classmethod
    def laws(cls):
        return ()


def test_part_of_the_batch(pipe):
    prompts, settings = ["a red hat", "a blue car", "a cat"], {"seeds": range(3)}
    texts = torch.cat(embedded(pipe, *prompts))
    (negative,) = embedded(pipe, "beard")
    found, run = steered(pipe, OnlySome(), "beard", prompt=prompts, **settings)
    assert run.evaluations.tolist() == [2.0 * STEPS, 1.0 * STEPS, 2.0 * STEPS]
    sample = torch.cat([torch.randn(1, 4, 8, 8, generator=generator) for generator in tiny.generators(0, 1, 2)])
    pipe.scheduler.set_timesteps(STEPS)
    timestep = pipe.scheduler.timesteps[0]
    with torch.no_grad():
        p, n = pipe.unet(sample, timestep, texts).sample, pipe.unet(sample, timestep, negative.repeat(3, 1, 1)).sample
    guided = p - torch.tensor([0.5, 0, 0.5]).reshape(3, 1, 1, 1) * (n - p)
    assert close(found[0], pipe.scheduler.step(guided, timestep, sample).prev_sample)


@dataclass(frozen=True)
class Watching(Guidance):
    """Classifier-free guidance that shows its caller what a guidance sees."""

    seen: list
    name: ClassVar[str] = "watching"

    def branches(self, negatives):
        return ("empty", "positive")

    def __call__(self, step, state):
        guided = CFG(step, state)
        self.seen.append((step, step.denoised(guided.prediction)))
        return guided

    @classmethod
    def laws(cls):
        return ()


@pytest.mark.parametrize("space", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", ["ddim", "euler", "heun", "kdpm2-ancestral", "dpm-sde"])
def test_what_a_guidance_sees(name, space):
    """x_t in the scheduler's own scaling, the noise level, and the denoised image that the scheduler works with."""
    pipe = tiny.stable_diffusion(name, prediction_type=space)
    reported = []

    class Reporting(type(pipe.scheduler)):
        def step(self, *args, return_dict=True, **kwargs):
            output = super().step(*args, **kwargs)
            reported.append(output.pred_original_sample)
            return (output.prev_sample,)

    pipe.scheduler = Reporting.from_config(pipe.scheduler.config)
    guidance = Watching([])
    latents, _ = steered(pipe, guidance)
    steps = [step for step, _ in guidance.seen]
    start = torch.randn(1, 4, 8, 8, generator=tiny.generators(0)[0]) * pipe.scheduler.init_noise_sigma
    assert torch.equal(steps[0].sample, start)
    assert all(torch.equal(step.sample, before) for step, before in zip(steps[1:], latents, strict=False))
    twice = name not in ("ddim", "euler")
    assert [step.index for step in steps] == [k // 2 if twice else k for k in range(len(latents))]
    assert {step.total for step in steps} == {STEPS}
    assert any(step.substep for step in steps) == twice
    for (_, ours), theirs in zip(guidance.seen, reported, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


def test_a_text_that_is_asked_for_late_is_refused_before_the_first_evaluation():
    pipe = tiny.stable_diffusion("ddpm")
    late = IntervalGuidance(DynamicNegativeGuidance(SCALE), 0.5, 1.0)
    with steer(pipe, late, negative_prompt="b" * 40) as run, pytest.raises(PromptError, match="cut off"):
        pipe("a" * 60, num_inference_steps=4)
    assert run.forwards == 0


# image k of a batch is image k alone


def on_the_shelf():
    extra = [
        THREE_BRANCHES,
        AutoGuidance(2.0, THREE_BRANCHES),
        DynamicNegativeGuidance(SCALE, negative_scale=2.0, concept="negative"),
    ]
    drawing_again = Redraw(CFG, evidence=ConstantEvidence(0.7), tries=2, latest=0.5)  # alone it asks for a judge
    kinds = [kind for kind in guidances().values() if kind is not Redraw]
    return [*(kind() for kind in kinds), drawing_again, *extra]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
@pytest.mark.parametrize("name", ["ddpm", "heun"])
@pytest.mark.parametrize("guidance", on_the_shelf(), ids=str)
@pytest.mark.filterwarnings("ignore::steerclear.core.errors.SteerclearWarning")
def test_image_k_of_a_batch_is_image_k_alone(guidance, name, dtype, tolerance):
    pipe = tiny.stable_diffusion(name, prediction_type="v_prediction").to(dtype)
    weak = tiny.unet(seed=8, channels=(4, 8)).to(dtype) if networks_of(guidance, 1) else None
    prompts = ["a red hat", "a blue car", "a cat", "b", "a man", "two men", "a hat", "a red hat"]
    batch, run = steered(pipe, guidance, "beard", weak=weak, prompt=prompts, seeds=range(8))
    for k in (0, 5, 7):
        alone, run_alone = steered(pipe, guidance, "beard", weak=weak, prompt=prompts[k], seeds=(k,))
        # of the largest latent: some of these random networks drive them to 40
        assert float((batch[:, k : k + 1] - alone).abs().max()) <= tolerance * max(1.0, float(alone.abs().max()))
        for shown in run.trace.names:
            mine, whole = run_alone.trace.table(shown)[:, 0], run.trace.table(shown)[:, k]
            assert torch.allclose(mine, whole, rtol=1e-3, atol=1e-4, equal_nan=True)
    assert not torch.allclose(batch[:, 0], batch[:, 7], atol=1e-2)  # one prompt, two seeds


@pytest.mark.parametrize(
    ("guidance", "each"),
    [(Unguided(), 1), (ClassifierFreeGuidance(1.0), 1), (CFG, 2), (NEGATIVE, 2), (THREE_BRANCHES, 3)],
)
@pytest.mark.filterwarnings("ignore::steerclear.core.errors.SteerclearWarning")
def test_what_is_not_asked_for_is_not_run(pipe, guidance, each):
    counted = Counted(pipe.unet)
    _, run = steered(pipe, guidance, "beard", num_images_per_prompt=2, seeds=(0, 1))
    assert counted.calls == run.forwards == STEPS
    assert counted.rows == 2 * each * STEPS
    assert run.evaluations.tolist() == [each * STEPS] * 2


def test_an_interval_runs_its_branches_inside_only(pipe):
    counted = Counted(pipe.unet)
    _, run = steered(pipe, IntervalGuidance(CFG, 0.5, 1.0), num_inference_steps=4)
    assert run.trace.branches == [("positive",)] * 2 + [("empty", "positive")] * 2
    assert counted.rows == int(run.evaluations) == 6


@pytest.mark.parametrize(("largest", "forwards"), [(1, 6), (2, 3), (4, 2), (6, 1), (7, 1)])
def test_a_largest_batch(pipe, largest, forwards):
    settings = {"num_images_per_prompt": 2, "seeds": (0, 1), "num_inference_steps": 2}
    expected, _ = steered(pipe, THREE_BRANCHES, "beard", **settings)
    found, run = steered(pipe, THREE_BRANCHES, "beard", max_batch=largest, **settings)
    assert run.forwards == 2 * forwards
    assert close(found, expected)


# where negative prompts and halves come from


def test_the_calls_own_negative_prompt(pipe):
    expected, _ = steered(pipe, THREE_BRANCHES, "beard")
    with steer(pipe, THREE_BRANCHES) as run:
        assert torch.equal(trajectory(pipe, negative_prompt="beard"), expected)
        assert run.trace.branches == [("empty", "positive", "negative")] * STEPS
        _, own = pipe.encode_prompt(PROMPT, "cpu", 1, True, "beard")
        assert torch.equal(trajectory(pipe, negative_prompt_embeds=own), expected)


@pytest.mark.filterwarnings("ignore:guidance_scale=1")
def test_it_does_not_matter_whether_the_pipeline_has_an_unconditional_half(pipe):
    for guidance, negative in [(CFG, None), (NEGATIVE, "beard"), (THREE_BRANCHES, "beard")]:
        with_half, _ = steered(pipe, guidance, negative)
        assert torch.equal(steered(pipe, guidance, negative, guidance_scale=1.0)[0], with_half)
    with steer(pipe, THREE_BRANCHES):
        assert torch.equal(trajectory(pipe, negative_prompt="beard", guidance_scale=1.0), with_half)
        _, own = pipe.encode_prompt(PROMPT, "cpu", 1, True, "beard")
        assert torch.equal(trajectory(pipe, negative_prompt_embeds=own, guidance_scale=1.0), with_half)


def test_a_callback_may_drop_the_unconditional_half(pipe):
    expected, _ = steered(pipe, CFG)

    def drop(pipe, index, timestep, tensors):
        if index == 0:
            pipe._guidance_scale = 0.0
            tensors["prompt_embeds"] = tensors["prompt_embeds"].chunk(2)[1]
        return tensors

    with steer(pipe, CFG):
        tensors = ["latents", "prompt_embeds"]
        settings = {"callback_on_step_end": drop, "callback_on_step_end_tensor_inputs": tensors}
        end = pipe(
            PROMPT, num_inference_steps=STEPS, generator=tiny.generators(0), output_type="latent", **settings
        ).images
    assert torch.equal(end, expected[-1])


def test_prompts_are_encoded_only_when_asked_for(pipe):
    counted = Counted.__new__(Counted)
    counted.calls = 0
    pipe.text_encoder.register_forward_pre_hook(lambda *_: setattr(counted, "calls", counted.calls + 1))
    steered(pipe, CFG)
    assert counted.calls == 2  # the pipeline's own: prompt and empty
    steered(pipe, NEGATIVE, "beard")
    assert counted.calls == 2 + 3
    steered(pipe, Unguided(), guidance_scale=1.0)
    assert counted.calls == 2 + 3 + 1


# refused before the network runs, or said


def refused(pipe, error, match, guidance, negative_prompt=None, weak=None, **settings):
    counted = Counted(pipe.unet)
    with pytest.raises(error, match=match):
        steered(pipe, guidance, negative_prompt, weak=weak, **settings)
    assert counted.calls == 0
    assert is_untouched(pipe)


def test_negative_prompts_that_cannot_be_used(pipe):
    refused(pipe, PromptError, "names no concept", NEGATIVE, " ")
    refused(pipe, PromptError, "names no concept", NEGATIVE, ["beard", ""])
    refused(pipe, PromptError, "names no concept", NEGATIVE, [])
    refused(pipe, PromptError, "one of them is 3", NEGATIVE, [3])
    refused(pipe, PromptError, "negative_prompt is 3, but must be a text or a list of texts", NEGATIVE, 3)
    refused(pipe, PromptError, "negative_prompt is {'hat': 1}, but must be a text", NEGATIVE, {"hat": 1})
    long = "word " * 15 + "mustache, beard and all"
    refused(pipe, PromptError, r"longer than the 77 tokens .* words are cut off: 'and all'. Shorten it", NEGATIVE, long)
    refused(pipe, PromptError, "cut off: 'wordy'", DynamicNegativeGuidance(), "wordy", prompt="w" * 70)
    refused(
        pipe, PromptError, "asks for the branch 'negative_2', but there is 1 negative", AsksFor("negative_2"), "hat"
    )
    embeddings, _ = pipe.encode_prompt(PROMPT, "cpu", 1, False)
    refused(
        pipe,
        PromptError,
        "given as embeddings",
        DynamicNegativeGuidance(),
        "hat",
        prompt=None,
        prompt_embeds=embeddings,
    )
    counted = Counted(pipe.unet)
    with pytest.raises(PromptError, match="given twice: steer has 'beard'"), steer(pipe, NEGATIVE, "beard"):
        trajectory(pipe, negative_prompt="hat")
    with pytest.raises(PromptError, match="cut off: 'and all'"), steer(pipe, NEGATIVE):
        trajectory(pipe, negative_prompt=long)
    assert counted.calls == 0
    with steer(pipe, NEGATIVE, "beard"):
        trajectory(pipe, negative_prompt="")  # an empty one is none


def test_weak_networks_that_do_not_fit(pipe):
    refused(pipe, UnsupportedModel, "autoguidance asks for the weak network, and none is given", AutoGuidance(2.0))
    wide = tiny.unet(cross_attention_dim=24)
    refused(
        pipe,
        UnsupportedModel,
        "its cross_attention_dim is 24, and the pipeline's network has 16",
        AutoGuidance(),
        weak=wide,
    )
    inpainting = tiny.unet(in_channels=9)
    refused(
        pipe,
        UnsupportedModel,
        "its in_channels is 9, and the pipeline's network has 4",
        AutoGuidance(),
        weak=inpainting,
    )
    half = tiny.unet().to(torch.bfloat16)
    refused(pipe, UnsupportedModel, r"network\.to\(torch.float32\)", AutoGuidance(), weak=half)


@dataclass(frozen=True)
class AsksFor(Guidance):
    """Asks for one branch."""

    branch: str = "positive"
    name: ClassVar[str] = "asks-for"

    def branches(self, negatives):
        return (self.branch,)

    def __call__(self, step, state):
        return Guided(step.predict_one(self.branch), state)

    @classmethod
    def laws(cls):
        return ()


def test_settings_that_are_none(pipe):
    refused(pipe, InvalidSetting, r"guidance is 7\.5, but must be a guidance; such as ClassifierFree", 7.5)
    message = (
        r"asks-for asks for the other network, and none is given; give steer\(\.\.\., networks=\{'other': \.\.\.\}\)"
    )
    refused(pipe, UnsupportedModel, message, AsksFor("other:positive"))
    with pytest.raises(InvalidSetting, match="max_batch is 0, but must be a whole number"):
        steered(pipe, CFG, max_batch=0)
    with pytest.raises(InvalidSetting, match="max_batch is True, but must be a whole number"):
        steered(pipe, CFG, max_batch=True)
    pipe.scheduler = diffusers.EDMEulerScheduler()
    refused(
        pipe,
        UnsupportedModel,
        "EDMEulerScheduler scales its network's output by itself",
        DynamicNegativeGuidance(),
        "beard",
    )


@pytest.mark.parametrize("part", ["unet", "scheduler"])
def test_a_pipeline_that_lacks_a_part(pipe, part):
    setattr(pipe, part, None)
    with pytest.raises(UnsupportedModel, match=f"has no {part}; load it with one"), steer(pipe, CFG):
        pass


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        ("WanPipeline", "does not know how WanPipeline calls its network; it knows StableDiffusionPipe.*add a Family"),
        ("StableDiffusionUpscalePipeline", "does not know how StableDiffusionUpscalePipeline calls"),
        ("StableDiffusionInstructPix2PixPipeline", "guides by a picture as well as by a prompt.*use an image-to-image"),
        ("StableDiffusionXLInstructPix2PixPipeline", "guides by a picture as well as by a prompt"),
        ("StableDiffusionPAGPipeline", "perturbed attention.*use the pipeline without PAG"),
        ("StableDiffusionXLControlNetPAGPipeline", "perturbed attention.*use the pipeline without PAG"),
    ],
)
def test_other_families_are_refused(kind, match):
    other = object.__new__(getattr(diffusers, kind))
    with pytest.raises(UnsupportedModel, match=match), steer(other, CFG):
        pass


def test_settings_without_effect_are_said(pipe):
    weak = tiny.unet(seed=8)
    message = "the negative prompt has no effect: cfg does not look at negative prompts"
    with pytest.warns(SteerclearWarning, match=message) as said, steer(pipe, CFG, "beard"):
        trajectory(pipe)
    assert [warning.filename for warning in said] == [__file__]
    with pytest.warns(SteerclearWarning, match="the negative prompt has no effect: guidance_scale is 1"):
        steered(pipe, NegativePromptGuidance(1.0), "beard")
    with pytest.warns(SteerclearWarning, match=message) as said, steer(pipe, CFG):
        trajectory(pipe, negative_prompt="beard")
    assert [warning.filename for warning in said] == [__file__]
    with pytest.warns(SteerclearWarning, match=r"negative has no negative to push away from.*negative_prompt=") as said:
        steered(pipe, IntervalGuidance(NEGATIVE))
    assert len(said) == 1
    with pytest.warns(
        SteerclearWarning, match=r"guidance_scale=9\.0 .* the guidance unguided .* has no guidance_scale"
    ):
        steered(pipe, Unguided(), guidance_scale=9.0)
    with pytest.warns(SteerclearWarning, match="the weak network has no effect: cfg with these settings never asks"):
        steered(pipe, CFG, weak=weak)
    with warnings.catch_warnings():
        warnings.simplefilter("error", SteerclearWarning)
        steered(pipe, NEGATIVE, "beard")
        steered(pipe, AutoGuidance(2.0, NEGATIVE), "beard", weak=weak)


def test_not_finite_names_step_and_branch(pipe):
    calls = []

    def spoil(network, inputs, output):
        calls.append(1)
        if len(calls) == 2:
            output[0][5] = float("nan")  # second image of the third branch
        return output

    pipe.unet.register_forward_hook(spoil)
    match = r"branch 'negative' is not finite at step 2 of 3 \(images \[1\] of the batch"
    with pytest.raises(NotFiniteError, match=match), steer(pipe, THREE_BRANCHES, "beard") as run:
        trajectory(pipe, seeds=(0, 1), num_images_per_prompt=2)
    assert len(run.trace.steps) == 1
    assert is_untouched(pipe)


# everything is put back


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_the_pipeline_as_it_was(pipe, error):
    before, expected = type(pipe), trajectory(pipe, guidance_scale=7.5)

    def fail(pipe, index, timestep, tensors):
        raise error("enough")

    with pytest.raises(error, match="enough"), steer(pipe, CFG):
        pipe(PROMPT, num_inference_steps=2, callback_on_step_end=fail)
    assert type(pipe) is before
    assert is_untouched(pipe)
    assert torch.equal(trajectory(pipe), expected)


def test_after_a_failed_call_the_block_goes_on(pipe):
    expected = trajectory(pipe, guidance_scale=SCALE)
    with steer(pipe, CFG):
        with pytest.raises(ValueError, match="divisible by 8"):
            pipe(PROMPT, height=15, width=15)
        assert torch.equal(trajectory(pipe), expected)


def test_nesting_is_refused(pipe):
    with steer(pipe, CFG):
        with pytest.raises(UnsupportedModel, match="is being steered already"), steer(pipe, Unguided()):
            pass
        found = trajectory(pipe)
    assert torch.equal(found, trajectory(pipe, guidance_scale=SCALE))


def pickled(thing):
    return pickle.loads(pickle.dumps(thing))  # noqa: S301 (our own)


def test_copies_are_plain(pipe):
    copies = []

    def copied(pipe, index, timestep, tensors):
        copies.append((copy.deepcopy(pipe.scheduler), pickled(pipe.scheduler), copy.deepcopy(pipe.unet)))
        return tensors

    with steer(pipe, CFG):
        assert isinstance(pipe, diffusers.StableDiffusionPipeline)
        assert type(pipe).__name__ == "StableDiffusionPipeline"
        pipe(PROMPT, num_inference_steps=2, output_type="latent", callback_on_step_end=copied)
        assert type(copy.copy(pipe)) is diffusers.StableDiffusionPipeline
        assert type(copy.copy(pipe).scheduler) is diffusers.DDIMScheduler
    for deep, through_pickle, network in copies:
        assert type(deep) is type(through_pickle) is diffusers.DDIMScheduler
        assert deep.config == through_pickle.config == pipe.scheduler.config
        assert vars(deep).keys() == vars(pipe.scheduler).keys()
        assert "_compiled_call_impl" not in vars(network)


def test_pipelines_made_inside_of_the_block_are_plain(pipe):
    expected = trajectory(pipe, guidance_scale=5.0)
    made = []

    def remade(pipe, index, timestep, tensors):
        made.append(type(pipe.scheduler).from_config(pipe.scheduler.config))
        return tensors

    with steer(pipe, CFG):
        pipe(PROMPT, num_inference_steps=2, output_type="latent", callback_on_step_end=remade)
        for other in (type(pipe)(**pipe.components, requires_safety_checker=False), pipe.from_pipe(pipe)):
            other.set_progress_bar_config(disable=True)
            assert type(other) is diffusers.StableDiffusionPipeline
            assert torch.equal(trajectory(other, guidance_scale=5.0), expected)
    assert [type(scheduler) for scheduler in made] == [diffusers.DDIMScheduler] * 2


def test_the_weak_network_is_not_kept_alive(pipe):
    weak = tiny.unet(seed=8)
    _, run = steered(pipe, AutoGuidance(2.0), weak=weak)
    alive = weakref.ref(weak)
    del weak
    gc.collect()
    assert alive() is None
    assert run.evaluations.tolist() == [2.0 * STEPS]


def test_a_pipeline_dies_with_its_last_reference():
    pipe = tiny.stable_diffusion("euler")
    alive = [weakref.ref(thing) for thing in (pipe, pipe.unet, pipe.scheduler)]
    _, run = steered(pipe, CFG)
    del pipe
    gc.collect()
    assert [reference() for reference in alive] == [None] * 3
    assert len(run.trace.steps) == STEPS


def test_other_pipelines_with_the_same_network_are_left_alone(pipe):
    other = tiny.stable_diffusion("euler", network=pipe.unet)
    expected = trajectory(other, guidance_scale=5.0)
    with steer(pipe, Unguided()):
        assert torch.equal(trajectory(other, guidance_scale=5.0), expected)
        with steer(other, ClassifierFreeGuidance(5.0)):
            assert torch.equal(trajectory(other), expected)
    assert is_untouched(pipe)


def test_threads_that_share_a_network(pipe):
    """Three pipelines with one network run step by step beside one another: two steered, one plain."""
    others = [tiny.stable_diffusion("ddim", network=pipe.unet, prediction_type="v_prediction") for _ in range(2)]
    for other in others:
        other.tokenizer = copy.deepcopy(other.tokenizer)  # the tokenizers library's are not for several threads
    expected = [trajectory(pipe, guidance_scale=scale)[-1] for scale in (3.0, 5.0, 7.0)]
    together, found = threading.Barrier(3, timeout=60), {}

    def wait(pipe, index, timestep, tensors):
        together.wait()
        return tensors

    def run(index, pipe, guidance, scale):
        settings = {"num_inference_steps": STEPS, "output_type": "latent", "callback_on_step_end": wait}
        if guidance is None:
            found[index] = pipe(PROMPT, guidance_scale=scale, generator=tiny.generators(0), **settings).images
        else:
            with steer(pipe, guidance):
                found[index] = pipe(PROMPT, generator=tiny.generators(0), **settings).images

    jobs = [(0, pipe, CFG, 3.0), (1, others[0], None, 5.0), (2, others[1], ClassifierFreeGuidance(7.0), 7.0)]
    threads = [threading.Thread(target=run, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[index], expected[index]) for index in range(3))
    assert is_untouched(pipe)


def test_a_scheduler_replaced_inside_of_the_block(pipe):
    with steer(pipe, CFG):
        trajectory(pipe)
        pipe.scheduler = tiny.scheduler("dpm++", prediction_type="v_prediction")
        found = trajectory(pipe)
    assert torch.equal(found, trajectory(pipe, guidance_scale=SCALE))
    assert is_untouched(pipe)


def test_low_rank_adapters(pipe):
    """The strength of an adapter holds for further prompts too: in the network, and in the text encoder."""
    peft = pytest.importorskip("peft")
    layers = {"r": 2, "lora_alpha": 8, "init_lora_weights": False}
    torch.manual_seed(0)
    pipe.unet.add_adapter(peft.LoraConfig(target_modules=["to_k", "to_v"], **layers))
    pipe.text_encoder.add_adapter(peft.LoraConfig(target_modules=["q_proj", "v_proj"], **layers))
    ends = {}
    for scale in (0.0, 0.9):
        settings = {"cross_attention_kwargs": {"scale": scale}}
        ends[scale] = trajectory(pipe, guidance_scale=SCALE, negative_prompt="beard", **settings)
        assert torch.equal(steered(pipe, NEGATIVE, "beard", **settings)[0], ends[scale])
    assert not torch.allclose(ends[0.0], ends[0.9], atol=1e-2)


@pytest.mark.parametrize("in_place", [True, False])
def test_compiled_networks(pipe, in_place):
    if in_place:
        pipe.unet.compile(backend="eager")
    else:
        pipe.unet = torch.compile(pipe.unet, backend="eager")
    compiled = vars(pipe.unet).get("_compiled_call_impl")
    expected = trajectory(pipe, guidance_scale=SCALE)
    found, run = steered(pipe, CFG)
    assert torch.equal(found, expected)
    assert run.forwards == STEPS
    assert vars(pipe.unet).get("_compiled_call_impl") is compiled


def test_the_run_tells_of_the_last_call(pipe):
    with steer(pipe, CFG) as run:
        assert run.evaluations.tolist() == run.trace.table("guidance_norm").tolist() == []
        trajectory(pipe)
        assert run.evaluations.tolist() == [2.0 * STEPS]
        trajectory(pipe, num_images_per_prompt=2, seeds=(0, 1), num_inference_steps=2)
    assert run.evaluations.tolist() == [4.0, 4.0]
    assert run.forwards == 2
    assert [step.index for step in run.trace.steps] == [0, 1]


@pytest.mark.parametrize(
    ("weak", "reason"),
    [
        (lambda pipe: NoisedWeights(strength=0.0), "its strength is 0"),
        (lambda pipe: pipe.unet, "it is the pipeline's own network"),
        (lambda pipe: copy.deepcopy(pipe.unet), "it is the pipeline's own network"),
        (lambda pipe: NoisedWeights(strength=0.1), None),
        (lambda pipe: tiny.unet(seed=9), None),
    ],
)
def test_a_weak_network_that_is_the_network_itself_is_said(pipe, weak, reason):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with steer(pipe, AutoGuidance(2.0), weak=weak(pipe)):
            pass
        with steer(pipe, Unguided(), weak=weak(pipe)):
            pass
    found = [str(one.message) for one in said if "nothing to push away from" in str(one.message)]
    expected = (
        f"the weak network has no effect: {reason}, so autoguidance has nothing to push away from; give one that is worse, "
        f"such as NoisedWeights(strength=0.1)"
    )
    assert found == ([expected] if reason else [])


@pytest.mark.parametrize(
    ("negatives", "times"), [(["hat", "hat"], 1), (["hat", "beard", " hat"], 1), (["hat", "beard"], 0)]
)
def test_a_negative_that_is_given_twice_is_said(pipe, negatives, times):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with steer(pipe, DynamicNegativeGuidance(3.0), negatives):
            pass
    expected = (
        "the negative prompt 'hat' is given 2 times, and each adds its own push, so the push away from it is too strong; give "
        "it once"
    )
    assert [str(one.message) for one in said] == [expected] * times
