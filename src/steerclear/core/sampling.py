"""The sampling loop over a diffusers scheduler, for denoisers that are not pipelines."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .denoiser import Denoiser
from .engine import GuidedDenoiser, check_noise_level, of_schedule
from .errors import InvalidSetting, SteerclearWarning
from .evidence import Surroundings
from .guidance import Guidance
from .records import Trace
from .redrawing import (
    Drawn,
    Redrawing,
    Rewound,
    draw_until_clear,
    flagged_by_evidence,
    latest_step,
    noise_seed,
    reseed,
)
from .schedulers import (
    check_repeatable,
    check_steps,
    is_stochastic,
    level_at_start,
    noise_to_signal,
    point,
    prediction_type,
    step_arguments,
    steps_begun,
)
from .seeds import checked_seeds, image_generators
from .settings import whole


@dataclass(frozen=True, repr=False)
class Sampled:
    """The result of a run: the samples ``[batch, ...]`` and the trace of the guidance.

    Attributes:
        draws: how often each image was drawn, ``[batch]``; None under a guidance that draws once.
        flagged: images that could not be cleared, ``[batch]``; None as ``draws``.
    """

    samples: Tensor
    trace: Trace
    draws: Tensor | None = None
    flagged: Tensor | None = None

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
    loop = _Loop(denoiser, guidance, scheduler, shape, num_inference_steps, negatives, dtype, on_step)
    redrawing = guidance.redrawing()
    if redrawing is not None and not redrawing.by_evidence:
        warnings.warn(
            "samples are drawn once: they are no images that a judge could flag; name what flags them, as Redraw(evidence=...)",
            SteerclearWarning,
            stacklevel=2,
        )
    if redrawing is None or not redrawing.by_evidence:
        first = loop.draw(seeds)
        return Sampled(first.made, first.trace)
    first = loop.draw(seeds, keeps=redrawing)

    def again(rows: Tensor, number: int, rewound: Rewound | None) -> Drawn:
        return loop.draw([seeds[row] for row in rows.tolist()], number, rewound)

    outcome = draw_until_clear(redrawing, first, again, flagged_by_evidence)
    samples = torch.stack([made[row] for made, row in outcome.made])
    return Sampled(samples, outcome.trace, outcome.draws, outcome.flagged)


@dataclass(frozen=True)
class _Loop:
    """Arguments of :func:`sample`, checked."""

    denoiser: Denoiser
    guidance: Guidance
    scheduler: Any
    shape: tuple[int, ...]
    num_inference_steps: int
    negatives: int
    dtype: torch.dtype
    on_step: Callable[[int, int], None] | None

    def draw(
        self, seeds: Sequence[int], number: int = 0, rewound: Rewound | None = None, keeps: Redrawing | None = None
    ) -> Drawn:
        """Draw samples of these images; see :data:`~steerclear.core.redrawing.Draw`."""
        scheduler = self.scheduler
        scheduler.set_timesteps(self.num_inference_steps)
        replayed = rewound is not None and rewound.records is not None
        fresh = [noise_seed(seed, number) for seed in seeds]
        generators = image_generators(seeds if replayed else fresh)
        rewound = None if rewound is None else replace(rewound, freshen=partial(reseed, generators, fresh, replayed))
        evaluations = len(scheduler.timesteps)
        levels = noise_to_signal(scheduler, scheduler.timesteps[0], evaluations)
        surroundings = Surroundings(
            len(seeds), self.negatives, tuple(seeds), decoder=getattr(self.denoiser, "decode", None), draw=number
        )
        guided = GuidedDenoiser(
            self.denoiser, self.guidance, surroundings, rewound=rewound,
            keeps_until=-1 if keeps is None else latest_step(keeps, levels), stochastic=is_stochastic(scheduler),
        )  # fmt: skip
        samples = self._start(generators, rewound)
        after_start = [generator.get_state() for generator in generators]
        arguments = step_arguments(scheduler, generators)
        for message in of_schedule(self.guidance, scheduler, scheduler.timesteps[0], evaluations) if not number else ():
            warnings.warn(message, SteerclearWarning, stacklevel=4)
        for evaluation, timestep in enumerate(scheduler.timesteps):
            if hasattr(scheduler, "scale_model_input"):
                scheduler.scale_model_input(samples, timestep)  # some schedulers find their step index here
            prediction = guided.predict(point(scheduler, samples, timestep, evaluation, evaluations))
            samples = scheduler.step(prediction, timestep, samples, **arguments, return_dict=False)[0].to(self.dtype)
            self._tell(evaluation, evaluations)
        drew = not all(map(torch.equal, after_start, [generator.get_state() for generator in generators]))
        return Drawn(samples, guided.trace, samples, tuple(guided.records), drew)

    def _start(self, generators: list[torch.Generator], rewound: Rewound | None) -> Tensor:
        """Pure noise; for a restart the finished sample at the first noise level."""
        noise = torch.stack([torch.randn(self.shape, generator=each, dtype=self.dtype) for each in generators])
        if rewound is None or rewound.finished is None:
            return noise * float(getattr(self.scheduler, "init_noise_sigma", 1.0))  # flow schedulers have none
        alpha, sigma = level_at_start(self.scheduler)
        return alpha * rewound.finished.to(noise) + sigma * noise

    def _tell(self, evaluation: int, evaluations: int) -> None:
        if self.on_step is None:
            return
        done, total = steps_begun(self.scheduler, evaluation + 1), steps_begun(self.scheduler, evaluations)
        if evaluation + 1 == evaluations or steps_begun(self.scheduler, evaluation + 2) > done:  # the last of its step
            self.on_step(done, total)


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
