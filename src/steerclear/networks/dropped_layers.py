"""The network with some of its layers left out."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import Module

from ..core.errors import InvalidSetting, UnsupportedModel, in_words_of
from ..core.network import Forward, Network, Runner
from ..core.settings import texts
from .shared.copies import beside, chosen, copied, plain

MIDDLE = ("mid_block",)
"""What is left out by default."""

SHOWN = 3
"""How many layers an error names."""


@dataclass(frozen=True)
class DroppedLayers(Network):
    """The same network with layers left out: what they would add to their input is not added.

    Attention and feed-forward layers, resnets, transformer blocks and the middle block of a UNet can be left out. They do
    not run: a block passes on its input; a resnet that changes the number of channels keeps its shortcut.

    Args:
        layers: their paths in the network, as ``mid_block.attentions.0`` or ``transformer_blocks.7.attn``; ``*`` stands
            for anything. The default is the middle block of a UNet; transformers have none.

    Raises:
        InvalidSetting: empty, or not a tuple of paths.
    """

    layers: tuple[str, ...] = MIDDLE

    name: ClassVar[str] = "dropped-layers"
    memory: ClassVar[str] = "none"
    time: ClassVar[str] = "one forward, less what is left out"

    def __post_init__(self) -> None:
        texts("layers", self.layers, "paths of layers")
        if not self.layers:
            raise InvalidSetting("layers", self.layers, "at least one path of a layer")

    @classmethod
    def examples(cls, network: Any) -> tuple[Self, ...]:
        attentions = [
            path for path, layer in network.named_modules() if PASSING.get(type(layer).__name__) is _attention
        ]
        return (cls((attentions[0],)),) if attentions else ()

    def check(self, pipe: Any, network: Any) -> None:
        with self.attached(pipe, network):
            pass

    @contextmanager
    def attached(self, pipe: Any, network: Any) -> Iterator[Runner]:
        if self.layers == MIDDLE and getattr(plain(network), *MIDDLE, None) is None:
            self._refuse_default(plain(network))
        layers = chosen(network, self.layers)
        outermost = {path: layer for path, layer in layers.items() if not _is_inside(path, layers)}
        other = beside(network, {path: _left_out(path, layer) for path, layer in outermost.items()})

        def run(call: Forward) -> Any:
            return other(*call.args, **call.kwargs)

        yield run

    def _refuse_default(self, network: Module) -> None:
        some = [path for path, layer in network.named_modules() if type(layer).__name__ in PASSING][:SHOWN]
        raise UnsupportedModel(
            f"{type(network).__name__} has no {MIDDLE[0]}, which dropped layers are by default; name some of its own, such "
            f"as {in_words_of(f'layers={tuple(some)!r}', self.name + ':' + ','.join(some))}"
        )


def _is_inside(path: str, others: Mapping[str, Module]) -> bool:
    return any(path.startswith(f"{other}.") for other in others)


def _left_out(path: str, layer: Module) -> Module:
    kind = type(layer).__name__
    if kind not in PASSING or getattr(layer, "upsample", None) or getattr(layer, "downsample", None):
        raise UnsupportedModel(
            f"{path} is a {kind}, without which the network cannot run; what can be left out is: {', '.join(PASSING)}"
        )
    own = copied(layer, path)
    vars(own)["forward"] = functools.partial(_pass, own, inspect.signature(type(layer).forward), PASSING[kind])
    return own


Passing = Callable[[Any, Mapping[str, Any]], Any]
"""(layer, its arguments by name) -> its output when it adds nothing to its input."""


def _pass(layer: Module, signature: inspect.Signature, passing: Passing, *args: Any, **kwargs: Any) -> Any:
    bound = signature.bind(layer, *args, **kwargs)
    bound.apply_defaults()
    return passing(layer, bound.arguments)


def _attention(layer: Any, given: Mapping[str, Any]) -> Any:
    hidden, text = given["hidden_states"], given["encoder_hidden_states"]
    if getattr(layer, "residual_connection", False):  # it adds its input itself
        return hidden / layer.rescale_output_factor
    nothing = torch.zeros_like(hidden)
    joint = text is not None and layer.added_kv_proj_dim is not None  # it gives something to the text, too
    return (nothing, torch.zeros_like(text)) if joint else nothing


def _feed_forward(layer: Any, given: Mapping[str, Any]) -> Tensor:
    return torch.zeros_like(given["hidden_states"])


def _hidden(layer: Any, given: Mapping[str, Any]) -> Tensor:
    return given["hidden_states"]


def _text_and_hidden(layer: Any, given: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    return given["encoder_hidden_states"], given["hidden_states"]


def _transformer(layer: Any, given: Mapping[str, Any]) -> Any:
    if not given["return_dict"]:
        return (given["hidden_states"],)
    from diffusers.models.modeling_outputs import Transformer2DModelOutput

    return Transformer2DModelOutput(sample=given["hidden_states"])


def _resnet(layer: Any, given: Mapping[str, Any]) -> Tensor:
    sample = given["input_tensor"]
    return (sample if layer.conv_shortcut is None else layer.conv_shortcut(sample)) / layer.output_scale_factor


PASSING: dict[str, Passing] = {
    "Attention": _attention,
    "FluxAttention": _attention,
    "FeedForward": _feed_forward,
    "ResnetBlock2D": _resnet,
    "BasicTransformerBlock": _hidden,
    "Transformer2DModel": _transformer,
    "UNetMidBlock2D": _hidden,
    "UNetMidBlock2DCrossAttn": _hidden,
    "JointTransformerBlock": _text_and_hidden,
    "FluxTransformerBlock": _text_and_hidden,
    "FluxSingleTransformerBlock": _text_and_hidden,
}
"""diffusers' class -> output of such a layer when it is left out."""
