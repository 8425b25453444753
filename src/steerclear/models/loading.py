"""Pipelines by name: a shipped model, a local folder or file, or a hub id. Safetensors only."""

import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from torch.nn import Module

from ..bridges.families import family_of
from ..core.errors import InvalidSetting, UnknownName, UnsupportedModel, first_line, in_words_of
from ..core.schedulers import preconditions
from ..core.sums import check_sums
from ..networks.shared.naming import WEAK, called, named
from . import files, shipped
from .configs import check_configs, converted_scheduler
from .loras import LoRA, add_loras
from .networks import NETWORKS, LoadedNetwork, load_named, load_network, one_form, refuse_lacking
from .placement import place, place_beside
from .samplers import scheduler_by_name, scheduler_key
from .single_file import find_single_file, is_single_file, load_single_file, refuse_config, single_file_digest

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

IMAGES_TO_START_FROM = ("image", "mask_image", "control_image")
"""Arguments of pipelines that need more than a text."""

OWN_PIPELINE = "ClassConditionalPipeline"
"""The class that steerclear adds to diffusers', :mod:`.class_conditional`."""

WORD_START = "▁"
"""T5's tokenizers write this for a space; alone it is not a word."""


@dataclass(frozen=True)
class Model:
    """A pipeline, ready to be steered.

    Attributes:
        name: as the user gave it; ``~`` written out, and an address on the hub as the hub's id.
        folder: of its files, or of a single file's configuration; None for a pipeline that was not loaded from one.
        pipe: the diffusers pipeline, on its device.
        digest: a hash of its files.
        networks: the networks beside the pipeline's own, by the name under which a guidance asks for them.
        loras: what was added to the pipeline's networks.
        device, offload: where the networks run, and where they wait.
        config: the configuration that the user gave with a single file.
    """

    name: str
    folder: Path | None
    pipe: Any
    digest: str
    networks: Mapping[str, LoadedNetwork] = field(default_factory=dict)
    loras: tuple[LoRA, ...] = ()
    device: str = "cpu"
    offload: str = "none"
    config: str | None = None


def load_model(
    name: str | os.PathLike[str], *, weak: str | os.PathLike[str] | None = None,
    networks: Mapping[str, str | os.PathLike[str]] | None = None, loras: Sequence[str] = (), device: str = "cpu",
    dtype: str = "float32", offload: str = "none", scheduler: str | None = None,
    config: str | os.PathLike[str] | None = None,
) -> Model:  # fmt: skip
    """Load a text-to-image pipeline, its LoRAs, and the networks that run beside its own.

    Args:
        name: a shipped model, a local folder in diffusers' layout, a hub id like "owner/model" (or "owner/model@revision",
            or its address), or a single ``.safetensors`` file, local or on the hub ("owner/model/file.safetensors").
        weak: a folder or hub id of another network of the same kind, or of a pipeline with one; or a kind of network, see
            :func:`~steerclear.networks.shared.naming.parse_network`. None takes the model's own ``weak`` folder, if any.
        networks: name -> the same, for guidances that ask for other networks by name.
        loras: files, folders or hub ids, each with ``:SCALE`` unless that is 1.
        device: a torch device.
        dtype: "float32", "float16" or "bfloat16".
        offload: "none", "model", "sequential" or "group", see :func:`~steerclear.models.placement.place`.
        scheduler: replaces the pipeline's own: diffusers' class name, or a short name such as "euler a" or
            "dpm++ 2m karras", see :data:`~steerclear.models.samplers.SAMPLERS`.
        config: for a single file, the model whose configuration and tokenizer it has: a shipped model, a local folder or a
            hub id. None recognizes it from the weights, and fetches it from the hub.

    Raises:
        NotEnoughMemory: the memory is full.
        UnknownName: no such dtype, scheduler or way of offloading.
        InvalidSetting: a device that torch cannot use, a LoRA's scale that is not a number, or an empty text for a network.
        UnsupportedModel: nothing there, parts are missing or damaged, or it cannot be steered by a text; says why.
    """
    if dtype not in tuple(DTYPES):
        raise UnknownName("dtype", dtype, DTYPES)
    name, given, device = _checked(name, named(weak, networks), loras, device)
    name, given = _located(name), {key: one and files.located(one, parts=NETWORKS) for key, one in given.items()}
    if not isinstance(config, (str, os.PathLike, NoneType)):
        raise InvalidSetting("config", config, "a model's name, its folder or its hub id, or None")
    config = None if config is None else os.fspath(config)
    with files.enough_memory(f"the model {name!r}"):
        pipe, folder, digest = _pipeline(name, config, DTYPES[dtype])
        check_kind(name, pipe)
        _check_data(name, pipe)
        _check_tokenizers(name, folder, pipe)
        pipe.set_progress_bar_config(disable=True)
        if scheduler is not None:
            pipe.scheduler = _scheduler(scheduler, pipe.scheduler)
        added = add_loras(pipe, loras)
        found = {
            key: load_named(key, one, None if is_single_file(name) else folder, pipe)
            for key, one in ({WEAK: None} | given).items()
        }
        beside = {key: one for key, one in found.items() if one is not None}
        place(pipe, [one.network for one in beside.values()], device, offload)
    return Model(name, folder, pipe, digest, beside, added, device, offload, config)


