"""The trials of a tuning: the front of objective and limit, the objective over each setting, and the seeds held out.

Drawn by ``steerclear tune``; it is no figure of a comparison's page.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ...core.laboratory import Measurement
from ...study.space import Span, parse_varied
from ...study.tuned import Row, Tuned
from .base import LIGHT, Theme, blank, legend, quiet, text, wrapped

WIDTH, HEIGHT, LEGEND, MARGIN = 3.4, 2.6, 0.42, 0.62
"""Sizes in inches: of a panel with its labels, of the legend above, of the labels' room at the left and below."""
COLUMNS = 3

Point = tuple[float, float]
Draw = Callable[[Axes], None]


@dataclass(frozen=True)
class _Panel:
    title: str
    across: str
    draw: Draw


def draw_tuning(found: Tuned, theme: Theme = LIGHT) -> Figure:
    """All panels, with one legend above them. Trials that keep the limits are filled, the others hollow."""
    panels = [*_front(found, theme), *_settings(found, theme), _held_out(found, theme)]
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    width, height = columns * WIDTH, rows * HEIGHT + LEGEND
    figure = blank(width, height, theme)
    for place, panel in enumerate(panels):
        left, bottom = (place % columns) * WIDTH + MARGIN, (rows - 1 - place // columns) * HEIGHT + MARGIN - 0.1
        box = left / width, bottom / height, (WIDTH - MARGIN - 0.12) / width, (HEIGHT - MARGIN - 0.24) / height
        axes = figure.add_axes(box, label=f"{place} {panel.title}")
        quiet(axes, theme, sides=("bottom", "left"))
        panel.draw(axes)
        axes.set_xlabel(panel.across, color=theme.muted, fontsize=8)
        style = {"transform": axes.transAxes, "ha": "left", "va": "bottom", "fontsize": 9, "color": theme.ink}
        text(axes, 0, 1.02, wrapped(panel.title, 44, 1), **style)
    legend(figure, _handles(found, theme), theme, 1 - 0.2 / height)
    return figure


def _trial(theme: Theme, keeps: bool) -> dict[str, object]:
    face = theme.other if keeps else "none"
    return {"linestyle": "none", "marker": "o", "markersize": 4.5, "color": theme.other, "markerfacecolor": face}


def _best(theme: Theme) -> dict[str, object]:
    return {"linestyle": "none", "marker": "*", "markersize": 11, "color": theme.concept}


def _handles(found: Tuned, theme: Theme) -> list[Line2D]:
    handles = [Line2D([], [], label="trial" if not found.limits else "keeps the limits", **_trial(theme, True))]  # type: ignore[arg-type]
    if found.limits:
        handles.append(Line2D([], [], label="does not", **_trial(theme, False)))  # type: ignore[arg-type]
    handles.append(Line2D([], [], label="found" if found.within else "nearest", **_best(theme)))  # type: ignore[arg-type]
    handles.append(Line2D([], [], color=theme.ink, linewidth=0.9, linestyle="--", marker="x", label="unguided"))
    return handles


def _front(found: Tuned, theme: Theme) -> list[_Panel]:
    """The objective against the first limit's measurement, with the bound and the trials that no other one excels."""
    if not found.limits:
        return []
    limit, name = found.goal.limits[0], found.objective

    def points(rows: Sequence[Row]) -> list[Point]:
        pairs = [(row.value(limit.name), row.value(name)) for row in rows]
        return [(x, y) for x, y in pairs if x is not None and y is not None]

    def draw(axes: Axes) -> None:
        front = points([found.trials[place] for place in found.front])
        if front:
            axes.plot(*zip(*front, strict=True), color=theme.muted, linewidth=1.0, zorder=2)
        _scatter(axes, found, points, theme)
        axes.axvline(found.bounds[0], color=theme.muted, linewidth=0.9, linestyle=":", zorder=1)
        for x, y in points([found.unguided]):
            axes.plot([x], [y], marker="x", markersize=7, color=theme.ink, zorder=4)

    return [_Panel(f"{found.column(name).label}, and {limit.written}", found.column(limit.name).label, draw)]


def _settings(found: Tuned, theme: Theme) -> list[_Panel]:
    """The objective over each setting that has a range."""
    return [_over(found, one.key, one.log, theme) for one in parse_varied([found.vary]) if isinstance(one, Span)]


def _over(found: Tuned, key: str, log: bool, theme: Theme) -> _Panel:
    def points(rows: Sequence[Row]) -> list[Point]:
        pairs = [(row.values.get(key), row.value(found.objective)) for row in rows]
        return [(float(x), y) for x, y in pairs if x is not None and y is not None]

    def draw(axes: Axes) -> None:
        if log:
            axes.set_xscale("log")
        _scatter(axes, found, points, theme)
        own = found.unguided.value(found.objective)
        if own is not None:
            axes.axhline(own, color=theme.ink, linewidth=0.9, linestyle="--", zorder=1)

    return _Panel(f"{found.column(found.objective).label}, seeds {found.seeds}", key, draw)


def _scatter(axes: Axes, found: Tuned, points: Callable[[Sequence[Row]], list[Point]], theme: Theme) -> None:
    for keeps in (True, False):
        for x, y in points([row for row in found.trials if row.keeps is keeps]):
            axes.plot([x], [y], zorder=3, **_trial(theme, keeps))  # type: ignore[arg-type]
    for x, y in points([found.best] if found.best is not None else []):
        axes.plot([x], [y], zorder=5, **_best(theme))  # type: ignore[arg-type]


def _held_out(found: Tuned, theme: Theme) -> _Panel:
    """The objective of unguided, the default and what was found, with intervals."""
    rows = [(row.role, row.measurements[found.objective]) for row in found.final if found.objective in row.measurements]

    def draw(axes: Axes) -> None:
        for place, (role, one) in enumerate(rows):
            colour = theme.concept if role == "found" else theme.ink if role == "unguided" else theme.other
            below, above = _ends(one)
            axes.errorbar([place], [one.value], [[below], [above]], color=colour, marker="o", markersize=5, capsize=3)
        axes.set_xticks(range(len(rows)), [role for role, _ in rows])
        axes.set_xlim(-0.6, len(rows) - 0.4)

    return _Panel(f"{found.column(found.objective).label}, held out", f"seeds {found.final_seeds}", draw)


def _ends(one: Measurement) -> Point:
    """Lengths of the interval below and above the value."""
    low, high = (one.value if end is None else end for end in (one.low, one.high))
    return max(one.value - low, 0.0), max(high - one.value, 0.0)
