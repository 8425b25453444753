"""A network beside a network: some layers are replaced, everything else is shared, and the first one is not changed.

Only the modules on the way to a replaced layer are copied, without their weights. So a pass leaves nothing behind, even
when it fails, and other threads may run the network meanwhile.
"""

import difflib
import functools
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch.nn import Module

from ...core.errors import UnsupportedModel, in_words_of

OFFLOADING, GROUP_OFFLOADING = "_hf_hook", "_diffusers_hook"
"""Attributes with the hook that moves a module's weights before its forward: accelerate's, and diffusers' for groups."""

_OF_ONE_MODULE = ("_compiled_call_impl", "forward", "_old_forward", OFFLOADING)
"""Attributes that are bound to their module, and would lead a copy back to it."""


def whole_offloading() -> str:
    """The way to save memory that works with every kind of network, in words."""
    return in_words_of("enable_model_cpu_offload", "--offload model")


def plain(network: Any) -> Module:
    """The network itself, where ``torch.compile`` has wrapped it."""
    return getattr(network, "_orig_mod", network)


def beside(network: Any, layers: Mapping[str, Module]) -> Module:
    """The network with other layers in some places; uncompiled, except for compiled modules without these layers.

    Args:
        network: the network, compiled or not.
        layers: path of a module in it, as ``mid_block.attentions.0`` -> its replacement.

    Raises:
        UnsupportedModel: a module on the way has a replaced forward, which cannot be copied.
    """
    copies: dict[tuple[str, ...], Module] = {(): copied(plain(network), "the network")}
    for path in sorted(layers, key=lambda path: path.count(".")):
        *parents, name = path.split(".")
        holder = copies[()]
        walked: tuple[str, ...] = ()
        for parent in parents:
            walked = (*walked, parent)
            if walked not in copies:
                copies[walked] = copied(holder.get_submodule(parent), ".".join(walked))
                holder._modules[parent] = copies[walked]
            holder = copies[walked]
        holder._modules[name] = copies[(*walked, name)] = layers[path]
    return copies[()]


def copied(module: Module, name: str) -> Module:
    """A module of the same class with the same weights, buffers and hooks, and its own list of layers.

    Raises:
        UnsupportedModel: see :func:`beside`; calls the module ``name``.
    """
    attributes = {key: value for key, value in vars(module).items() if key not in _OF_ONE_MODULE}
    copy = object.__new__(type(module))
    vars(copy).update(attributes, _modules=dict(module._modules))
    if "forward" in vars(module):
        vars(copy)["forward"] = _offloaded(module, copy, name)
    return copy


def _offloaded(module: Module, copy: Module, name: str) -> Callable[..., Any]:
    """The copy's forward, between the moves of the weights that it shares with the module."""
    replaced = getattr(vars(module).get("_old_forward"), "__func__", None)
    if OFFLOADING not in vars(module) or replaced is not type(module).forward:
        raise UnsupportedModel(
            f"the forward of {name} ({type(module).__name__}) was replaced (diffusers' group offloading, layerwise "
            f"casting and caches do so), so it cannot be copied for another network; take that off, or use "
            f"{whole_offloading()} to save memory"
        )
    forward = functools.partial(type(module).forward, copy)

    def moved(*args: Any, **kwargs: Any) -> Any:
        hook: Any = vars(module)[OFFLOADING]
        args, kwargs = hook.pre_forward(module, *args, **kwargs)
        return hook.post_forward(module, forward(*args, **kwargs))

    return moved


def bring(network: Module) -> None:
    """Bring a network that is offloaded as a whole to the device where it runs."""
    hook: Any = vars(network).get(OFFLOADING)
    if hook is not None:
        hook.pre_forward(network)


def is_moved(network: Module) -> bool:
    """Whether hooks of accelerate or diffusers move the network, or parts of it, to where it runs."""
    return any(OFFLOADING in vars(module) or GROUP_OFFLOADING in vars(module) for module in network.modules())


def chosen(network: Any, patterns: Iterable[str], kind: type[Module] = Module) -> dict[str, Module]:
    """The layers that a user names.

    Args:
        network: the network.
        patterns: paths of layers; ``*`` stands for anything.
        kind: what they must be to be found.

    Raises:
        UnsupportedModel: there is no such layer; names the nearest.
    """
    known = {name: module for name, module in plain(network).named_modules() if name and isinstance(module, kind)}
    found: dict[str, Module] = {}
    for pattern in patterns:
        matching = {name: module for name, module in known.items() if fnmatchcase(name, pattern)}
        if not matching:
            near = difflib.get_close_matches(pattern, known, n=3, cutoff=0.0)
            raise UnsupportedModel(
                f"{type(plain(network)).__name__} has no layer {pattern!r}; the nearest are {', '.join(near) or 'none'}"
            )
        found |= matching
    return found


def is_adapter(path: str) -> bool:
    """Whether a module belongs to a LoRA and not to the network.

    >>> is_adapter("attn1.to_q.lora_A.style"), is_adapter("attn1.to_q.base_layer")
    (True, False)
    """
    return any(part.startswith("lora_") for part in path.split("."))


def without_adapters(path: str) -> str:
    """A layer's path, the same whether or not an adapter was put around it.

    >>> without_adapters("attn1.to_q.base_layer")
    'attn1.to_q'
    """
    return path.removesuffix(".base_layer")


def on_device_of(copy: torch.Tensor, original: torch.Tensor) -> torch.Tensor:
    """A second set of weights follows the first, which may have moved since."""
    return copy if (copy.device, copy.dtype) == (original.device, original.dtype) else copy.to(original)
