"""Files and folders that are there whole or not at all."""

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
"""Behind the name of what is not whole yet, after a token of its own: two processes never share a partial file."""

OURS = re.compile(r".\.[0-9a-f]{8}\.partial$")

NUMBER = re.compile(r"\(os error (\d+)\)")
"""How safetensors and tokenizers tell of an error of the system; what they raise is no OSError."""

UNWRITABLE = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
"""Errors of the system for a place that may be read and not written."""


def save_whole(done: Path, save: Callable[[Path], object]) -> None:
    """Save so that the file or folder is there whole or not at all, and nothing of it beside its place.

    Args:
        done: what there is in the end; an empty folder in its place gives way.
        save: writes it to the path that it is given.

    Raises:
        OSError: it cannot be written; says what.
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
    """Whether this is what :func:`save_whole` leaves behind when its process is killed.

    >>> is_partial(Path("00003.png.0123abcd.partial")), is_partial(Path("film.partial"))
    (True, False)
    """
    return OURS.search(path.name) is not None


def clear_partials(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes left half-written. No other process may be writing there.

    Args:
        folder: of one run, with everything in it.
        name: of one file or folder in it; None for all of them, at any depth.
    """
    found = folder.rglob(f"*{PARTIAL}") if name is None else folder.glob(f"{glob.escape(name)}.*{PARTIAL}")
    for path in list(found):
        if is_partial(path):
            with suppress(OSError):  # it does no harm: on a disk that cannot be written it stays
                _remove(path)


@contextmanager
def stays_if_unwritable(path: Path) -> Iterator[None]:
    """A block that rewrites a file: if the file is there and its disk can only be read, it stays as it was.

    Warns:
        SteerclearWarning: it stays as it was.
    """
    there = path.exists()
    try:
        yield
    except OSError as error:
        if not there or error.errno not in UNWRITABLE:
            raise
        warnings.warn(
            f"{path} stays as it was: the folder cannot be written ({error.strerror})", SteerclearWarning, stacklevel=3
        )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
