"""Numbers as people read them: cells and tables that the terminal, the page and the figures share."""

import math
from typing import TYPE_CHECKING

from ..core.laboratory import UNSURE, Column, Measurement
from ..study.results import ImageResult, Results

if TYPE_CHECKING:
    from rich.table import Table

MISSING = "–"
LEAST_LABEL_ROOM, NARROW_LABEL_ROOM, ROOMY_LABEL_ROOM = 15, 20, 40
"""Width of a method's label: at least, and at most in a narrow and in a wide terminal."""

GAP = 2
"""Blanks between columns."""

ROOMY = 140
"""Terminal width from which an interval fits on the same line as its value."""

ARROWS = {"lower": "↓", "higher": "↑", "truth": "◎"}
DIRECTIONS = {"lower": "lower is better", "higher": "higher is better", "truth": "nearer to the truth is better"}


def truth(results: Results, column: Column) -> float | None:
    """The column's truth, or None if unknown."""
    found = (method.measurements.get(column.name) for method in results.methods)
    return next((one.truth for one in found if one is not None and one.truth is not None), None)


def true_value(results: Results, column: Column) -> Measurement | None:
    """The column's truth, with its interval where it was measured on images; None if unknown."""
    found = (method.measurements.get(column.name) for method in results.methods)
    known = next((one for one in found if one is not None and one.truth is not None), None)
    if known is None or known.truth is None:
        return None
    return Measurement(value=known.truth, low=known.truth_low, high=known.truth_high)


def rate_columns(results: Results) -> list[Column]:
    """Shares of images that show something: first the concepts."""
    return concept_columns(results) + attribute_columns(results)


def concept_columns(results: Results) -> list[Column]:
    """The rates of the concepts that the negative prompts name, if measured."""
    return [column for column in measured_columns(results) if column.role == "concept"]


def attribute_columns(results: Results) -> list[Column]:
    """The rates of everything else."""
    return [column for column in measured_columns(results) if column.role == "rate"]


def side_effect_column(results: Results) -> Column | None:
    """The one number for side effects: the first that was measured, or None."""
    return next((column for column in measured_columns(results) if column.side_effect), None)


def measured_columns(results: Results) -> list[Column]:
    """Columns in which at least one method has a number."""
    measured = {name for method in results.methods for name in method.measurements}
    return [column for column in results.columns if column.name in measured]


def main_columns(results: Results) -> list[Column]:
    """The columns of a first look: all but details."""
    return [column for column in results.columns if not column.detail]


def shows_concept(results: Results, image: ImageResult) -> bool | None:
    """Whether an image shows a concept; None without a judge."""
    seen = [image.shown[column.name] for column in concept_columns(results) if column.name in image.shown]
    return any(seen) if seen else None


def unsure(results: Results, image: ImageResult) -> bool:
    """Whether the judge is unsure of one concept and sure of none; False without probabilities."""
    known = [image.probability[column.name] for column in concept_columns(results) if column.name in image.probability]
    low, high = UNSURE
    return any(low <= sure <= high for sure in known) and not any(sure > high for sure in known)


def number(value: float, decimals: int) -> str:
    """A number with this many decimals; never "-0".

    >>> number(-0.001, 2), number(12.345, 1), number(float("nan"), 1)
    ('0.00', '12.3', '–')
    """
    if not math.isfinite(value):
        return MISSING if math.isnan(value) else ("∞" if value > 0 else "-∞")
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def decimals(measurement: Measurement, percent: bool) -> int:
    """How many decimals to show: two digits of the interval's width; none for percentages with a width of 2 or more.

    >>> decimals(Measurement(value=0.123, low=0.08, high=0.17), percent=True)
    0
    >>> decimals(Measurement(value=0.123, low=0.08, high=0.17), percent=False)
    3
    """
    scale = 100 if percent else 1
    ends = _interval(measurement)
    width = abs(ends[1] - ends[0]) * scale if ends else 0.0
    if width > 0 and math.isfinite(width):
        least = 0 if percent and width >= 2 else 1 - math.floor(math.log10(width))
        return min(max(least, 0), 4)
    size = abs(measurement.value) * scale
    if percent or not math.isfinite(size) or float(size).is_integer():
        return 0
    return min(max(2 - math.floor(math.log10(size)), 0), 4)


