"""Move a pipeline's networks to the device they run on, or offload them until they run."""

import warnings
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import torch

from ..core.devices import usable
from ..core.errors import InvalidSetting, SteerclearWarning, UnknownName, UnsupportedModel, first_line, in_words_of

OFFLOADS = ("none", "model", "sequential", "group")
"""diffusers' ways to keep weights in main memory: no offloading, whole networks, single layers, groups of layers."""

FINEST = "leaf_level"
"""Groups of single layers, which work for every network; only some networks have blocks."""


def place(pipe: Any, others: Iterable[Any], device: str, offload: str) -> None:
    """Move a pipeline and the networks beside its own to the device they run on, or set up their offloading.

    With "model" the others stay on the device; with "sequential" and "group" they are offloaded like the pipeline's own.

    Args:
        pipe: the pipeline.
        others: networks; anything else among them is ignored.
        device: name of a torch device.
        offload: one of :data:`OFFLOADS`.

    Raises:
        UnknownName: ``offload`` is not one of them.
        InvalidSetting: torch cannot use the device on this machine.
        UnsupportedModel: the pipeline cannot be offloaded in this way, or the package ``accelerate`` is missing.

    Warns:
        SteerclearWarning: on the CPU, offloading saves no memory.
    """
    if offload not in OFFLOADS:
        raise UnknownName("way of offloading", offload, OFFLOADS)
    target = usable(device)
    if offload == "none":
        pipe.to(target)
    else:
        _offload(pipe, target, offload)
    for network in others:
        place_beside(network, device, offload)


def place_beside(network: Any, device: str, offload: str) -> None:
    """Move a network to where a pipeline's run, or set up its offloading; anything but a torch module is ignored.

    Args and errors as for :func:`place`.
    """
    target = usable(device)
    if not isinstance(network, torch.nn.Module):
        return
    if offload == "sequential":
        from accelerate import cpu_offload

        cpu_offload(network, target)
    elif offload == "group":
        from diffusers.hooks import apply_group_offloading

        apply_group_offloading(network, target, offload_type=FINEST)
    else:
        network.to(target)


def _offload(pipe: Any, target: torch.device, offload: str) -> None:
    asked = in_words_of(f"offload={offload!r}", f"--offload {offload}")
    if target.type == "cpu" and offload == "sequential":
        allowed = "'none', 'model' or 'group' on the cpu"
        raise InvalidSetting("offload", offload, allowed, "single layers can only go to an accelerator")
    if target.type == "cpu":
        warnings.warn(
            f"{asked} saves no memory on the cpu, because the weights are in main memory anyway; combine it with "
            f"{in_words_of('device=' + repr('cuda'), '--device cuda')}",
            SteerclearWarning,
            stacklevel=2,
        )
    if find_spec("accelerate") is None and offload != "group":
        raise UnsupportedModel(
            f"{asked} needs the package accelerate, which is not installed; install it: pip install accelerate"
        )
    try:
        if offload == "model":
            pipe.enable_model_cpu_offload(device=target)
        elif offload == "sequential":
            pipe.enable_sequential_cpu_offload(device=target)
        else:
            pipe.enable_group_offload(target, offload_type=FINEST)
    except (ValueError, RuntimeError, ImportError, AttributeError, NotImplementedError) as error:
        what = f"{type(pipe).__name__} cannot be offloaded with {offload!r}"
        raise UnsupportedModel(f"{what}: {first_line(error)}.") from error
