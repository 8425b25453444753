"""A second set of weights beside the first, made once; layers without changed weights are shared."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from ...core.errors import UnsupportedModel
from ...core.network import Forward, Runner
from ...core.numerics import wide
from .copies import beside, bring, copied, is_adapter, on_device_of, plain, whole_offloading, without_adapters

WEIGHT = "weight"

Change = Callable[[str, Tensor], Tensor]
"""(path of a layer, its weight in float32 or better) -> its second weight."""


@dataclass(frozen=True)
class SecondWeights:
    """The network with other weights.

    Args:
        network: runs it.
        pairs: a layer of the pipeline's network and its counterpart here.
    """

    network: Module
    pairs: tuple[tuple[Module, Module], ...]

    def follow(self) -> None:
        """Move to where the pipeline's network now is."""
        for original, own in self.pairs:
            for name, weight in own._parameters.items():
                followed = original._parameters[name]
                if weight is not None and followed is not None and weight is not followed:
                    weight.data = on_device_of(weight.data, followed)


def weighted_layers(network: Any) -> dict[str, Module]:
    """The linear, convolution and embedding layers, without adapters."""
    return {
        path: layer
        for path, layer in plain(network).named_modules(remove_duplicate=False)
        if not is_adapter(path) and _is_matrix(layer._parameters.get(WEIGHT))
    }


def _is_matrix(weight: Tensor | None) -> bool:
    return weight is not None and weight.ndim >= 2


def check_weights(network: Any) -> None:
    """Raises :class:`UnsupportedModel`: weights on no device, quantised, or not plain parameters; see ``copies.beside``."""
    layers = weighted_layers(network)
    for path, layer in layers.items():
        weight = layer.get_parameter(WEIGHT)
        if weight.is_meta:
            raise UnsupportedModel(
                f"the weights of {path} are fetched anew for every forward (sequential offloading), so there can be no "
                f"second set of them; use {whole_offloading()}"
            )
        if type(weight) is not Parameter or not weight.is_floating_point():
            raise UnsupportedModel(
                f"the weight of {path} is a {type(weight).__name__} of {weight.dtype} (a quantised network), which "
                f"cannot be changed; load the network in a floating-point dtype"
            )
    beside(network, {path: copied(layer, path) for path, layer in layers.items()})


def second_weights(network: Any, change: Change) -> SecondWeights:
    """Make them: ``change`` is applied to each weight in float32 or better."""
    made: dict[str, Module] = {}
    pairs = []
    for path, layer in weighted_layers(network).items():
        weight = layer.get_parameter(WEIGHT)
        with torch.no_grad():
            changed = change(path, wide(weight)).to(weight.dtype)
        made[path] = copied(layer, path)
        made[path]._parameters = {**layer._parameters, WEIGHT: Parameter(changed, requires_grad=False)}
        pairs.append((layer, made[path]))
    return SecondWeights(beside(network, made), tuple(pairs))


def parameters_by_layer(network: Any) -> dict[str, dict[str, str]]:
    """Every layer with parameters of its own: its path, "" for the network itself -> each parameter's name, and its name in a
    network without adapters.

    Adapters are left out. A name has no ``base_layer`` in it, as in a network that never had one.
    """
    found = {}
    for path, layer in plain(network).named_modules(remove_duplicate=False):
        names = [name for name, value in layer._parameters.items() if value is not None]
        if names and not is_adapter(path):
            prefix = without_adapters(path)
            found[path] = {name: f"{prefix}.{name}" if prefix else name for name in names}
    return found


def replaced_weights(network: Any, weights: Mapping[str, Tensor]) -> SecondWeights:
    """The network with other values of all its parameters; adapters stay.

    Args:
        network: of the pipeline.
        weights: by name in a network without adapters, of the same shapes.
    """
    own = plain(network)
    layers = parameters_by_layer(network)
    made = {path: copied(own.get_submodule(path), path) for path in layers if path}
    other = beside(network, made)
    made[""] = other
    for path, names in layers.items():
        kept = own.get_submodule(path)._parameters
        values = {name: weights[full].to(kept[name]) for name, full in names.items()}
        made[path]._parameters = kept | {name: Parameter(value, requires_grad=False) for name, value in values.items()}
    return SecondWeights(other, tuple((own.get_submodule(path), made[path]) for path in layers))


def running(network: Any, change: Change) -> AbstractContextManager[Runner]:
    """Runs the network with changed weights, made at the first pass."""
    return making(network, lambda: second_weights(network, change))


@contextmanager
def making(network: Any, make: Callable[[], SecondWeights]) -> Iterator[Runner]:
    """Runs what ``make`` returns, which is called at the first pass."""
    made: SecondWeights | None = None

    def run(call: Forward) -> Any:
        nonlocal made
        bring(plain(network))
        if made is None:
            made = make()
        made.follow()
        return made.network(*call.args, **call.kwargs)

    try:
        yield run
    finally:
        made = None  # the runner itself may be kept longer
