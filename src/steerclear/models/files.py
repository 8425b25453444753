"""Find a model's files by name, locally or on the hub, and identify them by digest. Weights are safetensors only."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from ..core.errors import NotEnoughMemory, SteerclearError, UnsupportedModel, first_line, lacks_memory, shown
from ..core.sums import WEIGHTS, sha256
from ..core.values import parse_object

WEAK_FOLDER = "weak"
"""Subfolder of a pipeline that may hold its own weak network; diffusers ignores it."""

DEFAULTS_FILE = "steerclear.json"
"""File of a pipeline's folder with what was found to work best with it; it makes no image, so it is in no digest."""

PIPELINE_INDEX, NETWORK_CONFIG, SCHEDULER_CONFIG = "model_index.json", "config.json", "scheduler_config.json"
DIGEST_LENGTH = 16
UNLOADABLE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, ArithmeticError, AssertionError, ImportError,
    MemoryError, SafetensorError, StrictDataclassError,
)  # fmt: skip
"""Exceptions of the libraries for files that are missing, damaged or of another network."""

MAIN = "main"
ADDRESS = re.compile(
    r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?!datasets/|spaces/)(?P<id>[^/?#]+/[^/?#@]+)"
    r"(?:/(?:tree|blob|resolve)/(?P<revision>[^/?#]+)(?:/(?P<inside>[^?#]*))?)?/?(?:[?#].*)?"
)
"""A hub model's address, as a browser shows it."""


def folder_digest(folder: Path, *, weights: bool = True) -> str:
    """A short hash of all files of a model's folder, or of its configuration alone: equal digests mean equal weights."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.suffix not in ((".json", ".txt", WEIGHTS) if weights else (".json", ".txt")):
            continue
        if WEAK_FOLDER in path.relative_to(folder).parts or path == folder / DEFAULTS_FILE:
            continue
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:DIGEST_LENGTH]


def file_digest(path: Path) -> str:
    """A short hash of one file."""
    return sha256(path)[:DIGEST_LENGTH]


def is_hub_id(name: str) -> bool:
    """Whether a name has the form of a hub id, "owner/model".

    >>> is_hub_id("owner/model"), is_hub_id("./model"), is_hub_id("model")
    (True, False, False)
    """
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and all(name.split("/"))


def located(name: str, parts: Sequence[str] | None = None) -> str:
    """The name used for look-up: ``~`` is expanded, and the address of a hub page becomes its hub id.

    Args:
        name: a folder, a file, a hub id or an address; any other text is returned unchanged.
        parts: folders of a repository that an address may point to; they are dropped from the result. With None, any path
            within the repository is allowed and kept.

    Returns:
        For an address: ``owner/model``, followed by ``@revision`` unless that is "main", and by the path that is kept.

    Raises:
        UnsupportedModel: an address points to a path that is not one of ``parts``.

    >>> located("https://huggingface.co/owner/model/tree/main"), located("owner/model"), located("portraits")
    ('owner/model', 'owner/model', 'portraits')
    """
    if name.startswith("~"):
        return os.path.expanduser(name)
    found = ADDRESS.fullmatch(name)
    if found is None:
        return name
    repository, revision, inside = found["id"], found["revision"] or MAIN, (found["inside"] or "").strip("/")
    if revision != MAIN:
        repository += f"@{revision}"
    if not inside or (parts is not None and inside in parts):
        return repository
    if parts is not None:
        raise UnsupportedModel(f"{f'{repository}/{inside}'!r} is only a part of {repository!r}; give {repository!r}.")
    return f"{repository}/{inside}"


def split_hub_file(name: str) -> tuple[str, str]:
    """A repository on the hub, and the file within it; "" for none.

    >>> split_hub_file("owner/model@v2/folder/file.safetensors"), split_hub_file("owner/model")
    (('owner/model@v2', 'folder/file.safetensors'), ('owner/model', ''))
    """
    owner, _, rest = name.partition("/")
    model, _, inside = rest.partition("/")
    return f"{owner}/{model}", inside


def repository_of(hub_id: str) -> tuple[str, str | None]:
    """Split a hub id into repository and revision; the revision is None for the main one.

    >>> repository_of("owner/model@v2"), repository_of("owner/model")
    (('owner/model', 'v2'), ('owner/model', None))
    """
    repository, _, revision = hub_id.partition("@")
    return repository, unquote(revision) or None


def from_hub(what: str, name: str, fetch: Callable[[], str]) -> Path:
    """The path of what ``fetch`` downloads with the hub's client, whose many errors become :class:`UnsupportedModel`."""
    try:
        return Path(fetch())
    except SteerclearError:
        raise
    except Exception as error:
        raise UnsupportedModel(
            f"the {what} {shown(name)} is found neither locally nor on the hub ({first_line(error)})."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a configuration file. Raises :class:`UnsupportedModel`: not a JSON object, or nested too deeply."""
    try:
        return parse_object(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnsupportedModel(f"{path} is not a configuration file: {error}. Copy the file again.") from error


@contextmanager
def enough_memory(what: str) -> Iterator[None]:
    """Within the block something is loaded; any library's error for a full memory becomes :class:`NotEnoughMemory`."""
    try:
        yield
    except NotEnoughMemory:
        raise
    except Exception as error:
        if lacks_memory(error):
            raise NotEnoughMemory(what) from error
        raise


def unloadable(what: str, reason: str, error: BaseException) -> SteerclearError:
    """The error to raise when a library fails to load files: :class:`NotEnoughMemory` if ``error`` means that.

    Args:
        what: what is loaded, such as "the model 'portraits'".
        reason: what is wrong with it otherwise.
        error: one of :data:`UNLOADABLE`.
    """
    if lacks_memory(error):
        return NotEnoughMemory(what)
    return UnsupportedModel(f"{what} cannot be loaded: {reason.rstrip('.')}.")
