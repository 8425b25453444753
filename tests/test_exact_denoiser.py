"""Every scheduler of diffusers under a network that is exact: the denoised prediction is the posterior mean, or refused.

The data are one Gaussian, so the posterior mean is known at every noise level. The network returns what a perfect one
would, in the scheduler's own space; where the sampler stands is read from what the scheduler does to its input or to noise,
not from :mod:`steerclear.core.schedulers`.
"""

import inspect
import itertools
import math
from types import SimpleNamespace

import diffusers
import pytest
import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from steerclear.core.engine import check_noise_level
from steerclear.core.errors import UnsupportedModel
from steerclear.core.noise import PREDICTION_TYPES, to_denoised
from steerclear.core.schedulers import (
    altered_denoised,
    is_flow,
    is_stochastic,
    noise_level,
    noise_to_signal,
    point,
    prediction_type,
    steps_begun,
    unreadable,
)
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance

MEAN, DEVIATION, STEPS, SHAPE = 0.7, 0.8, 8, (2, 4, 5, 5)

SCHEDULERS = {
    name: kind
    for name, kind in ((name, getattr(diffusers, name)) for name in dir(diffusers) if "Scheduler" in name)
    if inspect.isclass(kind) and issubclass(kind, SchedulerMixin) and kind is not SchedulerMixin
}
"""All that diffusers exports."""

NOT_DRIVEN = {
    "AmusedScheduler": "discrete tokens",
    "BlockRefinementScheduler": "discrete tokens",
    "DiscreteDDIMScheduler": "discrete tokens",
    "EntropyBoundScheduler": "discrete tokens",
    "VQDiffusionScheduler": "discrete tokens",
    "RFD4ProteinaScheduler": "frames of a protein",
    "HeliosScheduler": "stages of several sizes, between which the pipeline adds noise by itself",
    "HeliosDMDScheduler": "stages of several sizes, between which the pipeline adds noise by itself",
    "FlowMapEulerDiscreteScheduler": "its network predicts the mean velocity of a step, not that of a level",
    "PiflowScheduler": "a prediction is a grid of denoised images",
    "KarrasVeScheduler": "steps from levels that the pipeline raises by itself",
    "ScoreSdeVeScheduler": "has step_pred and step_correct in place of step",
    "SCMScheduler": "predictions are in a space of its own, trigflow",
    "RePaintScheduler": "steps with a picture and a mask",
    "CogVideoXDPMScheduler": "steps with the prediction of the step before",
    "UnCLIPScheduler": "steps to a timestep that its pipeline names",
    "DDPMWuerstchenScheduler": "does not say what its network predicts",
    "IPNDMScheduler": "does not say how it adds noise",
    "DDIMInverseScheduler": "does not say how it adds noise",
    "LTXEulerAncestralRFScheduler": "does not say how it adds noise",
}
"""Those that the plain loop below cannot drive, and why."""

NEEDED = {
    "AmusedScheduler": {"mask_token_id": 0},
    "VQDiffusionScheduler": {"num_vec_classes": 4},
    "RFD4ProteinaScheduler": {"schedule_mode": "log", "noise_mode": "tan", "tsr_k": 1.0, "tsr_sigma": 1.0},
}
"""Settings that have no default."""

READ_ALL_THE_SAME = {"CogVideoXDPMScheduler", "UnCLIPScheduler"}
"""Of these: the levels are in alphas_cumprod by timestep, as in DDPM."""


def settings_of(kind):
    return inspect.signature(kind.__init__).parameters


def spaces_of(kind):
    """The spaces that a class can be told to take; None for its only one."""
    return PREDICTION_TYPES if "prediction_type" in settings_of(kind) else (None,)


def made(kind, space, **settings):
    own = {"clip_sample": False, "thresholding": False, "clip_denoised": False, "noise_sampler_seed": 0}
    if space is not None:
        own["prediction_type"] = space
        own["use_flow_sigmas"] = space == "flow_prediction"
    scheduler = kind(**{name: value for name, value in own.items() if name in settings_of(kind)}, **settings)
    scheduler.set_timesteps(STEPS)
    return scheduler


def true_level(scheduler, timestep, sample):
    """(alpha, sigma) by the input's scaling where there is one, else by what the scheduler does to pure signal and noise."""
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    if isinstance(scheduler, diffusers.SASolverScheduler) and scheduler.config.use_flow_sigmas:
        sigma = float(scheduler.sigmas[scheduler.step_index or 0])  # its add_noise knows of no flow
        return 1 - sigma, sigma
    if hasattr(scheduler, "scale_model_input"):
        scaled = scheduler.scale_model_input(sample, timestep)
        if not torch.equal(scaled, sample):
            ratio = float((sample.norm() / scaled.norm()) ** 2)
            return 1.0, (ratio - getattr(scheduler.config, "sigma_data", 1.0) ** 2) ** 0.5
    times = torch.as_tensor(timestep).reshape(1)
    if hasattr(scheduler, "scale_noise"):
        return float(scheduler.scale_noise(one, times, 0 * one)), float(scheduler.scale_noise(0 * one, times, one))
    return float(scheduler.add_noise(one, 0 * one, times)), float(scheduler.add_noise(0 * one, one, times))


