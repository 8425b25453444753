"""A folder of labelled images: one subfolder per class, images of any size and format."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from ..core.errors import InvalidSetting
from ..core.shapes import Tensor, UInt8

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jfif", ".avif")
LONGEST = 512
"""Larger images are shrunk to this many pixels on their longer side: networks see less, and memory is bounded."""
NEITHER = ("none", "nothing", "neither", "other", "others")
"""Names of a subfolder whose images show no class."""
UNREADABLE = (OSError, ValueError, SyntaxError, KeyError, IndexError, TypeError, AttributeError, EOFError, MemoryError,
              OverflowError, ZeroDivisionError, Image.DecompressionBombError)  # fmt: skip
"""What Pillow raises for damaged files."""


@dataclass(frozen=True)
class LabelledFolder:
    """Images with their classes.

    Attributes:
        images: uint8, each ``[3, height, width]``.
        classes: the names of the subfolders, in order, without those of :data:`NEITHER`.
        shown: the classes of each image; an image that lies in several subfolders has several.
        left_out: files that cannot be read, each with the reason.
    """

    images: tuple[UInt8[Tensor, "3 height width"], ...]
    classes: tuple[str, ...]
    shown: tuple[frozenset[str], ...]
    left_out: tuple[tuple[Path, str], ...]


def read_labelled_folder(folder: Path) -> LabelledFolder:
    """The images of a folder with one subfolder per class.

    Raises:
        InvalidSetting: there is no such folder, or it has fewer than two subfolders with images.
    """
    allowed = "a folder with one subfolder of images per class, such as mustache/ and none/"
    if not folder.is_dir():
        raise InvalidSetting(
            "folder", str(folder), allowed, "there is no such folder" if not folder.exists() else "it is a file"
        )
    try:
        files = {
            place.name: _image_files(place) for place in sorted(folder.iterdir()) if _counts(place) and place.is_dir()
        }
    except OSError as error:
        raise InvalidSetting("folder", str(folder), allowed, f"it cannot be read ({error.strerror})") from error
    files = {name: found for name, found in files.items() if found}
    if len(files) < 2:
        has = f"the only one with images is {next(iter(files))}" if files else "no subfolder has images"
        raise InvalidSetting("folder", str(folder), allowed, has)
    images: dict[str, Tensor] = {}
    places: dict[str, list[str]] = {}
    left_out = []
    for name, paths in files.items():
        for path in paths:
            try:
                image = read_image(path)
            except UNREADABLE as error:
                left_out.append((path, str(error).partition("\n")[0][:100] or type(error).__name__))
                continue
            digest = hashlib.sha256(f"{tuple(image.shape)}".encode() + image.numpy().tobytes()).hexdigest()
            images[digest] = image
            places.setdefault(digest, []).append(name)
    classes = tuple(name for name in files if name.lower() not in NEITHER)
    shown = tuple(frozenset(found) & frozenset(classes) for found in places.values())
    return LabelledFolder(tuple(images.values()), classes, shown, tuple(left_out))


def _counts(path: Path) -> bool:
    return not path.name.startswith((".", "__"))


def _image_files(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and _counts(path) and path.is_file()
    )


def read_image(path: Path) -> UInt8[Tensor, "3 height width"]:
    """An image file as RGB, turned as its camera says, what is transparent on white, at most :data:`LONGEST` pixels long.

    Raises:
        OSError, ValueError, ...: one of :data:`UNREADABLE`; the file is no image, or damaged.
    """
    with Image.open(path) as opened:
        opened.load()
        image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits per pixel, or numbers
        values = np.asarray(image, dtype=np.float64)
        high = 65535.0 if image.mode.startswith("I") else max(1.0, float(np.nanmax(values)))
        image = Image.fromarray((np.nan_to_num(values).clip(0, high) / high * 255).round().astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    image = image.convert("RGB")
    image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
