"""Noise levels and spaces of diffusers' schedulers, against what the schedulers themselves do."""

import inspect
import itertools
import json
import math
import warnings
from types import SimpleNamespace

import diffusers
import pytest
import torch

import tiny
from steerclear.bridges.diffusers.steer import steer
from steerclear.core.errors import InvalidSetting, SteerclearWarning
from steerclear.core.noise import from_denoised, to_denoised, to_noise
from steerclear.core.schedulers import (
    altered_denoised,
    input_scale,
    is_flow,
    is_stochastic,
    is_substep,
    level_at,
    noise_level,
    point,
    prediction_type,
    sampler_kind,
    step_arguments,
    unreadable,
)
from steerclear.core.seeds import image_generators
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.models.loading import load_model
from steerclear.training.diffusion import build_scheduler

STEPS = 6
SHAPE = (2, 4, 3, 3)

SPACES = ("epsilon", "v_prediction")
CASES = [
    (name, space) for name in tiny.SCHEDULERS for space in SPACES if not (name == "dpm++-flow" and space != SPACES[0])
]
CASES.remove(("ddim-zero-snr", "epsilon"))  # pure noise says nothing of the image: the scheduler itself gives NaN


def prepared(name, space=None, steps=STEPS, **settings):
    own = {} if space is None or name == "dpm++-flow" else {"prediction_type": space}
    scheduler = tiny.scheduler(name, **own, **settings)
    scheduler.set_timesteps(steps)
    return scheduler


def walked(scheduler, seed=0):
    """Every point of a run whose network says random numbers: (timestep, sample, prediction, what step returned)."""
    random = torch.Generator().manual_seed(seed)
    sample = torch.randn(SHAPE, generator=random) * scheduler.init_noise_sigma
    keywords = {"generator": random} if "generator" in inspect.signature(scheduler.step).parameters else {}
    for timestep in scheduler.timesteps:
        scheduler.scale_model_input(sample, timestep)
        prediction = torch.randn(SHAPE, generator=random)
        moved = SimpleNamespace()
        yield timestep, sample, prediction, moved
        moved.output = scheduler.step(prediction, timestep, sample, **keywords)
        sample = moved.output.prev_sample


@pytest.mark.parametrize("name", tiny.SCHEDULERS)
def test_levels_are_what_add_noise_does(name):
    scheduler = prepared(name, "v_prediction")
    one, zero = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    checked = 0
    for timestep, *_ in walked(scheduler):
        if is_substep(scheduler):
            continue  # add_noise knows of no midpoints; see the next test
        alpha, sigma = noise_level(scheduler, timestep)
        times = timestep.reshape(1)
        assert alpha == pytest.approx(float(scheduler.add_noise(one, zero, times)), abs=1e-5)
        assert sigma == pytest.approx(float(scheduler.add_noise(zero, one, times)), abs=1e-5, rel=1e-5)
        checked += 1
    assert checked >= STEPS // 2


@pytest.mark.parametrize("name", ["euler", "euler-ancestral", "heun", "lms", "kdpm2", "kdpm2-ancestral", "dpm-sde"])
def test_levels_are_what_the_input_is_scaled_by(name):
    scheduler = prepared(name)
    substeps = 0
    for timestep, sample, *_ in walked(scheduler):
        alpha, sigma = noise_level(scheduler, timestep)
        scaled = scheduler.scale_model_input(sample, timestep)
        assert alpha == 1
        assert float(sample.norm() / scaled.norm()) == pytest.approx((1 + sigma**2) ** 0.5, rel=1e-5)
        substeps += is_substep(scheduler)
    assert substeps == (0 if name.startswith(("euler", "lms")) else STEPS - 1)


@pytest.mark.parametrize("kind", [diffusers.FlowMatchEulerDiscreteScheduler, diffusers.FlowMatchHeunDiscreteScheduler])
def test_levels_are_what_scale_noise_does(kind):
    scheduler = kind(shift=3.0)
    scheduler.set_timesteps(STEPS)
    one, zero = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    assert prediction_type(scheduler) == "flow_prediction"
    assert is_flow(scheduler)
    for timestep in scheduler.timesteps.unique():
        alpha, sigma = noise_level(scheduler, timestep)
        assert alpha == pytest.approx(float(scheduler.scale_noise(one, timestep.reshape(1), zero)), abs=1e-5)
        assert sigma == pytest.approx(float(scheduler.scale_noise(zero, timestep.reshape(1), one)), abs=1e-5)


EVERY = [*tiny.SCHEDULERS, *tiny.FLOW_SCHEDULERS]
ENDS_ABOVE_ZERO = ("ddim", "ddim-zero-snr", "pndm", "tcd", "deis", "sa")
"""Their last step goes to the level of timestep 0."""
LOST = ("pndm", "lms")
"""diffusers' own mistake where they are after an image-to-image start."""


