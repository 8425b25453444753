"""A weak network from what people type, hand over or have stored."""

from collections.abc import Mapping
from typing import Any

from torch.nn import Module

from ..core.errors import InvalidSetting
from ..core.network import WeakNetwork, weak_networks
from ..core.parsing import is_part, parse_part, part_text
from .other_network import OtherNetwork


def as_weak(weak: Any) -> WeakNetwork | None:
    """What ``steer(..., weak=...)`` was given: a torch module is another network.

    Raises:
        InvalidSetting: neither a module nor a kind of weak network.
    """
    if weak is None or isinstance(weak, WeakNetwork):
        return weak
    if isinstance(weak, Module):
        return OtherNetwork(weak)
    kinds = ", ".join(kind.__name__ for kind in weak_networks().values())
    raise InvalidSetting("weak", weak, f"a network (a torch module) or one of {kinds}")


def weak_from_config(config: Mapping[str, Any]) -> WeakNetwork:
    """From its plain values; see :meth:`~steerclear.core.settings.Configurable.from_config`.

    >>> weak_from_config({"_class_name": "DroppedLayers", "layers": ["mid_block"]})
    DroppedLayers(layers=('mid_block',))
    """
    return WeakNetwork.from_config(config)


def is_weak_kind(text: str) -> bool:
    """Whether a text names a kind of weak network, and not a folder or hub id.

    >>> is_weak_kind("noised:strength=0.1"), is_weak_kind("without-lora"), is_weak_kind("someone/a-model")
    (True, True, False)
    """
    return is_part(text, WeakNetwork)


def parse_weak(text: str) -> WeakNetwork:
    """``kind:key=value,key=value`` -> the weak network; see :func:`~steerclear.core.parsing.parse_part`.

    >>> parse_weak("noised:strength=0.2,seed=3"), parse_weak("noised:0.2")
    (NoisedWeights(strength=0.2, seed=3), NoisedWeights(strength=0.2, seed=0))
    >>> parse_weak("dropped-layers:layers=mid_block,up_blocks.0.attentions.*")
    DroppedLayers(layers=('mid_block', 'up_blocks.0.attentions.*'))
    """
    return parse_part(text, WeakNetwork)


def weak_text(weak: WeakNetwork) -> str:
    """The inverse of :func:`parse_weak`, the same for all ways to type it.

    >>> weak_text(parse_weak("noised:0.20")), weak_text(parse_weak("Noised:seed=0")), weak_text(parse_weak("without-lora"))
    ('noised:strength=0.2', 'noised:strength=0.1', 'without-lora')
    """
    return part_text(weak)
