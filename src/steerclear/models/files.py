"""Where a model's files are, by what people call them, and what they are: local paths and the hub; safetensors only."""

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

from ..core.errors import NotEnoughMemory, SteerclearError, UnsupportedModel, lacks_memory, shortened, shown
from ..core.values import parse_object

WEAK_FOLDER = "weak"
"""Where a pipeline's folder may hold a weak network of its own; diffusers does not look at it."""

PIPELINE_INDEX, NETWORK_CONFIG, SCHEDULER_CONFIG = "model_index.json", "config.json", "scheduler_config.json"
WEIGHTS = ".safetensors"
SUMS = "SHA256SUMS"
"""The file that holds the digests of a model's weights; those of the models that ship are kept with them."""
DIGEST_LENGTH = 16
UNLOADABLE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, ArithmeticError, AssertionError, ImportError,
    MemoryError, SafetensorError, StrictDataclassError,
)  # fmt: skip
"""What the libraries raise for files that are missing, damaged, or of another network."""


MAIN = "main"
ADDRESS = re.compile(
    r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?!datasets/|spaces/)(?P<id>[^/?#]+/[^/?#@]+)"
    r"(?:/(?:tree|blob|resolve)/(?P<revision>[^/?#]+)(?:/(?P<inside>[^?#]*))?)?/?(?:[?#].*)?"
)
"""Of a model on the hub, as a browser shows it."""


def folder_digest(folder: Path, *, weights: bool = True) -> str:
    """A short hash of a model's files, all of them and whole: equal digests are equal weights.

    Args:
        folder: of the model.
        weights: False for its configuration alone.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.suffix not in ((".json", ".txt", WEIGHTS) if weights else (".json", ".txt")):
            continue
        if WEAK_FOLDER in path.relative_to(folder).parts:
            continue
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:DIGEST_LENGTH]


def write_sums(folder: Path) -> None:
    """Write the digests of a model's weights beside them, in the form that ``sha256sum --check`` reads."""
    lines = [f"{_sum(path)}  {path.relative_to(folder).as_posix()}\n" for path in sorted(folder.rglob(f"*{WEIGHTS}"))]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8", newline="\n")


def check_sums(what: str, folder: Path, within: Path | None = None) -> None:
    """Compare a model's weights with the digests that :func:`write_sums` wrote, where there are such.

    Args:
        what: the model, for the error.
        folder: of the model.
        within: the part of that folder whose files are read; None for all of it.

    Raises:
        UnsupportedModel: weights that are there are not those that were written.
    """
    if not (folder / SUMS).is_file():
        return
    for line in (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        path = folder / name
        if path.is_relative_to(within or folder) and path.is_file() and _sum(path) != digest:
            raise UnsupportedModel(
                f"{what} is damaged: {name} in {folder} is not the file whose digest {SUMS} names. Copy or install the model "
                f"again; if the weights were changed on purpose, remove {SUMS}."
            )


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digest(path: Path) -> str:
    """A short hash of one file."""
    return _sum(path)[:DIGEST_LENGTH]


def is_hub_id(name: str) -> bool:
    """Whether a name is written as the hub writes its models.

    >>> is_hub_id("owner/model"), is_hub_id("./model"), is_hub_id("model")
    (True, False, False)
    """
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and all(name.split("/"))


def located(name: str, parts: Sequence[str] | None = None) -> str:
    """A name as people copy it, as it is looked for: ``~`` written out, an address on the hub as the hub's id.

    Args:
        name: a folder, a file, a hub id, an address, or any other text, which stays as it is.
        parts: folders of a repository that an address may name; they are left out. None for anything, which is kept.

    Returns:
        For an address ``owner/model``, with ``@revision`` behind it if that is not "main", and what is kept of the rest.

    Raises:
        UnsupportedModel: an address within a repository that is not one of ``parts``.

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
        raise UnsupportedModel(f"{f'{repository}/{inside}'!r} is a part of {repository!r}; give that alone.")
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
    """A hub id without its revision, and the revision; None for the main one.

    >>> repository_of("owner/model@v2"), repository_of("owner/model")
    (('owner/model', 'v2'), ('owner/model', None))
    """
    repository, _, revision = hub_id.partition("@")
    return repository, unquote(revision) or None


def from_hub(what: str, name: str, fetch: Callable[[], str]) -> Path:
    """What the hub's client fetches.

    Raises:
        UnsupportedModel: it could not; the client raises many kinds of errors, and each means the same to the user.
    """
    try:
        return Path(fetch())
    except SteerclearError:
        raise
    except Exception as error:
        raise UnsupportedModel(
            f"the {what} {shown(name)} is found neither locally nor on the hub ({first_line(error)})."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """A configuration file.

    Raises:
        UnsupportedModel: it is not a JSON object, or nested too deep to be one.
    """
    try:
        return parse_object(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnsupportedModel(f"{path} holds no settings: {error}. Copy the file again.") from error


@contextmanager
def enough_memory(what: str) -> Iterator[None]:
    """A block that loads something; raises :class:`NotEnoughMemory` where the memory is full, however a library tells it."""
    try:
        yield
    except NotEnoughMemory:
        raise
    except Exception as error:
        if lacks_memory(error):
            raise NotEnoughMemory(what) from error
        raise


def unloadable(what: str, reason: str, error: BaseException) -> SteerclearError:
    """What to raise for an error of a library that loads files: they are not at fault where the memory is full.

    Args:
        what: is loaded, as "the model 'portraits'".
        reason: what is wrong with it otherwise.
        error: one of :data:`UNLOADABLE`.
    """
    if lacks_memory(error):
        return NotEnoughMemory(what)
    return UnsupportedModel(f"{what} cannot be loaded: {reason.rstrip('.')}.")


def first_line(error: BaseException) -> str:
    """What an error of another library says, as far as it fits into a sentence: its first line, and the next where it ends
    with a colon, without the last full stop; its type where it says nothing.

    >>> first_line(ValueError("wrong settings:\\n  - in_channels is -4\\nsee the manual")), first_line(KeyError())
    ('wrong settings: - in_channels is -4', 'KeyError')
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    told = 1
    while lines[told - 1].endswith(":") and told < len(lines):
        told += 1
    return shortened(" ".join(lines[:told]).rstrip("."))
