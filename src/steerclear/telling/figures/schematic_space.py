"""The sampling space: where images lie without a prompt, with one, and with a negative one; a schematic of real samples.

Drawn by ``steerclear diagram --schematic space``; it is no figure of a comparison's page.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from torch import Tensor

from ...study.sampling_space import Region, Space
from .base import LIGHT, Theme, blank, legend, text, wrapped

WIDTH, HEIGHT, LEGEND, HEAD, FOOT = 3.5, 3.5, 0.42, 0.5, 0.3
"""Sizes in inches: of a panel, of the legend above, of a panel's heading, of the line below."""
PICTURES = 12
"""Images that a panel shows."""
SIDE = 0.4
"""Of an image, in inches."""
APART = 1.08
"""Least distance of two images, in sides."""
MARGIN = 0.1
"""Room around the points, as a share of their range."""


def draw_space(space: Space, theme: Theme = LIGHT, pictures: int = PICTURES) -> Figure:
    """A panel per region, all in the same plane; gray dots are the first region's images, for comparison.

    Args:
        space: where the images lie.
        theme: colours.
        pictures: most images that a panel shows, spread over its points.
    """
    width, height = WIDTH * len(space.regions), HEIGHT + LEGEND + HEAD + FOOT
    figure = blank(width, height, theme)
    limits = _limits(space)
    for place, region in enumerate(space.regions):
        box = (place * WIDTH + 0.06) / width, FOOT / height, (WIDTH - 0.12) / width, HEIGHT / height
        axes = figure.add_axes(box, label=region.asked.title)
        _axes(axes, limits, theme)
        if place:
            _dots(axes, space.regions[0].points, theme.muted, 5, alpha=0.35)
        for shows, colour, marker in ((False, theme.other, "o"), (True, theme.concept, "^")):
            _dots(axes, region.points[region.shows == shows], colour, 11, marker)
        _pictures(axes, region, limits, theme, pictures)
        style: dict[str, Any] = {"transform": axes.transAxes, "ha": "left", "va": "bottom", "parse_math": False}
        title = wrapped(region.asked.title, 44, 1)
        axes.text(0, 1.07, title, fontsize=9.5, fontweight="bold", color=theme.ink, **style)
        axes.text(0, 1.015, _said(space, region), fontsize=8.5, color=theme.muted, **style)
    legend(figure, _handles(space, theme), theme, 1 - LEGEND / 2 / height)
    said = f"The plane: the two directions in which images without a prompt differ most ({space.share:.0%} of their variance), in {space.features}."
    text(figure, 0.06 / width, 0.5 * FOOT / height, said, ha="left", va="center", fontsize=7.5, color=theme.muted)
    return figure


def _limits(space: Space) -> tuple[np.ndarray, np.ndarray]:
    """The lower and upper corner of a square around all points."""
    points = torch.cat([region.points for region in space.regions]).double().numpy()
    low, high = points.min(0), points.max(0)
    half = (high - low).max() * (0.5 + MARGIN)
    middle = (low + high) / 2
    return middle - half, middle + half


def _axes(axes: Axes, limits: tuple[np.ndarray, np.ndarray], theme: Theme) -> None:
    axes.set_facecolor(theme.paper)
    axes.set_xlim(limits[0][0], limits[1][0])
    axes.set_ylim(limits[0][1], limits[1][1])
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(theme.faint)


def _dots(axes: Axes, points: Tensor, colour: str, size: float, marker: str = "o", alpha: float = 0.8) -> None:
    style: dict[str, Any] = {"s": size, "c": colour, "marker": marker, "linewidths": 0, "alpha": alpha}
    axes.scatter(points[:, 0].numpy(), points[:, 1].numpy(), **style)


def _pictures(axes: Axes, region: Region, limits: tuple[np.ndarray, np.ndarray], theme: Theme, pictures: int) -> None:
    """Some images where they lie, with a frame in the colour of their dot."""
    side = float(limits[1][0] - limits[0][0]) * SIDE / (WIDTH - 0.12)
    for row in spread(region.points, pictures, APART * side):
        image = region.images[row].permute(1, 2, 0).numpy()
        shown = OffsetImage(image, zoom=SIDE * 72 / image.shape[0], interpolation="antialiased")
        colour = theme.concept if bool(region.shows[row]) else theme.other
        across, up = region.points[row].tolist()
        box = AnnotationBbox(shown, (across, up), pad=0.08, zorder=5, box_alignment=(0.5, 0.5))
        box.patch.set_edgecolor(colour)
        box.patch.set_facecolor(theme.paper)
        box.patch.set_linewidth(1.1)
        axes.add_artist(box)


def spread(points: Tensor, most: int, apart: float) -> Sequence[int]:
    """Rows of at most ``most`` points, no two nearer than ``apart`` in both coordinates; the first is nearest to the mean.

    Each next one is the farthest from those chosen, so that the pictures lie over the whole cloud.

    >>> spread(torch.tensor([[0.0, 0.0], [0.1, 0.0], [3.0, 0.0], [-3.0, 0.1]]), 3, 1.0)
    [0, 2, 3]
    """
    if not len(points) or most < 1:
        return []
    chosen = [int((points - points.mean(0)).norm(dim=1).argmin())]
    while len(chosen) < most:
        away = (points[:, None] - points[chosen][None]).abs().amax(2).amin(1)
        if float(away.max()) < apart:
            break
        chosen.append(int(away.argmax()))
    return chosen


def _said(space: Space, region: Region) -> str:
    """How many images show the concept, and the scale where there is one."""
    scale = getattr(region.asked.guidance, "guidance_scale", 1.0)
    shown = f"{float(region.shows.double().mean()):.0%} of {len(region.shows)} images show a {space.concept}"
    return shown if scale == 1 else f"{shown}; scale {scale:g}"


def _handles(space: Space, theme: Theme) -> list[Line2D]:
    style: dict[str, Any] = {"linestyle": "none", "markeredgewidth": 0}
    first = f"where images of the first panel lie, “{space.regions[0].asked.title}”"
    return [
        Line2D([], [], marker="^", color=theme.concept, markersize=6, label=f"an image with a {space.concept}", **style),
        Line2D([], [], marker="o", color=theme.other, markersize=5, label="an image without", **style),
        Line2D([], [], marker="o", color=theme.muted, alpha=0.35, markersize=4, label=first, **style),
    ]  # fmt: skip
