"""A diagram as files: small PNG, SVG, and an animation of images on their way from noise, as GIF."""

import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from ...study.diagram import Drawn, Scene
from ...study.gallery import write_bytes
from .base import LIGHT, Theme, blank, legend, png, text
from .diagram import cut, shade, titled, words_of

COLOURS = 256
"""Of a PNG: its areas are flat, and files of a page stay small."""

PANEL, ACROSS, HEAD, LEGEND, DPI = 2.45, 3, 0.34, 0.62, 96
"""Of the animation: inches of a panel, panels side by side, room above them and for the legend; pixels per inch."""

STILL, MILLISECONDS, LAST = 4.0, 180, 2400
"""Frames begin at this many spreads of noise, above which little moves; how long one stays, and the last one."""


def save_diagram(figure: Figure, path: Path) -> Path:
    """Write a figure in the format of the path's suffix, .png or .svg; the same bytes every time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, _svg(figure) if path.suffix == ".svg" else _small(png(figure)))
    return path


def _small(content: bytes) -> bytes:
    with Image.open(io.BytesIO(content)) as image:
        reduced = image.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    reduced.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "steerclear", "svg.fonttype": "path"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="svg", facecolor=figure.get_facecolor(), metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def save_animation(scene: Scene, path: Path, theme: Theme = LIGHT) -> Path:
    """Write the GIF of all ways of a scene: a panel per guidance, a dot per image, a frame per step."""
    frames = list(_frames(scene, theme))
    palette = frames[-1].quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    durations = [MILLISECONDS] * (len(small) - 1) + [LAST]
    buffer = io.BytesIO()
    small[0].save(
        buffer, format="GIF", save_all=True, append_images=small[1:], duration=durations, loop=0, optimize=True
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, buffer.getvalue())
    return path


def shown_steps(scene: Scene) -> list[int]:
    """The points of ways that become frames: from :data:`STILL` spreads of noise on, and the finished images."""
    moving = [step for step, level in enumerate(scene.levels) if level <= STILL * scene.request.frame.spread]
    return [*moving, len(scene.levels)]


def _frames(scene: Scene, theme: Theme) -> Iterator[Image.Image]:
    across = min(len(scene.drawn), ACROSS)
    rows = -(-len(scene.drawn) // across)
    width, height = across * PANEL + 0.24, LEGEND + rows * (PANEL + HEAD)
    figure = blank(width, height, theme, DPI)
    dots = []
    for index, drawn in enumerate(scene.drawn):
        x = 0.12 + (index % across) * PANEL
        bottom = height - LEGEND - (index // across + 1) * (PANEL + HEAD) + 0.08
        box = x / width, bottom / height, (PANEL - 0.1) / width, (PANEL - 0.1) / height
        axes = figure.add_axes(box, label=str(index))
        shade(axes, scene, scene.wanted[drawn.without].shading, theme, strength=0.5)
        title = words_of(drawn.guidance).title.replace(" + weak network", " + weak")
        titled(figure, x / width, (bottom + PANEL + 0.02) / height, cut(title, 28), "", theme)
        dots.append(_dots(axes, drawn, theme))
    names = {theme.other: "ends without the concept", theme.concept: "ends with it"}
    style: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 5}
    legend(figure, [Line2D([], [], color=color, label=label, **style) for color, label in names.items()], theme,
           1 - 0.14 / height)  # fmt: skip
    text(figure, 0.012, 1 - 0.38 / height, "pale: what is wanted; an image that is drawn anew vanishes at the end",
         fontsize=8.5, color=theme.muted, va="center")  # fmt: skip
    told = figure.text(1 - 0.12 / width, 1 - 0.14 / height, "", fontsize=10, color=theme.ink, ha="right", va="center")
    for step in shown_steps(scene):
        done = step == len(scene.levels)
        told.set_text("finished" if done else f"noise level {scene.levels[step]:.2g}")
        for drawn, (points, collection) in zip(scene.drawn, dots, strict=True):
            kept = [way.kept or not done for way in drawn.paths]
            collection.set_offsets(np.where(np.array(kept)[:, None], points[:, step], np.nan))
        yield _image(figure)


def _dots(axes: Axes, drawn: Drawn, theme: Theme) -> tuple[np.ndarray, PathCollection]:
    """The points of all ways, ``[ways, steps + 1, 2]``, and the dots that move along them."""
    points = np.stack([way.points for way in drawn.paths])
    colors = [theme.concept if way.shows else theme.other for way in drawn.paths]
    return points, axes.scatter(points[:, 0, 0], points[:, 0, 1], s=9, c=colors, linewidths=0, zorder=3)


def _image(figure: Figure) -> Image.Image:
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3].copy())