def landed(scheduler, size, first=0):
    """A run whose network knows the image, 0.5, from one of its timesteps on: (point, where its step lands, noise of the point)."""
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 1, 1, size, generator=random)
    keywords = {"generator": random} if "generator" in inspect.signature(scheduler.step).parameters else {}
    if first and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    timesteps = scheduler.timesteps[first:]
    alpha, sigma = noise_level(scheduler, timesteps[0])
    sample = 0.5 * alpha + sigma * noise
    for evaluation, timestep in enumerate(timesteps):
        if hasattr(scheduler, "scale_model_input"):
            scheduler.scale_model_input(sample, timestep)
        here = point(scheduler, sample, timestep, evaluation, len(timesteps))
        prediction = from_denoised(
            torch.full_like(sample, 0.5), sample, here.alpha, here.sigma, prediction_type(scheduler)
        )
        implied = to_noise(prediction, sample, here.alpha, here.sigma, prediction_type(scheduler))
        sample = scheduler.step(prediction, timestep, sample, **keywords).prev_sample
        yield here, sample, implied


@pytest.mark.parametrize("first", [0, 2])
@pytest.mark.parametrize("name", [name for name in EVERY if not is_stochastic(tiny.scheduler(name))])
def test_a_deterministic_step_lands_at_the_next_level(name, first):
    first = 0 if name in LOST else first
    space = "v_prediction" if name == "ddim-zero-snr" else None
    points = list(landed(prepared(name, space), 16, first))
    for here, sample, noise in points:
        expected = 0.5 * here.next_alpha + here.next_sigma * noise
        assert torch.allclose(sample, expected, rtol=1e-5, atol=1e-5 * max(1.0, here.sigma)), here.index
    last = points[-1][0]
    assert (last.next_sigma == 0 and last.next_alpha == 1) == (name not in ENDS_ABOVE_ZERO)
    steps = [] if name == "ddim-zero-snr" else itertools.pairwise(points)  # its stride is not a whole number
    for (here, *_), (following, *_) in steps:
        assert (here.next_alpha, here.next_sigma) == pytest.approx(
            (following.alpha, following.sigma), rel=1e-6, abs=1e-9
        )


@pytest.mark.parametrize("name", [name for name in tiny.SCHEDULERS if is_stochastic(tiny.scheduler(name))])
def test_a_random_step_has_the_noise_of_the_next_level(name):
    points = list(landed(prepared(name), 40_000))
    for here, sample, _ in points:
        assert float(sample.mean()) == pytest.approx(0.5 * here.next_alpha, abs=0.03 * max(1.0, here.sigma))
        assert float(sample.std()) == pytest.approx(here.next_sigma, rel=0.02, abs=1e-4)
    for (here, *_), (following, *_) in itertools.pairwise(points):
        assert (here.next_alpha, here.next_sigma) == pytest.approx(
            (following.alpha, following.sigma), rel=1e-6, abs=1e-9
        )
    assert (points[-1][0].next_sigma == 0) == (name not in ENDS_ABOVE_ZERO)


@pytest.mark.parametrize("prk", [False, True])
def test_the_next_level_of_pndm_at_its_substeps(prk):
    points = [here for here, *_ in landed(prepared("pndm", skip_prk_steps=not prk), 4)]
    for here, following in itertools.pairwise(points):
        assert (here.next_alpha, here.next_sigma) == pytest.approx((following.alpha, following.sigma), rel=1e-6)


def test_a_scheduler_that_is_not_read_has_no_next_level():
    edm = diffusers.EDMEulerScheduler()
    edm.set_timesteps(4)
    here = point(edm, torch.zeros(SHAPE), edm.timesteps[0], 0, 4)
    assert math.isnan(here.next_alpha)
    assert math.isnan(here.next_sigma)
    assert here.levels is None


@pytest.mark.parametrize("name", EVERY)
def test_a_level_of_ones_own_has_the_schedulers_scaling_and_timestep(name):
    """At the scheduler's own levels its own numbers come back, and the network's input is scaled as the scheduler does."""
    scheduler = prepared(name)
    checked = 0
    for here, _sample, _ in landed(scheduler, 4):
        if here.alpha == 0 or here.sigma == 0 or here.substep:
            continue
        alpha, sigma, timestep = level_at(scheduler, here.sigma / here.alpha)
        assert (alpha, sigma) == pytest.approx((here.alpha, here.sigma), rel=1e-6)
        whole = 0.6 if name == "dpm++-karras" else 1.01 if name == "dpm++-flow" else 0.1  # some round their timesteps
        assert timestep == pytest.approx(float(here.timestep), abs=whole)
        checked += 1
    assert checked >= STEPS // 2


