"""Clouds of points in the plane over the contour of the truth, with what is outside of it in the other colour.

These panels are drawn by benchmarks; they are no figure of a comparison's page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ...core.shapes import Bool, Float, Tensor
from .base import LIGHT, Theme, blank, legend, text

SIZE, TITLE, LEGEND = 3.0, 0.42, 0.36
"""Sizes in inches: of a panel, of its title, of the legend above all."""
POINTS = (0.6, 2.0)
"""Area of a point inside and outside of the contour, in square points of print."""


@dataclass(frozen=True, eq=False)
class Cloud:
    """One panel.

    Attributes:
        title, subtitle: above it.
        points: ``[n, 2]``.
        outside: which of them are outside of the contour, ``[n]``.
    """

    title: str
    subtitle: str
    points: Float[Tensor, "n 2"]
    outside: Bool[Tensor, " n"]


@dataclass(frozen=True, eq=False)
class Ground:
    """The truth behind the points.

    Attributes:
        height: a function on a grid, such as the log density, ``[rows, columns]``.
        level: of the contour that is drawn.
        extent: left, right, bottom and top of the grid; panels show this.
    """

    height: Float[Tensor, "rows columns"]
    level: float
    extent: tuple[float, float, float, float]


def draw_clouds(rows: Sequence[tuple[Ground, Sequence[Cloud]]], theme: Theme = LIGHT) -> Figure:
    """Rows of panels, each row over its own truth."""
    columns = max(len(clouds) for _, clouds in rows)
    tall = [SIZE * (ground.extent[3] - ground.extent[2]) / (ground.extent[1] - ground.extent[0]) for ground, _ in rows]
    width, height = columns * SIZE, LEGEND + sum(tall) + TITLE * len(rows)
    figure = blank(width, height, theme)
    top = height - LEGEND
    for (ground, clouds), high in zip(rows, tall, strict=True):
        top -= TITLE + high
        for column, cloud in enumerate(clouds):
            box = ((column + 0.02) * SIZE / width, top / height, 0.96 * SIZE / width, high / height)
            axes = figure.add_axes(box, label=f"{top} {column}")
            axes.set_axis_off()
            axes.set_xlim(ground.extent[0], ground.extent[1])
            axes.set_ylim(ground.extent[2], ground.extent[3])
            axes.contour(
                ground.height.numpy(),
                [ground.level],
                extent=ground.extent,
                colors=theme.muted,
                linewidths=0.3,
                origin="lower",
            )
            parts = (~cloud.outside, theme.other), (cloud.outside, theme.concept)
            for (which, colour), area in zip(parts, POINTS, strict=True):
                shown = cloud.points[which].numpy()
                axes.scatter(shown[:, 0], shown[:, 1], s=area, color=colour, linewidths=0)
            style: dict[str, Any] = {"transform": axes.transAxes, "ha": "left", "va": "bottom"}
            text(axes, 0, 1.065, cloud.title, fontsize=9.5, color=theme.ink, **style)
            text(axes, 0, 1.0, cloud.subtitle, fontsize=8, color=theme.muted, **style)
    marker: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 4}
    handles = [
        Line2D([], [], color=theme.other, label="inside the contour that holds 99 % of the mass", **marker),
        Line2D([], [], color=theme.concept, label="outside of it", **marker),
    ]
    legend(figure, handles, theme, 1 - LEGEND / 2 / height)
    return figure