def _interval(measurement: Measurement | None) -> tuple[float, float] | None:
    if measurement is None or measurement.low is None or measurement.high is None:
        return None
    return measurement.low, measurement.high


def value_text(measurement: Measurement | None, percent: bool) -> str:
    """The estimate without its interval.

    >>> value_text(Measurement(value=0.123, low=0.08, high=0.17), percent=True)
    '12 %'
    """
    if measurement is None:
        return MISSING
    text = number(measurement.value * (100 if percent else 1), decimals(measurement, percent))
    return f"{text} %" if percent and text != MISSING else text


def interval_text(measurement: Measurement | None, percent: bool) -> str:
    """The interval in brackets, or "".

    >>> interval_text(Measurement(value=0.123, low=0.08, high=0.17), percent=True)
    '[8, 17]'
    """
    ends = _interval(measurement)
    if measurement is None or ends is None:
        return ""
    places, scale = decimals(measurement, percent), 100 if percent else 1
    return f"[{number(ends[0] * scale, places)}, {number(ends[1] * scale, places)}]"


def cell(measurement: Measurement | None, percent: bool) -> str:
    """The estimate and its interval.

    >>> cell(Measurement(value=0.123, low=0.08, high=0.17), percent=True)
    '12 % [8, 17]'
    >>> cell(Measurement(value=0.0523, low=0.041, high=0.066), percent=False)
    '0.052 [0.041, 0.066]'
    >>> cell(Measurement(value=60.0), percent=False), cell(None, percent=False)
    ('60', '–')
    """
    return f"{value_text(measurement, percent)} {interval_text(measurement, percent)}".strip()


def heading(column: Column) -> str:
    """The column's label with an arrow to its better side: ↓ lower, ↑ higher, ◎ nearer to the truth."""
    return f"{column.label} {ARROWS.get(column.better or '', '')}".strip()


def legend(results: Results) -> str:
    """What the arrows in the headings, and the brackets, mean.

    >>> legend(Results.model_construct(columns=[], methods=[]))
    'In brackets: 95 % intervals.'
    """
    found = [column.better for column in results.columns]
    arrows = [f"{arrow} {DIRECTIONS[way]}" for way, arrow in ARROWS.items() if way in found]
    return f"{', '.join(arrows)}{'. ' if arrows else ''}In brackets: 95 % intervals."


def header(results: Results, columns: list[Column] | None = None) -> list[str]:
    """The first row of the table; all columns by default."""
    return ["folder" if results.folders else "method", *(heading(column) for column in columns or results.columns)]


def rows(results: Results, columns: list[Column] | None = None) -> list[list[str]]:
    """One row per method: its label, and a cell per column; all columns by default."""
    chosen = columns or results.columns
    return [
        [method.label, *(cell(method.measurements.get(column.name), column.percent) for column in chosen)]
        for method in results.methods
    ]


def truth_row(results: Results, columns: list[Column] | None = None) -> list[str]:
    """What a perfect method would give, in the columns where it is known; all columns by default."""
    texts = ["truth"]
    for column in columns or results.columns:
        texts.append(truth_cell(true_value(results, column), column.percent))
    return texts


def truth_cell(known: Measurement | None, percent: bool) -> str:
    """A truth: exact, or with its interval.

    >>> truth_cell(Measurement(value=0.325), percent=True)
    '32.5 %'
    >>> truth_cell(Measurement(value=0.5, low=0.45, high=0.55), percent=True)
    '50 % [45, 55]'
    """
    if known is None:
        return MISSING
    return truth_text(known.value, percent) if known.low is None else cell(known, percent)


def exactly_known(results: Results) -> bool:
    """Whether the truth is exact: not measured on other images, and not counted in real ones, whose rates have intervals."""
    if results.truth is not None and results.truth.kind != "exact":
        return False
    return all(one.truth_low is None for method in results.methods for one in method.measurements.values())