def with_networks(model: Model, sources: Mapping[str, str]) -> Model:
    """The same pipeline with further networks, or others in place of those of the same names; ``model`` keeps its own.

    Args:
        model: as loaded.
        sources: name -> source, as for :func:`load_model`.

    Raises:
        SteerclearError: see :func:`load_model`.
    """
    if not sources:
        return model
    located = {name: files.located(one, parts=NETWORKS) for name, one in named(None, sources).items()}
    with files.enough_memory(f"the model {model.name!r}"):
        found = {name: load_named(name, one, model.folder, model.pipe) for name, one in located.items()}
        beside = {name: one for name, one in found.items() if one is not None}
        for one in beside.values():
            place_beside(one.network, model.device, model.offload)
    return replace(model, networks={**model.networks, **beside})


def _located(name: str) -> str:
    """See :func:`~steerclear.models.files.located`; of an address, a single file stays."""
    return files.located(name, parts=None if is_single_file(name) else ())


def _pipeline(name: str, config: str | None, dtype: torch.dtype) -> tuple[Any, Path, str]:
    """The pipeline of this name, the folder of its files (or configuration), and its digest."""
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
        parts = _parts(name, folder, dtype)
        pipe = _kind(folder).from_pretrained(folder, dtype=dtype, use_safetensors=True, **parts)
    except files.UNLOADABLE as error:
        raise files.unloadable(f"the model {name!r}", first_line(error), error) from error
    return pipe, folder, files.folder_digest(folder)


def _checked(name: Any, networks: dict[str, Any], loras: Any, device: Any) -> tuple[str, dict[str, str], str]:
    """Refuse what is not a text; paths and torch's devices become texts."""
    name, *sources = (os.fspath(one) if isinstance(one, os.PathLike) else one for one in (name, *networks.values()))
    if not isinstance(name, str):
        raise InvalidSetting("the model", name, "a name, a folder or a hub id")
    given = dict(zip(networks, sources, strict=True))
    for key, source in given.items():
        if not isinstance(source, str):
            allowed = "a folder, a hub id or a kind of network, as text"
            raise InvalidSetting(called(key), source, allowed, "give a network to steer")
    if not isinstance(loras, (list, tuple)) or not all(isinstance(lora, str) for lora in loras):
        remedy = "put a single one into a list, as ['style.safetensors']"
        raise InvalidSetting("loras", loras, "a sequence of texts", remedy)
    beside = ((called(key), source) for key, source in given.items())
    for what, one in (("the model", name), *beside, *(("a LoRA", lora) for lora in loras)):
        if not one.isascii() and one.encode(errors="replace").decode() != one:
            allowed = in_words_of("a name without lone surrogates", "a name in UTF-8")
            raise InvalidSetting(what, one, allowed, in_words_of("rename it", "rename it, or set a locale of UTF-8"))
    return name, given, str(device) if isinstance(device, torch.device) else device


def _folder(name: str) -> Path:
    if name in shipped():
        return shipped()[name]
    if os.path.isdir(name):  # pathlib's raises for names that are too long
        return Path(name)
    if not files.is_hub_id(name):
        raise UnknownName("model folder or shipped model", name, shipped())

    def fetch() -> str:
        from diffusers import DiffusionPipeline

        repository, revision = files.repository_of(name)
        settings = {"revision": revision, "use_safetensors": True}
        try:
            return DiffusionPipeline.download(repository, **settings)
        except AttributeError:  # the class that the model names is none of diffusers'
            from .class_conditional import ClassConditionalPipeline

            return ClassConditionalPipeline.download(repository, **settings)

    return files.from_hub("model", name, fetch)


