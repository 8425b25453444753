"""The sampling loop over a diffusers scheduler, for denoisers that are not pipelines."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .denoiser import Denoiser
from .engine import GuidedDenoiser, check_noise_level, of_schedule
from .errors import InvalidSetting, SteerclearWarning
from .evidence import Surroundings
from .guidance import Guidance
from .records import Trace
from .schedulers import check_repeatable, check_steps, point, prediction_type, step_arguments, steps_begun
from .seeds import checked_seeds, image_generators
from .settings import whole


@dataclass(frozen=True, repr=False)
class Sampled:
    """The result of a run: the samples ``[batch, ...]`` and the trace of the guidance."""

    samples: Tensor
    trace: Trace

    def __repr__(self) -> str:
        return f"Sampled({list(self.samples.shape)}, {self.trace!r})"


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
    """Sample one image per seed: pure noise, then one scheduler step after another.

    Args:
        denoiser: predicts; its ``prediction_type`` must be the scheduler's.
        guidance: how predictions become one.
        scheduler: a diffusers scheduler; its state is reset.
        seeds: one per image, each once. Image k depends on its seed alone, start and step noise included.
        shape: of one sample, without the batch.
        num_inference_steps: at least 1.
        negatives: number of negative prompts that the denoiser knows.
        dtype: of samples.
        on_step: called with (steps done, total steps).

    Raises:
        InvalidSetting: an argument of another type or out of range, or the denoiser and the scheduler have different
            prediction types.
        UnsupportedModel: the guidance needs the noise level, and the scheduler does not give it.

    Warns:
        SteerclearWarning: the guidance acts at no step of this schedule.
    """
    seeds, shape = _checked(denoiser, guidance, scheduler, seeds, shape, dtype)
    num_inference_steps = whole("num_inference_steps", num_inference_steps, low=1)
    negatives = whole("negatives", negatives, low=0)
    check_noise_level(guidance, scheduler)
    check_steps(scheduler, num_inference_steps)
    scheduler.set_timesteps(num_inference_steps)
    generators = image_generators(seeds)
    surroundings = Surroundings(len(seeds), negatives, seeds, decoder=getattr(denoiser, "decode", None))
    guided = GuidedDenoiser(denoiser, guidance, surroundings)
    start = [torch.randn(tuple(shape), generator=generator, dtype=dtype) for generator in generators]
    samples = torch.stack(start) * float(getattr(scheduler, "init_noise_sigma", 1.0))  # flow schedulers have none
    arguments = step_arguments(scheduler, generators)
    evaluations = len(scheduler.timesteps)
    for message in of_schedule(guidance, scheduler, scheduler.timesteps[0], evaluations):
        warnings.warn(message, SteerclearWarning, stacklevel=2)
    for evaluation, timestep in enumerate(scheduler.timesteps):
        if hasattr(scheduler, "scale_model_input"):
            scheduler.scale_model_input(samples, timestep)  # some schedulers find their step index here
        prediction = guided.predict(point(scheduler, samples, timestep, evaluation, evaluations))
        samples = scheduler.step(prediction, timestep, samples, **arguments, return_dict=False)[0].to(dtype)
        if on_step is not None:
            done, total = steps_begun(scheduler, evaluation + 1), steps_begun(scheduler, evaluations)
            if evaluation + 1 == evaluations or steps_begun(scheduler, evaluation + 2) > done:  # the last of its step
                on_step(done, total)
    return Sampled(samples, guided.trace)


def _checked(
    denoiser: Any, guidance: Any, scheduler: Any, seeds: Any, shape: Any, dtype: Any
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Refuse arguments of another type; returns the seeds and the shape as tuples."""
    if not hasattr(denoiser, "predict") or not hasattr(denoiser, "prediction_type"):
        raise InvalidSetting("denoiser", denoiser, "a denoiser, which has predict and prediction_type")
    if not isinstance(guidance, Guidance):
        raise InvalidSetting("guidance", guidance, "a guidance", "such as ClassifierFreeGuidance(guidance_scale=3.0)")
    if not hasattr(scheduler, "set_timesteps") or not hasattr(scheduler, "step"):
        raise InvalidSetting("scheduler", scheduler, "a diffusers scheduler")
    check_repeatable(scheduler)
    if prediction_type(scheduler) != denoiser.prediction_type:
        raise InvalidSetting(
            "prediction_type", denoiser.prediction_type, f"the scheduler's, {prediction_type(scheduler)}"
        )
    if not isinstance(shape, Sequence) or not all(isinstance(size, int) and size >= 1 for size in shape):
        raise InvalidSetting("shape", shape, "a sequence of whole numbers of at least 1")
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise InvalidSetting("dtype", dtype, "a floating-point dtype of torch")
    return checked_seeds(seeds), tuple(shape)