def exact(sample, alpha, sigma):
    """E[x_0 | x_t] of one Gaussian."""
    return (MEAN * sigma**2 + alpha * DEVIATION**2 * sample) / (sigma**2 + alpha**2 * DEVIATION**2)


def as_predicted(scheduler, denoised, sample, alpha, sigma, space):
    """What a network of this space says when it knows the denoised image."""
    if hasattr(scheduler, "get_scalings"):
        c_skip, c_out = scheduler.get_scalings_for_boundary_condition(torch.tensor(sigma, dtype=torch.float64))
        return (denoised - c_skip * sample) / c_out
    if hasattr(scheduler, "precondition_outputs"):
        zero = torch.zeros_like(sample)
        at = torch.tensor(sigma, dtype=torch.float64)
        skipped = scheduler.precondition_outputs(sample, zero, at)
        return (denoised - skipped) / (scheduler.precondition_outputs(sample, zero + 1, at) - skipped)
    noise = (sample - alpha * denoised) / sigma
    size = (alpha**2 + sigma**2) ** 0.5
    return {
        "epsilon": noise,
        "sample": denoised,
        "v_prediction": (alpha * noise - sigma * denoised) / size,
        "flow_prediction": noise - denoised,
    }[space or "flow_prediction"]


def driven(scheduler, space, seed=0):
    """Each point of a run, read by steerclear before its step, and then the end."""
    random = torch.Generator().manual_seed(1)
    start = float(getattr(scheduler, "init_noise_sigma", 1.0))
    sample = torch.randn(SHAPE, generator=random, dtype=torch.float64) * start
    random = torch.Generator().manual_seed(seed)
    keywords = {"generator": random} if "generator" in inspect.signature(scheduler.step).parameters else {}
    for timestep in scheduler.timesteps:
        alpha, sigma = true_level(scheduler, timestep, sample)
        denoised = exact(sample, alpha, sigma)
        prediction = as_predicted(scheduler, denoised, sample, alpha, sigma, space)
        ours = None
        if unreadable(scheduler) is None:
            ours = to_denoised(prediction, sample, *noise_level(scheduler, timestep), prediction_type(scheduler))
        yield SimpleNamespace(denoised=denoised, ours=ours)
        sample = scheduler.step(prediction, timestep, sample, **keywords)[0].double()
    yield sample


def cases():
    """Every scheduler that can be driven, in every space that its own ``step`` accepts."""
    for name in sorted(SCHEDULERS.keys() - NOT_DRIVEN.keys()):
        for space in spaces_of(SCHEDULERS[name]):
            try:
                next(itertools.islice(driven(made(SCHEDULERS[name], space), space), 1, None))
            except (ValueError, NotImplementedError):
                continue  # it says that it takes no such predictions
            yield name, space


CASES = list(cases())


@pytest.mark.parametrize(("name", "space"), CASES)
def test_the_denoised_prediction_is_the_posterior_mean_or_refused(name, space):
    scheduler = made(SCHEDULERS[name], space)
    *points, end = driven(scheduler, space)
    assert len(points) >= STEPS - 1
    refused = name == "MiniMaxH3Scheduler" or hasattr(scheduler, "precondition_outputs") or name.startswith("CM")
    assert (unreadable(scheduler) is not None) == refused
    for at in () if refused else points:
        assert torch.allclose(at.ours, at.denoised, rtol=0, atol=1e-5)
    if "Inverse" not in name and name != "MiniMaxH3Scheduler":
        # and the network is the one that the scheduler expects: what it samples are the data
        assert float(end.mean()) == pytest.approx(MEAN, abs=0.25)
        assert float(end.std()) == pytest.approx(DEVIATION, abs=0.45)


def test_the_flow_of_minimax_points_the_other_way():
    """Its network predicts x_0 - noise, and it has no setting that would say so: what a flow network says ends nowhere."""
    *_, end = driven(made(diffusers.MiniMaxH3Scheduler, None), None)
    assert float(end.mean()) < MEAN - 1


@pytest.mark.parametrize("name", sorted(NOT_DRIVEN))
def test_what_cannot_be_driven_is_refused(name):
    scheduler = SCHEDULERS[name](**NEEDED.get(name, {}))
    assert (unreadable(scheduler) is None) == (name in READ_ALL_THE_SAME)


