"""The networks beside a pipeline's own, by what people type: a kind, a folder, or a hub id. Safetensors only."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn import Module

from ..bridges.families import family_of
from ..core.errors import InvalidSetting, UnsupportedModel, first_line, shown
from ..core.network import Network
from ..core.sums import check_sums
from ..networks.other_network import OtherNetwork
from ..networks.shared.naming import WEAK, called, is_kind, network_text, parse_network, to_give
from . import files

NETWORKS = ("unet", "transformer")
"""Folders of a repository that an address of a network may name."""

SHOWN = 3
"""How many missing tensors are named."""


@dataclass(frozen=True)
class NetworkSource:
    """A folder or hub id as given, or a kind of network in one form for all ways to type it; and the hash of its files, if it has any."""

    source: str
    digest: str | None = None


@dataclass(frozen=True)
class LoadedNetwork:
    """A network beside a pipeline's own, a torch module or a kind, ready to be given to ``steer``; and its source."""

    network: Any
    source: NetworkSource


def one_form(source: str) -> str:
    """The same text for all ways to type a network; raises as :func:`load_named` does."""
    source = source and files.located(source, parts=NETWORKS)
    return network_text(parse_network(source)) if source and _is_kind(source) else source


def load_named(name: str, source: str | None, model: Path | None, pipe: Any) -> LoadedNetwork | None:
    """A network for a pipeline.

    Args:
        name: its name in a run.
        source: a kind, a folder or a hub id; None for the model's own weak network.
        model: the pipeline's folder; None for a single file.
        pipe: the pipeline.

    Raises:
        UnsupportedModel: nothing there, or it is damaged or does not fit; says why.
        UnknownName, InvalidSetting: a kind, or a setting of one, that does not exist.
    """
    family = family_of(pipe)
    own = getattr(pipe, family.network)
    if source == "":
        raise InvalidSetting(
            to_give(name, "load_model") if name != WEAK else "--weak", source,
            "a folder, a hub id or a kind of network", "leave it out for the model's own" if name == WEAK else "",
        )  # fmt: skip
    if source is not None and _is_kind(source):
        kind = parse_network(source)
        kind.check(pipe, own)
        return LoadedNetwork(kind, NetworkSource(network_text(kind), kind.digest()))
    what = f"{called(name)} {shown(source or files.WEAK_FOLDER)}"
    folder = _folder(name, source, model, family.network)
    if folder is None:
        return None
    if source is not None:  # the model's own was checked with the model
        here = Path(os.path.abspath(folder))  # of "." the parent would be "."
        for place in (here, here.parent):  # a network alone, and a part of a pipeline
            check_sums(what, place, within=here)
    network = _load(what, folder, pipe, own)
    OtherNetwork(network).check(pipe, own)
    return LoadedNetwork(network, NetworkSource(source or files.WEAK_FOLDER, files.folder_digest(folder)))


def _is_kind(source: str) -> bool:
    return is_kind(source) and not os.path.isdir(source)


def _folder(name: str, source: str | None, model: Path | None, part: str) -> Path | None:
    """Where a network's files are; None for a model without its own. ``part`` is "unet" or "transformer"."""
    if source is None:
        own = model and model / files.WEAK_FOLDER
        return own if own and own.is_dir() else None
    folder = Path(source)
    if not os.path.isdir(source):
        if not files.is_hub_id(source):
            raise UnsupportedModel(
                f"{called(name)} {shown(source)} is not a folder, a hub id or a kind ({', '.join(Network.known())}); give a "
                f"folder with a network's {files.NETWORK_CONFIG} and weights, for instance the {part} folder of an earlier snapshot."
            )
        folder = files.from_hub(called(name).removeprefix("the "), source, lambda: _fetched(source, part))
    return folder / part if (folder / part).is_dir() else folder


def _fetched(source: str, part: str) -> str:
    """A network from the hub, without the rest of its pipeline."""
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError

    repository, revision = files.repository_of(source)
    try:
        hf_hub_download(repository, files.PIPELINE_INDEX, revision=revision)
        wanted = [f"{part}/*.json", f"{part}/*.safetensors"]
    except EntryNotFoundError:  # a repository of the network alone (or, offline, what was fetched before)
        wanted = ["*.json", "*.safetensors"]
    return snapshot_download(
        repository, revision=revision, allow_patterns=wanted, ignore_patterns=["*.fp16.*", "*.non_ema.*"]
    )


def _load(what: str, folder: Path, pipe: Any, own: Any) -> Any:
    """A network of the class that its configuration names, which must be that of the pipeline's own."""
    if not (folder / files.NETWORK_CONFIG).is_file():
        raise UnsupportedModel(
            f"{what} cannot be loaded: {folder} has no {files.NETWORK_CONFIG}, so it holds no network."
        )
    settings = files.read_json(folder / files.NETWORK_CONFIG)
    kind = settings.get("_class_name")
    if kind != type(own).__name__:
        raise UnsupportedModel(
            f"{what} cannot be loaded: its {files.NETWORK_CONFIG} names {kind or 'no class of diffusers'}, "
            f"and this model's network is a {type(own).__name__}."
        )
    OtherNetwork(_Described(settings, own)).check(pipe, own)
    return load_network(what, "it", type(own), folder, own.dtype).eval()


class _Described(Module):
    """A configuration without weights, to check inputs and outputs before the weights are loaded."""

    def __init__(self, settings: dict[str, Any], own: Any) -> None:
        super().__init__()
        self.config = SimpleNamespace(**{**own.config, **settings})
        self.dtype = own.dtype


def load_network(what: str, part: str, kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A network from its folder.

    Args:
        what, part: what is loaded, and which part of it this is, for the errors.
        kind: its class.

    Raises:
        NotEnoughMemory: the memory is full.
        UnsupportedModel: its files are missing, damaged, of another network, or lack some of its tensors.
    """
    try:
        network, found = kind.from_pretrained(str(folder), dtype=dtype, use_safetensors=True, output_loading_info=True)
    except files.UNLOADABLE as error:
        if "ignore_mismatched_sizes" in str(error):
            reason = f"has weights of other shapes than its {files.NETWORK_CONFIG} says; copy both from one network."
        else:
            reason = f"is damaged or incomplete: {first_line(error)}"
        raise files.unloadable(what, f"{part} {reason}", error) from error
    # buffers are computed, and a tied weight is not missing while the one it is tied to is there
    parameters = {key for key, _ in network.named_parameters(remove_duplicate=False)}
    refuse_lacking(f"{what} cannot be loaded: {part}", parameters & set(found["missing_keys"]))
    return network


def refuse_lacking(what: str, tensors: Iterable[str]) -> None:
    """Raises :class:`UnsupportedModel` if any tensors are given; names some of them."""
    names = sorted(tensors)
    if names:
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        raise UnsupportedModel(f"{what} lacks {', '.join(names[:SHOWN])}{more} in its files; copy them again.")
