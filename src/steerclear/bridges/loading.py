"""Pipelines and weak networks by name: a shipped model, a local folder, or a hub id. Safetensors only."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from ..errors import InvalidSetting, UnknownName, UnsupportedModel
from ..models import shipped

WEAK_FOLDER = "weak"
DIGEST_LENGTH = 16
UNLOADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError)
"""What the libraries raise for files that are missing, damaged, or of another network."""

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Model:
    """A pipeline, ready to be steered.

    Attributes:
        name: as the user gave it.
        folder: where its files are.
        pipe: the diffusers pipeline, on its device.
        digest: what its files are.
        weak, weak_digest, weak_name: the weak network, what its files are, and its folder as the user gave it; None when
            there is none.
    """

    name: str
    folder: Path
    pipe: Any
    digest: str
    weak: Any | None
    weak_digest: str | None
    weak_name: str | None = None


def load_model(
    name: str, *, weak: str | None = None, device: str = "cpu", dtype: str = "float32", scheduler: str | None = None
) -> Model:
    """Load a pipeline and its weak network.

    Args:
        name: a shipped model's name, a local folder in diffusers' layout, or a hub id like "owner/model".
        weak: a folder or hub id of another UNet; None takes the model's own ``weak`` folder when it has one.
        device: a torch device.
        dtype: "float32", "float16" or "bfloat16".
        scheduler: the class name of a diffusers scheduler to use in place of the pipeline's own.

    Raises:
        UnknownName: no such dtype or scheduler.
        UnsupportedModel: nothing there, or parts are missing; says which.
    """
    from diffusers import DiffusionPipeline

    if dtype not in DTYPES:
        raise UnknownName("dtype", dtype, DTYPES)
    folder = _folder(name)
    _check_parts(name, folder)
    _quiet()
    try:
        pipe = DiffusionPipeline.from_pretrained(folder, dtype=DTYPES[dtype], use_safetensors=True)
    except UNLOADABLE as error:
        raise UnsupportedModel(f"the model {name!r} cannot be loaded: {_first_line(error)}") from error
    pipe.set_progress_bar_config(disable=True)
    if scheduler is not None:
        pipe.scheduler = _scheduler(scheduler, pipe.scheduler)
    weak_folder = _weak_folder(weak, folder)
    network = None if weak_folder is None else _load_weak(weak_folder, DTYPES[dtype])
    digest = None if weak_folder is None else folder_digest(weak_folder)
    try:
        pipe = pipe.to(device)
        network = None if network is None else network.to(device)
    except (RuntimeError, AssertionError) as error:
        raise InvalidSetting("device", device, "one that torch can use here", _first_line(error)) from error
    shown = None if weak_folder is None else weak or WEAK_FOLDER
    return Model(name, folder, pipe, folder_digest(folder), network, digest, shown)


def folder_digest(folder: Path) -> str:
    """A short hash of a model's files, all of them and whole: equal digests are equal weights."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.suffix not in (".json", ".txt", ".safetensors"):
            continue
        if WEAK_FOLDER in path.relative_to(folder).parts:
            continue
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:DIGEST_LENGTH]


def _folder(name: str) -> Path:
    if name in shipped():
        return shipped()[name]
    if Path(name).is_dir():
        return Path(name)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UnknownName("model folder or shipped model", name, shipped())
    from diffusers import DiffusionPipeline

    try:
        return Path(DiffusionPipeline.download(name, use_safetensors=True))
    except Exception as error:  # the hub's client raises many kinds; each means the same to the user
        raise UnsupportedModel(
            f"the model {name!r} is neither a folder here nor to be had from the hub ({_first_line(error)}); "
            f"shipped: {', '.join(shipped())}."
        ) from error


def _check_parts(name: str, folder: Path) -> None:
    index = folder / "model_index.json"
    if not index.is_file():
        raise UnsupportedModel(
            f"the folder {name!r} has no model_index.json, so it is no diffusers pipeline; "
            f"save one there with pipe.save_pretrained({name!r})."
        )
    try:
        entries = json.loads(index.read_text())
    except json.JSONDecodeError as error:
        raise UnsupportedModel(f"{index} is not JSON: {error}") from error
    parts = [key for key, value in entries.items() if isinstance(value, list) and value[0] is not None]
    missing = [part for part in parts if not (folder / part).is_dir()]
    if missing:
        raise UnsupportedModel(
            f"the folder {name!r} lacks {', '.join(missing)}, which its model_index.json names; copy the whole pipeline."
        )


def _scheduler(name: str, current: Any) -> Any:
    import diffusers

    known = {kind.__name__ for kind in current.compatibles} | {type(current).__name__}
    if name not in known:
        raise UnknownName("scheduler for this model", name, known)
    return getattr(diffusers, name).from_config(current.config)


def _weak_folder(weak: str | None, model: Path) -> Path | None:
    if weak is None:
        own = model / WEAK_FOLDER
        return own if own.is_dir() else None
    folder = Path(weak)
    if not folder.is_dir():
        raise UnsupportedModel(
            f"the weak network {weak!r} is no folder; give a folder that holds a UNet's config.json and weights, "
            f"for instance the unet folder of an earlier snapshot."
        )
    return folder / "unet" if (folder / "unet").is_dir() else folder


def _load_weak(folder: Path, dtype: torch.dtype) -> Any:
    from diffusers import UNet2DConditionModel

    try:
        network = UNet2DConditionModel.from_pretrained(folder, dtype=dtype, use_safetensors=True).eval()
    except UNLOADABLE as error:
        raise UnsupportedModel(f"the weak network in {str(folder)!r} cannot be loaded: {_first_line(error)}") from error
    if any(
        parameter.is_meta for parameter in network.parameters()
    ):  # diffusers leaves what the files lack without data
        raise UnsupportedModel(
            f"the weak network in {str(folder)!r} cannot be loaded: its files are not those of a UNet."
        )
    return network


def _quiet() -> None:
    """Loading bars of two libraries would stand between the user and ours."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
