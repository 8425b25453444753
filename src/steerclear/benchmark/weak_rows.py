"""What is said of a weak network at one scale: figures over sets of seeds, beside the unguided ones of the same seeds."""

import math
from collections.abc import Mapping, Sequence

import torch
from pydantic import BaseModel, ConfigDict
from scipy.stats import t as student

from ..core.laboratory import Measurement
from ..metrics.estimates import LEVEL
from .weak_world import ANY, CFG, UNGUIDED, Cell, Figured

HELPS, HARMS, NOTHING, TOO_FEW = "helps", "harms", "no sure difference", "too few sets"


class Row(BaseModel):
    """One way at one scale, in one interval.

    Attributes:
        main, condition, way, scale, start, stop: what was drawn; see :class:`~.weak_world.Cell`.
        family: what makes the weak network weak; "" without one.
        faults_of_main: whether the weak network has the faults of the main one, only stronger; None where that is not known.
        images: samples of a set.
        figures: means over the sets, with Student's intervals.
        ratio: of the first figure to the unguided one's of the same seeds.
        kept: the last figure less the unguided one's of the same seeds.
        evaluations: of networks, per sample.
        sets: the figures of each set.
    """

    model_config = ConfigDict(frozen=True)

    main: str
    condition: str
    way: str
    scale: float
    start: float
    stop: float
    family: str
    faults_of_main: bool | None = None
    images: int
    figures: dict[str, Measurement]
    ratio: Measurement
    kept: Measurement
    evaluations: float
    sets: list[dict[str, float]]

    @property
    def setting(self) -> tuple[str, str, float, float]:
        """What is drawn in one panel."""
        return self.main, self.condition, self.start, self.stop

    @property
    def verdict(self) -> str:
        """Whether the first figure is surely below the unguided one's, or above it."""
        if self.ratio.low is None or self.ratio.high is None:
            return TOO_FEW
        return HELPS if self.ratio.high < 1 else HARMS if self.ratio.low > 1 else NOTHING


def over_sets(values: Sequence[float]) -> Measurement:
    """The mean with Student's interval over independent sets; without one for a single set.

        mean -+ t s / sqrt(n),    s^2 = sum (x - mean)^2 / (n - 1)

    >>> found = over_sets([1.0, 2.0, 3.0])
    >>> found.value, round(found.high, 3)  # t of two degrees of freedom is 4.303
    (2.0, 4.484)
    """
    numbers = torch.tensor(values, dtype=torch.float64)
    mean = float(numbers.mean())
    if len(values) < 2:
        return Measurement(value=mean)
    error = float(numbers.std()) / math.sqrt(len(values))
    reach = float(student.ppf((1 + LEVEL) / 2, len(values) - 1)) * error
    return Measurement(value=mean, low=mean - reach, high=mean + reach, interval="jackknife")


def row_of(
    cell: Cell, family: str, images: int, figured: Sequence[Figured], own: Sequence[Mapping[str, float]],
    unguided: Sequence[Mapping[str, float]],
) -> Row:  # fmt: skip
    """The row of a cell; the sets of ``own`` and ``unguided`` are of the same seeds."""
    first, last = figured[0].name, figured[-1].name
    names = [one.name for one in figured if one.name in own[0]]
    least = 1e-12  # of a perfect figure
    pairs = list(zip(own, unguided, strict=True))
    return Row(
        main=cell.main, condition=cell.condition, way=cell.way, scale=cell.scale, start=cell.start, stop=cell.stop,
        family=family, images=images, figures={name: over_sets([one[name] for one in own]) for name in names},
        ratio=over_sets([one[first] / max(other[first], least) for one, other in pairs]),
        kept=over_sets([one[last] - other[last] for one, other in pairs]),
        evaluations=sum(one["evaluations"] for one in own) / len(own), sets=[dict(one) for one in own],
    )  # fmt: skip


