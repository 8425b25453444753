"""What the guidance did on the way: each image's weight and posterior, step by step."""

import math
import re
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from ...study.results import ImageResult, MethodResult, Results
from ..table import shows_concept
from .base import LIGHT, Theme, blank, quiet, sentence, text, wrapped

PANEL_HEIGHT = 1.7
NOTHING = "No method adapts its push while it samples, so there is no trace to draw."
GROUPS = (
    (True, "the finished image shows the concept"),
    (False, "the finished image does not show it"),
    (None, "an image (nobody looked)"),
)


def traced(results: Results) -> list[tuple[MethodResult, str]]:
    """Methods that keep a weight or a posterior, once for each negative prompt; with the suffix of its names."""
    found = []
    for method in results.methods:
        names = {name for image in method.images for name in image.trace}
        matches = (re.fullmatch(r"(?:weight|posterior)(_\d+)?", name) for name in names)
        suffixes = {match[1] or "" for match in matches if match}
        found += [(method, suffix) for suffix in sorted(suffixes, key=lambda suffix: int(suffix[1:] or 1))]
    return found


def trace(results: Results, theme: Theme = LIGHT) -> Figure:
    """For each method that adapts: the weight (left) and the posterior (right) of every image over the steps.

    A thin line is an image, a bold one the median of its group: images that show the concept in the end, and the
    others. The weight is drawn linearly below 1 and logarithmically above.

    Args:
        results: what ``compare`` found.
        theme: colours.

    Returns:
        The figure; the axes of a panel have the label ``"<method name>/<trace name>"``.
    """
    rows = traced(results)
    if not rows:
        return sentence(NOTHING, theme)
    height = 0.65 + len(rows) * (PANEL_HEIGHT + 0.95) + 0.1
    figure = blank(10, height, theme)
    for index, (method, suffix) in enumerate(rows):
        top = 1 - (0.65 + index * (PANEL_HEIGHT + 0.95)) / height
        _write_title(figure, method, suffix, top, theme)
        for place, name in enumerate((f"weight{suffix}", f"posterior{suffix}")):
            box = (0.065 + 0.49 * place, top - (0.42 + PANEL_HEIGHT) / height, 0.425, PANEL_HEIGHT / height)
            axes = figure.add_axes(box, label=f"{method.name}/{name}")
            _draw_panel(axes, results, method, name, theme)
            if index == len(rows) - 1:
                axes.set_xlabel("step, and below it the noise level sigma / alpha", fontsize=8.5, color=theme.muted)
    _draw_legend(figure, results, [method for method, _ in rows], theme, 1 - 0.3 / height)
    return figure


def _write_title(figure: Figure, method: MethodResult, suffix: str, y: float, theme: Theme) -> None:
    which = int(suffix[1:] or 1) - 1
    negative = f", away from “{method.negative_prompts[which]}”" if which < len(method.negative_prompts) else ""
    text(
        figure,
        0.012,
        y,
        wrapped(method.label + negative, 95, 1),
        fontsize=10,
        fontweight="bold",
        va="top",
        color=theme.ink,
    )


def _line(image: ImageResult, name: str, steps: int) -> np.ndarray:
    """One number per step; gaps, as NaN, where the trace shows none."""
    values = [math.nan if value is None else value for value in image.trace.get(name, [])]
    return np.array((values + [math.nan] * steps)[:steps], dtype=float)


def _draw_panel(axes: Axes, results: Results, method: MethodResult, name: str, theme: Theme) -> None:
    quiet(axes, theme, sides=("bottom", "left"))
    steps = len(method.noise_levels) or max((len(image.trace.get(name, [])) for image in method.images), default=1)
    across = np.arange(1, steps + 1)
    colors = {True: theme.concept, False: theme.other, None: theme.muted}
    for group, _ in GROUPS:
        images = [image for image in method.images if image.trace.get(name) and shows_concept(results, image) is group]
        lines = np.array([_line(image, name, steps) for image in images]).reshape(-1, steps)
        for image, line in zip(images, lines, strict=True):
            axes.plot(across, line, color=colors[group], linewidth=0.8, alpha=0.4, gid=f"image {image.seed}")
        somewhere = ~np.isnan(lines).all(0) if len(lines) else np.zeros(steps, dtype=bool)
        if somewhere.any():
            median = np.full(steps, math.nan)
            median[somewhere] = np.nanmedian(lines[:, somewhere], axis=0)
            axes.plot(across, median, color=colors[group], linewidth=2.6, zorder=5, gid="median")
    axes.set_xlim(0.5, max(steps, 2) + 0.5)
    axes.grid(axis="y", color=theme.faint, linewidth=0.6)
    axes.set_axisbelow(True)
    _label_steps(axes, method.noise_levels, steps)
    if name.startswith("posterior"):
        axes.set_ylim(-0.03, 1.03)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
        axes.set_title("posterior p(concept | image so far)", fontsize=8.5, color=theme.muted, loc="left", pad=5)
    else:
        _scale_weights(
            axes, [value for image in method.images for value in image.trace.get(name, []) if value is not None]
        )
        axes.set_title("weight of the push", fontsize=8.5, color=theme.muted, loc="left", pad=5)


def _scale_weights(axes: Axes, values: Sequence[float]) -> None:
    """From 0, with room for the largest; linear where all is small."""
    finite = [value for value in values if math.isfinite(value)]
    highest, lowest = max([*finite, 1.0]), min([*finite, 0.0])
    if highest <= 3:
        axes.set_ylim(lowest - 0.03 * highest, highest * 1.05)
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        return
    axes.set_yscale("symlog", linthresh=1, linscale=0.8)
    axes.set_ylim(lowest - 0.04, highest * 1.25)
    decades = [10.0**power for power in range(math.ceil(math.log10(highest)) + 1)]
    axes.yaxis.set_major_locator(FixedLocator([0, *decades]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _label_steps(axes: Axes, levels: Sequence[float | None], steps: int) -> None:
    """About six ticks; below each step the noise level that it starts from, where the scheduler says it at all."""
    ticks = sorted({round(1 + part * (steps - 1) / 5) for part in range(6)})
    known = len(levels) if any(level is not None for level in levels) else 0
    labels = [f"{tick}\n{_short(levels[tick - 1])}" if tick <= known else str(tick) for tick in ticks]
    axes.set_xticks(ticks, labels, linespacing=1.35)


def _short(level: float | None) -> str:
    """A noise level in a few characters.

    >>> _short(157.41), _short(2.345), _short(0.0291), _short(0.0), _short(None)
    ('157', '2.3', '0.03', '0', '∞')
    """
    if level is None or not math.isfinite(level):
        return "∞"
    if level >= 10:
        return f"{level:.0f}"
    return f"{level:.1f}" if level >= 1 else f"{level:.1g}"


def _draw_legend(figure: Figure, results: Results, methods: list[MethodResult], theme: Theme, y: float) -> None:
    present = {shows_concept(results, image) for method in methods for image in method.images}
    colors = {True: theme.concept, False: theme.other, None: theme.muted}
    handles = [
        Line2D([], [], color=colors[group], linewidth=2.6, label=label) for group, label in GROUPS if group in present
    ]
    handles.append(Line2D([], [], color=theme.muted, linewidth=0.8, label="thin: an image; bold: the group's median"))
    figure.legend(
        handles=handles, loc="center left", bbox_to_anchor=(0.012, y), ncols=len(handles), frameon=False, fontsize=8.5,
        labelcolor=theme.ink, borderaxespad=0, handlelength=1.8, columnspacing=1.6,
    )  # fmt: skip