def test_there_are_no_other_schedulers():
    assert SCHEDULERS.keys() >= NOT_DRIVEN.keys()
    assert len({name for name, _ in CASES} | NOT_DRIVEN.keys()) == len(SCHEDULERS)


@pytest.mark.parametrize(
    ("kind", "settings", "reason"),
    [
        (diffusers.CMStochasticIterativeScheduler, {},
         ("CMStochasticIterativeScheduler scales its network's output by itself (EDM's c_skip and c_out), which steerclear "
          "does not convert")),
        (diffusers.IPNDMScheduler, {},
         "IPNDMScheduler keeps neither sigmas nor alphas_cumprod, so the noise level of a step is unknown"),
        (diffusers.LTXEulerAncestralRFScheduler, {},
         "LTXEulerAncestralRFScheduler does not say how it adds noise to an image, so the noise level of a step is unknown"),
        (diffusers.MiniMaxH3Scheduler, {}, "MiniMaxH3Scheduler does not say what its network predicts"),
        (diffusers.HeliosDMDScheduler, {},
         "HeliosDMDScheduler goes through stages of several sizes, and between them the pipeline adds noise by itself"),
        (diffusers.DPMSolverMultistepScheduler, {"prediction_type": "flow_prediction"},
         ("DPMSolverMultistepScheduler has prediction_type='flow_prediction' and use_flow_sigmas=False, which do not go "
          "together")),
        (diffusers.UniPCMultistepScheduler, {"prediction_type": "v_prediction", "use_flow_sigmas": True},
         "UniPCMultistepScheduler has prediction_type='v_prediction' and use_flow_sigmas=True, which do not go together"),
    ],
    ids=lambda value: value.__name__ if inspect.isclass(value) else None,
)  # fmt: skip
def test_the_reasons(kind, settings, reason):
    scheduler = kind(**settings)
    if kind is not diffusers.HeliosDMDScheduler:
        scheduler.set_timesteps(4)
    assert unreadable(scheduler) == reason
    with pytest.raises(UnsupportedModel) as raised:
        check_noise_level(DynamicNegativeGuidance(), scheduler)
    assert f"{reason}; use another scheduler, such as DPMSolverMultistepScheduler" in str(raised.value)


def test_settings_that_another_scheduler_left_behind_mean_nothing():
    """``from_config`` keeps them, and the class does not look at them."""
    flow = diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    matched = diffusers.FlowMatchEulerDiscreteScheduler.from_config({**flow.config, "prediction_type": "epsilon"})
    assert matched.config.prediction_type == "epsilon"
    assert prediction_type(matched) == "flow_prediction"
    euler = diffusers.EulerDiscreteScheduler.from_config({**flow.config, "prediction_type": "epsilon"})
    assert euler.config.use_flow_sigmas
    assert not is_flow(euler)
    euler.set_timesteps(4)
    assert noise_level(euler, euler.timesteps[0]) == (1.0, pytest.approx(float(euler.sigmas[0])))


@pytest.mark.parametrize("name", [name for name, space in CASES if space in (None, "v_prediction")])
def test_stochastic_means_that_the_seed_of_a_step_matters(name):
    """Of all that can be driven; DPM-Solver-SDE is in test_schedulers.py."""
    if name == "DPMSolverSDEScheduler":
        pytest.skip("it draws from a seed of its own")
    space = None if "prediction_type" not in settings_of(SCHEDULERS[name]) else "v_prediction"
    ends = [list(driven(made(SCHEDULERS[name], space), space, seed))[-1] for seed in (0, 1)]
    assert is_stochastic(made(SCHEDULERS[name], space)) == (not torch.equal(*ends))


# steps and evaluations


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 10, 11])
@pytest.mark.parametrize(
    ("kind", "settings", "evaluations"),
    [
        (diffusers.DDIMScheduler, {}, lambda n: n),
        (diffusers.DPMSolverSinglestepScheduler, {"solver_order": 3}, lambda n: n),
        (diffusers.HeunDiscreteScheduler, {}, lambda n: 2 * n - 1),
        (diffusers.FlowMatchHeunDiscreteScheduler, {}, lambda n: 2 * n - 1),
        (diffusers.KDPM2DiscreteScheduler, {}, lambda n: 2 * n - 1),
        (diffusers.KDPM2AncestralDiscreteScheduler, {}, lambda n: 2 * n - 1),
        (diffusers.DPMSolverSDEScheduler, {}, lambda n: 2 * n - 1),
        (diffusers.PNDMScheduler, {"skip_prk_steps": True}, lambda n: n + (n > 1)),
        (diffusers.PNDMScheduler, {"skip_prk_steps": False}, lambda n: n + 9),
    ],
)  # fmt: skip
def test_steps_are_what_num_inference_steps_counts(kind, settings, evaluations, steps):
    if kind is diffusers.PNDMScheduler and not settings["skip_prk_steps"] and steps < 4:
        pytest.skip("diffusers then leaves steps out")
    scheduler = kind(**settings)
    scheduler.set_timesteps(steps)
    total = len(scheduler.timesteps)
    assert total == evaluations(steps)
    assert steps_begun(scheduler, total) == steps
    begun = [steps_begun(scheduler, k) for k in range(total + 1)]
    assert begun[:2] == [0, 1]
    assert all(later - before in (0, 1) for before, later in itertools.pairwise(begun))
    assert len(noise_to_signal(scheduler, scheduler.timesteps[0], total)) == steps


