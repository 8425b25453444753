"""Pipelines and weak networks by name: a shipped model, a local folder or file, or a hub id. Safetensors only."""

import inspect
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, SimpleNamespace
from typing import Any

import torch
from torch.nn import Module

from ..bridges.families import family_of
from ..core.errors import InvalidSetting, UnknownName, UnsupportedModel, in_words_of, shown
from ..core.network import WeakNetwork, weak_networks
from ..core.schedulers import preconditions
from ..networks.naming import is_weak_kind, parse_weak, weak_text
from ..networks.other_network import OtherNetwork
from . import shipped
from .configs import check_configs, converted_scheduler
from .files import (
    NETWORK_CONFIG,
    PIPELINE_INDEX,
    UNLOADABLE,
    WEAK_FOLDER,
    check_sums,
    enough_memory,
    first_line,
    folder_digest,
    from_hub,
    is_hub_id,
    located,
    read_json,
    repository_of,
    unloadable,
)
from .loras import LoRA, add_loras
from .placement import place
from .samplers import scheduler_by_name, scheduler_key
from .single_file import find_single_file, is_single_file, load_single_file, refuse_config, single_file_digest

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

IMAGES_TO_START_FROM = ("image", "mask_image", "control_image")
"""Arguments of pipelines that need more than a text."""

NETWORKS = ("unet", "transformer")
"""Folders of a repository that an address of a weak network may name."""

SHOWN = 3
"""Of missing tensors, how many are named."""

WORD_START = "▁"
"""What T5's tokenizers write for a space; alone it is no word."""


@dataclass(frozen=True)
class Model:
    """A pipeline, ready to be steered.

    Attributes:
        name: as the user gave it; ``~`` written out, and an address on the hub as the hub's id.
        folder: where its files are; for a model that is one file, its configuration.
        pipe: the diffusers pipeline, on its device.
        digest: what its files are.
        weak: the weak network, or the way to make one of the pipeline's own; None when there is none.
        weak_digest: what its files are; None for one without files.
        weak_name: its folder or hub id as the user gave it, or its kind in one form for all ways to type it.
        loras: what was added to the pipeline's networks.
        device, offload: where the networks run, and where they wait.
        config: the configuration that the user gave with a single file.
    """

    name: str
    folder: Path
    pipe: Any
    digest: str
    weak: Any | None
    weak_digest: str | None
    weak_name: str | None = None
    loras: tuple[LoRA, ...] = ()
    device: str = "cpu"
    offload: str = "none"
    config: str | None = None


def load_model(
    name: str | os.PathLike[str],
    *,
    weak: str | os.PathLike[str] | None = None,
    loras: Sequence[str] = (),
    device: str = "cpu",
    dtype: str = "float32",
    offload: str = "none",
    scheduler: str | None = None,
    config: str | os.PathLike[str] | None = None,
) -> Model:
    """Load a text-to-image pipeline, what is added to it, and its weak network.

    Args:
        name: a shipped model's name, a local folder in diffusers' layout, a hub id like "owner/model" (or
            "owner/model@revision", or its address), or a single ``.safetensors`` file, here or on the hub
            ("owner/model/file.safetensors").
        weak: a folder or hub id of another network of the same kind, or of a whole pipeline with one; or a kind of weak
            network with its settings, see :func:`~steerclear.networks.naming.parse_weak`. None takes the model's own
            ``weak`` folder when it has one.
        loras: files, folders or hub ids, each with ``:SCALE`` behind it if not all of it, see
            :func:`~steerclear.models.loras.add_loras`.
        device: a torch device.
        dtype: "float32", "float16" or "bfloat16".
        offload: "none", "model", "sequential" or "group", see :func:`~steerclear.models.placement.place`.
        scheduler: a scheduler to use in place of the pipeline's own: the class name of diffusers, or a short name such as
            "euler a" or "dpm++ 2m karras", see :data:`~steerclear.models.samplers.SAMPLERS`.
        config: for a single file, the model whose configuration and tokenizer it has: a shipped model, a local folder or a
            hub id. None to tell it from the weights, and fetch it from the hub.

    Raises:
        NotEnoughMemory: there is no room for it.
        UnknownName: no such dtype, scheduler or way of offloading.
        InvalidSetting: a device that torch cannot use, a LoRA's scale that is not a number, or an empty text for the weak network.
        UnsupportedModel: nothing there, parts are missing or damaged, or what is there cannot be steered by a text; says why.
    """
    if dtype not in tuple(DTYPES):
        raise UnknownName("dtype", dtype, DTYPES)
    name, weak, device = _checked(name, weak, loras, device)
    name, weak = _located(name), weak and located(weak, parts=NETWORKS)
    if not isinstance(config, (str, os.PathLike, NoneType)):
        raise InvalidSetting("config", config, "a model's name, its folder or its hub id, or None")
    config = None if config is None else os.fspath(config)
    with enough_memory(f"the model {name!r}"):
        pipe, folder, digest = _pipeline(name, config, DTYPES[dtype])
        _check_kind(name, pipe)
        _check_data(name, pipe)
        _check_tokenizers(name, folder, pipe)
        pipe.set_progress_bar_config(disable=True)
        if scheduler is not None:
            pipe.scheduler = _scheduler(scheduler, pipe.scheduler)
        added = add_loras(pipe, loras)
        network, weak_folder = _weak(weak, None if is_single_file(name) else folder, pipe)
        weak = weak_text(network) if weak_folder is None and isinstance(network, WeakNetwork) else weak
        place(pipe, network, device, offload)
    return Model(
        name=name,
        folder=folder,
        pipe=pipe,
        digest=digest,
        weak=network,
        weak_digest=None if weak_folder is None else folder_digest(weak_folder),
        weak_name=None if network is None else weak or WEAK_FOLDER,
        loras=added,
        device=device,
        offload=offload,
        config=config,
    )


