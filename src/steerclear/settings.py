"""Frozen dataclasses as settings: plain numbers in, JSON out, and errors that name the nearest field."""

import dataclasses
import math
from typing import Any, ClassVar, Self

from .errors import InvalidSetting, UnknownName


def finite(name: str, value: float, *, low: float = -math.inf, high: float = math.inf) -> None:
    """Raises :class:`InvalidSetting` unless ``low <= value <= high`` and value is a finite number."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and math.isfinite(value) and low <= value <= high:
        return
    bounds = "a finite number"
    if math.isfinite(low) and math.isfinite(high):
        bounds += f" from {low:g} to {high:g}"
    elif math.isfinite(low):
        bounds += f" of at least {low:g}"
    elif math.isfinite(high):
        bounds += f" of at most {high:g}"
    raise InvalidSetting(name, value, bounds)


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