@pytest.mark.parametrize(("name", "space"), [case for case in CASES if case[1] in (None, "v_prediction")])
def test_the_levels_of_a_schedule_are_those_of_its_run(name, space):
    scheduler, fresh = made(SCHEDULERS[name], space), made(SCHEDULERS[name], space)
    total = len(scheduler.timesteps)
    sample, met = torch.ones(SHAPE, dtype=torch.float64), {}
    random = torch.Generator().manual_seed(1)
    keywords = {"generator": random} if "generator" in inspect.signature(scheduler.step).parameters else {}
    for k, timestep in enumerate(scheduler.timesteps):
        if hasattr(scheduler, "scale_model_input"):
            scheduler.scale_model_input(sample, timestep)
        at = point(scheduler, sample, timestep, k, total)
        met.setdefault(at.index, at.sigma / at.alpha if at.alpha else math.inf)
        sample = scheduler.step(0.1 * sample, timestep, sample, **keywords)[0].double()
    levels = noise_to_signal(fresh, fresh.timesteps[0], total)
    assert list(met) == list(range(len(levels)))
    assert torch.allclose(torch.tensor(levels), torch.tensor(list(met.values())), equal_nan=True)
    assert math.isnan(levels[0]) == (unreadable(fresh) is not None)


@pytest.mark.parametrize(
    "kind", [diffusers.DDIMScheduler, diffusers.EulerDiscreteScheduler, diffusers.HeunDiscreteScheduler]
)
def test_a_part_of_a_schedule_has_its_own_levels(kind):
    """Image-to-image begins late, and SDXL's base model ends early."""
    scheduler = kind()
    scheduler.set_timesteps(10)
    order, total = scheduler.order, len(scheduler.timesteps)
    whole = noise_to_signal(scheduler, scheduler.timesteps[0], total)
    assert noise_to_signal(scheduler, scheduler.timesteps[4 * order], total - 4 * order) == whole[4:]
    assert noise_to_signal(scheduler, scheduler.timesteps[0], 6 * order) == whole[:6]


# a denoised prediction that is changed after the guidance


CUTTING = ("clip_sample", "clip_denoised", "thresholding")
OTHERWISE = {"HeliosScheduler": "its method is missing", "RePaintScheduler": "steps with a picture and a mask"}


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        (name, setting)
        for name, kind in SCHEDULERS.items() if name not in OTHERWISE
        for setting in CUTTING if setting in settings_of(kind)
    ],
)  # fmt: skip
def test_what_is_said_to_be_altered_is_altered(name, setting):
    kind, ends = SCHEDULERS[name], []
    for on in (False, True):
        off = {other: False for other in CUTTING if other in settings_of(kind)}
        scheduler = kind(**{**off, setting: on})
        scheduler.set_timesteps(4)
        random = torch.Generator().manual_seed(0)
        sample = torch.randn(1, 4, 4, 4, generator=random) * 200
        given = {"generator": random, "old_pred_original_sample": None, "timestep_back": None}
        keywords = {key: given[key] for key in inspect.signature(scheduler.step).parameters if key in given}
        if hasattr(scheduler, "scale_model_input"):
            scheduler.scale_model_input(sample, scheduler.timesteps[0])
        model_output = torch.full_like(sample, 50)
        timestep = scheduler.timesteps[0]
        ends.append(scheduler.step(model_output, sample=sample, timestep=timestep, **keywords)[0])
    assert (altered_denoised(scheduler) is not None) == (not torch.equal(*ends))
    if altered_denoised(scheduler) is not None:
        assert altered_denoised(scheduler) == (
            f"{name} has {setting}=True, so each of its steps cuts the denoised prediction to the range of pixels after the "
            f"guidance"
        )


def test_what_is_not_altered():
    ddim = diffusers.DDIMScheduler(clip_sample=True)
    left_behind = diffusers.EulerDiscreteScheduler.from_config(ddim.config)
    assert left_behind.config.clip_sample
    assert altered_denoised(left_behind) is None
    assert altered_denoised(diffusers.UniPCMultistepScheduler(thresholding=True, predict_x0=False)) is None
    assert altered_denoised(diffusers.DDIMScheduler(clip_sample=False)) is None
    assert altered_denoised(diffusers.FlowMatchEulerDiscreteScheduler()) is None