def best_of(rows: Sequence[Row], last: str, share: float, unguided: Row | None) -> Row | None:
    """The row with the least first figure among those that keep the last one, or among all where none does."""
    floor = -math.inf if unguided is None else share * unguided.figures[last].value
    keeping = [row for row in rows if row.figures[last].value >= floor]
    return min(keeping or rows, key=lambda row: row.ratio.value, default=None)


def settings_of(rows: Sequence[Row]) -> list[tuple[str, str, float, float]]:
    """The panels that have a guided row, in their order."""
    return list(dict.fromkeys(row.setting for row in rows if row.way != UNGUIDED))


def unguided_of(rows: Sequence[Row], main: str, condition: str) -> Row | None:
    found = (row for row in rows if (row.way, row.main, row.condition) == (UNGUIDED, main, condition))
    return next(found, None)


def said(one: Measurement, places: int = 3) -> str:
    """A number with its interval.

    >>> said(Measurement(value=0.5, low=0.25, high=0.75, interval="jackknife"), 2)
    '0.50 [0.25, 0.75]'
    """
    ends = "" if one.low is None else f" [{one.low:.{places}f}, {one.high:.{places}f}]"
    return f"{one.value:.{places}f}{ends}"


def verdicts_of(rows: Sequence[Row], figured: Sequence[Figured]) -> list[str]:
    """One sentence per weak network in each panel: whether it helps, and at which scale most."""
    found, first, last = [], figured[0], figured[-1]
    for setting in settings_of(rows):
        own = [row for row in rows if row.setting == setting and row.way != UNGUIDED]
        main, condition, start, stop = setting
        where = f"{main}, {condition}" + ("" if (start, stop) == (0, 1) else f", steps from {start:g} to {stop:g}")
        for way in dict.fromkeys(row.way for row in own):
            best = min((row for row in own if row.way == way), key=lambda row: row.ratio.value)
            found.append(
                f"{where}: {way}{f' ({best.family})' if best.family else ''} {best.verdict}: at its best scale, {best.scale:g}, "
                f"{first.label} {said(best.figures[first.name])}, {said(best.ratio, 2)} of the unguided one's; {last.label} "
                f"{best.kept.value:+.3f}"
            )
    return found


def faults_said(rows: Sequence[Row]) -> list[str]:
    """For each setting with weak networks of both sorts: whether one with the faults of the main one helps, and one with others.

    Karras et al. (2024, arXiv 2406.02507, section 4.2): the weak network has to have the same faults, only stronger.
    """
    found = []
    for setting in settings_of(rows):
        own = [row for row in rows if row.setting == setting]
        same, other = (
            min((row for row in own if row.faults_of_main is sort), key=lambda row: row.ratio.value, default=None)
            for sort in (True, False)
        )
        if same is not None and other is not None:
            found.append(
                f"{setting[0]}, {setting[1]}: with the faults of the main network, stronger, the best is {same.way} at {same.scale:g}, "
                f"{said(same.ratio, 2)} of the unguided one's ({same.verdict}); with other faults {other.way} at {other.scale:g}, "
                f"{said(other.ratio, 2)} ({other.verdict}). That it must have the same faults is {_decided(same, other)}."
            )
    return found


def _decided(same: Row, other: Row) -> str:
    if TOO_FEW in (same.verdict, other.verdict) or HELPS not in (same.verdict, other.verdict):
        return "not decided"
    if other.verdict != HELPS:
        return "confirmed"
    ends = same.ratio.high, other.ratio.low
    better = same.verdict == HELPS and None not in ends and ends[0] < ends[1]  # type: ignore[operator]
    return "refuted, though they help more" if better else "refuted"


def is_weak(row: Row) -> bool:
    """Whether it is guided by a weak network."""
    return row.way not in (UNGUIDED, CFG)


def has_cfg(condition: str) -> bool:
    """Whether classifier-free guidance has an effect under a condition."""
    return condition != ANY
