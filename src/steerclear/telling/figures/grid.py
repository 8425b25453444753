"""The images: one column per seed, one row per method."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...core.laboratory import Column
from ...core.settings import whole
from ...study.results import ImageResult, MethodResult, Results
from ..sizes import CELL, fitted, opened
from ..table import concept_columns, interval_text, shows_concept, unsure, value_text
from .base import LIGHT, Drawing, Theme, blank, text, wrapped

PIXELS_PER_INCH = 200
GAP, LEFT, RIGHT, TOP, LINE = 12, 480, 220, 120, 30
FRAME, DASHES = 2.2, (0, (2.2, 1.4))


def shared_seeds(results: Results, columns: int) -> list[int]:
    """The first ``columns`` seeds of the methods, in order of appearance."""
    seen = dict.fromkeys(image.seed for method in results.methods for image in method.images)
    return list(seen)[:columns]


def in_columns(results: Results, columns: int) -> tuple[list[str], list[list[ImageResult | None]]]:
    """The images side by side: what each column is called, and a row of images per method; None where there is no image.

    A column has the images of one seed, or of one name. Folders that share no name have their first images in a row each.
    """
    seeds = [{image.seed for image in method.images} for method in results.methods]
    if results.folders and len(seeds) > 1 and not set.intersection(*seeds):
        first = [method.images[:columns] for method in results.methods]
        count = max(map(len, first))
        rows = [[*some, *[None] * (count - len(some))] for some in first]
        return [f"image {place}" for place in range(1, count + 1)], rows
    shown = shared_seeds(results, columns)
    called = {image.seed: image.called for method in results.methods for image in reversed(method.images)}
    by_seed = [{image.seed: image for image in method.images} for method in results.methods]
    return [called[seed] for seed in shown], [[own.get(seed) for seed in shown] for own in by_seed]


@dataclass(frozen=True)
class Grid(Drawing):
    """One column per seed, one row per method or folder; images in which the judge sees the concept are framed.

    The frame is dashed if the judge is unsure. The axes of an image have the label ``"<method name>/<seed>"``.

    Args:
        columns: most seeds to show, at least 1.
    """

    columns: int = 8

    name: ClassVar[str] = "grid"
    title: ClassVar[str] = "The images"
    meaning: ClassVar[str] = (
        "The images of every method, one column per seed: all images of a column start from the same noise."
    )
    place: ClassVar[int] = 10
    on_page: ClassVar[bool] = False  # the page has a table of the images

    def __post_init__(self) -> None:
        whole("columns", self.columns, low=1)

    def nothing(self, results: Results) -> str | None:
        return None if shared_seeds(results, 1) else "There are no images to show."

    def draw(self, results: Results, folder: Path, theme: Theme = LIGHT) -> Figure:
        heads, images = in_columns(results, self.columns)
        rate = next(iter(concept_columns(results)), None)
        legend = _legend(results, images)
        width = LEFT + len(heads) * (CELL + GAP) + (RIGHT if rate else 0)
        height = TOP + len(results.methods) * (CELL + GAP) + GAP + (20 + LINE * len(legend) if legend else 0)
        paper = blank(width / PIXELS_PER_INCH, height / PIXELS_PER_INCH, theme, PIXELS_PER_INCH)
        sheet = _Sheet(paper, width, height, theme)
        sheet.write_head(heads, rate)
        for row, method in enumerate(results.methods):
            top = TOP + row * (CELL + GAP)
            sheet.write_labels(method, top)
            if rate:
                sheet.write_rate(method, rate, top)
            for column, image in enumerate(images[row]):
                if image is not None:
                    axes = sheet.draw_image(folder / image.file, column, top, f"{method.name}/{image.seed}")
                    _frame(axes, results, image, theme)
        for line, words in enumerate(reversed(legend)):
            sheet.write(LEFT, height - 32 - LINE * line, words, fontsize=8.5, color=theme.concept)
        return sheet.figure


def _legend(results: Results, shown: Sequence[Sequence[ImageResult | None]]) -> list[str]:
    """What the frames mean, if there are any."""
    images = [image for method in results.methods for image in method.images]
    legend = []
    if any(shows_concept(results, image) is not None for image in images):
        legend.append("framed: the concept is seen in the image")
    if any(unsure(results, image) for row in shown for image in row if image is not None):
        legend.append("dashed: the judge is unsure (20 to 80 %)")
    return legend


def _frame(axes: Axes, results: Results, image: ImageResult, theme: Theme) -> None:
    """A frame around an image that shows the concept, or may show it."""
    dashed = unsure(results, image)
    if not (dashed or shows_concept(results, image)):
        return
    around = Rectangle(
        (0, 0), 1, 1, transform=axes.transAxes, fill=False, edgecolor=theme.concept, linewidth=FRAME,
        linestyle=DASHES if dashed else "solid",
    )  # fmt: skip
    around.set_clip_on(False)
    axes.add_patch(around)


@dataclass(frozen=True)
class _Sheet:
    """A figure with positions in pixels from the upper left corner."""

    figure: Figure
    width: int
    height: int
    theme: Theme

    def write(self, x: float, y: float, words: str, **style: Any) -> None:
        place = {"va": "center", "color": self.theme.ink} | style
        text(self.figure, x / self.width, 1 - y / self.height, words, **place)

    def write_head(self, heads: Sequence[str], rate: Column | None) -> None:
        muted = self.theme.muted
        for column, head in enumerate(heads):
            words = wrapped(head if column == 0 else head.removeprefix("seed "), 15, 1)
            x = LEFT + column * (CELL + GAP) + CELL / 2
            self.write(x, TOP - 32, words, ha="center", fontsize=8.5, color=muted)
        if rate:
            words, x = wrapped(f"shows {rate.label}", 14, 3), self.width - 2 * GAP
            self.write(x, TOP - 26, words, ha="right", va="bottom", fontsize=8.5, color=muted, linespacing=1.15)

    def write_labels(self, method: MethodResult, top: int) -> None:
        """The label, and below it the prompts in gray."""
        label = wrapped(method.label, 24, 2)
        label_lines = label.count("\n") + 1
        given = [wrapped(f"“{method.prompt}”", 40, 2)] if method.prompt else []
        if method.negative_prompts:
            given.append(wrapped("negative: " + ", ".join(f"“{prompt}”" for prompt in method.negative_prompts), 40, 2))
        y = top + 14
        self.write(2 * GAP, y, label, va="top", fontsize=10, fontweight="bold", linespacing=1.1)
        below = y + 36 * label_lines
        self.write(2 * GAP, below, "\n".join(given), va="top", fontsize=7, alpha=0.72, linespacing=1.25)

    def write_rate(self, method: MethodResult, rate: Column, top: int) -> None:
        """How often the method's images show the concept."""
        measured, x, middle = method.measurements.get(rate.name), self.width - 2 * GAP, top + CELL / 2
        self.write(x, middle - 14, value_text(measured, True), ha="right", fontsize=12, fontweight="bold")
        self.write(x, middle + 26, interval_text(measured, True), ha="right", fontsize=8, color=self.theme.muted)

    def draw_image(self, file: Path, column: int, top: int, label: str) -> Axes:
        """An image in the middle of its cell, unscaled."""
        pixels = fitted(opened(file))
        x = LEFT + column * (CELL + GAP) + (CELL - pixels.width) // 2
        y = self.height - top - CELL + (CELL - pixels.height) // 2
        box = (x / self.width, y / self.height, pixels.width / self.width, pixels.height / self.height)
        axes = self.figure.add_axes(box, label=label)
        axes.imshow(np.asarray(pixels), interpolation="nearest", aspect="auto")
        axes.set_axis_off()
        return axes
