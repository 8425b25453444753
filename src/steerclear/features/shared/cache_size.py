"""How large the cache of features may become: the files that were written first are removed first."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from ...core.errors import InvalidSetting

SIZE = "STEERCLEAR_CACHE_GB"
"""Environment variable with the largest size of the cache, in 10^9 bytes."""
LARGEST = 2.0
"""That size where nobody says it: half a million images."""
STAYS = 0.9
"""Share of the largest size that stays when files are removed, so that this is rare."""
BETWEEN = 0.05
"""Share of the largest size that is written before the cache is looked through again."""

OURS = re.compile(r"[0-9a-f]{64}\.features(\.[0-9a-f]{8}\.partial)?")
"""Names of the cache's files, and of those that a killed process left."""

_written: dict[Path, int] = {}
"""Bytes written since this process looked through a cache."""


def largest_size(environment: Mapping[str, str] = os.environ) -> int:
    """The largest size of the cache in bytes: ``$STEERCLEAR_CACHE_GB``, or 2 GB.

    Raises:
        InvalidSetting: it is not a finite number above 0.

    >>> largest_size({}), largest_size({"STEERCLEAR_CACHE_GB": "0.5"})
    (2000000000, 500000000)
    """
    text = environment.get(SIZE, "")
    try:
        size = float(text) if text else LARGEST
    except ValueError:
        size = 0.0
    if not 0 < size < float("inf"):
        raise InvalidSetting(f"${SIZE}", text, "a number above 0, of 10^9 bytes", "STEERCLEAR_CACHE=none is no cache")
    return int(1e9 * size)


def make_room(cache: Path, written: int, largest: int) -> None:
    """Remove the oldest files of a cache that is too large; it is looked through at the first call, and then now and then.

    Args:
        cache: its folder.
        written: bytes that were written since the last call.
        largest: bytes that it may have.
    """
    known = _written.get(cache)
    _written[cache] = (known or 0) + written
    if known is not None and _written[cache] < BETWEEN * largest:
        return
    _written[cache] = 0
    files = sorted(_files(cache))
    total = sum(size for _, size, _ in files)
    for _, size, path in files if total > largest else ():
        if total <= STAYS * largest:
            return
        with suppress(OSError):  # another process may have been faster
            os.unlink(path)
        total -= size


def _files(folder: Path) -> Iterator[tuple[int, int, str]]:
    """Time of change, bytes on the disk, and path of every file that the cache wrote; a folder that is named for it may hold others."""
    for place, _, names in os.walk(folder):
        for name in filter(OURS.fullmatch, names):
            path = os.path.join(place, name)
            with suppress(OSError):
                found = os.stat(path)
                yield found.st_mtime_ns, max(found.st_size, 512 * getattr(found, "st_blocks", 0)), path
