"""How a negative prompt takes the place of the unconditional prediction, at each step of a sampler: a schematic.

Drawn by ``steerclear diagram --schematic sampler``; it is no figure of a comparison's page.
"""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from torch import Tensor

from ...study.two_places import Places, Slot, Way
from .base import LIGHT, Theme, blank, wrapped

WIDTH, FLOW, ROW, HEAD = 10.6, 3.1, 0.62, 0.62
"""Sizes in inches: of the figure, of the flow above, of a way below, of the heading over the ways."""
CELLS, CELL = 2.6, 0.17
"""Width of a row of tokens, and its height, in inches."""
IMAGE = 0.54
"""Side of an image, in inches."""


def draw_sampler(places: Places, theme: Theme = LIGHT) -> Figure:
    """The flow of one step above; below, what becomes of each way to fill the two places.

    Args:
        places: the two texts of the flow with their tokens, and the ways with images of each.
        theme: colours.
    """
    height = FLOW + (HEAD + ROW * len(places.ways) + 0.1 if places.ways else 0.0)
    figure = blank(WIDTH, height, theme)
    axes = figure.add_axes((0, 0, 1, 1), label="sampler")
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(0, height)
    axes.set_axis_off()
    _flow(_Pen(axes, theme), places, height)
    if places.ways:
        _table(_Pen(axes, theme), places.ways, height - FLOW)
    return figure


class _Pen:
    """Boxes, words and arrows in inches from the lower left corner."""

    def __init__(self, axes: Axes, theme: Theme) -> None:
        self.axes, self.theme = axes, theme

    def write(self, x: float, y: float, words: str, **style: Any) -> None:
        known: dict[str, Any] = {
            "ha": "left",
            "va": "center",
            "fontsize": 8.5,
            "color": self.theme.ink,
            "parse_math": False,
        }
        self.axes.text(x, y, words, **(known | style))

    def box(self, x: float, y: float, width: float, height: float, words: str, colour: str, **style: Any) -> None:
        """A rounded box around its middle line; ``y`` is the middle."""
        shape = FancyBboxPatch(
            (x, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.07", facecolor=self.theme.paper,
            edgecolor=colour, linewidth=1.4,
        )  # fmt: skip
        self.axes.add_patch(shape)
        self.write(x + width / 2, y, words, ha="center", linespacing=1.3, **style)

    def arrow(self, start: tuple[float, float], end: tuple[float, float], colour: str, bend: str = "arc3") -> None:
        style: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 9, "linewidth": 1.2, "color": colour}
        self.axes.add_patch(FancyArrowPatch(start, end, connectionstyle=bend, shrinkA=0, shrinkB=0, **style))

    def tokens(self, x: float, y: float, slot: Slot, colour: str) -> None:
        """A row of cells, one per place of the text encoder; words are full, start and end dark, filling empty."""
        wide = CELLS / slot.places
        for number in range(slot.places):
            inside = 0 < number <= slot.words
            full = colour if inside else self.theme.muted if number in (0, slot.words + 1) else self.theme.paper
            edge: dict[str, Any] = {"facecolor": full, "edgecolor": self.theme.muted, "linewidth": 0.25}
            self.axes.add_patch(Rectangle((x + number * wide, y - CELL / 2), wide, CELL, **edge))


