"""A weak network from what people type, hand over or have stored."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch.nn import Module

from ..core.errors import GivenTwice, InvalidSetting, UnknownName, typed
from ..core.network import Network, network_kinds
from ..core.values import frozen, read_setting, split_pairs
from .other_network import OtherNetwork

KIND = "kind of weak network"


def as_weak(weak: Any) -> Network | None:
    """What ``steer(..., weak=...)`` was given: a torch module is another network.

    Raises:
        InvalidSetting: neither a module nor a kind of weak network.
    """
    if weak is None or isinstance(weak, Network):
        return weak
    if isinstance(weak, Module):
        return OtherNetwork(weak)
    kinds = ", ".join(kind.__name__ for kind in network_kinds().values())
    raise InvalidSetting("weak", weak, f"a network (a torch module) or one of {kinds}")


def weak_from_config(config: Mapping[str, Any]) -> Network:
    """From its plain values; the inverse of :meth:`~steerclear.core.settings.Configurable.to_config`.

    Raises:
        UnknownName: a class or a parameter that there is not; the message names the nearest.
        InvalidSetting: a parameter that is missing or out of range.

    >>> weak_from_config({"_class_name": "DroppedLayers", "layers": ["mid_block"]})
    DroppedLayers(layers=('mid_block',))
    """
    kinds = {kind.__name__: kind for kind in network_kinds().values()}
    settings = {name: frozen(value) for name, value in config.items()}
    class_name = str(settings.pop("_class_name", ""))
    if class_name not in kinds:
        raise UnknownName(KIND, class_name, kinds)
    return _built(kinds[class_name], settings)


def is_weak_kind(text: str) -> bool:
    """Whether a text names a kind of weak network, and no folder or hub id.

    >>> is_weak_kind("noised:strength=0.1"), is_weak_kind("without-lora"), is_weak_kind("someone/a-model")
    (True, True, False)
    """
    return _split(text)[0] in network_kinds()


def parse_weak(text: str) -> Network:
    """``kind:key=value,key=value`` -> the weak network; a value without its key in front is the kind's first setting.

    Raises:
        UnknownName: a kind or a parameter that there is not; the message names the nearest.
        InvalidSetting: a parameter given twice or missing, or a value out of range.

    >>> parse_weak("noised:strength=0.2,seed=3"), parse_weak("noised:0.2")
    (NoisedWeights(strength=0.2, seed=3), NoisedWeights(strength=0.2, seed=0))
    >>> parse_weak("dropped-layers:layers=mid_block,up_blocks.0.attentions.*")
    DroppedLayers(layers=('mid_block', 'up_blocks.0.attentions.*'))
    """
    name, pairs = _split(text)
    kinds = network_kinds()
    if name not in kinds:
        raise UnknownName(KIND, name, kinds)
    kind = kinds[name]
    settings: dict[str, Any] = {}
    for pair in split_pairs(pairs):
        key, equals, value = pair.partition("=")
        if not equals:  # only the first can be: what follows it belongs to its value
            key, value = next(iter(kind.parameters())), pair
        if key in settings:
            raise GivenTwice(key, str(settings[key]), value)
        settings[key] = read_setting(value, kind.types().get(key, str))
    return _built(kind, settings)


def weak_text(weak: Network) -> str:
    """The inverse of :func:`parse_weak`, the same for all ways to type it: the first setting, and others that are not the default.

    >>> weak_text(parse_weak("noised:0.20")), weak_text(parse_weak("Noised:seed=0")), weak_text(parse_weak("without-lora"))
    ('noised:strength=0.2', 'noised:strength=0.1', 'without-lora')
    """
    pairs = []
    for place, (name, field) in enumerate(weak.parameters().items()):
        value = getattr(weak, name)
        if value != field.default or (place == 0 and value != ()):
            pairs.append(f"{name}={typed(value)}")
    return ":".join(filter(None, (weak.name, ",".join(pairs))))


def _built(kind: type[Network], settings: dict[str, Any]) -> Network:
    for name, parameter in kind.parameters().items():
        if name not in settings and parameter.default is parameter.default_factory is dataclasses.MISSING:
            raise InvalidSetting(f"{name} of the weak network {kind.name}", None, "given")
    return kind.with_settings(settings)


def _split(text: str) -> tuple[str, str]:
    name, _, pairs = text.partition(":")
    return name.strip().lower().replace("_", "-"), pairs