@pytest.mark.parametrize("name", ["dpm++", "dpm++-singlestep", "deis", "unipc", "sa"])
def test_levels_are_bit_for_bit_those_that_the_scheduler_computes(name):
    scheduler = prepared(name)
    for timestep, *_ in walked(scheduler):
        sigma = scheduler.sigmas[scheduler.step_index or 0].double()
        assert noise_level(scheduler, timestep) == tuple(map(float, scheduler._sigma_to_alpha_sigma_t(sigma)))


@pytest.mark.parametrize("name", tiny.SCHEDULERS)
def test_the_input_is_scaled_as_the_scheduler_does(name):
    scheduler = prepared(name)
    for timestep, sample, *_ in walked(scheduler):
        scale = input_scale(scheduler, *noise_level(scheduler, timestep))
        assert torch.allclose(scheduler.scale_model_input(sample, timestep), scale * sample, rtol=1e-5)


def test_levels_beyond_the_table_have_its_ends_timesteps():
    scheduler = prepared("ddim")
    assert level_at(scheduler, 1e-6)[2] == 0
    assert level_at(scheduler, 1e6)[2] == 999
    assert level_at(scheduler, 2.0)[:2] == pytest.approx((0.2**0.5, 0.8**0.5))
    between = [(1 - float(each)) / float(each) for each in scheduler.alphas_cumprod[500:502]]
    assert level_at(scheduler, (between[0] * between[1]) ** 0.25)[2] == pytest.approx(500.5, abs=1e-3)


def implied_by_scheduler(scheduler, moved, converted):
    """("denoised" or "noise", value) that the scheduler's own step worked with; None where it keeps that to itself."""
    if converted:
        kind = "noise" if isinstance(scheduler, diffusers.DEISMultistepScheduler) else "denoised"
        return kind, converted[-1]
    value = getattr(moved.output, "pred_original_sample", None)
    return None if value is None else ("denoised", value)


REPORTING = [case for case in CASES if case[0] not in ("pndm", "lcm", "tcd")]


@pytest.mark.parametrize(("name", "space"), REPORTING)
def test_denoised_is_what_the_scheduler_computes(name, space):
    scheduler = prepared(name, space)
    converted = []
    if hasattr(scheduler, "convert_model_output"):
        convert = scheduler.convert_model_output
        scheduler.convert_model_output = lambda *args, **kwargs: (
            converted.append(convert(*args, **kwargs)) or converted[-1]
        )
    points = []
    for timestep, sample, prediction, moved in walked(scheduler):
        alpha, sigma = noise_level(scheduler, timestep)
        arguments = (prediction, sample, alpha, sigma, prediction_type(scheduler))
        points.append((moved, {"denoised": to_denoised(*arguments), "noise": to_noise(*arguments)}))
    compared = 0
    for index, (moved, ours) in enumerate(points):
        theirs = implied_by_scheduler(scheduler, moved, converted[: index + 1])
        if theirs is None:
            continue
        kind, value = theirs
        assert torch.allclose(ours[kind], value, rtol=1e-4, atol=1e-4 * float(value.abs().max()))
        compared += 1
    assert compared == len(points)


