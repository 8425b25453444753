"""Fronts: how much of the concept each method removes, against what it costs, with the ideal corner and the floor of chance.

These panels are drawn by benchmarks; they are no figure of a comparison's page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .base import LIGHT, Theme, blank, legend, quiet, text

WIDTH, HEIGHT, LEGEND, MARGIN = 3.4, 2.5, 0.42, 0.62
"""Sizes in inches: of a panel with its labels, of the legend above, of the labels' room at the left and below."""

ENTRY, ROW = 1.6, 0.2
"""Sizes in inches of a method in the legend."""

STYLES = (("concept", "o", "-"), ("other", "^", "--"), ("ink", "s", "-"), ("muted", "D", ":"),
          ("concept", "*", ""), ("other", "P", ""), ("muted", "x", ""), ("concept", "v", "--"), ("other", "h", "-"),
          ("ink", "d", ":"), ("muted", "<", "--"), ("concept", "X", ""))  # fmt: skip
"""Colour of the theme, marker and dash of each method, in the order in which methods first occur."""


@dataclass(frozen=True)
class Line:
    """One method in a panel: its points in the order of its strength."""

    label: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Panel:
    """One pair of axes; the vertical one is logarithmic.

    Attributes:
        title, across, up: its heading and the names of its axes.
        lines: the methods.
        floor: what perfect samples have by chance on the vertical axis; None for no line.
        ideal: the corner of a perfect method; None for none.
    """

    title: str
    across: str
    up: str
    lines: tuple[Line, ...]
    floor: float | None = None
    ideal: tuple[float, float] | None = None


def draw_fronts(panels: Sequence[Panel], columns: int, theme: Theme = LIGHT, floor: str = "exact draws") -> Figure:
    """All panels in rows of ``columns``, with the legend above them; ``floor`` says what the horizontal line is."""
    rows = -(-len(panels) // columns)
    labels = list(dict.fromkeys(line.label for panel in panels for line in panel.lines))
    width = columns * WIDTH
    abreast = min(len(labels) + 1, int(width / ENTRY))
    above = LEGEND + ROW * (-(-(len(labels) + 1) // abreast) - 1)
    height = rows * HEIGHT + above
    figure = blank(width, height, theme)
    styles = {label: style_of(index, theme) for index, label in enumerate(labels)}
    for place, panel in enumerate(panels):
        left, bottom = (place % columns) * WIDTH + MARGIN, (rows - 1 - place // columns) * HEIGHT + MARGIN - 0.12
        box = left / width, bottom / height, (WIDTH - MARGIN - 0.12) / width, (HEIGHT - MARGIN - 0.2) / height
        _draw(figure.add_axes(box, label=panel.title), panel, styles, theme)
    handles = [Line2D([], [], label=label, **style) for label, style in styles.items()]
    handles.append(Line2D([], [], color=theme.muted, linewidth=0.9, label=floor))
    legend(figure, handles, theme, 1 - (above - 0.02) / 2 / height, abreast)
    return figure


def style_of(index: int, theme: Theme) -> dict[str, Any]:
    colour, marker, dash = STYLES[index % len(STYLES)]
    size = 9 if marker == "*" else 5
    return {
        "color": getattr(theme, colour),
        "marker": marker,
        "linestyle": dash or "none",
        "markersize": size,
        "linewidth": 1.3,
    }


def _draw(axes: Axes, panel: Panel, styles: dict[str, dict[str, Any]], theme: Theme) -> None:
    quiet(axes, theme, sides=("bottom", "left"))
    axes.set_yscale("log")
    if panel.floor is not None:
        axes.axhline(panel.floor, color=theme.muted, linewidth=0.9, zorder=1)
    if panel.ideal is not None:
        axes.plot(*panel.ideal, marker="o", markersize=11, markerfacecolor="none", color=theme.ink, zorder=2)
    for line in panel.lines:
        axes.plot(*zip(*line.points, strict=True), zorder=3, clip_on=False, **styles[line.label])
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1,) if high > 100 * low else (1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(panel.across, color=theme.muted, fontsize=8)
    axes.set_ylabel(panel.up, color=theme.muted, fontsize=8)
    style = {"transform": axes.transAxes, "ha": "left", "va": "bottom", "fontsize": 9, "color": theme.ink}
    text(axes, 0, 1.02, panel.title, **style)
