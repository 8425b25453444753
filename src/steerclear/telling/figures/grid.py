"""The images themselves: one column per seed, one row per method."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from ...study.results import MethodResult, Results
from ..sizes import CELL, fitted
from ..table import concept_columns, interval_text, shows_concept, unsure, value_text
from .base import LIGHT, Theme, blank, sentence, text, wrapped

PIXELS_AN_INCH = 200
GAP = 12
LEFT = 480
RIGHT = 220
TOP = 120
LINE = 30
FRAME = 2.2
DASHES = (0, (2.2, 1.4))


def shared_seeds(results: Results, columns: int) -> list[int]:
    """The first seeds of all methods, in the order of the first that has them."""
    seen = dict.fromkeys(image.seed for method in results.methods for image in method.images)
    return list(seen)[:columns]


def grid(results: Results, folder: Path, columns: int = 8, theme: Theme = LIGHT) -> Figure:
    """The same seeds down the columns, one row per method; images in which the classifier sees the concept are framed.

    The frame is dashed where the classifier is unsure.

    Args:
        results: what ``compare`` found.
        folder: where results.json lies; the images' paths are relative to it.
        columns: at most so many seeds, at least 1.
        theme: colours.

    Returns:
        The figure; the axes of an image have the label ``"<method name>/<seed>"``.
    """
    seeds = shared_seeds(results, columns)
    if not seeds:
        return sentence("There are no images to show.", theme)
    rate = next(iter(concept_columns(results)), None)
    images = [image for method in results.methods for image in method.images]
    legend = []
    if any(shows_concept(results, image) is not None for image in images):
        legend.append("framed: the concept is seen in the image")
    if any(unsure(results, image) for image in images if image.seed in seeds):
        legend.append("dashed: the classifier is unsure (20 to 80 %)")
    width = LEFT + len(seeds) * (CELL + GAP) + (RIGHT if rate else 0)
    height = TOP + len(results.methods) * (CELL + GAP) + GAP + (20 + LINE * len(legend) if legend else 0)
    figure = blank(width / PIXELS_AN_INCH, height / PIXELS_AN_INCH, theme, PIXELS_AN_INCH)

    def left(column: int) -> int:
        return LEFT + column * (CELL + GAP)

    def top(row: int) -> int:
        return TOP + row * (CELL + GAP)

    def write(x: float, y: float, words: str, **style: object) -> None:
        text(figure, x / width, 1 - y / height, words, **({"va": "center", "color": theme.ink} | style))

    for column, seed in enumerate(seeds):
        words = f"seed {seed}" if column == 0 else str(seed)
        write(left(column) + CELL / 2, TOP - 32, words, ha="center", fontsize=8.5, color=theme.muted)
    if rate:
        words = wrapped(f"shows {rate.label}", 14, 3)
        write(
            width - 2 * GAP, TOP - 26, words, ha="right", va="bottom", fontsize=8.5, color=theme.muted, linespacing=1.15
        )

    for row, method in enumerate(results.methods):
        _write_labels(write, method, top(row))
        if rate:
            measured = method.measurements.get(rate.name)
            middle = top(row) + CELL / 2
            write(width - 2 * GAP, middle - 14, value_text(measured, True), ha="right", fontsize=12, fontweight="bold")
            interval = interval_text(measured, True)
            write(width - 2 * GAP, middle + 26, interval, ha="right", fontsize=8, color=theme.muted)
        by_seed = {image.seed: image for image in method.images}
        for column, seed in enumerate(seeds):
            if seed not in by_seed:
                continue
            with Image.open(folder / by_seed[seed].file) as opened:
                pixels = fitted(opened.convert("RGB"))
            x = left(column) + (CELL - pixels.width) // 2
            y = height - top(row) - CELL + (CELL - pixels.height) // 2
            box = (x / width, y / height, pixels.width / width, pixels.height / height)
            axes = figure.add_axes(box, label=f"{method.name}/{seed}")
            axes.imshow(np.asarray(pixels), interpolation="nearest", aspect="auto")
            axes.set_axis_off()
            if shows_concept(results, by_seed[seed]) or unsure(results, by_seed[seed]):
                around = Rectangle(
                    (0, 0), 1, 1, transform=axes.transAxes, fill=False, edgecolor=theme.concept, linewidth=FRAME,
                    linestyle=DASHES if unsure(results, by_seed[seed]) else "solid",
                )  # fmt: skip
                around.set_clip_on(False)
                axes.add_patch(around)
    for line, words in enumerate(reversed(legend)):
        write(LEFT, height - 32 - LINE * line, words, fontsize=8.5, color=theme.concept)
    return figure


def _write_labels(write: Callable[..., None], method: MethodResult, top: int) -> None:
    """The label, and below it in gray what the model was given."""
    label = wrapped(method.label, 24, 2)
    label_lines = label.count("\n") + 1
    given = [wrapped(f"“{method.prompt}”", 40, 2)]
    if method.negative_prompts:
        given.append(wrapped("negative: " + ", ".join(f"“{prompt}”" for prompt in method.negative_prompts), 40, 2))
    y = top + 14
    write(2 * GAP, y, label, va="top", fontsize=10, fontweight="bold", linespacing=1.1)
    write(2 * GAP, y + 36 * label_lines, "\n".join(given), va="top", fontsize=7, alpha=0.72, linespacing=1.25)
