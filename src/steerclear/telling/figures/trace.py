"""What the guidance did while sampling: every number of its trace, per image and step."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from ...core.errors import UnknownName
from ...core.records import Trace
from ...core.settings import texts
from ...study.results import Results
from ..table import shows_concept
from .base import LIGHT, Drawing, Theme, blank, legend, quiet, sentence, text, wrapped

PANEL_HEIGHT = 1.7
ACROSS = 2
"""Panels side by side."""

TITLES = {"weight": "weight of the push", "posterior": "posterior p(concept | image so far)"}
"""Numbers that come first, with their titles; others are named as in the trace."""

LENGTH = "norm"
"""Ending of the names of lengths, which are drawn only if named."""

NOTHING = "No method reports numbers while it samples, so there is no trace to draw."
GROUPS = (
    (True, "the finished image shows the concept"),
    (False, "the finished image does not show it"),
    (None, "an image (not judged)"),
)


@dataclass(frozen=True)
class Line:
    """One image: label, whether it shows the concept (None: not judged), and name -> a number per step."""

    label: str
    shows: bool | None
    trace: dict[str, list[float | None]]


@dataclass(frozen=True)
class _Row:
    """Panels side by side.

    Attributes:
        key, title: of the method.
        names: of the numbers, one per panel.
        levels: sigma / alpha per step; None where unknown.
        lines: one per image.
    """

    key: str
    title: str
    names: tuple[str, ...]
    levels: list[float | None]
    lines: list[Line]


@dataclass(frozen=True)
class TraceDrawing(Drawing):
    """For each method with a trace: one panel per number, with one line per image over the steps.

    Thin lines are images, bold ones the medians of two groups: images that show the concept in the end, and the others. A
    number that exceeds 3 is drawn linearly below 1 and logarithmically above. The axes of a panel have the label
    ``"<method name>/<trace name>"``.

    Args:
        names: the numbers to draw; () for all except lengths, whose names end in "norm".
    """

    names: tuple[str, ...] = ()

    name: ClassVar[str] = "trace"
    title: ClassVar[str] = "What the guidance did on the way"
    meaning: ClassVar[str] = (
        "The trace of each method that adapts, one line per image over the sampling steps: weight of the push, posterior of the "
        "concept, and other numbers."
    )
    place: ClassVar[int] = 60

    def __post_init__(self) -> None:
        texts("names", self.names, "names of a trace")

    def explained(self, results: Results) -> str:
        return "Methods that adapt their push to each image, step by step. At the end of a line is the finished image."

    def nothing(self, results: Results) -> str | None:
        return None if self._rows(results) else NOTHING

    def draw(self, results: Results, folder: Path, theme: Theme = LIGHT) -> Figure:
        return _drawn(self._rows(results), theme)

    def of_run(self, trace: Trace, theme: Theme = LIGHT) -> Figure:
        """The trace of one run; errors as for :meth:`of_lines`."""
        tables = {name: trace.table(name) for name in trace.names}
        traces = [{name: table[:, k].tolist() for name, table in tables.items()} for k in range(len(trace.evaluations))]
        lines = [Line(f"image {k}", None, one) for k, one in enumerate(traces)]
        return self.of_lines([None if math.isnan(level) else level for level in trace.levels], lines, theme)

    def of_lines(self, levels: list[float | None], lines: list[Line], theme: Theme = LIGHT) -> Figure:
        """Images of one method; ``levels`` as in :class:`~steerclear.study.gallery.Picture`.

        Raises:
            UnknownName: no step has a number of this name.
        """
        known = {name for line in lines for name in line.trace}
        for name in self.names:
            if name not in known:
                raise UnknownName("measurement in this trace", name, known)
        rows = list(_split(_Row("run", "", (), levels, lines), self.names, ()))
        return _drawn(rows, theme) if rows else sentence(NOTHING, theme)

    def _rows(self, results: Results) -> list[_Row]:
        rows: list[_Row] = []
        for method in results.methods:
            lines = [Line(f"image {one.seed}", shows_concept(results, one), one.trace) for one in method.images]
            whole = _Row(method.name, method.label, (), method.noise_levels, lines)
            rows += _split(whole, self.names, method.negative_prompts)
        return rows


def _split(row: _Row, wanted: Sequence[str], negatives: Sequence[str]) -> Iterator[_Row]:
    """A method's rows, each of at most :data:`ACROSS` panels: for the first negative prompt, the second ("weight_2"), ..."""
    found = dict.fromkeys(name for line in row.lines for name, values in line.trace.items() if values)
    names = [name for name in found if (name in wanted if wanted else not _base(name).endswith(LENGTH))]
    order = list(TITLES)
    for index in sorted({_index(name) for name in names}):
        own = [name for name in names if _index(name) == index]
        own.sort(key=lambda name: order.index(_base(name)) if _base(name) in order else len(order))
        away = index <= len(negatives) and any(_base(name) in TITLES for name in own)
        title = f"{row.title}, away from “{negatives[index - 1]}”" if away else row.title
        for start in range(0, len(own), ACROSS):
            yield replace(row, title=title, names=tuple(own[start : start + ACROSS]))