def test_a_wrong_level_is_caught():
    """The comparison above can fail: one step further along the table is visible."""
    scheduler = prepared("euler")
    timestep, sample, prediction, _ = next(iter(walked(scheduler)))
    output = scheduler.step(prediction, timestep, sample)
    _, sigma = noise_level(scheduler, timestep)  # now the next one's
    wrong = to_denoised(prediction, sample, 1.0, sigma, "epsilon")
    assert not torch.allclose(wrong, output.pred_original_sample, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(
    ("name", "settings", "pattern"),
    [
        ("ddim", {}, "......"),
        ("heun", {}, ".x.x.x.x.x."),
        ("kdpm2-ancestral", {}, ".x.x.x.x.x."),
        ("dpm-sde", {}, ".x.x.x.x.x."),
        ("pndm", {}, ".x....."),
        ("pndm", {"skip_prk_steps": False}, ".xxx.xxx.xxx..."),
        ("dpm++-singlestep", {}, ".x.x.."),
        ("dpm++-singlestep", {"solver_order": 3}, ".xx.x."),
    ],
)
def test_substeps(name, settings, pattern):
    scheduler = prepared(name, **settings)
    assert "".join("x" if is_substep(scheduler) else "." for _ in walked(scheduler)) == pattern


@pytest.mark.parametrize("name", tiny.SCHEDULERS)
def test_stochastic_means_that_the_seed_of_a_step_matters(name):
    ends = []
    for seed in (0, 1):
        own = {"noise_sampler_seed": seed} if name == "dpm-sde" else {}
        scheduler = prepared(name, "v_prediction", **own)
        sample = torch.ones(SHAPE)
        random = torch.Generator().manual_seed(seed)
        keywords = step_arguments(scheduler, random)
        for timestep in scheduler.timesteps:
            scheduler.scale_model_input(sample, timestep)
            sample = scheduler.step(torch.full(SHAPE, 0.1), timestep, sample, **keywords).prev_sample
        ends.append(sample)
    assert is_stochastic(scheduler) == (not torch.equal(*ends))


def test_ddim_draws_noise_with_an_eta_above_0() -> None:
    """As the step itself does: with eta 1 its end depends on the generator."""
    ends = []
    for seed in (0, 1):
        scheduler = prepared("ddim")
        random = torch.Generator().manual_seed(seed)
        ends.append(
            scheduler.step(
                torch.full(SHAPE, 0.1), scheduler.timesteps[0], torch.ones(SHAPE), eta=1.0, generator=random
            )[0]
        )
    assert not torch.equal(*ends)
    assert is_stochastic(scheduler, 1.0)
    assert not is_stochastic(scheduler, 0.0)
    assert not is_stochastic(scheduler)
    assert not is_stochastic(prepared("euler"), 1.0)  # it takes no eta
    assert (sampler_kind(scheduler, 0.5), sampler_kind(scheduler)) == ("stochastic", "deterministic")


def test_schedulers_that_cannot_be_read_say_why():
    assert unreadable(diffusers.EDMEulerScheduler()).startswith(
        "EDMEulerScheduler scales its network's output by itself"
    )
    assert "keeps neither sigmas nor alphas_cumprod" in unreadable(SimpleNamespace())
    with pytest.raises(InvalidSetting, match="prediction_type is 'score'"):
        prediction_type(SimpleNamespace(config=SimpleNamespace(prediction_type="score")))


def test_flow_sigmas_do_not_change_the_space():
    """A network that predicts noise keeps doing so on a flow's levels; only the levels differ."""
    scheduler = prepared("dpm++", "epsilon", use_flow_sigmas=True)
    alpha, sigma = noise_level(scheduler, scheduler.timesteps[2])
    assert prediction_type(scheduler) == "epsilon"
    assert alpha + sigma == pytest.approx(1)


# the shipped model


@pytest.fixture(scope="module")
def shipped():
    pipe = load_model("portraits").pipe
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_no_scheduler_made_of_the_shipped_config_changes_the_denoised_prediction(shipped):
    """``from_config`` is how people change schedulers, and what the config does not say is the class's default."""
    kinds = [
        *shipped.scheduler.compatibles,
        diffusers.LCMScheduler,
        diffusers.DDIMParallelScheduler,
        diffusers.TCDScheduler,
    ]
    assert len(kinds) > 15
    for kind in kinds:
        config = {**shipped.scheduler.config}
        if kind is diffusers.DEISMultistepScheduler:
            config["algorithm_type"] = "deis"  # it refuses the shipped one
        assert altered_denoised(kind.from_config(config)) is None


def test_training_writes_the_shipped_scheduler(shipped):
    written = json.loads(build_scheduler().to_json_string())
    assert written == json.loads(shipped.scheduler.to_json_string())
    assert written["clip_sample"] is False


@pytest.mark.parametrize("clips", [False, True])
def test_clipping_wrecks_what_is_tracked(shipped, clips):
    """Women have no mustaches, and the guidance knows it, unless the scheduler cuts the latents of each step."""
    own = shipped.scheduler
    settings = {"num_images_per_prompt": 8, "generator": image_generators(range(8)), "num_inference_steps": 10}
    try:
        shipped.scheduler = diffusers.DDIMScheduler.from_config(own.config, **({"clip_sample": True} if clips else {}))
        with (
            warnings.catch_warnings(record=True) as caught,
            steer(shipped, DynamicNegativeGuidance(), "mustache") as run,
        ):
            warnings.simplefilter("always", SteerclearWarning)
            latents = shipped("portrait photo of a woman", output_type="latent", **settings).images
    finally:
        shipped.scheduler = own
    assert any("DDIMScheduler has clip_sample=True" in str(one.message) for one in caught) == clips
    assert (float(latents.abs().max()) > 2) != clips
    sure_of_a_mustache = int((run.trace.table("posterior")[-1] > 0.9).sum())
    assert (sure_of_a_mustache >= 5) if clips else (sure_of_a_mustache == 0)
