"""What a tuning found, as data: the content of tune.json."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import ValidationError

from ..core.errors import InvalidSetting
from ..core.laboratory import Column, Frozen, Measurement
from .goals import WORST, Bounds, Direction, Goal, Limit, parse_limit

TUNED_FILE, TRIALS_FILE = "tune.json", "trials.json"
SCHEMA_VERSION = "1.0"

Verdict = Literal["use", "leave off", "none"]
"""Whether the settings found are worth using on held-out seeds: better than unguided by more than the interval of the
difference, or kept limits that unguided does not keep ("use"); not better ("leave off"); or no settings keep the limits ("none")."""


class Row(Frozen):
    """One setting, measured on one set of seeds.

    Attributes:
        role: "unguided", "default" or "found"; "trial" of the search.
        method: for ``--methods``.
        networks: name -> source of the networks that were varied.
        values: what was varied: key -> value as typed.
        measurements: by column.
        violations: how far each limit is exceeded, as a share of its bound; at most 0 where it is kept.
        refused: why it could not be measured, in a sentence; None if it was.
    """

    role: Literal["unguided", "default", "found", "trial"]
    method: str
    networks: dict[str, str] = {}
    values: dict[str, str] = {}
    measurements: dict[str, Measurement] = {}
    violations: list[float] = []
    refused: str | None = None

    def value(self, name: str) -> float | None:
        """One of its numbers; None if it has none."""
        found = self.measurements.get(name)
        return None if found is None else found.value

    @property
    def keeps(self) -> bool:
        """Whether it keeps all limits, by its measurements alone."""
        return self.refused is None and all(one <= 0 for one in self.violations)


class Trials(Frozen):
    """The trials of a search so far: the content of trials.json.

    Attributes:
        rows: in the order in which they were tried.
    """

    rows: list[Row] = []


class Tuned(Frozen):
    """What a tuning found.

    Attributes:
        schema_version, steerclear_version: of this file and of the program.
        command: how to repeat it.
        prompt, negative_prompts: the question.
        model, model_digest, scheduler, num_inference_steps: what made the images.
        judge: the laboratory that measured them, as plain values.
        method: what was tuned, as given.
        vary: what was varied.
        direction, objective: what was wanted.
        limits: what had to be kept; their bounds on the seeds of the search and on those held out.
        bounds, final_bounds: see ``limits``.
        columns: of the measurements.
        target: in words, what the images are compared with; None without a known truth.
        seeds, final_seeds: of the search, and those held out, as on the command line.
        unguided, default: on the seeds of the search. The default is None if the model cannot make it.
        trials: all of them, in their order.
        found: the place of the best trial that keeps the limits, else of the one nearest to them; None if nothing was measured.
        within: whether that trial keeps the limits on the seeds of the search.
        front: places of trials that no other one excels in both the objective and the first limit's measurement.
        final: unguided, the default and what was found, on the seeds held out.
        verdict: see :data:`Verdict`.
        gain, gain_low, gain_high: how much better what was found is than unguided, on the seeds held out, in the units of the
            objective and positive where it is better, with its 95 % interval; None where one of the two has none.
        images: that the search made, or used again.
    """

    schema_version: str = SCHEMA_VERSION
    steerclear_version: str
    command: str = ""
    prompt: str
    negative_prompts: list[str]
    model: str
    model_digest: str
    scheduler: str
    num_inference_steps: int
    judge: dict[str, object] | None
    method: str
    vary: str
    direction: Direction
    objective: str
    limits: list[str]
    bounds: list[float]
    final_bounds: list[float]
    columns: list[Column]
    target: str | None = None
    seeds: str
    final_seeds: str
    unguided: Row
    default: Row | None
    trials: list[Row]
    found: int | None
    within: bool
    front: list[int]
    final: list[Row]
    verdict: Verdict
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    images: int

    @property
    def goal(self) -> Goal:
        return Goal(self.direction, self.objective, tuple(map(parse_limit, self.limits)))

    @property
    def best(self) -> Row | None:
        """What was found, on the seeds of the search."""
        return None if self.found is None else self.trials[self.found]

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def at_the_end(self, role: str) -> Row | None:
        """A row of the held-out seeds by its role; the one found is also the default where the two are the same."""
        return next((row for row in self.final if row.role == role), None)

    def broken(self) -> tuple[Limit, ...]:
        """The limits that what was found exceeds on the seeds held out, by more than its interval."""
        row = self.at_the_end("found")
        return () if row is None else Bounds(self.goal, tuple(self.final_bounds)).broken(row.measurements)


def read_trials(text: str, where: str) -> Trials:
    """The inverse of ``Trials.model_dump_json``.

    Raises:
        InvalidSetting: the file is damaged.
    """
    try:
        return Trials.model_validate_json(text)
    except ValidationError as error:
        remedy = "remove it; the images are kept, and are measured again"
        raise InvalidSetting(f"the content of {where}", "damaged", "what a tuning wrote", remedy) from error


def best_of(rows: Sequence[Row], goal: Goal) -> int | None:
    """The place of the row with the best objective among those that keep all limits; None if none does."""
    fitting = [place for place, row in enumerate(rows) if row.keeps and row.value(goal.objective) is not None]
    return min(fitting, key=lambda place: goal.loss(rows[place].value(goal.objective) or 0.0), default=None)


def nearest_of(rows: Sequence[Row], goal: Goal) -> int | None:
    """The place of the row that exceeds its limits least, all together; None if nothing was measured."""
    measured = [
        place for place, row in enumerate(rows) if row.refused is None and row.value(goal.objective) is not None
    ]
    beyond = {place: sum(max(one, 0.0) for one in rows[place].violations) for place in measured}
    return min((place for place in measured if beyond[place] < WORST), key=lambda place: beyond[place], default=None)


def front_of(rows: Sequence[Row], goal: Goal) -> list[int]:
    """Places of the rows that no other one excels in both the objective and the first limit's measurement, by the latter."""
    if not goal.limits:
        return []
    limit = goal.limits[0]
    points = {
        place: (goal.loss(value), other if limit.at_most else -other)
        for place, row in enumerate(rows)
        if (value := row.value(goal.objective)) is not None and (other := row.value(limit.name)) is not None
    }
    kept = [
        place for place, (value, other) in points.items()
        if not any(v <= value and o <= other and (v, o) != (value, other) for v, o in points.values())
    ]  # fmt: skip
    return sorted(kept, key=lambda place: points[place][1])


