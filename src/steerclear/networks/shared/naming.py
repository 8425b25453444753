"""Networks from text or Python values, and their names in a run."""

from collections.abc import Mapping
from typing import Any

from torch.nn import Module

from ...core.denoiser import MAIN, Branch
from ...core.errors import GivenTwice, InvalidSetting, in_words_of
from ...core.network import Network
from ...core.parsing import is_part, parse_part, part_text
from ..other_network import OtherNetwork

WEAK = "weak"
"""The name of the network that ``weak=`` and ``--weak`` give."""


def named(weak: Any, networks: Any) -> dict[str, Any]:
    """All networks of a run by name, ``weak`` among them.

    Args:
        weak: the network called "weak"; None for none.
        networks: name -> network; None for none.

    Raises:
        InvalidSetting: not a mapping, a name that no branch can have, or "weak" in both.

    >>> named("noised:0.1", {"perturbed": "dropped-layers"})
    {'weak': 'noised:0.1', 'perturbed': 'dropped-layers'}
    """
    if not isinstance(networks, Mapping | None):
        raise InvalidSetting(
            "networks", networks, "a mapping of names to networks", "as {'perturbed': DroppedLayers()}"
        )
    found = {} if weak is None else {WEAK: weak}
    for name, network in (networks or {}).items():
        if name in found:
            raise GivenTwice(called(name))
        if not isinstance(name, str) or name == MAIN or not Branch.is_network(name):
            allowed = "lower-case letters, digits and underscores, and not 'main'"
            raise InvalidSetting("the name of a network", name, allowed)
        found[name] = network
    return found


def as_networks(weak: Any, networks: Any) -> dict[str, Network]:
    """:func:`named`, with torch modules as :class:`OtherNetwork`.

    Raises:
        InvalidSetting: neither a module nor a kind of network; or see :func:`named`.
    """
    return {name: _as_network(name, network) for name, network in named(weak, networks).items()}


def _as_network(name: str, network: Any) -> Network:
    if isinstance(network, Network):
        return network
    if isinstance(network, Module):
        return OtherNetwork(network)
    kinds = ", ".join(kind.__name__ for kind in Network.known().values())
    what = name if name == WEAK else f"networks[{name!r}]"
    raise InvalidSetting(what, network, f"a network (a torch module) or one of {kinds}")


def called(name: str) -> str:
    """A network in words.

    >>> called("weak")
    'the weak network'
    """
    return f"the {name} network"


def to_give(name: str, function: str, typed: str = "") -> str:
    """How to give a network under a name, to a Python function or (as ``typed``) on the command line.

    >>> to_give("weak", "steer"), to_give("perturbed", "steer")
    ('steer(..., weak=...)', "steer(..., networks={'perturbed': ...})")
    """
    python = "weak=..." if name == WEAK else f"networks={{{name!r}: ...}}"
    option = f"--weak {typed}" if name == WEAK else f"--network {name}={typed or '...'}"
    return in_words_of(f"{function}(..., {python})", option.strip())


def is_kind(text: str) -> bool:
    """Whether a text names a kind of network, and not a folder or hub id.

    >>> is_kind("noised:strength=0.1"), is_kind("without-lora"), is_kind("someone/a-model")
    (True, True, False)
    """
    return is_part(text, Network)


def parse_network(text: str) -> Network:
    """``kind:key=value,key=value`` -> the network; see :func:`~steerclear.core.parsing.parse_part`.

    >>> parse_network("noised:strength=0.2,seed=3"), parse_network("noised:0.2")
    (NoisedWeights(strength=0.2, seed=3), NoisedWeights(strength=0.2, seed=0))
    >>> parse_network("dropped-layers:layers=mid_block,up_blocks.0.attentions.*")
    DroppedLayers(layers=('mid_block', 'up_blocks.0.attentions.*'))
    """
    return parse_part(text, Network)


def network_text(network: Network) -> str:
    """The inverse of :func:`parse_network`, the same for all ways to type it.

    >>> network_text(parse_network("noised:0.20")), network_text(parse_network("Noised:seed=0")), network_text(parse_network("without-lora"))
    ('noised:strength=0.2', 'noised:strength=0.1', 'without-lora')
    """
    return part_text(network)
