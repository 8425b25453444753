"""Networks of transformers from a folder or the hub: safetensors only, no code of strangers, damaged files as a sentence."""

import hashlib
import importlib
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ...core.errors import (
    MissingPackage,
    NotEnoughMemory,
    SteerclearError,
    UnsupportedModel,
    lacks_memory,
    shortened,
    shown,
)
from ...core.sums import WEIGHTS, check_sums, sha256
from ...core.values import parse_object

CONFIG = "config.json"
KEPT = ("*.json", "*.txt", "*.model", f"*{WEIGHTS}")
"""Files that are fetched from the hub: no pickles, no code."""
KEY_LENGTH = 32


class Network(NamedTuple):
    """A network with what happens to an image before it.

    Attributes:
        model: in eval mode, float32, without gradients.
        processor: of images, or of images and texts.
        folder: its files.
        key: a digest of them.
        lacking: weights that the files do not have, and that may be lacking.
    """

    model: Any
    processor: Any
    folder: Path
    key: str
    lacking: tuple[str, ...] = ()


def network_folder(what: str, name: str) -> Path:
    """The local folder of a network; from the hub, it is fetched.

    Args:
        what: for errors, such as "the features clip".
        name: a folder, or a hub id, ``owner/model`` or ``owner/model@revision``.

    Raises:
        UnsupportedModel: there is no such folder, and the hub has no such model or cannot be reached.
    """
    local = Path(name).expanduser()
    if (local / CONFIG).is_file():
        return local
    if local.is_dir():
        raise UnsupportedModel(f"{what} cannot be loaded: the folder {shown(name)} has no {CONFIG}; give a folder that "
                               f"save_pretrained of transformers wrote, or a hub id.")  # fmt: skip
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+(@[\w./-]+)?", name):
        raise UnsupportedModel(
            f"{what} cannot be loaded: {shown(name)} is neither a folder nor a hub id like owner/model."
        )
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(KEPT)))
    except Exception as error:  # the hub's client has many
        raise UnsupportedModel(
            f"{what} cannot be loaded: {shown(name)} is found neither locally nor on the hub ({one_line(error)}). "
            f"Give a folder with its files."
        ) from error


def network_config(what: str, folder: Path) -> dict[str, Any]:
    """The configuration in a network's folder. Raises :class:`UnsupportedModel` if it is damaged."""
    try:
        return parse_object((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnsupportedModel(
            f"{what} cannot be loaded: {folder / CONFIG} is not a configuration ({one_line(error)})."
        ) from error


def folder_key(folder: Path) -> str:
    """A digest of a network's weights and configurations. Files are read again only when they have changed."""
    return _digest(folder, stamps(folder))


Stamps = tuple[tuple[str, int, int], ...]
"""Name, size and time of change of each file: a network that was trained again in its folder is loaded again."""


def stamps(folder: Path) -> Stamps:
    """Of the files in a network's folder that determine it."""
    files = (
        path
        for path in sorted(folder.glob("*"))
        if path.suffix in (".json", ".txt", ".model", WEIGHTS) and path.is_file()
    )
    return tuple((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files)


@lru_cache(maxsize=64)
def _digest(folder: Path, found: Stamps) -> str:
    digest = hashlib.sha256()
    for name, _, _ in found:
        digest.update(f"{name} {sha256(folder / name)}\n".encode())
    return digest.hexdigest()[:KEY_LENGTH]


@contextmanager
def silent() -> Iterator[None]:
    """Within the block transformers draws no progress bars and says errors alone."""
    log = importlib.import_module("transformers.utils.logging")
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Within the block a library loads a network; its errors become sentences that begin with ``what``."""
    try:
        with warnings.catch_warnings(), silent():
            warnings.simplefilter("ignore")  # of the libraries, about their own defaults
            yield
    except SteerclearError:
        raise
    except ImportError as error:
        package = re.search(r"requires the (\w+) library", str(error))
        if package is None:
            raise UnsupportedModel(f"{what} cannot be loaded: {one_line(error)}.") from error
        raise MissingPackage(what, package[1]) from error
    except Exception as error:  # damaged files make libraries fail in any way
        if lacks_memory(error):
            raise NotEnoughMemory(what) from error
        raise UnsupportedModel(f"{what} cannot be loaded: {one_line(error)}.") from error


def load_network(what: str, name: str, model_class: str = "AutoModel", optional: str = "") -> Network:
    """A network of transformers with its processor.

    Args:
        what: for errors, such as "the features clip".
        name: see :func:`network_folder`.
        model_class: its name in transformers.
        optional: what the names of weights that may be lacking contain.

    Raises:
        UnsupportedModel: the files are missing, damaged, pickled, or not of such a network.
        MissingPackage: it needs a package that is not installed.
        NotEnoughMemory: the memory is full.
    """
    folder = network_folder(what, name)
    return _loaded(what, folder, stamps(folder), model_class, optional)


@lru_cache(maxsize=2)
def _loaded(what: str, folder: Path, found: Stamps, model_class: str, optional: str) -> Network:
    network_config(what, folder)
    check_sums(what, folder)
    if not any(folder.glob(f"*{WEIGHTS}")):
        raise UnsupportedModel(
            f"{what} cannot be loaded: {folder} has no weights as {WEIGHTS}; pickled ones are not read."
        )
    transformers = importlib.import_module("transformers")
    only = {"local_files_only": True, "trust_remote_code": False}
    with loading(what):
        model, told = getattr(transformers, model_class).from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **only
        )
        # PIL's resampling, whatever else is installed: features do not depend on the machine
        processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil", **only)
    lacking = tuple(sorted(told["missing_keys"]))
    needed = [weight for weight in lacking if not optional or optional not in weight]
    if needed:
        raise UnsupportedModel(
            f"{what} cannot be loaded: the weights in {folder} lack {', '.join(needed[:3])}; copy them again, or name a network of "
            f"this kind."
        )
    return Network(model.eval().requires_grad_(False), processor, folder, folder_key(folder), lacking)


def one_line(error: BaseException) -> str:
    """An error of a library in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return shortened(" ".join(lines[:2]).rstrip(".:"), 300) if lines else type(error).__name__
