"""The arguments of a pipeline's call for images of a text or a class, in the words of each family."""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ...core.class_names import class_number
from ...core.errors import InvalidSetting, UnsupportedModel
from ...core.schedulers import check_repeatable, is_stochastic
from ..families import family_of
from ..negatives import check_encoders, check_read_whole
from .labels import class_numbers

BINNED_SIZES = (32, 64, 128, 256)
"""Widths of latents for which PixArt has a table of aspect ratios."""

WHOLE_PIXELS = 8
"""diffusers' pipelines need sizes that are a multiple of this, however little their autoencoders shrink."""

OnStep = Callable[[], None]
"""Called after each step of the sampler."""


def check_asking(pipe: Any, height: int | None, width: int | None) -> None:
    """Refuse sizes that the pipeline cannot make, and schedulers that make an image depend on more than its own seed.

    Raises:
        InvalidSetting: a size that is not whole in latents, or any size for a pipeline with only one.
        UnsupportedModel: the scheduler draws noise that is shared between images.
    """
    for name, size in (("height", height), ("width", width)):
        if size is not None:
            _check_size(pipe, name, size)
    check_repeatable(pipe.scheduler)
    if is_stochastic(pipe.scheduler) and not hasattr(pipe, "prepare_extra_step_kwargs"):
        raise UnsupportedModel(
            f"{type(pipe.scheduler).__name__} draws noise in its steps, and {type(pipe).__name__} gives it no generators "
            f"to draw from, so an image would depend on its batch and on the run; use a deterministic scheduler"
        )


def _check_size(pipe: Any, name: str, size: int) -> None:
    if takes_classes(pipe) or name not in inspect.signature(type(pipe).__call__).parameters:
        raise InvalidSetting(name, size, f"left out: a {type(pipe).__name__} makes images of one size")
    patch = 2 if hasattr(pipe, "transformer") else 1  # transformers see patches of 2 x 2
    multiple = math.lcm(WHOLE_PIXELS, pipe.vae_scale_factor * patch)
    if size % multiple:
        raise InvalidSetting(name, size, f"a multiple of {multiple} for a {type(pipe).__name__}")


def takes_classes(pipe: Any) -> bool:
    """Whether classes stand for prompts: a number, or a name where the pipeline has names."""
    return family_of(pipe).class_labels is not None


def check_prompt(pipe: Any, what: str, prompt: str) -> None:
    """Refuse a text (or class) that the pipeline cannot read whole; ``what`` is its name in the error.

    Raises:
        PromptError: it is longer than a text encoder reads; names the words that are cut off.
        UnknownName, InvalidSetting: the pipeline has no class of that name or number.
    """
    if takes_classes(pipe):
        _class_number(pipe, prompt)
        return
    longest = inspect.signature(type(pipe).__call__).parameters.get("max_sequence_length")
    default = None if longest is None else longest.default
    for tokenizer, read in check_encoders(pipe, family_of(pipe), prompt, default):
        check_read_whole(pipe, tokenizer, prompt, read, what)


def names_classes(pipe: Any) -> bool:
    """Whether a prompt must be the name of a class; other pipelines read any text."""
    family = family_of(pipe)
    return family.class_labels is None and not family.readers


def names_no_class(pipe: Any, prompt: str) -> bool:
    """Whether a prompt stands for any class, as "any": its prediction is the unconditional one."""
    return names_classes(pipe) and class_number(prompt, pipe.classes) == len(pipe.classes)


def negative_arguments(pipe: Any, negatives: Sequence[str]) -> dict[str, Any]:
    """Keyword arguments of :func:`~steerclear.bridges.diffusers.steer.steer` for negatives as people type them."""
    if takes_classes(pipe):
        return {"negative_class_labels": [_class_number(pipe, text) for text in negatives] or None}
    return {"negative_prompt": list(negatives) or None}


def _class_number(pipe: Any, text: str) -> int:
    return class_numbers(pipe, family_of(pipe), int(text) if text.isdecimal() else text)[0]


def call_arguments(
    pipe: Any, prompt: str, generators: Sequence[torch.Generator], *, num_inference_steps: int, height: int | None,
    width: int | None, on_step: OnStep,
) -> dict[str, Any]:  # fmt: skip
    """Keyword arguments of a pipeline's call for several images of one prompt, as numbers in [0, 1] (not yet pixels).

    Args:
        pipe: a pipeline that needs no image.
        prompt: what they show; a class where the pipeline has classes.
        generators: one per image; its noise comes from there.
        height, width: in pixels; None for the pipeline's own.
        on_step: see :data:`OnStep`; pipelines that have classes never call it.
    """
    common = {"num_inference_steps": num_inference_steps, "generator": list(generators), "output_type": "np"}
    if takes_classes(pipe):
        return common | {"class_labels": [_class_number(pipe, prompt)] * len(generators)}
    takes = inspect.signature(type(pipe).__call__).parameters
    arguments = common | {"prompt": prompt, "num_images_per_prompt": len(generators)}
    arguments |= {name: size for name, size in (("height", height), ("width", width)) if size is not None}
    if "use_resolution_binning" in takes and pipe.transformer.config.sample_size not in BINNED_SIZES:
        arguments["use_resolution_binning"] = False
    if "callback_on_step_end" in takes:

        def nothing_changed(*step: Any) -> dict[str, Any]:
            on_step()
            return {}

        arguments["callback_on_step_end"] = nothing_changed
    else:  # the older way, which PixArt kept
        arguments |= {"callback": lambda *step: on_step(), "callback_steps": 1}
    return arguments
