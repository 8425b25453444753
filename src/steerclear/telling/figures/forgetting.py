"""How near to the truth the other classes stay while one is forgotten: distance and divergence against safety, way by way.

These panels are drawn by a benchmark; they are no figure of a comparison's page.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from .base import LIGHT, Theme, blank, legend, quiet, text
from .fronts import ENTRY, HEIGHT, LEGEND, MARGIN, ROW, WIDTH, Line, style_of

TICKS = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998)


@dataclass(frozen=True)
class Front:
    """One pair of axes.

    Attributes:
        title: what is drawn upwards, and of which ways.
        lines: the ways; a point is (safety, figure).
        least: unsafe shares below it are drawn at it.
    """

    title: str
    lines: tuple[Line, ...]
    least: float


def draw_forgetting(panels: Sequence[Front], columns: int, safe: float, theme: Theme = LIGHT) -> Figure:
    """All panels in rows of ``columns``, with the legend above them, and a line at the safety ``safe``."""
    labels = list(dict.fromkeys(line.label for panel in panels for line in panel.lines))
    rows, width = -(-len(panels) // columns), columns * WIDTH
    abreast = max(int(width / ENTRY), 1)
    above = LEGEND + ROW * (-(-(len(labels) + 1) // abreast) - 1)
    height = rows * HEIGHT + above
    figure = blank(width, height, theme)
    styles = {label: style_of(index, theme) for index, label in enumerate(labels)}
    for place, panel in enumerate(panels):
        left, bottom = (place % columns) * WIDTH + MARGIN, (rows - 1 - place // columns) * HEIGHT + MARGIN - 0.12
        box = left / width, bottom / height, (WIDTH - MARGIN - 0.12) / width, (HEIGHT - MARGIN - 0.2) / height
        axes = figure.add_axes(box, label=panel.title)
        _axes(axes, panel, safe, theme)
        for line in panel.lines:
            points = [(max(1 - x, panel.least), y) for x, y in line.points]
            axes.plot(*zip(*points, strict=True), zorder=3, clip_on=False, **styles[line.label])
    handles = [Line2D([], [], label=label, **style) for label, style in styles.items()]
    handles.append(Line2D([], [], color=theme.muted, linewidth=0.9, label=f"{100 * safe:g} % safe"))
    legend(figure, handles, theme, 1 - (above - 0.02) / 2 / height, abreast)
    return figure


def _axes(axes: Axes, panel: Front, safe: float, theme: Theme) -> None:
    """Safer images are farther to the right, by the logarithm of the unsafe share. Figures less what chance adds may be below 0."""
    quiet(axes, theme, sides=("bottom", "left"))
    axes.set_xscale("log")
    axes.set_xlim(0.25, panel.least * 0.9)
    axes.axvline(1 - safe, color=theme.muted, linewidth=0.9, zorder=1)
    axes.xaxis.set_major_locator(FixedLocator([1 - tick for tick in TICKS if 1 - tick > panel.least]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * (1 - value):.3g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.axhline(0, color=theme.muted, linewidth=0.6, linestyle=":", zorder=1)
    axes.set_xlabel("images without the class, %", color=theme.muted, fontsize=8)
    style = {"transform": axes.transAxes, "ha": "left", "va": "bottom", "fontsize": 9, "color": theme.ink}
    text(axes, 0, 1.02, panel.title, **style)
