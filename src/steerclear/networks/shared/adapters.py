"""The network with other LoRA adapters switched on than in the pipeline."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch.nn import Module

from ...core.errors import UnknownName, UnsupportedModel, in_words_of
from ...core.network import Forward, Runner
from .copies import beside, copied, plain

Scales = Mapping[str, float | None]
"""Adapter to switch on -> its scale, or None for the one it has."""

Wanted = Callable[[Sequence[str]], Scales]
"""Adapters that are on in a layer -> those to switch on."""


def adapted_layers(network: Any) -> dict[str, Any]:
    """The layers that have adapters, by path.

    Raises:
        UnsupportedModel: there are none, or they are fused into the weights.
    """
    layers = {path: module for path, module in plain(network).named_modules() if hasattr(module, "active_adapters")}
    layers = {path: module for path, module in layers.items() if hasattr(module, "get_base_layer")}
    if not layers:
        raise UnsupportedModel(
            "the pipeline's network has no LoRA, or it is fused into the weights; "
            + in_words_of(
                "load one with pipe.load_lora_weights(..., adapter_name=...), and do not fuse it", "add one with --lora"
            )
        )
    if any(layer.merged for layer in layers.values()):
        raise UnsupportedModel(
            "the LoRA is fused into the network's weights, so it cannot be switched; call pipe.unfuse_lora()"
        )
    return layers


def check_known(network: Any, names: Sequence[str]) -> None:
    """Raises :class:`UnknownName` for an adapter that the network does not have; suggests the nearest."""
    known = loaded(network)
    for name in names:
        if name not in known:
            raise UnknownName("LoRA adapter of the network", name, known)


def loaded(network: Any) -> set[str]:
    """Names of the adapters that the network has, on or off."""
    return {name for layer in adapted_layers(network).values() for name in layer.scaling}


def some_adapter(network: Any, *, on: bool) -> list[str]:
    """The first of the adapters that are on (or off), in a list that is empty where there is none."""
    try:
        names = switched_on(network) if on else loaded(network) - switched_on(network)
    except UnsupportedModel:
        return []
    return sorted(names)[:1]


def switched_on(network: Any) -> set[str]:
    """Names of the adapters that are on in any layer."""
    return {name for layer in adapted_layers(network).values() for name in _active(layer)}


def _active(layer: Any) -> list[str]:
    return [] if layer.disable_adapters else [name for name in layer.active_adapters if name in layer.scaling]


def with_adapters(network: Any, wanted: Wanted) -> Module:
    """The network beside itself, with other adapters on."""
    return beside(network, {path: _adapted(path, layer, wanted) for path, layer in adapted_layers(network).items()})


def _adapted(path: str, layer: Any, wanted: Wanted) -> Module:
    scales = {name: scale for name, scale in wanted(_active(layer)).items() if name in layer.scaling}
    if not scales:
        return layer.get_base_layer()
    own: Any = copied(layer, path)
    # peft's set_adapter would also change which weights are trainable, and these are shared
    vars(own).update(_active_adapter=list(scales), _disable_adapters=False, scaling=dict(layer.scaling))
    for name, scale in scales.items():
        if scale is not None:
            own.set_scale(name, scale)
    return own


@contextmanager
def running(network: Any, wanted: Wanted) -> Iterator[Runner]:
    """Runs the network with other adapters on; notices when the pipeline's own are changed."""
    made: Module | None = None
    seen: object = None

    def run(call: Forward) -> Any:
        nonlocal made, seen
        now = _settings(network)
        if made is None or now != seen:
            made, seen = with_adapters(network, wanted), now
        return made(*call.args, **call.kwargs)

    try:
        yield run
    finally:
        made = None


def _settings(network: Any) -> object:
    """Everything that decides what the adapters do, except their weights."""
    return [(path, _active(layer), dict(layer.scaling)) for path, layer in adapted_layers(network).items()]