def _base(name: str) -> str:
    """The name without the number of its negative prompt.

    >>> _base("weight_2"), _base("push_norm")
    ('weight', 'push_norm')
    """
    return re.sub(r"_\d+$", "", name)


def _index(name: str) -> int:
    """Which negative prompt a name belongs to, from 1."""
    match = re.search(r"_(\d+)$", name)
    return int(match[1]) if match else 1


def _drawn(rows: Sequence[_Row], theme: Theme) -> Figure:
    height = 0.65 + len(rows) * (PANEL_HEIGHT + 0.95) + 0.1
    figure = blank(10, height, theme)
    for index, row in enumerate(rows):
        top = 1 - (0.65 + index * (PANEL_HEIGHT + 0.95)) / height
        title = wrapped(row.title, 95, 1)
        text(figure, 0.012, top, title, fontsize=10, fontweight="bold", va="top", color=theme.ink)
        for place, name in enumerate(row.names):
            box = (0.065 + 0.49 * place, top - (0.42 + PANEL_HEIGHT) / height, 0.425, PANEL_HEIGHT / height)
            axes = figure.add_axes(box, label=f"{row.key}/{name}")
            _draw_panel(axes, row, name, theme)
            if index == len(rows) - 1:
                axes.set_xlabel("step, and below it the noise level sigma / alpha", fontsize=8.5, color=theme.muted)
    _draw_legend(figure, {line.shows for row in rows for line in row.lines}, theme, 1 - 0.3 / height)
    return figure


def _color(theme: Theme, group: bool | None) -> str:
    return theme.muted if group is None else theme.concept if group else theme.other


def _numbers(line: Line, name: str, steps: int) -> np.ndarray:
    """One number per step; NaN at steps without one."""
    values = [math.nan if value is None else value for value in line.trace.get(name, [])]
    return np.array((values + [math.nan] * steps)[:steps], dtype=float)


def _draw_panel(axes: Axes, row: _Row, name: str, theme: Theme) -> None:
    quiet(axes, theme, sides=("bottom", "left"))
    steps = len(row.levels) or max((len(line.trace.get(name, [])) for line in row.lines), default=1)
    across = np.arange(1, steps + 1)
    for group, _ in GROUPS:
        drawn = [line for line in row.lines if line.trace.get(name) and line.shows is group]
        values = np.array([_numbers(line, name, steps) for line in drawn]).reshape(-1, steps)
        for line, numbers in zip(drawn, values, strict=True):
            axes.plot(across, numbers, color=_color(theme, group), linewidth=0.8, alpha=0.4, gid=line.label)
        somewhere = ~np.isnan(values).all(0) if len(values) else np.zeros(steps, dtype=bool)
        if somewhere.any():
            median = np.full(steps, math.nan)
            median[somewhere] = np.nanmedian(values[:, somewhere], axis=0)
            axes.plot(across, median, color=_color(theme, group), linewidth=2.6, zorder=5, gid="median")
    axes.set_xlim(0.5, max(steps, 2) + 0.5)
    axes.grid(axis="y", color=theme.faint, linewidth=0.6)
    axes.set_axisbelow(True)
    _label_steps(axes, row.levels, steps)
    shown = TITLES.get(_base(name), name.replace("_", " "))
    axes.set_title(shown, fontsize=8.5, color=theme.muted, loc="left", pad=5, parse_math=False)
    if _base(name) == "posterior":
        axes.set_ylim(-0.03, 1.03)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    else:
        _scale(axes, [value for line in row.lines for value in line.trace.get(name, []) if value is not None])


def _scale(axes: Axes, values: Sequence[float]) -> None:
    """Axis from 0 to the largest values; logarithmic above 1 if they exceed 3 in size."""
    finite = [value for value in values if math.isfinite(value)]
    highest, lowest = max([*finite, 1.0]), min([*finite, 0.0])
    if max(highest, -lowest) <= 3:
        room = 0.03 * max(highest, -lowest)
        axes.set_ylim(lowest - room, highest + 0.05 * highest)
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        return
    axes.set_yscale("symlog", linthresh=1, linscale=0.8)
    axes.set_ylim(lowest * 1.25 - 0.04, highest * 1.25)
    decades = [10.0**power for power in range(math.ceil(math.log10(max(highest, -lowest))) + 1)]
    below = [-decade for decade in decades if -decade >= lowest * 1.25]
    axes.yaxis.set_major_locator(FixedLocator([*below, 0, *decades]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _label_steps(axes: Axes, levels: Sequence[float | None], steps: int) -> None:
    """About six ticks; below each step the noise level at which it starts, if the scheduler reports it."""
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


def _draw_legend(figure: Figure, present: set[bool | None], theme: Theme, y: float) -> None:
    shown = [(_color(theme, group), label) for group, label in GROUPS if group in present]
    handles = [Line2D([], [], color=color, linewidth=2.6, label=label) for color, label in shown]
    handles.append(Line2D([], [], color=theme.muted, linewidth=0.8, label="thin: an image; bold: the group's median"))
    legend(figure, handles, theme, y)
