"""Images in a folder: each is a PNG with its own settings and trace, written completely or not at all."""

import hashlib
import io
import json
import struct
import warnings
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..core.errors import FolderConflict, SteerclearWarning, in_words_of
from ..core.saving import save_whole
from ..core.values import parse_object
from .recipe import Recipe

SETTINGS_KEY = "steerclear"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
DIGEST_LENGTH = 32
SHOWN = 4
"""Most file names in a warning."""
UNREADABLE = (OSError, KeyError, ValueError, SyntaxError, Image.DecompressionBombError)
"""Exceptions of Pillow for bad files, and of parsing their settings."""


class Said(BaseModel):
    """Types of the settings that are read from a PNG; see :class:`Picture`."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    digest: str
    seed: int
    trace: dict[str, list[float | None]]
    levels: list[float | None]
    branches: list[list[str]]
    evaluations: float = Field(ge=0)
    draws: int = Field(default=1, ge=1)
    flagged: bool = False
    pixels: str

    @model_validator(mode="after")
    def _a_row_per_step(self) -> "Said":
        if {len(self.branches), *map(len, self.trace.values())} != {len(self.levels)}:
            raise ValueError("the trace, the levels and the branches have different numbers of steps")
        return self


@dataclass(frozen=True)
class Picture:
    """One finished image.

    Attributes:
        seed: its seed.
        path: its file.
        trace: name -> the guidance's number per step (None at steps without one).
        levels: sigma / alpha per step (None at pure noise, where it is infinite, and where unknown).
        branches: the branches that ran, per step.
        evaluations: number of network evaluations, of all draws.
        draws: how often it was drawn; 1 unless its guidance draws images again.
        flagged: whether none of the draws was clear.
    """

    seed: int
    path: Path
    trace: dict[str, list[float | None]]
    levels: list[float | None]
    branches: list[list[str]]
    evaluations: float
    draws: int = 1
    flagged: bool = False

    def open(self) -> Image.Image:
        with Image.open(self.path) as image:
            return image.convert("RGB")


def picture_path(folder: Path, seed: int) -> Path:
    return folder / f"{seed:05d}.png"


def write_picture(image: Image.Image, recipe: Recipe, picture: Picture) -> None:
    """Save an image with its settings and trace; the file is written completely or not at all."""
    settings = {
        "recipe": recipe.model_dump(mode="json"), "digest": recipe.digest(), "seed": picture.seed,
        "trace": picture.trace, "levels": picture.levels, "branches": picture.branches,
        "evaluations": picture.evaluations, "draws": picture.draws, "flagged": picture.flagged,
        "pixels": pixel_digest(image),
    }  # fmt: skip
    info = PngImagePlugin.PngInfo()
    info.add_text(SETTINGS_KEY, json.dumps(settings))
    picture.path.parent.mkdir(parents=True, exist_ok=True)
    save_whole(picture.path, lambda to: image.save(to, format="PNG", pnginfo=info))


def pixel_digest(image: Image.Image) -> str:
    """A short hash of an image's mode, size and pixels."""
    shown = f"{image.mode} {image.size} ".encode() + image.tobytes()
    return hashlib.sha256(shown).hexdigest()[:DIGEST_LENGTH]


def is_whole_png(data: bytes) -> bool:
    """Whether every chunk of a PNG is there with the right checksum; image libraries do not check text chunks.

    >>> is_whole_png(PNG_SIGNATURE), is_whole_png(b"GIF89a")
    (False, False)
    """
    if not data.startswith(PNG_SIGNATURE):
        return False
    start, name = len(PNG_SIGNATURE), b""
    while start < len(data):
        length, name = struct.unpack_from(">I4s", data, start) if start + 12 <= len(data) else (len(data), b"")
        end = start + 8 + length
        checksum = data[end : end + 4]
        if checksum != struct.pack(">I", zlib.crc32(data[start + 4 : end])):
            return False
        start = end + 4
    return name == b"IEND"


def read_settings(path: Path) -> dict[str, Any] | None:
    """The settings in a PNG; None if steerclear did not write it, or any bit changed since."""
    try:
        data = path.read_bytes()
        if not is_whole_png(data):
            return None
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            settings = parse_object(image.info[SETTINGS_KEY])
            unchanged = Said.model_validate(settings).pixels == pixel_digest(image)
    except UNREADABLE:
        return None
    return settings if unchanged else None


def find_picture(folder: Path, seed: int, recipe: Recipe) -> Picture | None:
    """The image of this seed, if it exists and was made by this recipe."""
    return _picture(folder, seed, recipe, read_settings(picture_path(folder, seed)))


def missing_seeds(folder: Path, seeds: Sequence[int], recipe: Recipe) -> tuple[list[Picture], list[int]]:
    """The existing images, and the seeds of the missing ones.

    Raises:
        FolderConflict: see :func:`check_places`.

    Warns:
        SteerclearWarning: images are damaged, or of another seed or recipe; their seeds count as missing.
    """
    check_places(folder, seeds)
    said = {seed: read_settings(picture_path(folder, seed)) for seed in seeds}
    found = {seed: _picture(folder, seed, recipe, said[seed]) for seed in seeds}
    lost = [seed for seed in seeds if found[seed] is None and picture_path(folder, seed).exists()]
    for what, some in {
        "changed after generation, or are of an earlier version,": [seed for seed in lost if said[seed] is None],
        "are of another seed or other settings,": [seed for seed in lost if said[seed] is not None],
    }.items():
        if some:
            names = ", ".join(picture_path(folder, seed).name for seed in some[:SHOWN])
            more = f" and {len(some) - SHOWN} more" if len(some) > SHOWN else ""
            text = f"images in {folder} {what} and are generated again: {names}{more}"
            warnings.warn(text, SteerclearWarning, stacklevel=3)
    return [picture for picture in found.values() if picture], [seed for seed, picture in found.items() if not picture]


def check_places(folder: Path, seeds: Sequence[int]) -> None:
    """Raise :class:`FolderConflict` if there is a folder at the path of an image."""
    for path in (picture_path(folder, seed) for seed in seeds):
        if path.is_dir():
            raise FolderConflict(
                f"{str(path)!r} is a folder, but an image will be written there; move it, or give another "
                f"{in_words_of('folder', '--outdir')}."
            )


def _picture(folder: Path, seed: int, recipe: Recipe, settings: dict[str, Any] | None) -> Picture | None:
    if settings is None or settings["digest"] != recipe.digest() or settings["seed"] != seed:
        return None
    path, names = picture_path(folder, seed), ("trace", "levels", "branches", "evaluations", "draws", "flagged")
    return Picture(seed, path, **{name: settings[name] for name in names if name in settings})


def write_text(path: Path, text: str) -> None:
    """As :func:`write_bytes`, for text in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file completely or not at all; a file that already has this content is not rewritten."""
    with suppress(OSError):  # a missing or unreadable file is written
        if path.read_bytes() == content:
            return
    save_whole(path, lambda to: to.write_bytes(content))
