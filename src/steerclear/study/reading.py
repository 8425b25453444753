"""Anybody's images, read with care: a file that cannot be read is refused in a sentence, and nothing waits or grows without end."""

import os
import stat
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..core.errors import SteerclearError, lacks_memory, shortened
from ..core.saving import is_partial
from .folders import LOCK, RUN_FILE

MOST_PIXELS = 89_478_485
"""Most pixels of an image, those of which Pillow warns: a quarter of a gigabyte in RGB."""
LEFT_OUT = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "FPX", "MIC", "PDF"}
"""Formats of Pillow that are not read: they start other programs, or have no pixels without one."""
WHITE = 255
WIDE = ("I;16", "I;16L", "I;16B", "I;16N", "I")
"""Modes of sixteen bits, whatever holds them."""
WEB_PAGE = (b"<!doctype html", b"<html", b"<head")
BEGINNING = 256
"""Bytes at the beginning of a file that say what it is."""


class Unreadable(SteerclearError):
    """A file that is not an image, or not one that can be read; the message is a clause that says why."""


def candidates(folder: Path) -> Iterator[Path]:
    """The files of a folder that are images or are called so, in the order of their names; its folders are not entered.

    Hidden files and files that are named like none are left out, and so is what steerclear writes beside its images.

    Args:
        folder: one that can be listed.
    """
    ours = (folder / RUN_FILE).is_file()
    for path in sorted(folder.iterdir(), key=lambda one: one.name):
        if path.name.startswith(".") or path.name == LOCK or is_partial(path):
            continue
        if ours and not (path.suffix == ".png" and path.stem.isdigit()):
            continue
        if path.suffix.lower() in _suffixes() or (_is_plain_file(path) and _looks_like_an_image(path)):
            yield path


def read_pixels(path: Path) -> Tensor:
    """The pixels of an image as a person sees them, uint8, ``[3, height, width]``.

    An animation is its first frame; the camera's orientation is applied; what is transparent is on white; sixteen bits become
    eight; a colour profile is not applied.

    Raises:
        Unreadable: see there.
    """
    _refuse_what_is_no_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged descriptions of an image that can be read
            with Image.open(path, formats=_formats()) as image:
                _refuse_size(image)
                image.load()
                return _pixels(_upright(image))
    except Unreadable:
        raise
    except Exception as error:  # plugins for damaged files may fail in any way
        if lacks_memory(error):
            raise
        raise Unreadable(_why(path, error)) from error


def _refuse_what_is_no_file(path: Path) -> None:
    """A pipe or a device may wait for ever, so nothing but a file is opened."""
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise Unreadable("it is a link to nothing" if path.is_symlink() else "it is gone") from error
    except OSError as error:
        raise Unreadable(f"it cannot be read ({error.strerror})") from error
    if stat.S_ISDIR(found.st_mode):
        raise Unreadable("it is a folder")
    if not stat.S_ISREG(found.st_mode):
        raise Unreadable("it is not a file but a pipe, a socket or a device")
    if found.st_size == 0:
        raise Unreadable("it is empty")


def _refuse_size(image: Image.Image) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise Unreadable(f"it says that it has {width} x {height} pixels")
    if width * height > MOST_PIXELS:
        raise Unreadable(f"it has {width} x {height} pixels, more than {MOST_PIXELS:,}")


def _upright(image: Image.Image) -> Image.Image:
    """Turned as the camera says; as it is if what the camera says is damaged."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:  # of other people's metadata
        if lacks_memory(error):
            raise
        return image


def _pixels(image: Image.Image) -> Tensor:
    if image.mode in (*WIDE, "F"):
        gray = torch.from_numpy(_eight_bits(image))
        return gray.expand(3, *gray.shape).contiguous()
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        paper = Image.new("RGBA", layer.size, (WHITE, WHITE, WHITE, WHITE))
        image = Image.alpha_composite(paper, layer)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def _eight_bits(image: Image.Image) -> np.ndarray:
    """A gray image of other numbers in eight bits, uint8, ``[height, width]``."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise Unreadable("some of its pixels are not numbers")
    low, high = float(values.min()), float(values.max())
    floats = 1.0 if high <= 1 else 255.0
    white = floats if image.mode == "F" else 65535.0
    if low < 0 or high > white:
        raise Unreadable(f"its pixels go from {low:g} to {high:g}, and nothing says which of them is white")
    return np.rint(values * (255 / white)).astype(np.uint8)


def _why(path: Path, error: Exception) -> str:
    """Why Pillow could not read a file, as a clause."""
    if isinstance(error, PermissionError):
        return "it may not be read"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"it has more than {MOST_PIXELS:,} pixels"
    if isinstance(error, UnidentifiedImageError):
        return _what_it_is(path)
    if isinstance(error, OSError) and error.errno is not None:
        return f"it cannot be read ({error.strerror})"
    told = shortened(str(error), 200).strip().rstrip(".") or type(error).__name__
    return f"it is damaged ({told})"


def _what_it_is(path: Path) -> str:
    """What a file is that Pillow does not know, by its beginning."""
    beginning = _beginning(path).lstrip()
    if beginning.lower().startswith(WEB_PAGE):
        return "it is a web page, not an image"
    if beginning.startswith((b"<?xml", b"<svg")):
        return "it is a drawing of lines or another XML file, not an image of pixels"
    if beginning.startswith(b"%PDF"):
        return "it is a PDF, not an image"
    if beginning.startswith(b"version https://git-lfs"):
        return "it is the pointer of a file that git lfs has not fetched"
    if beginning and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in beginning):
        return "it is text, not an image"
    return "it is not an image of a known format, or its beginning is damaged"


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(BEGINNING)
    except OSError:
        return b""


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(one for one in Image.ID if one not in LEFT_OUT)


@cache
def _suffixes() -> frozenset[str]:
    """Suffixes of images; with those of formats that are not read, so that these files are named and not passed over."""
    return frozenset(
        suffix for suffix in Image.registered_extensions() if suffix not in (".pdf", ".mpg", ".mpeg", ".h5")
    )


def _is_plain_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def _looks_like_an_image(path: Path) -> bool:
    """Whether a file with another suffix is an image all the same, by its header."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_formats()):
                return True
    except Exception as error:  # as above
        if lacks_memory(error):
            raise
        return isinstance(error, Image.DecompressionBombError)
