"""Where a pipeline's networks are while they run, and where they wait."""

import warnings
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import torch

from ..core.errors import InvalidSetting, SteerclearWarning, UnknownName, UnsupportedModel, in_words_of
from .files import first_line

OFFLOADS = ("none", "model", "sequential", "group")
"""diffusers' ways of keeping weights in main memory: whole networks, single layers, groups of layers."""

FINEST = "leaf_level"
"""Groups of single layers: every network has them, and blocks only some."""


def place(pipe: Any, others: Iterable[Any], device: str, offload: str) -> None:
    """Bring a pipeline and the networks beside its own to where they run.

    These are no parts of the pipeline: under "model" they stay on the device, under "sequential" and "group" they
    are offloaded as the pipeline's own networks are.

    Args:
        pipe: the pipeline.
        others: networks; anything else among them needs no place.
        device: a torch device.
        offload: one of :data:`OFFLOADS`.

    Raises:
        UnknownName: no such way of offloading.
        InvalidSetting: a device that torch cannot use here.
        UnsupportedModel: a pipeline that cannot be offloaded in this way, or the package ``accelerate`` is missing.

    Warns:
        SteerclearWarning: offloading from the CPU to the CPU saves nothing.
    """
    if offload not in OFFLOADS:
        raise UnknownName("way of offloading", offload, OFFLOADS)
    target = usable(device)
    if offload == "none":
        pipe.to(target)
    else:
        _offload(pipe, target, offload)
    for network in others:
        if isinstance(network, torch.nn.Module):
            _place_beside(network, target, offload)


def _place_beside(network: torch.nn.Module, target: torch.device, offload: str) -> None:
    if offload == "sequential":
        from accelerate import cpu_offload

        cpu_offload(network, target)
    elif offload == "group":
        from diffusers.hooks import apply_group_offloading

        apply_group_offloading(network, target, offload_type=FINEST)
    else:
        network.to(target)


def usable(device: str) -> torch.device:
    """A device by its name.

    Raises:
        InvalidSetting: torch cannot use it here.
    """
    try:
        target = torch.device(device)
        torch.empty(0, device=target).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError) as error:
        raise InvalidSetting("device", device, "one that torch can use here", first_line(error)) from error
    return target


def _offload(pipe: Any, target: torch.device, offload: str) -> None:
    asked = in_words_of(f"offload={offload!r}", f"--offload {offload}")
    if target.type == "cpu" and offload == "sequential":
        raise InvalidSetting(
            "offload",
            offload,
            "'none', 'model' or 'group' on the cpu",
            "layers are moved one by one to an accelerator only",
        )
    if target.type == "cpu":
        warnings.warn(
            f"{asked} saves no memory on the cpu, where the weights wait anyway; give it together with "
            f"{in_words_of('device=' + repr('cuda'), '--device cuda')}",
            SteerclearWarning,
            stacklevel=2,
        )
    if find_spec("accelerate") is None and offload != "group":
        raise UnsupportedModel(
            f"{asked} needs the package accelerate, which is not installed here; install it: pip install accelerate"
        )
    try:
        if offload == "model":
            pipe.enable_model_cpu_offload(device=target)
        elif offload == "sequential":
            pipe.enable_sequential_cpu_offload(device=target)
        else:
            pipe.enable_group_offload(target, offload_type=FINEST)
    except (ValueError, RuntimeError, ImportError, AttributeError, NotImplementedError) as error:
        raise UnsupportedModel(
            f"{type(pipe).__name__} cannot be offloaded by {offload!r}: {first_line(error)}."
        ) from error