def _located(name: str) -> str:
    """See :func:`~steerclear.models.files.located`; of an address, a single file stays."""
    return located(name, parts=None if is_single_file(name) else ())


def _pipeline(name: str, config: str | None, dtype: torch.dtype) -> tuple[Any, Path, str]:
    """The pipeline of this name, the folder of its files (or configuration), and what these are."""
    from diffusers import DiffusionPipeline

    quiet()
    if is_single_file(name):
        file = find_single_file(name)
        pipe, folder = load_single_file(name, file, config, dtype)
        return pipe, folder, single_file_digest(file, folder)
    folder = _folder(name)
    if config is not None:
        refuse_config(name, config)
    _check_parts(name, folder)
    check_configs(f"the model {name!r}", folder)
    check_sums(f"the model {name!r}", folder)
    try:
        networks = _networks(name, folder, dtype)
        pipe = DiffusionPipeline.from_pretrained(folder, dtype=dtype, use_safetensors=True, **networks)
    except UNLOADABLE as error:
        raise unloadable(f"the model {name!r}", first_line(error), error) from error
    return pipe, folder, folder_digest(folder)


def _checked(name: Any, weak: Any, loras: Any, device: Any) -> tuple[str, str | None, str]:
    """Refuse what is not a text; paths and torch's devices become one."""
    name, weak = (os.fspath(one) if isinstance(one, os.PathLike) else one for one in (name, weak))
    if not isinstance(name, str):
        raise InvalidSetting("the model", name, "a name, a folder or a hub id")
    if not isinstance(weak, (str, NoneType)):
        allowed = "a folder, a hub id or a kind of weak network, as text"
        raise InvalidSetting("the weak network", weak, allowed, "give a network to steer")
    if not isinstance(loras, (list, tuple)) or not all(isinstance(lora, str) for lora in loras):
        raise InvalidSetting(
            "loras", loras, "a sequence of texts", "one alone goes into a list, as ['style.safetensors']"
        )
    for what, one in (("the model", name), ("the weak network", weak), *(("a LoRA", lora) for lora in loras)):
        if one is not None and not one.isascii() and one.encode(errors="replace").decode() != one:
            allowed = in_words_of("a name without lone surrogates", "a name in UTF-8")
            raise InvalidSetting(what, one, allowed, in_words_of("rename it", "rename it, or set a locale of UTF-8"))
    return name, weak, str(device) if isinstance(device, torch.device) else device


def _folder(name: str) -> Path:
    if name in shipped():
        return shipped()[name]
    if os.path.isdir(name):  # pathlib's raises for names that are too long
        return Path(name)
    if not is_hub_id(name):
        raise UnknownName("model folder or shipped model", name, shipped())

    def fetch() -> str:
        from diffusers import DiffusionPipeline

        repository, revision = repository_of(name)
        return DiffusionPipeline.download(repository, revision=revision, use_safetensors=True)

    return from_hub("model", name, fetch)


def _check_parts(name: str, folder: Path) -> None:
    index = folder / PIPELINE_INDEX
    if not index.is_file():
        raise UnsupportedModel(
            f"the folder {name!r} has no {PIPELINE_INDEX}, so it is no diffusers pipeline; "
            f"{in_words_of(f'save one there with pipe.save_pretrained({name!r})', 'give the folder that has one')}."
        )
    parts = [key for key, value in read_json(index).items() if isinstance(value, list) and value[:1] != [None]]
    missing = [part for part in parts if not (folder / part).is_dir()]
    if missing:
        raise UnsupportedModel(
            f"the folder {name!r} lacks {', '.join(missing)}, which its {PIPELINE_INDEX} names; copy the whole pipeline."
        )


