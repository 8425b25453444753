"""A contact sheet: many images, each with its seed below it."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ..core.saving import stays_if_unwritable
from ..core.settings import folder_path, whole
from ..study.gallery import UNREADABLE, Picture, write_bytes
from .sizes import CELL, fitted

SHEET_FILE = "sheet.png"
MOST = 64
"""Most images on a sheet."""

GAP, LINE = 12, 22
PAPER, INK = "#ffffff", "#5b6470"


def sheet(pictures: Sequence[Picture], columns: int = 8) -> Image.Image:
    """The first :data:`MOST` images in rows, in RGB; a last line counts the others.

    The cell of an unreadable image stays empty.

    Args:
        pictures: at least one.
        columns: images per row, at least 1.
    """
    shown, more = pictures[:MOST], max(len(pictures) - MOST, 0)
    columns = min(whole("columns", columns, low=1), max(len(shown), 1))
    rows = math.ceil(len(shown) / columns)
    size = GAP + columns * (CELL + GAP), GAP + rows * (CELL + LINE + GAP) + (LINE if more else 0)
    page = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(15)
    for place, picture in enumerate(shown):
        row, column = divmod(place, columns)
        left, top = GAP + column * (CELL + GAP), GAP + row * (CELL + LINE + GAP)
        label = str(picture.seed)
        try:
            image = fitted(picture.open())
            page.paste(image, (left + (CELL - image.width) // 2, top + (CELL - image.height) // 2))
        except UNREADABLE:
            label += ": damaged"
        draw.text((left + CELL / 2, top + CELL + LINE / 2), label, INK, font, anchor="mm")
    if more:
        draw.text((GAP, size[1] - LINE / 2), f"and {more} more", INK, font, anchor="lm")
    return page


def write_sheet(pictures: Sequence[Picture], folder: Path | str) -> Path:
    """Write ``sheet.png`` into the folder; returns its path."""
    path = folder_path("folder", folder) / SHEET_FILE
    buffer = io.BytesIO()
    sheet(pictures).save(buffer, format="PNG")
    with stays_if_unwritable(path):
        write_bytes(path, buffer.getvalue())
    return path
