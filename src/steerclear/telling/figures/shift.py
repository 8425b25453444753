"""What was removed, and what else changed: a dot and its interval for every rate of every method."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ...core.laboratory import Column
from ...study.results import MethodResult, Results
from ..table import attribute_columns, concept_columns, exactly_known, off_truth, true_value, truth_cell
from .base import LIGHT, Drawing, Theme, blank, legend, quiet, text, wrapped

PANELS_PER_BAND = 7
"""Panels side by side; further ones go below, with the labels again."""

LABELS, PANEL, ROW, HEAD, FOOT, LEGEND = 2.35, 1.5, 0.3, 0.6, 0.38, 0.42
"""Sizes in inches."""


@dataclass(frozen=True)
class Shift(Drawing):
    """One panel per rate, the concept first; one row per method; the truth as a vertical line, with its interval if it was measured.

    A dot is blue if its interval covers the truth, or is not told apart from one that was measured, and orange if not, as happens by chance to one correct rate in twenty. The
    axes of a panel have the column's name as label.
    """

    name: ClassVar[str] = "shift"
    title: ClassVar[str] = "What it removed, and what else it changed"
    meaning: ClassVar[str] = (
        "How often each thing shows in the images of each method, with 95 % intervals; the table below has the same numbers."
    )
    place: ClassVar[int] = 20

    def nothing(self, results: Results) -> str | None:
        measured = results.methods and (concept_columns(results) or attribute_columns(results))
        return None if measured else "No rates were measured: no judge looked at these images."

    def explained(self, results: Results) -> str:
        if results.target is None:
            return "Each panel is the share of images that show something."
        return (
            f"Each panel is the share of images that show something; the vertical line is the {_kind(results)} truth, for "
            f"{results.target}{_band(results)}. Blue intervals {_agree(results)}, orange ones do not, as happens by chance to one "
            f"correct rate in twenty."
        )

    def draw(self, results: Results, folder: Path, theme: Theme = LIGHT) -> Figure:
        concepts = concept_columns(results)
        columns = concepts + attribute_columns(results)
        across = min(len(columns), PANELS_PER_BAND)
        bands = math.ceil(len(columns) / across)
        band = HEAD + ROW * len(results.methods) + FOOT
        width, height = LABELS + PANEL * across + 0.15, LEGEND + band * bands
        figure = blank(width, height, theme)
        for index, column in enumerate(columns):
            place = index % across
            bottom = height - LEGEND - (index // across + 1) * band + FOOT
            left, rows = (LABELS + PANEL * place + 0.08) / width, ROW * len(results.methods) / height
            axes = figure.add_axes((left, bottom / height, (PANEL - 0.22) / width, rows), label=column.name)
            _draw_panel(axes, results, column, theme, emphasis=column in concepts)
            if place == 0:
                _write_methods(figure, axes, results.methods, theme)
        with_truth = any(true_value(results, column) is not None for column in columns)
        _draw_legend(figure, theme, _kind(results) if with_truth else None, 1 - 0.22 / height)
        return figure


def _kind(results: Results) -> str:
    """Whether the truth is exact, or measured on images."""
    return "exact" if exactly_known(results) else "measured"


def _band(results: Results) -> str:
    return "" if _kind(results) == "exact" else ", and the band its interval"


def _agree(results: Results) -> str:
    return "cover it" if _kind(results) == "exact" else "cannot be told apart from it"


def _draw_panel(axes: Axes, results: Results, column: Column, theme: Theme, *, emphasis: bool) -> None:
    quiet(axes, theme)
    count = len(results.methods)
    axes.set_xlim(-4, 104)
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_xticks([0, 50, 100], ["0", "50", "100 %"])
    axes.set_yticks([])
    for row in range(count):
        axes.axhline(row, color=theme.faint, linewidth=0.6, zorder=0)
    known = true_value(results, column)
    title = wrapped(column.label, 19, 2)
    text(
        axes, 0.5, 1 + 0.26 / (ROW * count), title, transform=axes.transAxes, ha="center", va="baseline",
        fontsize=9, color=theme.ink, fontweight="bold" if emphasis else "normal", linespacing=1.05,
    )  # fmt: skip
    if known is not None:
        if known.low is not None and known.high is not None:
            axes.axvspan(known.low * 100, known.high * 100, color=theme.faint, linewidth=0, zorder=0)
        axes.axvline(known.value * 100, color=theme.ink, linewidth=1.1, zorder=1)
        text(
            axes, 0.5, 1 + 0.05 / (ROW * count), f"truth {truth_cell(known, True)}", transform=axes.transAxes,
            ha="center", va="bottom", fontsize=7.5, color=theme.muted,
        )  # fmt: skip
    for row, method in enumerate(results.methods):
        measurement = method.measurements.get(column.name)
        if measurement is None:
            continue
        color = theme.muted if known is None else theme.concept if off_truth(measurement) else theme.other
        if measurement.low is not None and measurement.high is not None:
            axes.plot([measurement.low * 100, measurement.high * 100], [row, row], color=color, linewidth=2, zorder=2)
        axes.plot([measurement.value * 100], [row], "o", color=color, markersize=5.5, zorder=3, clip_on=False)


def _write_methods(figure: Figure, axes: Axes, methods: list[MethodResult], theme: Theme) -> None:
    box = axes.get_position()
    for row, method in enumerate(methods):
        y = box.y1 - (row + 0.5) / len(methods) * (box.y1 - box.y0)
        words, x = wrapped(method.label, 34, 1), box.x0 - 0.12 / figure.get_figwidth()
        text(figure, x, y, words, ha="right", va="center", fontsize=8.5, color=theme.ink)


def _draw_legend(figure: Figure, theme: Theme, kind: str | None, y: float) -> None:
    """What the marks mean; ``kind`` is that of the truth, None without one."""
    if kind == "exact":
        dots = {"95 % interval covers the truth": theme.other, "95 % interval excludes the truth": theme.concept}
    elif kind is not None:
        dots = {
            "not told apart from the truth": theme.other,
            "95 % interval of the difference excludes 0": theme.concept,
        }
    else:
        dots = {"rate with its 95 % interval": theme.muted}
    style: dict[str, Any] = {"marker": "o", "linewidth": 2, "markersize": 5.5}
    handles = [Line2D([], [], color=color, label=label, **style) for label, color in dots.items()]
    if kind is not None:
        handles.append(Line2D([], [], color=theme.ink, linewidth=1.1, label=f"{kind} truth"))
    legend(figure, handles, theme, y)
