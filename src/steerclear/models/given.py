"""A pipeline that is loaded already, as a :class:`~steerclear.models.loading.Model`."""

import copy
import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from ..bridges.families import family_of
from ..core.errors import SteerclearError, UnsupportedModel
from ..core.network import Network
from ..networks.other_network import OtherNetwork
from ..networks.shared.copies import OFFLOADING, plain
from ..networks.shared.naming import as_networks, named, network_text, parse_network
from . import shipped
from .files import DIGEST_LENGTH, PIPELINE_INDEX, UNLOADABLE, folder_digest, read_json
from .loading import Model, check_kind, quietly
from .networks import LoadedNetwork, NetworkSource, load_network

IN_MEMORY = "memory:"
"""Begins the digest of weights in memory, which cannot be compared with that of files."""

NOT_CONTENT = ("transformers_version", "dtype", "torch_dtype")
"""Settings of a network that do not say what it computes; nor do those that begin with "_"."""

ADAPTER_STATE = ("active_adapters", "scaling", "disable_adapters", "merged_adapters")
"""What peft's layers keep beside their weights."""

Given = Module | Network | str
"""A torch module, a kind of network, or a kind as text ("noised:0.1")."""


def given_model(pipe: Any, weak: Given | None = None, networks: Mapping[str, Given] | None = None) -> Model:
    """A model of the user's own pipeline, wherever its networks are. The pipeline is not changed.

    Args:
        pipe: a diffusers pipeline that needs no image. The model has a copy that shares its networks, with its own
            scheduler and progress bar.
        weak, networks: the networks beside its own, by name; ``weak`` is the one called "weak".

    Returns:
        The model. Its name is where the pipeline was loaded from, or its class; its folder is None where it was not loaded
        from one. Its digest is that of the folder while the pipeline holds what the folder does; otherwise it begins with
        :data:`IN_MEMORY` and is a hash of all weights and settings in memory, adapters included.

    Raises:
        UnsupportedModel: the pipeline cannot be steered, starts from an image, or lacks its weights.
        InvalidSetting, UnknownName: a kind of network, or a setting of one, that does not exist.
    """
    name, folder = _origin(pipe)
    check_kind(name, pipe)
    unchanged = folder is not None and holds_files_of(pipe, folder)
    return Model(
        name=name, folder=folder, pipe=_beside(pipe), networks=networks_beside(pipe, named(weak, networks)),
        digest=folder_digest(folder) if folder and unchanged else f"{IN_MEMORY}{pipeline_digest(pipe)}",
        device=str(getattr(pipe, "_execution_device", pipe.device)),
    )  # fmt: skip


def networks_beside(pipe: Any, given: Mapping[str, Given]) -> dict[str, LoadedNetwork]:
    """The networks that are given beside a pipeline's own, by name; errors as :func:`given_model`."""
    own = getattr(pipe, family_of(pipe).network)
    kinds = {name: parse_network(one) if isinstance(one, str) else one for name, one in given.items()}
    beside = {}
    for name, kind in as_networks(None, kinds).items():
        kind.check(pipe, own)
        beside[name] = LoadedNetwork(kind, _source(kind))
    return beside


def _source(kind: Network) -> NetworkSource:
    if not isinstance(kind, OtherNetwork):
        return NetworkSource(network_text(kind), kind.digest())
    return NetworkSource(type(plain(kind.network)).__name__, _hexdigest(_said("weak", kind.network)))


def pipeline_digest(pipe: Any) -> str:
    """A short hash of a pipeline's class, settings, vocabularies and weights, without its scheduler.

    Raises:
        UnsupportedModel: weights that are not in memory.
    """
    return _hexdigest(_contents(pipe))


