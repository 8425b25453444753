"""The sampling loop over a diffusers scheduler, for denoisers that are no pipeline."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .denoiser import Denoiser, Point
from .engine import GuidedDenoiser
from .errors import InvalidSetting
from .guidance.base import Guidance
from .records import Trace
from .schedulers import check_repeatable, is_substep, noise_level, prediction_type, step_arguments
from .seeds import image_generators


@dataclass(frozen=True)
class Sampled:
    """What a run gave: the samples ``[batch, ...]`` and the trace of the guidance."""

    samples: Tensor
    trace: Trace


def sample(
    denoiser: Denoiser,
    guidance: Guidance,
    scheduler: Any,
    seeds: Sequence[int],
    shape: Sequence[int],
    *,
    num_inference_steps: int = 30,
    negatives: int = 0,
    dtype: torch.dtype = torch.float32,
    on_step: Callable[[int, int], None] | None = None,
) -> Sampled:
    """Sample one image a seed: pure noise, then one scheduler step after another.

    Args:
        denoiser: what predicts; its ``prediction_type`` must be the scheduler's.
        guidance: how predictions become one.
        scheduler: a diffusers scheduler; its state is reset.
        seeds: one an image. Image k depends on its seed alone: start and step noise come from its own generator.
        shape: of one sample, without the batch.
        num_inference_steps: at least 1.
        negatives: how many negative prompts the denoiser knows.
        dtype: of samples.
        on_step: called with (steps done, steps in all).

    Raises:
        InvalidSetting: no steps, or a denoiser that predicts in another space than the scheduler takes.
    """
    check_repeatable(scheduler)
    if num_inference_steps < 1:
        raise InvalidSetting("num_inference_steps", num_inference_steps, "at least 1")
    if prediction_type(scheduler) != denoiser.prediction_type:
        raise InvalidSetting(
            "prediction_type", denoiser.prediction_type, f"the scheduler's, {prediction_type(scheduler)}"
        )
    scheduler.set_timesteps(num_inference_steps)
    generators = image_generators(seeds)
    guided = GuidedDenoiser(denoiser, guidance, len(seeds), negatives)
    start = [torch.randn(tuple(shape), generator=generator, dtype=dtype) for generator in generators]
    samples = torch.stack(start) * float(getattr(scheduler, "init_noise_sigma", 1.0))  # flow schedulers have none
    arguments = step_arguments(scheduler, generators)
    total = len(scheduler.timesteps)
    for index, timestep in enumerate(scheduler.timesteps):
        if hasattr(scheduler, "scale_model_input"):
            scheduler.scale_model_input(samples, timestep)  # some schedulers find their step index here
        alpha, sigma = noise_level(scheduler, timestep)
        point = Point(samples, alpha, sigma, timestep, index, total, is_substep(scheduler))
        prediction = guided.predict(point)
        samples = scheduler.step(prediction, timestep, samples, **arguments, return_dict=False)[0].to(dtype)
        if on_step is not None:
            on_step(index + 1, total)
    return Sampled(samples, guided.trace)
