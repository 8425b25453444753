"""The sampling loop is the scheduler's own loop, and an image is its own."""

import diffusers
import pytest
import torch

from laws import WORLD, denoiser
from steerclear.core.denoiser import Branch, Point
from steerclear.core.errors import InvalidSetting, SteerclearWarning, UnsupportedModel
from steerclear.core.sampling import sample
from steerclear.core.schedulers import noise_level
from steerclear.guidance.classifier_free import ClassifierFreeGuidance
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.guidance.interval import IntervalGuidance

SHAPE = (WORLD.full.dimension,)
SCHEDULERS = {
    "sde-dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "euler-ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "heun": ("HeunDiscreteScheduler", {}),
    "flow": ("FlowMatchEulerDiscreteScheduler", {}),
}


def scheduler(name: str):
    kind, settings = SCHEDULERS[name]
    return getattr(diffusers, kind)(**settings)


def network(name: str):
    return denoiser("flow_prediction" if name == "flow" else "epsilon")


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_loop_is_the_schedulers_own(name: str) -> None:
    scale, steps, seeds = 2.5, 7, (5, 8)
    ours = sample(
        network(name), ClassifierFreeGuidance(scale), scheduler(name), seeds, SHAPE, num_inference_steps=steps
    )

    loop, world = scheduler(name), network(name)
    loop.set_timesteps(steps)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    x = torch.stack([torch.randn(SHAPE, generator=generator) for generator in generators])
    x = x * float(getattr(loop, "init_noise_sigma", 1.0))
    for timestep in loop.timesteps:
        if hasattr(loop, "scale_model_input"):
            loop.scale_model_input(x, timestep)
        point = Point(x, *noise_level(loop, timestep), timestep, 0, steps)
        empty, positive = world.predict(point, (Branch("main", "empty"), Branch("main", "positive")), None)
        extra = {} if name in ("heun", "flow") else {"generator": generators}
        if name == "flow":
            extra = {"generator": generators}
        x = loop.step(empty + scale * (positive - empty), timestep, x, **extra, return_dict=False)[0]
    assert torch.equal(ours.samples, x)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize(
    "guidance", [ClassifierFreeGuidance(2.0), DynamicNegativeGuidance(1.5)], ids=["cfg", "dynamic"]
)
def test_image_k_is_image_k_at_any_batch_size_and_order(name: str, guidance) -> None:
    def run(*seeds: int) -> torch.Tensor:
        result = sample(network(name), guidance, scheduler(name), seeds, SHAPE, num_inference_steps=6, negatives=1,
                        dtype=torch.float64)  # fmt: skip
        return result.samples

    together = run(1, 2, 3, 4, 5, 6, 7, 8)
    assert (together[[6, 2]] - run(7, 3)).abs().max() < 1e-6
    assert (together[4] - run(5)[0]).abs().max() < 1e-6


def test_evaluations_of_half_an_interval() -> None:
    """Half of the steps at two branches, half at one: 1.5 a step."""
    guidance = IntervalGuidance(ClassifierFreeGuidance(3.0), 0.25, 0.75)
    result = sample(network("ddim"), guidance, scheduler("ddim"), (0, 1), SHAPE, num_inference_steps=20)
    assert (result.trace.evaluations / 20).tolist() == [1.5, 1.5]


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    sample(network("ddim"), ClassifierFreeGuidance(1.0), scheduler("ddim"), (0,), SHAPE, num_inference_steps=3,
           on_step=lambda done, total: told.append((done, total)))  # fmt: skip
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_progress_is_told_in_steps_where_a_sampler_evaluates_twice() -> None:
    told: list[tuple[int, int]] = []
    result = sample(network("heun"), ClassifierFreeGuidance(2.0), scheduler("heun"), (0,), SHAPE, num_inference_steps=3,
                    on_step=lambda done, total: told.append((done, total)))  # fmt: skip
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert repr(result) == ("Sampled([1, 8], Trace(3 steps, 1 image, 10 evaluations per image; shows guidance_norm))")


def test_an_interval_without_a_step_has_no_effect_and_says_so() -> None:
    low = IntervalGuidance(ClassifierFreeGuidance(3.0), 1e6, 1e7, by="sigma")
    with pytest.warns(
        SteerclearWarning, match="stop=1e\\+07 leave none of the 3 steps to cfg, whose noise levels sigma / alp"
    ):
        sample(network("ddim"), low, scheduler("ddim"), (0,), SHAPE, num_inference_steps=3)


def test_a_scheduler_that_does_not_say_its_noise_level_is_refused_to_what_needs_it() -> None:
    with pytest.raises(
        UnsupportedModel, match="dynamic-negative needs the noise level of every step, and EDMEulerSchedul"
    ):
        sample(network("ddim"), DynamicNegativeGuidance(), diffusers.EDMEulerScheduler(), (0,), SHAPE, negatives=1)


def test_what_cannot_be_sampled() -> None:
    with pytest.raises(InvalidSetting, match="num_inference_steps is 0, but must be a whole number of at least 1"):
        sample(network("ddim"), ClassifierFreeGuidance(), scheduler("ddim"), (0,), SHAPE, num_inference_steps=0)
    with pytest.raises(
        InvalidSetting, match="prediction_type is 'flow_prediction', but must be the scheduler's, epsilon"
    ):
        sample(network("flow"), ClassifierFreeGuidance(), scheduler("ddim"), (0,), SHAPE)