def _flow(pen: _Pen, places: Places, top: float) -> None:
    theme, above, below = pen.theme, top - 0.95, top - 2.35
    middle = (above + below) / 2
    pen.write(0.2, top - 0.25, "One step of the sampler", fontsize=10.5, fontweight="bold")
    pen.write(
        2.25, top - 0.25, f"(of {places.steps}; both texts are encoded once, before the first)", color=theme.muted
    )
    for y, slot, colour in ((above, places.prompt, theme.other), (below, places.negative, theme.concept)):
        pen.write(0.2, y + 0.34, slot.title, color=colour, fontweight="bold")
        pen.tokens(0.2, y, slot, colour)
        pen.write(0.2, y - 0.24, f"“{wrapped(slot.text, 46, 1)}”" if slot.text else "“” (empty)", color=theme.ink)
        pen.write(0.2, y - 0.42, _counted(slot), color=theme.muted, fontsize=7)
        pen.arrow((2.85, y), (3.2, y), colour)
        pen.box(3.2, y, 0.85, 0.5, "text\nencoder", theme.muted, fontsize=8)
        pen.arrow((4.05, y), (4.5, y), colour)
        pen.box(4.5, y, 1.25, 0.6, "the network", colour, fontsize=9)
        pen.arrow((5.75, y), (6.35, y), colour)
        pen.box(
            6.35,
            y,
            1.05,
            0.5,
            f"prediction\n{'D prompt' if slot is places.prompt else 'D negative'}",
            colour,
            fontsize=8,
        )
    pen.box(4.5, middle, 1.25, 0.5, "noisy image x", theme.ink, fontsize=8.5)
    pen.arrow((5.12, middle + 0.25), (5.12, above - 0.3), theme.ink)
    pen.arrow((5.12, middle - 0.25), (5.12, below + 0.3), theme.ink)
    pen.write(4.4, middle, "the same network,\nthe same noisy image", ha="right", color=theme.muted, fontsize=7.5)
    pen.box(
        7.75, middle, 2.45, 0.72, "D negative\n+ w (D prompt − D negative)", theme.ink, fontsize=9, fontweight="bold"
    )
    pen.arrow((7.4, above), (8.5, middle + 0.36), theme.other)
    pen.arrow((7.4, below), (8.5, middle - 0.36), theme.concept)
    pen.write(8.1, above + 0.02, "toward the prompt", color=theme.other, fontsize=8)
    pen.write(
        8.1,
        below - 0.02,
        "away from what stands in this place:\nthe empty text, or the negative",
        color=theme.concept,
        fontsize=8,
    )
    pen.arrow((7.75, middle), (5.75, middle), theme.ink)
    pen.write(
        6.75,
        middle + 0.19,
        "the scheduler makes a step:\na little less noise, and again",
        ha="center",
        color=theme.muted,
        fontsize=7.5,
    )


def _counted(slot: Slot) -> str:
    words = f"{slot.words} token" + "s" * (slot.words != 1)
    return f"start, {words}, end, {slot.places - slot.words - 2} of filling: {slot.places}"


def _table(pen: _Pen, ways: Sequence[Way], top: float) -> None:
    """What each way of filling the two places is, with images of it."""
    theme, first = pen.theme, top - HEAD
    pen.axes.plot([0.2, WIDTH - 0.2], [top - 0.02, top - 0.02], color=theme.faint, linewidth=1)
    pen.write(0.2, top - 0.25, "Two places, either without the other", fontsize=10.5, fontweight="bold")
    for x, words in ((0.2, "prompt"), (2.3, "in the other place"), (4.0, "what it does")):
        pen.write(x, top - 0.5, words, color=theme.muted, fontsize=7.5)
    for number, way in enumerate(ways):
        y = first - ROW * (number + 0.5)
        for x, words, colour in ((0.2, way.prompt, theme.other), (2.3, way.negative, theme.concept)):
            pen.write(x, y, f"“{words}”" if words else "“” (empty)", color=colour if words else theme.muted)
        pen.write(4.0, y, wrapped(way.meaning, 46, 3), fontsize=8, linespacing=1.25)
        for place, image in enumerate(way.images):
            _image(pen, image, WIDTH - 0.2 - IMAGE / 2 - (len(way.images) - 1 - place) * (IMAGE + 0.05), y)


def _image(pen: _Pen, image: Tensor, x: float, y: float) -> None:
    pixels = image.permute(1, 2, 0).numpy()
    shown = OffsetImage(pixels, zoom=IMAGE * 72 / pixels.shape[0], interpolation="antialiased")
    pen.axes.add_artist(AnnotationBbox(shown, (x, y), frameon=False, pad=0, box_alignment=(0.5, 0.5)))
