"""LoRAs by name: a safetensors file, a folder with one, or a hub id; each with its scale."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..core.errors import InvalidSetting, UnsupportedModel, first_line, shown
from ..core.settings import finite
from . import files

USUAL_NAME = "pytorch_lora_weights.safetensors"
"""The file that diffusers' own training scripts write."""


@dataclass(frozen=True)
class LoRA:
    """A LoRA that was added to a model: its name as given, its scale (1 is the full change, 0 none), its file's hash."""

    name: str
    scale: float
    digest: str


def parse_lora(text: str) -> tuple[str, float]:
    """A LoRA's name, and the scale that may follow it after a colon.

    Raises:
        InvalidSetting: no name, or a scale that is not finite.

    >>> parse_lora("owner/style:0.8"), parse_lora("style.safetensors")
    (('owner/style', 0.8), ('style.safetensors', 1.0))
    """
    name, _, after = text.rpartition(":")
    try:
        scale = float(after) if name else 1.0
    except ValueError:  # the colon belongs to the path
        name = ""
    if not name:
        name, scale = text, 1.0
    if not name.strip():
        raise InvalidSetting("--lora", text, "a file, a folder or a hub id, followed by :SCALE if the scale is not 1")
    finite(f"the scale of --lora {name}", scale)
    return files.located(name), scale


def add_loras(pipe: Any, texts: Sequence[str]) -> tuple[LoRA, ...]:
    """Load LoRAs into a pipeline as adapters ``lora_1``, ``lora_2`` and so on, all active together.

    A LoRA of scale 0 is loaded and switched off, so that another network can use it.

    Args:
        pipe: the pipeline; it is changed in place.
        texts: one per LoRA, see :func:`parse_lora`.

    Raises:
        UnsupportedModel: a file is missing, is not a safetensors file or fits no network of this pipeline; the pipeline
            takes no LoRAs; or the package ``peft`` is not installed.
    """
    named = [parse_lora(text) for text in texts]
    if not named:
        return ()
    if not hasattr(pipe, "load_lora_weights"):
        raise UnsupportedModel(
            f"{type(pipe).__name__} takes no LoRA: diffusers has no LoRA loader for it. Leave --lora out, or give a model "
            f"with the LoRA merged into it."
        )
    if find_spec("peft") is None:
        raise UnsupportedModel("a LoRA needs the package peft, which is not installed; install it: pip install peft")
    loras = tuple(_added(pipe, index, name, scale) for index, (name, scale) in enumerate(named))
    scales = {_adapter(index): lora.scale for index, lora in enumerate(loras) if lora.scale != 0}
    if scales:
        pipe.set_adapters(list(scales), list(scales.values()))
    else:
        pipe.disable_lora()
    return loras


def _adapter(index: int) -> str:
    """The LoRA's name in diffusers, by which another network can include or exclude it."""
    return f"lora_{index + 1}"


def _added(pipe: Any, index: int, name: str, scale: float) -> LoRA:
    file = _file(name)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several LoRAs are intended
            pipe.load_lora_weights(
                str(file.parent), weight_name=file.name, adapter_name=_adapter(index), use_safetensors=True
            )
    except files.UNLOADABLE as error:
        raise files.unloadable(f"the LoRA {name!r}", first_line(error), error) from error
    if not any(_adapter(index) in adapters for adapters in pipe.get_list_adapters().values()):
        raise UnsupportedModel(
            f"the LoRA {name!r} changes no network of this {type(pipe).__name__}; it was trained for another kind of model."
        )
    return LoRA(name, scale, files.file_digest(file))


def _file(name: str) -> Path:
    path = Path(name)
    if os.path.isdir(name):  # unlike pathlib's, it does not raise for names that are too long
        return path / _chosen(name, [file.name for file in path.iterdir()])
    if not os.path.exists(name):
        path = _hub_file(name)
    if path.suffix != files.WEIGHTS:
        raise UnsupportedModel(
            f"the LoRA {name!r} is not a {files.WEIGHTS} file, and other formats can run code when they are opened. Get its "
            f"{files.WEIGHTS} file, or convert it with safetensors.torch.save_file."
        )
    return path


def _hub_file(name: str) -> Path:
    hub_id, inside = files.split_hub_file(name)
    if not files.is_hub_id(hub_id):
        raise UnsupportedModel(
            f"there is no LoRA {shown(name)}; give a {files.WEIGHTS} file, a folder with one, or a hub id such as "
            f"owner/model or owner/model/file{files.WEIGHTS}."
        )
    repository, revision = files.repository_of(hub_id)

    def fetch() -> str:
        from huggingface_hub import hf_hub_download, list_repo_files
        from huggingface_hub.errors import EntryNotFoundError

        try:
            return hf_hub_download(repository, inside or USUAL_NAME, revision=revision)
        except EntryNotFoundError:
            if inside:
                raise
            found = list_repo_files(repository, revision=revision)
            return hf_hub_download(repository, _chosen(name, found), revision=revision)

    return files.from_hub("LoRA", name, fetch)


def _chosen(name: str, names: Sequence[str]) -> str:
    """The only LoRA among a folder's files."""
    found = sorted(file for file in names if file.endswith(files.WEIGHTS))
    if USUAL_NAME in found:
        return USUAL_NAME
    if len(found) == 1:
        return found[0]
    wrong = f"holds several files: {', '.join(found)}" if found else "holds no safetensors file"
    raise UnsupportedModel(f"the LoRA {name!r} {wrong}; name one file: {name}/FILE{files.WEIGHTS}.")