def truth_text(value: float, percent: bool) -> str:
    """An exact truth: a percentage with at most one decimal, another number with at most three.

    >>> truth_text(0.325, percent=True), truth_text(0.5, percent=True), truth_text(0.0, percent=False)
    ('32.5 %', '50 %', '0')
    """
    if percent:
        return f"{number(value * 100, 1).removesuffix('.0')} %"
    return number(value, 3).rstrip("0").rstrip(".")


def off_truth(measurement: Measurement | None) -> bool:
    """Whether the interval excludes the truth; by chance that of one correct number in twenty does.

    Where the truth was measured too, it is the interval of the difference of the two that excludes 0, made of both intervals
    (Newcombe 1998, Interval estimation for the difference between independent proportions, method 10).

    >>> off_truth(Measurement(value=0.5, low=0.4, high=0.6, truth=0.38))
    True
    >>> off_truth(Measurement(value=0.5, low=0.4, high=0.6, truth=0.38, truth_low=0.28, truth_high=0.48))
    False
    """
    apart = None if measurement is None else measurement.beside_truth
    return apart is not None and not apart[0] <= 0 <= apart[1]


def terminal_tables(results: Results, *, width: int = ROOMY) -> list["Table"]:
    """Rich tables: first concepts, scores and costs; then rates and everything else that is compared with its truth.

    Columns that are details are left out; the report's full table has them.

    Args:
        results: the results; labels are plain text, without rich's markup.
        width: of the terminal. Below :data:`ROOMY` intervals go below their values; columns that do not fit go into a
            further table.
    """
    narrow = width < ROOMY
    shown = main_columns(results)
    others = [column for column in shown if column.role == "rate" or column.better == "truth"]
    first = [column for column in shown if column not in others]
    groups = [group for columns in (first, others) for group in _fitting(results, columns, width)]
    return [_terminal_table(results, columns, narrow) for columns in groups]


def _label_room(results: Results, narrow: bool) -> int:
    """Width for the longest label, in a narrow terminal for its longest word; longer ones are folded."""
    lines = [line for method in results.methods for line in (method.label.split() if narrow else [method.label])]
    longest = max(map(len, lines), default=0)
    return min(max(longest, LEAST_LABEL_ROOM), NARROW_LABEL_ROOM if narrow else ROOMY_LABEL_ROOM)


def _fitting(results: Results, columns: list[Column], width: int) -> list[list[Column]]:
    """The columns in groups that each fit into the terminal."""
    narrow = width < ROOMY
    groups: list[list[Column]] = []
    room = 0
    for column in columns:
        texts = [_shown(text, narrow) for _, text in rows(results, [column])]
        lines = [line for text in (_stacked(heading(column), narrow), *texts) for line in text.split("\n")]
        lines += _shown(truth_row(results, [column])[1], narrow).split("\n")
        needed = GAP + max(map(len, lines))
        if needed > room:
            groups.append([])
            room = width - _label_room(results, narrow)
        groups[-1].append(column)
        room -= needed
    return groups


def _shown(text: str, narrow: bool) -> str:
    """A cell; in a narrow terminal the interval is below its value.

    >>> _shown("56 % [44, 68]", narrow=True)
    '56 %\\n[44, 68]'
    """
    return text.replace(" [", "\n[") if narrow else text


def _stacked(head: str, narrow: bool) -> str:
    """A heading; in a narrow terminal one word per line."""
    return head.replace(" ", "\n") if narrow else head


def _terminal_table(results: Results, columns: list[Column], narrow: bool) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, header_style="bold", collapse_padding=True, pad_edge=False, show_edge=False)
    label, *heads = header(results, columns)
    table.add_column(Text(label), width=_label_room(results, narrow), overflow="fold")
    for head in heads:
        table.add_column(Text(_stacked(head, narrow)), justify="right")
    for label, *cells in rows(results, columns):
        table.add_row(Text(label), *(Text(_shown(text, narrow)) for text in cells))
    last = truth_row(results, columns)
    if any(text != MISSING for text in last[1:]):
        table.add_section()
        table.add_row(*(Text(_shown(text, narrow), style="dim") for text in last))
    return table
