"""Frozen dataclasses as settings: plain numbers in, JSON out, and errors that name the nearest field."""

import dataclasses
import json
import math
import os
import sys
from pathlib import Path
from typing import Any, ClassVar, Self

from .errors import InvalidSetting, UnknownName, in_words_of


def finite(name: str, value: float, *, low: float = -math.inf, high: float = math.inf) -> None:
    """Raises :class:`InvalidSetting` unless ``low <= value <= high`` and value is a finite number."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # not math.isfinite, which cannot take whole numbers that are too large for a float
    if number and abs(value) <= sys.float_info.max and low <= value <= high:
        return
    bounds = "a finite number"
    if math.isfinite(low) and math.isfinite(high):
        bounds += f" from {low:g} to {high:g}"
    elif math.isfinite(low):
        bounds += f" of at least {low:g}"
    elif math.isfinite(high):
        bounds += f" of at most {high:g}"
    raise InvalidSetting(name, value, bounds)


def whole(name: str, value: object, *, low: int, high: int | None = None) -> None:
    """Raises :class:`InvalidSetting` unless value is a whole number with ``low <= value <= high``."""
    if isinstance(value, int) and not isinstance(value, bool) and low <= value and (high is None or value <= high):
        return
    bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
    raise InvalidSetting(name, value, f"a whole number {bounds}")


def folder_path(name: str, value: object) -> Path:
    """A path from a text or a path; raises :class:`InvalidSetting` for anything else."""
    if not isinstance(value, (str, os.PathLike)) or isinstance(os.fspath(value), bytes):
        raise InvalidSetting(name, value, "a path")
    return Path(value)


def finite_each(name: str, value: object, *, low: float = -math.inf, high: float = math.inf) -> None:
    """As :func:`finite`, for one number or a tuple of them, one a negative prompt."""
    if isinstance(value, list) or value == ():
        raise InvalidSetting(name, value, "a finite number, or a tuple with one for each negative prompt")
    for index, one in enumerate(value if isinstance(value, tuple) else ()):
        finite(f"{name}[{index}]", one, low=low, high=high)
    if not isinstance(value, tuple):
        finite(name, value, low=low, high=high)  # type: ignore[arg-type]  # what is no number is refused


def texts(name: str, value: object, what: str) -> None:
    """Raises :class:`InvalidSetting` unless value is a tuple of texts, none of them empty; ``what`` says what they are."""
    if not isinstance(value, tuple) or not all(isinstance(one, str) and one for one in value):
        raise InvalidSetting(
            name, value, f"{in_words_of('a tuple of ', '')}{what}",
            in_words_of("one alone has a comma behind it, as ('one',)", "several have commas between them"),
        )  # fmt: skip


def probabilities(name: str, value: object) -> None:
    """Raises :class:`InvalidSetting` unless value is strictly between 0 and 1, or a tuple of such, one a negative."""
    for one in value if isinstance(value, tuple) and value else (value,):
        number = isinstance(one, (int, float)) and not isinstance(one, bool)
        if not (number and 0 < one < 1):
            raise InvalidSetting(name, value, "between 0 and 1, both excluded")


def one_each(name: str, value: float | tuple[float, ...], count: int) -> tuple[float, ...]:
    """A number for each of ``count`` negative prompts.

    Raises:
        InvalidSetting: a tuple of another length.

    >>> one_each("negative_scale", 1.5, 2), one_each("negative_scale", (1.0, 0.5), 2)
    ((1.5, 1.5), (1.0, 0.5))
    """
    if not isinstance(value, tuple):
        return (value,) * count
    if len(value) != count:
        prompts = "prompt" if count == 1 else "prompts"
        raise InvalidSetting(name, value, f"a number, or {count} of them for {count} negative {prompts}")
    return value


def any_weight(value: float | tuple[float, ...]) -> bool:
    """Whether a number, or any of a tuple of them, is not 0.

    >>> any_weight(0.0), any_weight((0.0, 0.5))
    (False, True)
    """
    return any(value) if isinstance(value, tuple) else value != 0


def parse_value(text: str) -> Any:
    """JSON where it is JSON, else text; a list, with or without its brackets, is a tuple.

    >>> parse_value("3"), parse_value("0.5"), parse_value("null"), parse_value("conjunction")
    (3, 0.5, None, 'conjunction')
    >>> parse_value("[1.0, 0.5]"), parse_value("1.0,0.5"), parse_value("[[1, 0], [4, -2]]")
    ((1.0, 0.5), (1.0, 0.5), ((1, 0), (4, -2)))
    """
    for candidate in (text, f"[{text}]"):
        try:
            return _frozen(json.loads(candidate))
        except ValueError:
            continue
    return text


def _frozen(value: Any) -> Any:
    """Lists as tuples, which settings have."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


class Configurable:
    """A frozen dataclass that becomes a dictionary of plain values and comes back from it.

    Nested settings are stored with their shelf and name: ``{"_class_name": "AutoGuidance", "inner": {...}}``.
    """

    name: ClassVar[str]

    def to_config(self) -> dict[str, Any]:
        """Plain values: numbers, strings, lists and dictionaries."""
        config: dict[str, Any] = {"_class_name": type(self).__name__}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            value = getattr(self, field.name)
            if isinstance(value, Configurable):
                value = value.to_config()
            elif isinstance(value, tuple):
                value = [list(item) if isinstance(item, tuple) else item for item in value]
            config[field.name] = value
        return config

    @classmethod
    def parameters(cls) -> dict[str, dataclasses.Field]:
        return {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]

    @classmethod
    def with_settings(cls, settings: dict[str, Any]) -> Self:
        """Build from keyword settings.

        Raises:
            UnknownName: a setting that this class does not have; the message names the nearest.
        """
        for name in settings:
            if name not in cls.parameters():
                raise UnknownName(f"parameter of {cls.name}", name, cls.parameters())
        return cls(**settings)