def _networks(name: str, folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    """The networks of a pipeline that are diffusers' or transformers' own, whole; the pipeline's loader would fill at random
    what their files lack, and not say so."""
    import diffusers
    import transformers

    libraries = {"diffusers": diffusers, "transformers": transformers}
    networks = {}
    for part, value in read_json(folder / PIPELINE_INDEX).items():
        library, kind = value if isinstance(value, list) and len(value) == 2 else (None, None)
        found = getattr(libraries.get(str(library)), str(kind), None)
        if inspect.isclass(found) and issubclass(found, (diffusers.ModelMixin, transformers.PreTrainedModel)):
            networks[part] = _network(f"the model {name!r}", f"its {part}", found, folder / part, dtype)
    return networks


def _network(what: str, part: str, kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A network from its folder.

    Args:
        what, part: what is loaded, and which part of it this is, for the errors.
        kind: its class.
        folder: where its files are.
        dtype: of its weights.

    Raises:
        NotEnoughMemory: there is no room for it.
        UnsupportedModel: its files are missing, damaged, of another network, or lack some of its tensors.
    """
    try:
        network, found = kind.from_pretrained(str(folder), dtype=dtype, use_safetensors=True, output_loading_info=True)
    except UNLOADABLE as error:
        if "ignore_mismatched_sizes" in str(error):
            reason = f"has weights of other shapes than its {NETWORK_CONFIG} says; copy both from one network."
        else:
            reason = f"is damaged or incomplete: {first_line(error)}"
        raise unloadable(what, f"{part} {reason}", error) from error
    # what is no parameter is computed, and a tied weight is not missing while the one it is tied to is there
    parameters = {key for key, _ in network.named_parameters(remove_duplicate=False)}
    _refuse_lacking(f"{what} cannot be loaded: {part}", parameters & set(found["missing_keys"]))
    return network


def _refuse_lacking(what: str, tensors: Iterable[str]) -> None:
    names = sorted(tensors)
    if names:
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        raise UnsupportedModel(f"{what} lacks {', '.join(names[:SHOWN])}{more} in its files; copy them again.")


def _check_data(name: str, pipe: Any) -> None:
    """Refuse parameters that no file gave data."""
    for part, network in pipe.components.items():
        if isinstance(network, Module):
            lacking = [key for key, parameter in network.named_parameters() if parameter.is_meta]
            _refuse_lacking(f"the model {name!r} cannot be loaded: its {part}", lacking)


def _check_tokenizers(name: str, folder: Path, pipe: Any) -> None:
    """Refuse tokenizers that were made of nothing: each word would be dropped, or the prompt have no end."""
    from transformers import CLIPTokenizer, PreTrainedTokenizerBase

    for part, tokenizer in pipe.components.items():
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            continue
        what = f"the model {name!r} cannot be loaded: its {part}"
        words = {word.strip(WORD_START) for word in tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens)}
        if not words - {""}:
            files = " or ".join(sorted(tokenizer.vocab_files_names.values()))
            raise UnsupportedModel(f"{what} knows no words; the folder {folder / part} lacks {files}. Copy it again.")
        encoder = getattr(pipe, part.replace("tokenizer", "text_encoder"), None)
        limit = getattr(getattr(encoder, "config", None), "max_position_embeddings", None)
        if not isinstance(tokenizer.model_max_length, (int, float)):
            raise UnsupportedModel(
                f"{what} has model_max_length {tokenizer.model_max_length!r}, which is not a number; the file "
                f"{folder / part / 'tokenizer_config.json'} is damaged. Copy it again."
            )
        if isinstance(tokenizer, CLIPTokenizer) and limit is not None and tokenizer.model_max_length > limit:
            raise UnsupportedModel(
                f"{what} has model_max_length {tokenizer.model_max_length:g}, and its text encoder reads {limit} tokens "
                f"at most; the folder {folder / part} lacks tokenizer_config.json or holds another model's. Copy it again."
            )


def _check_kind(name: str, pipe: Any) -> None:
    """Refuse what needs more than a text or a class."""
    family_of(pipe)
    takes = inspect.signature(type(pipe).__call__).parameters
    images = [argument for argument in IMAGES_TO_START_FROM if argument in takes]
    if images:
        raise UnsupportedModel(
            f"the model {name!r} is a {type(pipe).__name__}, which starts from an image ({', '.join(images)}), and "
            f"the command line gives it a text only; use the model's text-to-image pipeline, or steer() in Python."
        )


def _scheduler(name: str, current: Any) -> Any:
    import diffusers

    kind, settings = scheduler_by_name(name, current)
    scheduler = converted_scheduler(getattr(diffusers, kind), current, settings)
    if preconditions(scheduler) and not preconditions(current):
        raise UnsupportedModel(
            f"{kind} scales the input and output of its network in its own way (EDM's), and this model's network was trained "
            f"without that, so its images would be noise; use another scheduler, such as {type(current).__name__}"
        )
    return scheduler


def asked_to_load(
    name: str, weak: str | None, loras: Sequence[str], scheduler: str | None, dtype: str, config: str | None = None
) -> dict[str, Any]:
    """What :func:`load_model` is asked for as plain values, the same for names that are written in two ways.

    Raises:
        UnsupportedModel, UnknownName, InvalidSetting: an address, or a kind of weak network, that is refused anyway.
    """
    weak = weak and located(weak, parts=NETWORKS)
    return {
        "model": _located(name), "weak": weak_text(parse_weak(weak)) if weak and _is_kind(weak) else weak,
        "loras": list(loras), "scheduler": scheduler and scheduler_key(scheduler), "dtype": dtype,
        **({} if config is None else {"config": config}),
    }  # fmt: skip


def _is_kind(weak: str) -> bool:
    return is_weak_kind(weak) and not os.path.isdir(weak)


def _weak(weak: str | None, model: Path | None, pipe: Any) -> tuple[Any | None, Path | None]:
    """The weak network, and where its files are; None for what there is not."""
    family = family_of(pipe)
    own = getattr(pipe, family.network)
    if weak == "":
        raise InvalidSetting(
            "--weak", weak, "a folder, a hub id or a kind of weak network", "leave it out for the model's own"
        )
    if weak is not None and _is_kind(weak):
        kind = parse_weak(weak)
        kind.check(pipe, own)
        return kind, None
    folder = _weak_folder(weak, model, family.network)
    if folder is None:
        return None, None
    if weak is not None:  # the model's own was checked with the model
        here = Path(os.path.abspath(folder))  # of "." the parent would be "."
        for place in (here, here.parent):  # a network alone, and a part of a pipeline
            check_sums(f"the weak network {weak!r}", place, within=here)
    network = _load_weak(weak or WEAK_FOLDER, folder, pipe, own)
    OtherNetwork(network).check(pipe, own)
    return network, folder


def _weak_folder(weak: str | None, model: Path | None, part: str) -> Path | None:
    """Where the weak network's own files are.

    Args:
        weak: as the user gave it.
        model: the pipeline's folder; None for one that is a single file.
        part: what the family calls its network: "unet" or "transformer".
    """
    if weak is None:
        own = model and model / WEAK_FOLDER
        return own if own and own.is_dir() else None
    folder = Path(weak)
    if not os.path.isdir(weak):
        if not is_hub_id(weak):
            raise UnsupportedModel(
                f"the weak network {shown(weak)} is no folder, no hub id and no kind ({', '.join(weak_networks())}); give a "
                f"folder that holds a network's {NETWORK_CONFIG} and weights, for instance the {part} folder of an "
                f"earlier snapshot."
            )
        folder = from_hub("weak network", weak, lambda: _fetched(weak, part))
    return folder / part if (folder / part).is_dir() else folder


def _fetched(weak: str, part: str) -> str:
    """A network from the hub, without the rest of its pipeline."""
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError

    repository, revision = repository_of(weak)
    try:
        hf_hub_download(repository, PIPELINE_INDEX, revision=revision)
        wanted = [f"{part}/*.json", f"{part}/*.safetensors"]
    except EntryNotFoundError:  # a repository of the network alone (or, without a network, what was fetched before)
        wanted = ["*.json", "*.safetensors"]
    return snapshot_download(
        repository, revision=revision, allow_patterns=wanted, ignore_patterns=["*.fp16.*", "*.non_ema.*"]
    )


def _load_weak(name: str, folder: Path, pipe: Any, own: Any) -> Any:
    """A network of the class that its configuration names, which must be that of the pipeline's own."""
    if not (folder / NETWORK_CONFIG).is_file():
        raise UnsupportedModel(
            f"the weak network {name!r} cannot be loaded: {folder} has no {NETWORK_CONFIG}, so it holds no network."
        )
    settings = read_json(folder / NETWORK_CONFIG)
    kind = settings.get("_class_name")
    if kind != type(own).__name__:
        raise UnsupportedModel(
            f"the weak network {name!r} cannot be loaded: its {NETWORK_CONFIG} names {kind or 'no class of diffusers'}, "
            f"and this model's network is a {type(own).__name__}."
        )
    OtherNetwork(_Described(settings, own)).check(pipe, own)
    return _network(f"the weak network {name!r}", "it", type(own), folder, own.dtype).eval()


class _Described(Module):
    """A network that is a configuration only: what it takes and gives can be looked at before weights are loaded."""

    def __init__(self, settings: dict[str, Any], own: Any) -> None:
        super().__init__()
        self.config = SimpleNamespace(**{**own.config, **settings})
        self.dtype = own.dtype


def quiet() -> None:
    """Loading bars and hints of two libraries would stand between the user and ours."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