def gained(goal: Goal, found: Measurement | None, unguided: Measurement | None) -> tuple[float | None, ...]:
    """How much better one number is than another, with its 95 % interval; None where there is none.

    The interval is that of the difference of two independent estimates, from the intervals of both (Newcombe 1998, method 10).
    Images of the same seeds are alike, so it is rather too wide.

    >>> goal = Goal("minimise", "frechet")
    >>> gained(goal, Measurement(value=1.0, low=0.7, high=1.3), Measurement(value=2.0, low=1.6, high=2.4))
    (1.0, 0.5, 1.5)
    """
    if found is None or unguided is None:
        return None, None, None
    sign = 1.0 if goal.direction == "minimise" else -1.0
    gain = sign * (unguided.value - found.value)
    if found.low is None or found.high is None or unguided.low is None or unguided.high is None:
        return gain, None, None
    towards = found.high - found.value if sign > 0 else found.value - found.low
    away = found.value - found.low if sign > 0 else found.high - found.value
    own = unguided.value - unguided.low if sign > 0 else unguided.high - unguided.value
    other = unguided.high - unguided.value if sign > 0 else unguided.value - unguided.low
    return gain, gain - math.hypot(towards, own), gain + math.hypot(away, other)


def verdict_of(
    goal: Goal, within: bool, final: Mapping[str, Row], final_bounds: Bounds, gain: Sequence[float | None]
) -> Verdict:
    """See :data:`Verdict`.

    Args:
        within: whether what was found keeps the limits on the seeds of the search.
        final: rows of the held-out seeds by their role.
        final_bounds: the limits on these seeds.
        gain: of :func:`gained` on these seeds: value and low end.
    """
    found = final.get("found")
    if found is None or not within or final_bounds.broken(found.measurements):
        return "none"
    if final_bounds.broken(final["unguided"].measurements) or gain[0] is None:
        return "use"  # without guidance the limits are not kept
    lowest = gain[0] if gain[1] is None else gain[1]
    return "use" if lowest > 0 else "leave off"
