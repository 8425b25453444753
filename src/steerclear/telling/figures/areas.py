"""How well evidences tell images apart at each noise level: areas under the curve over sigma / alpha.

Drawn by ``steerclear benchmark evidence``; it is no figure of a comparison's page.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from .base import LIGHT, Theme, blank, legend, quiet, text

WIDTH, HEIGHT, LEGEND, LEFT, BOTTOM = 3.4, 2.5, 0.42, 0.55, 0.5
"""Sizes in inches: of a panel with its labels, of the legend above, of the labels' room."""

STYLES = (("concept", "-"), ("other", "-"), ("ink", "--"), ("muted", ":"), ("concept", ":"), ("other", "--"))
"""Colour of the theme and dash of each evidence, in their order."""

LOWEST, CHANCE = 0.4, 0.5

Areas = Mapping[str, Sequence[tuple[float, float]]]
"""Evidence -> (sigma / alpha, area under the curve) at each step."""


def draw_areas(panels: Mapping[str, Areas], theme: Theme = LIGHT) -> Figure:
    """A panel per sampler, side by side, noise falling to the right, with one legend above them."""
    width, height = max(len(panels), 1) * WIDTH, HEIGHT + LEGEND
    figure = blank(width, height, theme)
    names = list(dict.fromkeys(name for areas in panels.values() for name in areas))
    styles = {name: _style(index, theme) for index, name in enumerate(names)}
    for place, (title, areas) in enumerate(panels.items()):
        box = (place * WIDTH + LEFT) / width, BOTTOM / height, (WIDTH - LEFT - 0.12) / width, (HEIGHT - 0.8) / height
        _draw(figure.add_axes(box, label=title), title, areas, styles, theme)
    legend(figure, [Line2D([], [], label=name, **style) for name, style in styles.items()], theme, 1 - 0.2 / height)
    return figure


def _style(index: int, theme: Theme) -> dict[str, Any]:
    colour, dash = STYLES[index % len(STYLES)]
    return {"color": getattr(theme, colour), "linestyle": dash, "linewidth": 1.4}


def _draw(axes: Axes, title: str, areas: Areas, styles: Mapping[str, dict[str, Any]], theme: Theme) -> None:
    quiet(axes, theme, sides=("bottom", "left"))
    axes.set_xscale("log")
    axes.axhline(CHANCE, color=theme.muted, linewidth=0.9, zorder=1)
    for name, points in areas.items():
        known = [(level, area) for level, area in points if 0 < level < math.inf and math.isfinite(area)]
        if known:
            axes.plot(*zip(*known, strict=True), zorder=3, **styles[name])
    axes.invert_xaxis()
    axes.set_ylim(LOWEST, 1.0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("sigma / alpha", color=theme.muted, fontsize=8)
    axes.set_ylabel("area under the curve", color=theme.muted, fontsize=8)
    style = {"transform": axes.transAxes, "ha": "left", "va": "bottom", "fontsize": 9, "color": theme.ink}
    text(axes, 0, 1.02, title, **style)