def _kind(folder: Path) -> Any:
    """The class of a folder's pipeline where it is one of our own; diffusers' general one, which finds its own."""
    if files.read_json(folder / files.PIPELINE_INDEX).get("_class_name") == OWN_PIPELINE:
        from .class_conditional import ClassConditionalPipeline

        return ClassConditionalPipeline
    from diffusers import DiffusionPipeline

    return DiffusionPipeline


def _check_parts(name: str, folder: Path) -> None:
    index = folder / files.PIPELINE_INDEX
    if not index.is_file():
        raise UnsupportedModel(
            f"the folder {name!r} has no {files.PIPELINE_INDEX}, so it is not a diffusers pipeline; "
            f"{in_words_of(f'save one there with pipe.save_pretrained({name!r})', 'give the folder that has one')}."
        )
    parts = [key for key, value in files.read_json(index).items() if isinstance(value, list) and value[:1] != [None]]
    missing = [part for part in parts if not (folder / part).is_dir()]
    if missing:
        raise UnsupportedModel(
            f"the folder {name!r} lacks {', '.join(missing)}, which its {files.PIPELINE_INDEX} names; copy the whole pipeline."
        )


def _parts(name: str, folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    """The pipeline's networks of diffusers and transformers; its loader would fill missing weights at random, silently."""
    import diffusers
    import transformers

    libraries = {"diffusers": diffusers, "transformers": transformers}
    parts = {}
    for part, value in files.read_json(folder / files.PIPELINE_INDEX).items():
        library, kind = value if isinstance(value, list) and len(value) == 2 else (None, None)
        found = getattr(libraries.get(str(library)), str(kind), None)
        if inspect.isclass(found) and issubclass(found, (diffusers.ModelMixin, transformers.PreTrainedModel)):
            parts[part] = load_network(f"the model {name!r}", f"its {part}", found, folder / part, dtype)
    return parts


def _check_data(name: str, pipe: Any) -> None:
    """Refuse parameters without data."""
    for part, network in pipe.components.items():
        if isinstance(network, Module):
            lacking = [key for key, parameter in network.named_parameters() if parameter.is_meta]
            refuse_lacking(f"the model {name!r} cannot be loaded: its {part}", lacking)


def _check_tokenizers(name: str, folder: Path, pipe: Any) -> None:
    """Refuse tokenizers without their files: each word would be dropped, or the prompt would have no end."""
    from transformers import CLIPTokenizer, PreTrainedTokenizerBase

    for part, tokenizer in pipe.components.items():
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            continue
        what = f"the model {name!r} cannot be loaded: its {part}"
        words = {word.strip(WORD_START) for word in tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens)}
        if not words - {""}:
            wanted = " or ".join(sorted(tokenizer.vocab_files_names.values()))
            raise UnsupportedModel(f"{what} knows no words; the folder {folder / part} lacks {wanted}. Copy it again.")
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


def check_kind(name: str, pipe: Any) -> None:
    """Refuse what needs more than a text or a class."""
    family_of(pipe)
    takes = inspect.signature(type(pipe).__call__).parameters
    images = [argument for argument in IMAGES_TO_START_FROM if argument in takes]
    if images:
        raise UnsupportedModel(
            f"the model {name!r} is a {type(pipe).__name__}, which starts from an image ({', '.join(images)}), and here "
            f"it is given a text only; use the model's text-to-image pipeline, or steer() in Python."
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
    name: str, weak: str | None, loras: Sequence[str], scheduler: str | None, dtype: str,
    networks: Mapping[str, str] | None = None, config: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The arguments of :func:`load_model` as plain values, the same for names that are written in two ways.

    Raises:
        UnsupportedModel, UnknownName, InvalidSetting: an address, or a kind of network, that is refused anyway.
    """
    return {
        "model": _located(name), "networks": {key: one_form(one) for key, one in named(weak, networks).items()},
        "loras": list(loras), "scheduler": scheduler and scheduler_key(scheduler), "dtype": dtype,
        **({} if config is None else {"config": config}),
    }  # fmt: skip


def quiet() -> None:
    """Hide the loading bars and hints of diffusers and transformers."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


@contextmanager
def quietly() -> Iterator[None]:
    """As :func:`quiet`, for the duration of a block."""
    import diffusers
    import transformers

    logs = (diffusers.utils.logging, transformers.utils.logging)
    before = [(log, log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
    quiet()
    try:
        yield
    finally:
        for log, verbosity, bars in before:
            log.set_verbosity(verbosity)
            if bars:
                log.enable_progress_bar()
