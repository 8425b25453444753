"""Which weak network helps: a figure against the guidance scale, one line per weak network, unguided as a band.

Drawn by ``steerclear benchmark weaknesses``; it is no figure of a comparison's page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from .base import LIGHT, Theme, blank, legend, quiet, text

WIDTH, HEIGHT, LEFT, BOTTOM, ENTRY, ROW, LEGEND = 3.7, 2.7, 0.62, 0.5, 1.85, 0.2, 0.3
"""Sizes in inches: of a panel with its labels, of the labels' room, of a legend's entry, its row, and its margin."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d1f", "#7f7f7f")
"""Okabe and Ito 2008, Color Universal Design; without yellow, which is too faint for a line."""
MARKERS, DASHES = ("o", "s", "^", "D", "v", "P"), ("-", "--", ":", "-.", (0, (1, 1)), (0, (5, 1)))
CLIPPED = 2.0
"""Figures above so many times the unguided one's are drawn at the edge."""
FAINT = {"linewidth": 1.0, "alpha": 0.5, "zorder": 3}
"""Of ways that do not help."""

Points = tuple[tuple[float, float, float, float], ...]
"""(scale, value, lower end, upper end)."""


@dataclass(frozen=True)
class Swept:
    """One way at several scales.

    Attributes:
        label: of the way.
        family: ways of one family share a colour.
        points: by scale.
        helps: whether it is drawn strongly.
    """

    label: str
    family: str
    points: Points
    helps: bool = True


@dataclass(frozen=True)
class SweptPanel:
    """One pair of axes.

    Attributes:
        title, up: its heading and the name of the vertical axis.
        lines: the ways.
        unguided: value, lower and upper end without guidance.
        clipped: whether values far above the unguided one are drawn at the edge, which is open above.
    """

    title: str
    up: str
    lines: tuple[Swept, ...]
    unguided: tuple[float, float, float]
    clipped: bool = False


def draw_weaknesses(panels: Sequence[SweptPanel], columns: int, theme: Theme = LIGHT) -> Figure:
    """All panels in rows of ``columns``, with one legend above them."""
    lines = list({line.label: line for panel in panels for line in panel.lines}.values())
    columns, rows = max(columns, 1), -(-len(panels) // max(columns, 1))
    width = max(columns * WIDTH, 2 * ENTRY)
    abreast = max(int(width / ENTRY), 1)
    above = LEGEND + ROW * -(-(len(lines) + 1) // abreast)
    height = rows * HEIGHT + above
    figure = blank(width, height, theme)
    styles = styles_of(lines, theme)
    for place, panel in enumerate(panels):
        left, bottom = (place % columns) * WIDTH + LEFT, (rows - 1 - place // columns) * HEIGHT + BOTTOM
        box = left / width, bottom / height, (WIDTH - LEFT - 0.15) / width, (HEIGHT - BOTTOM - 0.35) / height
        _draw(figure.add_axes(box, label=f"{place}: {panel.title}"), panel, styles, theme)
    handles = [Line2D([], [], label=label, **style) for label, style in styles.items()]
    handles.append(Line2D([], [], color=theme.ink, linewidth=1.2, label="unguided"))
    legend(figure, handles, theme, 1 - above / 2 / height, abreast)
    return figure


def styles_of(lines: Sequence[Swept], theme: Theme) -> dict[str, dict[str, Any]]:
    """Label -> colour by family, marker and dash by its place within the family; no two are alike in all."""
    families = list(dict.fromkeys(line.family for line in lines))
    found, within = {}, dict.fromkeys(families, 0)
    for line in lines:
        family, place = families.index(line.family), within[line.family]
        within[line.family] += 1
        found[line.label] = {
            "color": COLOURS[family % len(COLOURS)],
            # families beyond the colours begin with another marker
            "marker": MARKERS[(place + family // len(COLOURS) * 3) % len(MARKERS)],
            "linestyle": DASHES[place % len(DASHES)],
            "markersize": 4.5,
            "linewidth": 1.3,
        }
    return found


def _draw(axes: Axes, panel: SweptPanel, styles: Mapping[str, dict[str, Any]], theme: Theme) -> None:
    quiet(axes, theme, sides=("bottom", "left"))
    value, low, high = panel.unguided
    axes.axhspan(low, high, color=theme.faint, zorder=0, linewidth=0)
    axes.axhline(value, color=theme.ink, linewidth=1.2, zorder=1)
    most = CLIPPED * value if panel.clipped else float("inf")
    for line in panel.lines:
        scales = [point[0] for point in line.points]
        values = [min(point[1], most) for point in line.points]
        strength = {"linewidth": 1.8, "alpha": 1.0, "zorder": 4} if line.helps else FAINT
        axes.plot(scales, values, clip_on=False, **styles[line.label] | strength)
        ends = [(scale, low, min(high, most)) for scale, _, low, high in line.points if low < most]
        if ends:
            axes.vlines(*zip(*ends, strict=True), color=styles[line.label]["color"], linewidth=0.8, alpha=0.5, zorder=2)
    shown = [min(point[1], most) for line in panel.lines for point in line.points] + [low, high]
    margin = 0.06 * (max(shown) - min(shown) or 1.0)
    axes.set_ylim(min(shown) - margin, max(shown) + margin)
    ticks = sorted({point[0] for line in panel.lines for point in line.points})
    axes.set_xscale("log")
    axes.set_xticks(ticks)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("guidance scale", color=theme.muted, fontsize=8)
    axes.set_ylabel(panel.up, color=theme.muted, fontsize=8)
    style = {"transform": axes.transAxes, "ha": "left", "va": "bottom", "fontsize": 9, "color": theme.ink}
    text(axes, 0, 1.03, panel.title, **style)
