"""What to call a text-to-image pipeline with, whatever its family: the same question in each family's own words."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..errors import UnsupportedModel
from ..schedulers import check_repeatable, is_stochastic

BINNED_SIZES = (32, 64, 128, 256)
"""Widths of latents for which PixArt has a table of the aspect ratios that it was trained on."""

OnStep = Callable[[], None]
"""Called after each step of the sampler."""


def check_asking(pipe: Any) -> None:
    """Refuse pipelines whose images would depend on more than their own seeds.

    Raises:
        UnsupportedModel: the scheduler draws noise that is no image's own.
    """
    check_repeatable(pipe.scheduler)
    if is_stochastic(pipe.scheduler) and not hasattr(pipe, "prepare_extra_step_kwargs"):
        raise UnsupportedModel(
            f"{type(pipe.scheduler).__name__} draws noise in its steps, and {type(pipe).__name__} gives it no generators "
            f"to draw from, so an image would depend on its batch and on the run; use a deterministic scheduler"
        )


def call_arguments(
    pipe: Any,
    prompt: str,
    generators: Sequence[torch.Generator],
    *,
    num_inference_steps: int,
    height: int | None,
    width: int | None,
    on_step: OnStep,
) -> dict[str, Any]:
    """Keyword arguments of a pipeline's call for several images of one prompt.

    Args:
        pipe: a text-to-image pipeline.
        prompt: what they show.
        generators: one an image, which its noise is drawn from.
        num_inference_steps: of the sampler.
        height, width: in pixels; None for the pipeline's own.
        on_step: see :data:`OnStep`.
    """
    takes = inspect.signature(type(pipe).__call__).parameters
    arguments = {
        "prompt": prompt,
        "num_images_per_prompt": len(generators),
        "num_inference_steps": num_inference_steps,
        "generator": list(generators),
    }
    arguments |= {name: size for name, size in (("height", height), ("width", width)) if size is not None}
    if "use_resolution_binning" in takes and pipe.transformer.config.sample_size not in BINNED_SIZES:
        arguments["use_resolution_binning"] = False
    if "callback_on_step_end" in takes:
        arguments["callback_on_step_end"] = lambda *step: on_step() or {}
    else:  # the older way, which PixArt kept
        arguments |= {"callback": lambda *step: on_step(), "callback_steps": 1}
    return arguments
