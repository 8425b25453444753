"""Files and folders that are there whole or not at all."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

PARTIAL = ".partial"
"""Behind the name of what is not whole yet."""

NUMBER = re.compile(r"\(os error (\d+)\)")
"""How safetensors and tokenizers tell of an error of the system; what they raise is no OSError."""


def save_whole(done: Path, save: Callable[[Path], object]) -> None:
    """Save so that the file or folder is there whole or not at all, and nothing of it beside its place.

    Args:
        done: what there is in the end; an empty folder in its place gives way.
        save: writes it to the path that it is given.

    Raises:
        OSError: it cannot be written; says what.
    """
    partial = done.with_name(done.name + PARTIAL)
    _remove(partial)
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


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
