"""Pipelines in one file, as training code and web interfaces write them; diffusers' own loader reads them.

The file has the weights alone. The networks' settings, the tokenizer and the scheduler come from a *configuration*: a folder
in diffusers' layout, of which only the small files are read.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import torch

from ..core.errors import InvalidSetting, UnsupportedModel, first_line, in_words_of, shown
from . import files, shipped

PICKLES = (".ckpt", ".pt", ".pth", ".bin")
"""Files of weights that can run code when they are opened."""

MISFITS = {
    "meta tensor": "it lacks weights that its configuration names. Copy it again, or give the configuration of its own kind",
    "ignore_mismatched_sizes": "its weights have other shapes than its configuration says. Give the configuration of its own kind",
    "Unable to load weights from checkpoint file": "it is damaged or not a safetensors file. Copy it again",
}
"""The libraries' errors for a file that does not fit its configuration -> our words."""

SMALL_FILES = ["*.json", "*.txt", "*.model"]
"""The files of a configuration on the hub."""

PICKLED_PART = "*/diffusion_pytorch_model.bin"
"""What diffusers would open where the file lacks a part."""


def is_single_file(name: str) -> bool:
    """Whether a model's name means one file, and not a folder of that name.

    >>> is_single_file("sd15.safetensors"), is_single_file("owner/model/old.ckpt"), is_single_file("owner/model")
    (True, True, False)
    """
    return name.partition("?")[0].lower().endswith((files.WEIGHTS, *PICKLES)) and not os.path.isdir(name)


def find_single_file(name: str) -> Path:
    """The file of this name, here or on the hub (``owner/model/file.safetensors``).

    Raises:
        UnsupportedModel: a pickle, or there is no such file.
    """
    if not name.lower().endswith(files.WEIGHTS):
        raise UnsupportedModel(
            f"the model {shown(name)} is not a {files.WEIGHTS} file. Other formats can run code when they are opened, so steerclear "
            f"does not read them; get its {files.WEIGHTS} form."
        )
    if os.path.isfile(name):
        return Path(name)
    repository, inside = files.split_hub_file(name)
    if not inside or not files.is_hub_id(repository):
        raise UnsupportedModel(
            f"there is no model file {shown(name)} here; give the path of a {files.WEIGHTS} file, or a file on the hub like "
            f"owner/model/file{files.WEIGHTS}."
        )

    def fetch() -> str:
        from huggingface_hub import hf_hub_download

        hub_id, revision = files.repository_of(repository)
        return hf_hub_download(hub_id, inside, revision=revision)

    return files.from_hub("model", name, fetch)


def load_single_file(name: str, file: Path, config: str | None, dtype: torch.dtype) -> tuple[Any, Path]:
    """The pipeline, and the folder of its configuration.

    Args:
        name: as the user gave it, for the errors.
        file: where it is.
        config: a shipped model, a local folder or a hub id; None to recognize it from the weights.

    Raises:
        UnsupportedModel: the configuration is not found or not a pipeline's, or the file lacks some of its weights.
    """
    import diffusers
    from diffusers.loaders.single_file_utils import (
        SingleFileComponentError,
        fetch_diffusers_config,
        load_single_file_checkpoint,
    )

    try:
        if config is None:
            weights = load_single_file_checkpoint(str(file))
            folder = _fetched(name, fetch_diffusers_config(weights)["pretrained_model_name_or_path"])
        else:
            folder = _config_folder(name, config)
        class_name = str(files.read_json(folder / files.PIPELINE_INDEX).get("_class_name"))
        kind: Any = getattr(diffusers, class_name, None)
        if not hasattr(kind, "from_single_file"):
            raise UnsupportedModel(
                f"the model {name!r} cannot be loaded: its configuration is of a {class_name}, which diffusers does not read "
                f"from one file; give a folder in diffusers' layout."
            )
        pipe = kind.from_single_file(str(file), config=str(folder), dtype=dtype, local_files_only=True)
    except (*files.UNLOADABLE, SingleFileComponentError) as error:
        reason = next((reason for words, reason in MISFITS.items() if words in str(error)), first_line(error))
        raise files.unloadable(f"the model {name!r}", reason, error) from error
    return pipe, folder


def single_file_digest(file: Path, config: Path) -> str:
    """A short hash of a file's weights and of the small files of its configuration."""
    both = f"{files.file_digest(file)} {files.folder_digest(config, weights=False)}"
    return hashlib.sha256(both.encode()).hexdigest()[: files.DIGEST_LENGTH]


def refuse_config(name: str, config: str) -> None:
    """Raises :class:`InvalidSetting`: a model that is a folder has its own configuration."""
    remedy = f"the model {name!r} is a folder with a configuration of its own; leave it out"
    raise InvalidSetting(in_words_of("config", "--config"), config, f"given with a single {files.WEIGHTS} file", remedy)


def _config_folder(name: str, config: str) -> Path:
    config = files.located(config, parts=())
    if not os.path.isdir(config) and config not in shipped():
        if files.is_hub_id(config):
            return _fetched(name, config)
        raise UnsupportedModel(
            f"there is no configuration {shown(config)}; give a local folder in diffusers' layout, a hub id, or one of "
            f"{', '.join(shipped())}."
        )
    folder = shipped()[config] if config in shipped() else Path(config)
    if not (folder / files.PIPELINE_INDEX).is_file():
        raise UnsupportedModel(
            f"the configuration {shown(config)} has no {files.PIPELINE_INDEX}; give the folder that has one."
        )
    if pickled := next(
        (path for path in folder.glob(PICKLED_PART) if not path.with_suffix(files.WEIGHTS).exists()), None
    ):
        raise UnsupportedModel(
            f"{pickled} can run code when it is opened; remove it from the configuration, which needs no weights."
        )
    return folder


def _fetched(name: str, hub_id: str) -> Path:
    """The small files of a model on the hub."""
    repository, revision = files.repository_of(hub_id)

    def fetch() -> str:
        from huggingface_hub import snapshot_download

        return snapshot_download(repository, revision=revision, allow_patterns=SMALL_FILES)

    try:
        folder = files.from_hub("configuration", hub_id, fetch)
    except UnsupportedModel as error:
        config = in_words_of("config=...", "--config")
        raise UnsupportedModel(f"the model {name!r}: {first_line(error)}; give a folder with {config}.") from error
    if not (folder / files.PIPELINE_INDEX).is_file():
        raise UnsupportedModel(
            f"the configuration {shown(hub_id)} has no {files.PIPELINE_INDEX}, so it is not a pipeline's."
        )
    return folder