def holds_files_of(pipe: Any, folder: Path) -> bool:
    """Whether a pipeline holds exactly what a folder does, except the scheduler. Loads the folder's networks one after another.

    False also where that cannot be known.
    """
    try:
        index = read_json(folder / PIPELINE_INDEX)
        defaults = {name: one.default for name, one in inspect.signature(type(pipe)).parameters.items()}
        settings = {name: one for name, one in pipe.config.items() if name not in pipe.components and name[0] != "_"}
        named = index.get("_class_name") == type(pipe).__name__
        if not named or any(index.get(name, defaults.get(name)) != value for name, value in settings.items()):
            return False
        parts = {name: part for name, part in pipe.components.items() if name != "scheduler"}
        with quietly():
            return all(_holds_part(name, part, index.get(name), folder) for name, part in parts.items())
    except (SteerclearError, *UNLOADABLE):
        return False


def _holds_part(name: str, part: Any, said: Any, folder: Path) -> bool:
    """Whether a component is that of the folder; ``said`` is its library and class there."""
    kind: Any = type(plain(part)) if isinstance(part, Module) else type(part)
    if part is None or not said or kind.__name__ != said[1]:
        return part is None and not any(said or ())
    if isinstance(part, Module):
        there = load_network(f"the folder {str(folder)!r}", f"its {name}", kind, folder / name, part.dtype)  # type: ignore[arg-type]  # of diffusers or transformers
        return all(one == other for one, other in zip_longest(_said(name, part), _said(name, there)))
    if hasattr(part, "get_vocab"):
        there = kind.from_pretrained(str(folder / name))
        return (part.get_vocab(), part.model_max_length) == (there.get_vocab(), there.model_max_length)
    return not hasattr(part, "to_dict") or part.to_dict() == kind.from_pretrained(str(folder / name)).to_dict()


def _origin(pipe: Any) -> tuple[str, Path | None]:
    """What the pipeline is called, and the folder that it was loaded from."""
    origin = str(pipe.config.get("_name_or_path") or "")
    folder = Path(origin) if origin and (Path(origin) / PIPELINE_INDEX).is_file() else None
    ours = [name for name, place in shipped().items() if folder is not None and place == folder]
    return (ours[0] if ours else origin or type(pipe).__name__), folder


def _beside(pipe: Any) -> Any:
    """The same pipeline with a scheduler and a progress bar of its own: a run changes both."""
    beside = copy.copy(pipe)
    beside.scheduler = copy.deepcopy(pipe.scheduler)
    beside.set_progress_bar_config(disable=True)
    return beside


def _hexdigest(contents: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for part in contents:
        digest.update(part)
    return digest.hexdigest()[:DIGEST_LENGTH]


def _contents(pipe: Any) -> Iterator[bytes]:
    yield _settings(
        type(pipe).__name__, {name: one for name, one in pipe.config.items() if name not in pipe.components}
    )
    for name, part in sorted(pipe.components.items()):
        if isinstance(part, Module):
            yield from _said(name, part)
        elif hasattr(part, "get_vocab"):
            yield _settings(name, part.get_vocab())


def _said(name: str, network: Module) -> Iterator[bytes]:
    """A network's class, settings, adapters and tensors."""
    network = plain(network)
    config = getattr(network, "config", {})
    config = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    yield _settings(f"{name} {type(network).__name__}", config)
    for path, module in network.named_modules():
        waiting = getattr(getattr(module, OFFLOADING, None), "weights_map", None) or {}
        if hasattr(module, "scaling") and hasattr(module, "active_adapters"):
            yield repr([path, *(getattr(module, one, None) for one in ADAPTER_STATE)]).encode()
        for key, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            held = waiting[key] if tensor.is_meta and key in waiting else tensor
            if held.is_meta:
                raise UnsupportedModel(
                    f"the weights {path}.{key} of the pipeline's {name} are not in memory, so nothing says which they are; "
                    f"load the pipeline again, or give its name"
                )
            yield f"{path}.{key} {held.dtype} {tuple(held.shape)}".encode()
            yield _bytes(held)


def _settings(name: str, config: dict[str, Any]) -> bytes:
    kept = {key: one for key, one in config.items() if not key.startswith("_") and key not in NOT_CONTENT}
    return json.dumps([name, kept], sort_keys=True, default=str).encode()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
