"""What a tuning wants: the measurement that is to become least or greatest, and the limits that others must keep."""

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..core.errors import GivenTwice, InvalidSetting, UnknownName, typed
from ..core.laboratory import Column, Measurement
from ..core.parsing import NUMBER

Direction = Literal["minimise", "maximise"]
Against = Literal["", "unguided", "default"]

FORM = "'NAME <= NUMBER' or 'NAME >= NUMBER', or with unguided or default for the number, like 'recall >= unguided'"
LIMIT = re.compile(r"(?P<name>.+?)\s*(?P<sign><=|>=|=<|=>|<|>|==|=)\s*(?P<bound>.*)", re.DOTALL)
BOUND = re.compile(r"(?:(?P<factor>[^*\s]+)\s*\*\s*)?(?P<against>unguided|default)")
SMALLEST = 1e-3
"""Bounds nearer to 0 count as this far from it where violations of several limits are added up."""
WORST = 1e6
"""The violation of a limit by images of which there is no such number."""


@dataclass(frozen=True)
class Limit:
    """A bound of a measurement: a number, or a multiple of what another method has on the same seeds.

    Attributes:
        name: of the measurement, as typed; as :func:`find_column` finds it.
        at_most: whether the bound is the greatest value that is allowed; otherwise the least.
        number: the bound, or its factor.
        against: the method whose value is multiplied; "" for none.
    """

    name: str
    at_most: bool
    number: float
    against: Against = ""

    @property
    def written(self) -> str:
        """In one form for all ways to type it.

        >>> parse_limit("recall>=unguided").written, parse_limit("mustache < 2%").written
        ('recall >= unguided', 'mustache <= 0.02')
        """
        factor = f"{typed(self.number)} * " if self.number != 1 else ""
        bound = f"{factor}{self.against}" if self.against else typed(self.number)
        return f"{self.name} {'<=' if self.at_most else '>='} {bound}"

    def bound(self, unguided: float | None, default: float | None) -> float | None:
        """The bound as a number, given the measurement of the two; None where it has none."""
        if not self.against:
            return self.number
        value = unguided if self.against == "unguided" else default
        return None if value is None else self.number * value


def parse_limit(text: str) -> Limit:
    """A limit from text such as "recall >= unguided", "mustache <= 2 %" or "frechet <= 0.9 * unguided".

    Raises:
        InvalidSetting: text of another form, or a bound that is not finite.
    """
    found = LIMIT.fullmatch(text.strip())
    if found is None or found["sign"] in ("=", "=="):
        raise InvalidSetting("subject to", text, FORM)
    at_most, bound = "<" in found["sign"], found["bound"].strip()
    other = BOUND.fullmatch(bound)
    if other is not None:
        factor = other["factor"] or "1"
        return Limit(found["name"], at_most, _finite(text, factor), other["against"])  # type: ignore[arg-type]
    percent = bound.endswith("%")
    return Limit(found["name"], at_most, _finite(text, bound.removesuffix("%").strip()) / (100 if percent else 1))


def _finite(text: str, number: str) -> float:
    value = float(number) if NUMBER.fullmatch(number) else math.nan
    if not math.isfinite(value):
        raise InvalidSetting("subject to", text, FORM)
    return value


def find_column(name: str, columns: Sequence[Column]) -> Column:
    """The column of this name or label, without regard to capitals, accents and underscores.

    Raises:
        UnknownName: nothing that is measured has this name; says what is.
    """
    for same in (lambda one: one.name, lambda one: one.label):
        for column in columns:
            if _plain(same(column)) == _plain(name):
                return column
    raise UnknownName("measurement", name, [column.name for column in columns])


def _plain(text: str) -> str:
    """
    >>> _plain("Fréchet_distance")
    'frechet distance'
    """
    bare = unicodedata.normalize("NFKD", text.strip()).encode("ascii", "ignore").decode() or text.strip()
    return re.sub(r"[\s_]+", " ", bare).casefold()


@dataclass(frozen=True)
class Goal:
    """What is wanted, by columns that are measured.

    Attributes:
        direction: whether the objective is to become least or greatest.
        objective: the name of its column.
        limits: the limits, each by its column's name.
    """

    direction: Direction
    objective: str
    limits: tuple[Limit, ...] = ()

    @classmethod
    def of(cls, direction: Direction, objective: str, limits: Sequence[Limit], columns: Sequence[Column]) -> "Goal":
        """The goal among the columns of a judge.

        Raises:
            UnknownName: nothing that is measured has this name.
            GivenTwice: two limits say the same.
        """
        wanted = find_column(objective, columns)
        named = [Limit(find_column(one.name, columns).name, one.at_most, one.number, one.against) for one in limits]
        again = next((one.written for place, one in enumerate(named) if one in named[:place]), None)
        if again is not None:
            raise GivenTwice(f"the limit {again!r}")
        return cls(direction, wanted.name, tuple(named))

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that it needs, the objective first."""
        return tuple(dict.fromkeys((self.objective, *(one.name for one in self.limits))))

    def loss(self, value: float) -> float:
        """The objective as a number whose least value is best."""
        return value if self.direction == "minimise" else -value

    def against(
        self, unguided: Mapping[str, Measurement] | None, default: Mapping[str, Measurement] | None
    ) -> "Bounds":
        """The limits as numbers, by what the two methods measured on the same seeds.

        Raises:
            InvalidSetting: a limit is of a method that has no such number.
        """
        found = []
        for limit in self.limits:
            values = [
                None if one is None or limit.name not in one else one[limit.name].value for one in (unguided, default)
            ]
            bound = limit.bound(*values)
            if bound is None:
                raise InvalidSetting(
                    "subject to", limit.written, f"of a number; {limit.against} has none of {limit.name}"
                )
            found.append(bound)
        return Bounds(self, tuple(found))


@dataclass(frozen=True)
class Bounds:
    """The limits of a goal on one set of seeds.

    Attributes:
        goal: with as many limits as there are numbers.
        numbers: their bounds.
    """

    goal: Goal
    numbers: tuple[float, ...]

    def violations(self, measured: Mapping[str, Measurement]) -> tuple[float, ...]:
        """How far each limit is exceeded, as a share of its bound; at most 0 where it is kept, :data:`WORST` without a number.

        Equation:
            v = (x - b) / max(|b|, 1e-3) for x <= b,   (b - x) / max(|b|, 1e-3) for x >= b
        """
        return tuple(
            min(self._beyond(limit, bound, measured[limit.name].value), WORST) if limit.name in measured else WORST
            for limit, bound in zip(self.goal.limits, self.numbers, strict=True)
        )

    def broken(self, measured: Mapping[str, Measurement]) -> tuple[Limit, ...]:
        """The limits that are exceeded by more than the measurement's interval, or that have no number."""
        found = []
        for limit, bound in zip(self.goal.limits, self.numbers, strict=True):
            one = measured.get(limit.name)
            nearest = None if one is None else one.low if limit.at_most else one.high
            value = math.nan if one is None else one.value if nearest is None else nearest
            if not self._beyond(limit, bound, value) <= 0:
                found.append(limit)
        return tuple(found)

    @staticmethod
    def _beyond(limit: Limit, bound: float, value: float) -> float:
        return (value - bound if limit.at_most else bound - value) / max(abs(bound), SMALLEST)
