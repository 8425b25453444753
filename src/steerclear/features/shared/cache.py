"""Features on the disk, one file per image: a second look at an image costs no network.

A file's name is the digest of its image, in a folder named after the extractor's key. Its content is the digest of the numbers
and the numbers themselves, so that a damaged file is noticed and computed again. Files are written completely or not at all, and
two processes that write one write the same. The cache has a largest size; the oldest files go first.
"""

import hashlib
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from ...core.errors import SteerclearWarning
from ...core.saving import save_whole
from ...core.shapes import Float, Tensor, UInt8
from .cache_size import largest_size, make_room

CACHE = "STEERCLEAR_CACHE"
"""Environment variable with the folder of the cache; "none" for no cache."""
DIGEST = 32
"""Bytes of the digest before the numbers."""
WIDEST = 1 << 16
"""Most numbers per image; a longer file is damaged."""
BLOCK = 4096
"""Bytes that a file takes beside its numbers, at most, on most disks."""
BATCH = 64
"""Images that are looked up, and computed, at once."""

Vectors = Float[Tensor, "n numbers"]


def cache_folder(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path | None:
    """The folder of the cache: ``$STEERCLEAR_CACHE``, or ``steerclear`` in the platform's; None for "none".

    >>> cache_folder({"STEERCLEAR_CACHE": "/big/disk"}, "linux").as_posix(), cache_folder({"STEERCLEAR_CACHE": "none"}, "linux")
    ('/big/disk', None)
    """
    chosen = environment.get(CACHE, "")
    if chosen:
        return None if chosen == "none" else Path(os.path.expanduser(chosen))
    own = {"darwin": "Library/Caches", "win32": "AppData/Local"}.get(platform, ".cache")
    of_platform = environment.get({"darwin": "", "win32": "LOCALAPPDATA"}.get(platform, "XDG_CACHE_HOME"), "")
    return (Path(of_platform) if of_platform else Path(os.path.expanduser("~")) / own) / "steerclear"


def file_stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of change of a file, so that one that was written again is loaded again; None if it is missing."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def image_digest(image: UInt8[Tensor, "channels height width"]) -> str:
    """The SHA-256 of an image's shape and pixels."""
    return hashlib.sha256(str(tuple(image.shape)).encode() + image.contiguous().numpy().tobytes()).hexdigest()


def cached(key: str, images: UInt8[Tensor, "n channels height width"], compute: Callable[[Tensor], Vectors]) -> Vectors:
    """Features of images, from the cache where they are there.

    Args:
        key: of the extractor; see :attr:`~steerclear.core.features.Features.key`.
        images: to be looked up.
        compute: maps some of the images to their features, float32.

    Raises:
        InvalidSetting: see :func:`~steerclear.features.shared.cache_size.largest_size`.

    Warns:
        SteerclearWarning: the folder cannot be written, so that nothing is kept.
    """
    cache, largest = cache_folder(), largest_size()
    folder = None if cache is None else cache / "features" / key
    return torch.cat([_some(folder, largest, one, compute) for one in images.split(BATCH)])


def _some(folder: Path | None, largest: int, images: Tensor, compute: Callable[[Tensor], Vectors]) -> Vectors:
    if folder is None or not len(images):
        return compute(images)
    digests = [image_digest(image) for image in images.cpu()]
    found = {digest: read_vector(_file(folder, digest)) for digest in digests}
    missing = {digest: place for place, digest in enumerate(digests) if found[digest] is None}  # equal images once
    if missing:
        computed = dict(zip(missing, compute(images[list(missing.values())]), strict=True))
        _keep(folder, computed)
        make_room(folder.parent, sum(BLOCK + 4 * len(one) for one in computed.values()), largest)
        found |= computed
    rows = [row for digest in digests if (row := found[digest]) is not None]
    same = len({row.shape for row in rows}) == 1  # else a whole file of other features
    return torch.stack(rows) if same else compute(images)


def _file(folder: Path, digest: str) -> Path:
    return folder / digest[:2] / f"{digest}.features"


def read_vector(path: Path) -> Float[Tensor, " numbers"] | None:
    """The numbers of a file that :func:`write_vector` wrote; None if it is missing or damaged."""
    try:
        content = path.read_bytes() if path.stat().st_size <= DIGEST + 4 * WIDEST else b""
    except OSError:
        return None
    digest, numbers = content[:DIGEST], content[DIGEST:]
    if not numbers or len(numbers) % 4 or hashlib.sha256(numbers).digest() != digest:
        return None
    vector = torch.from_numpy(np.frombuffer(numbers, dtype="<f4").astype(np.float32))
    return vector if bool(vector.isfinite().all()) else None


def write_vector(path: Path, vector: Float[Tensor, " numbers"]) -> None:
    """Write numbers with their digest, completely or not at all."""
    numbers = vector.detach().cpu().numpy().astype("<f4").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_whole(path, lambda partial: partial.write_bytes(hashlib.sha256(numbers).digest() + numbers))


def _keep(folder: Path, vectors: Mapping[str, Tensor]) -> None:
    try:
        for digest, vector in vectors.items():
            write_vector(_file(folder, digest), vector)
    except OSError as error:
        warnings.warn(
            f"features are not kept: the folder {folder} cannot be written ({error.strerror}); name another in ${CACHE}, or "
            f"{CACHE}=none for no cache",
            SteerclearWarning, stacklevel=5,
        )  # fmt: skip
