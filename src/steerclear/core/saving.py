"""Files and folders that are written completely or not at all."""

import errno
import glob
import os
import re
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import SteerclearWarning

PARTIAL = ".partial"
"""Suffix of unfinished files, after a random token: two processes never share a partial file."""

OURS = re.compile(r".\.[0-9a-f]{8}\.partial$")

NUMBER = re.compile(r"\(os error (\d+)\)")
"""How safetensors and tokenizers report an error of the operating system; their exceptions are not OSErrors."""

UNWRITABLE = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
"""Error codes of the operating system for a place that can be read but not written."""


def save_whole(done: Path, save: Callable[[Path], object]) -> None:
    """Write a file or folder completely or not at all, and leave no partial file behind.

    Args:
        done: the final path; an empty folder there is replaced.
        save: writes the file or folder to the path it receives.

    Raises:
        OSError: it cannot be written; names the path.
    """
    partial = done.with_name(f"{done.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        save(partial)
        partial.replace(done)
    except OSError as error:
        error.filename = error.filename or str(done)
        raise
    except Exception as error:
        told = NUMBER.search(str(error))
        if told is None:
            raise
        number = int(told[1])
        raise OSError(number, os.strerror(number), str(done)) from error
    finally:
        _remove(partial)


def is_partial(path: Path) -> bool:
    """Whether :func:`save_whole` left this behind when its process was killed.

    >>> is_partial(Path("00003.png.0123abcd.partial")), is_partial(Path("film.partial"))
    (True, False)
    """
    return OURS.search(path.name) is not None


def clear_partials(folder: Path, name: str | None = None) -> None:
    """Remove the partial files of killed processes. No other process may be writing in the folder.

    Args:
        folder: the folder to clear.
        name: one file or folder in it; None for all of them, at any depth.
    """
    found = folder.rglob(f"*{PARTIAL}") if name is None else folder.glob(f"{glob.escape(name)}.*{PARTIAL}")
    for path in list(found):
        if is_partial(path):
            with suppress(OSError):  # on a read-only disk it stays, which does no harm
                _remove(path)


@contextmanager
def stays_if_unwritable(path: Path) -> Iterator[None]:
    """Within the block a file is rewritten; a file that exists and cannot be written stays unchanged.

    Warns:
        SteerclearWarning: the file stays unchanged.
    """
    there = path.exists()
    try:
        yield
    except OSError as error:
        if not there or error.errno not in UNWRITABLE:
            raise
        warnings.warn(
            f"{path} stays unchanged: the folder cannot be written ({error.strerror})", SteerclearWarning, stacklevel=3
        )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
