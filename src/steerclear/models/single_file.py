"""Pipelines that are one file, in the layout of the code that trained them; diffusers' own loader reads them.

Such a file has the weights alone. What the networks look like, the tokenizer and the scheduler's settings come from a
*configuration*: a folder in diffusers' layout, of which only the small files are read.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import torch

from ..core.errors import InvalidSetting, UnsupportedModel, in_words_of, shown
from . import shipped
from .files import (
    DIGEST_LENGTH,
    PIPELINE_INDEX,
    UNLOADABLE,
    WEIGHTS,
    file_digest,
    first_line,
    folder_digest,
    from_hub,
    is_hub_id,
    located,
    read_json,
    repository_of,
    split_hub_file,
    unloadable,
)

PICKLES = (".ckpt", ".pt", ".pth", ".bin")
"""Files of weights that can run code when they are opened."""

MISFITS = {
    "meta tensor": "it lacks weights that its configuration names. Copy it again, or give the configuration of its own kind",
    "ignore_mismatched_sizes": "its weights have other shapes than its configuration says. Give the configuration of its own kind",
}
"""What the libraries say of a file that does not go with its configuration, in our words."""

SMALL_FILES = ["*.json", "*.txt", "*.model"]
"""What a configuration on the hub is fetched for."""

PICKLED_PART = "*/diffusion_pytorch_model.bin"
"""What diffusers would open where the file lacks a part."""


def is_single_file(name: str) -> bool:
    """Whether a model's name means one file; a folder may be called anything.

    >>> is_single_file("sd15.safetensors"), is_single_file("owner/model/old.ckpt"), is_single_file("owner/model")
    (True, True, False)
    """
    return name.partition("?")[0].lower().endswith((WEIGHTS, *PICKLES)) and not os.path.isdir(name)


def find_single_file(name: str) -> Path:
    """The file of this name, here or on the hub (``owner/model/file.safetensors``).

    Raises:
        UnsupportedModel: a pickle, or there is no such file.
    """
    if not name.lower().endswith(WEIGHTS):
        raise UnsupportedModel(
            f"the model {shown(name)} is no {WEIGHTS} file. Other formats can run code when they are opened, so steerclear "
            f"does not read them; get its {WEIGHTS} form."
        )
    if os.path.isfile(name):
        return Path(name)
    repository, inside = split_hub_file(name)
    if not inside or not is_hub_id(repository):
        raise UnsupportedModel(
            f"there is no model file {shown(name)} here; give the path of a {WEIGHTS} file, or a file on the hub like "
            f"owner/model/file{WEIGHTS}."
        )

    def fetch() -> str:
        from huggingface_hub import hf_hub_download

        hub_id, revision = repository_of(repository)
        return hf_hub_download(hub_id, inside, revision=revision)

    return from_hub("model", name, fetch)


def load_single_file(name: str, file: Path, config: str | None, dtype: torch.dtype) -> tuple[Any, Path]:
    """The pipeline, and the folder of its configuration.

    Args:
        name: as the user gave it, for the errors.
        file: where it is.
        config: a shipped model, a local folder or a hub id; None to tell it from the weights.
        dtype: of the networks' weights.

    Raises:
        UnsupportedModel: the configuration is not to be had or is no pipeline's, or the file lacks some of its weights.
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
        class_name = str(read_json(folder / PIPELINE_INDEX).get("_class_name"))
        kind: Any = getattr(diffusers, class_name, None)
        if not hasattr(kind, "from_single_file"):
            raise UnsupportedModel(
                f"the model {name!r} cannot be loaded: its configuration is of a {class_name}, which diffusers does not read "
                f"from one file; give a folder in diffusers' layout."
            )
        pipe = kind.from_single_file(str(file), config=str(folder), dtype=dtype, local_files_only=True)
    except (*UNLOADABLE, SingleFileComponentError) as error:
        reason = next((reason for words, reason in MISFITS.items() if words in str(error)), first_line(error))
        raise unloadable(f"the model {name!r}", reason, error) from error
    return pipe, folder


def single_file_digest(file: Path, config: Path) -> str:
    """A short hash of a file's weights and of the small files of its configuration."""
    both = f"{file_digest(file)} {folder_digest(config, weights=False)}"
    return hashlib.sha256(both.encode()).hexdigest()[:DIGEST_LENGTH]


def refuse_config(name: str, config: str) -> None:
    """Raises :class:`InvalidSetting`: a model that is a folder has its own configuration."""
    remedy = f"the model {name!r} is a folder with a configuration of its own; leave it out"
    raise InvalidSetting(in_words_of("config", "--config"), config, f"given with a single {WEIGHTS} file", remedy)


def _config_folder(name: str, config: str) -> Path:
    config = located(config, parts=())
    if not os.path.isdir(config) and config not in shipped():
        if is_hub_id(config):
            return _fetched(name, config)
        raise UnsupportedModel(
            f"there is no configuration {shown(config)}; give a local folder in diffusers' layout, a hub id, or one of "
            f"{', '.join(shipped())}."
        )
    folder = shipped()[config] if config in shipped() else Path(config)
    if not (folder / PIPELINE_INDEX).is_file():
        raise UnsupportedModel(
            f"the configuration {shown(config)} has no {PIPELINE_INDEX}; give the folder that has one."
        )
    if pickled := next((path for path in folder.glob(PICKLED_PART) if not path.with_suffix(WEIGHTS).exists()), None):
        raise UnsupportedModel(
            f"{pickled} can run code when it is opened; remove it from the configuration, which needs no weights."
        )
    return folder


def _fetched(name: str, hub_id: str) -> Path:
    """The small files of a model on the hub."""
    repository, revision = repository_of(hub_id)

    def fetch() -> str:
        from huggingface_hub import snapshot_download

        return snapshot_download(repository, revision=revision, allow_patterns=SMALL_FILES)

    try:
        folder = from_hub("configuration", hub_id, fetch)
    except UnsupportedModel as error:
        config = in_words_of("config=...", "--config")
        raise UnsupportedModel(f"the model {name!r}: {first_line(error)}; give a folder with {config}.") from error
    if not (folder / PIPELINE_INDEX).is_file():
        raise UnsupportedModel(f"the configuration {shown(hub_id)} has no {PIPELINE_INDEX}, so it is no pipeline's.")
    return folder
