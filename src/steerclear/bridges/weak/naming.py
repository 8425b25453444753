"""A weak network from what people type or hand over."""

import re
from typing import Any

from torch.nn import Module

from ...errors import InvalidSetting, UnknownName
from ...settings import parse_value
from .base import WeakNetwork, weak_networks
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


def is_weak_kind(text: str) -> bool:
    """Whether a text names a kind of weak network, and no folder or hub id.

    >>> is_weak_kind("noised:strength=0.1"), is_weak_kind("without-lora"), is_weak_kind("someone/a-model")
    (True, True, False)
    """
    return _split(text)[0] in weak_networks()


def parse_weak(text: str) -> WeakNetwork:
    """``kind:key=value,key=value`` -> the weak network.

    Raises:
        UnknownName: a kind or a parameter that there is not; the message names the nearest.
        InvalidSetting: a pair without ``=``, a parameter given twice or missing, or a value out of range.

    >>> parse_weak("noised:strength=0.2,seed=3")
    NoisedWeights(strength=0.2, seed=3)
    >>> parse_weak("dropped-layers:layers=mid_block,up_blocks.0.attentions.*")
    DroppedLayers(layers=('mid_block', 'up_blocks.0.attentions.*'))
    """
    name, pairs = _split(text)
    kinds = weak_networks()
    if name not in kinds:
        raise UnknownName("kind of weak network", name, kinds)
    kind = kinds[name]
    settings: dict[str, Any] = {}
    for pair in re.split(r",(?=\w+=)", pairs) if pairs else ():  # a comma that no key follows belongs to a value
        key, equals, value = pair.partition("=")
        if not equals:
            raise InvalidSetting(f"the weak network {name}", pair, "key=value pairs with commas between them")
        if key in settings:
            raise InvalidSetting(key, value, f"given once; it is {settings[key]} already")
        settings[key] = _value(kind, key, value)
    try:
        return kind.with_settings(settings)
    except TypeError as error:  # a parameter that must be given is missing
        raise InvalidSetting(f"the weak network {name}", text, "complete", str(error)) from error


def _split(text: str) -> tuple[str, str]:
    name, _, pairs = text.partition(":")
    return name.strip().lower().replace("_", "-"), pairs


def _value(kind: type[WeakNetwork], key: str, text: str) -> Any:
    if key in kind.parameters() and kind.parameters()[key].type == tuple[str, ...]:
        return tuple(part.strip() for part in text.split(","))
    return text if key in kind.parameters() and kind.parameters()[key].type is str else parse_value(text)
