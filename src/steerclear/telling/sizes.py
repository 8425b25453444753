"""Images scaled into squares of one size, to be shown side by side."""

from pathlib import Path

from PIL import Image

from ..study.reading import read_pixels

CELL = 192
"""Side of the square, in pixels."""


def fitted(image: Image.Image, side: int = CELL) -> Image.Image:
    """The image scaled to fit into a square of ``side`` pixels.

    Small images grow by whole factors without smoothing, so that each pixel is visible; larger ones shrink.
    """
    longest = max(image.size)
    if longest <= side:
        factor = side // longest
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    scale = side / longest
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def opened(path: Path) -> Image.Image:
    """An image of any format as a judge sees it, in RGB.

    Raises:
        Unreadable: it is gone or damaged.
    """
    return Image.fromarray(read_pixels(path).permute(1, 2, 0).numpy())
