"""Frozen dataclasses as settings: plain numbers in, JSON out, and errors that name the nearest field."""

import dataclasses
import functools
import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from .errors import InvalidSetting, SteerclearError, UnknownName

MOST_NESTED = 16
"""Guidances and evidences inside one another."""

DEEPEST_JSON = 64
"""Lists and objects inside one another; deeper ones are damage, and would exhaust the stack."""

NESTING = (Mapping, list, tuple)
"""What has values inside of it."""

NO_VALUE = ("none", "null")
YES_OR_NO = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?(?:inf|infinity|nan)", re.ASCII | re.IGNORECASE)
WHOLE_NUMBER = re.compile(r"[+-]?\d+", re.ASCII)
FURTHER_PAIR = re.compile(r"\s*[\w.]+=")


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
        raise InvalidSetting(name, value, f"a tuple of {what}", "one alone has a comma behind it, as ('one',)")


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


def parse_json(text: str) -> Any:
    """JSON as Python values.

    Raises:
        ValueError: it is not JSON, or it is nested deeper than :data:`DEEPEST_JSON`.
    """
    try:
        value = json.loads(text)
        check_depth(value)
    except RecursionError:
        raise ValueError(f"it is nested more than {DEEPEST_JSON} levels deep") from None
    return value


def parse_object(text: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: as for :func:`parse_json`, or it is JSON of another kind.
    """
    value = parse_json(text)
    if not isinstance(value, dict):
        raise ValueError(f"it is JSON, but not an object: {type(value).__name__}")
    return value


def read_object(path: Path, what: str) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        path: of the file.
        what: the file should hold, for the error.

    Raises:
        InvalidSetting: it holds something else.
    """
    try:
        return parse_object(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidSetting(
            f"the content of {path}", "damaged", f"a JSON object with {what}", f"{error}; write the file again"
        ) from error


def check_depth(value: Any) -> None:
    """Raises :class:`RecursionError` for lists and mappings nested deeper than :data:`DEEPEST_JSON`."""
    level = [value]
    for _ in range(DEEPEST_JSON):
        inside = (one.values() if isinstance(one, Mapping) else one for one in level if isinstance(one, NESTING))
        level = [part for parts in inside for part in parts]
        if not level:
            return
    raise RecursionError(f"nested more than {DEEPEST_JSON} levels deep")


def frozen(value: Any) -> Any:
    """Lists as tuples, which settings have."""
    return tuple(frozen(item) for item in value) if isinstance(value, list) else value


def split_pairs(text: str) -> list[str]:
    """Pairs with commas between them; a comma in parentheses, or one that no key follows, belongs to a value.

    >>> split_pairs("prior=0.5, inner=cfg(guidance_scale=3, guidance_rescale=0), negative_scale=1,2")
    ['prior=0.5', 'inner=cfg(guidance_scale=3, guidance_rescale=0)', 'negative_scale=1,2']
    """
    pairs, depth, start = [], 0, 0
    for place, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if sign == "," and depth == 0 and FURTHER_PAIR.match(text, place + 1):
            pairs.append(text[start:place])
            start = place + 1
    return [pair.strip() for pair in (*pairs, text[start:])] if text.strip() else []


def read_setting(text: str, kind: Any) -> Any:
    """What a person typed for a setting, read by the setting's declared type.

    Numbers are numbers, ``yes``, ``true``, ``on`` and ``1`` are True, ``none`` is None where the type allows it, and the empty
    tuple for a type that has only tuples. Tuples have commas, with or without brackets.

    Args:
        text: as typed.
        kind: the type of the field.

    Returns:
        A value of this type. Text that fits no such value comes back as the number, None or text that it looks like, for
        the setting's class to refuse in its own words.

    >>> read_setting("no", bool), read_setting("3", float), read_setting("none", float | None), read_setting("7", str)
    (False, 3.0, None, '7')
    >>> read_setting("1.0,0.5", float | tuple[float, ...]), read_setting("[1, 0], [4, -2]", tuple[tuple[float, float], ...])
    ((1.0, 0.5), ((1.0, 0.0), (4.0, -2.0)))
    >>> read_setting("fast", float), read_setting("1.5", int)
    ('fast', 1.5)
    """
    try:
        return _read(text, kind)
    except ValueError:
        return _as_it_looks(text.strip())


def _read(text: str, kind: Any) -> Any:
    """As :func:`read_setting`; raises ValueError for text that does not fit."""
    word, origin, inside = text.strip(), get_origin(kind), get_args(kind)
    nothing = word.lower() in NO_VALUE
    if kind is str:
        return text
    if origin in (Union, UnionType):
        if nothing:
            return fitted(None, kind)
        return _first_that_fits(_read, text, sorted(inside, key=lambda one: one is str))
    if origin is Literal:
        return _first_that_fits(lambda word, one: fitted(word, Literal[one]), word, inside)
    if origin is tuple:
        return () if nothing else _read_tuple(word, kind)
    if kind is bool and word.lower() in YES_OR_NO:
        return YES_OR_NO[word.lower()]
    if kind is int and WHOLE_NUMBER.fullmatch(word):
        return int(word)
    if kind is float and NUMBER.fullmatch(word):
        number = float(word)
        if math.isinf(number) and "inf" not in word.lower():
            raise ValueError(f"{word} is too large")
        return number
    raise ValueError(f"{word} is no {kind}")


def _read_tuple(word: str, kind: Any) -> tuple[Any, ...]:
    inside = get_args(kind)
    if any(get_origin(one) is tuple for one in inside):  # with brackets of its own, and perhaps with those around all
        try:
            return fitted(frozen(parse_json(word)), kind)
        except ValueError:
            return fitted(frozen(parse_json(f"[{word}]")), kind)
    if word.startswith("[") and word.endswith("]") and str not in inside:
        word = word[1:-1]
    parts = [part.strip() for part in word.split(",")]
    return tuple(map(_read, parts, _kinds(inside, len(parts))))


def _first_that_fits(read: Callable[[str, Any], Any], text: str, kinds: Any) -> Any:
    for kind in kinds:
        try:
            return read(text, kind)
        except ValueError:
            continue
    raise ValueError(f"{text} fits none of {kinds}")


def _as_it_looks(word: str) -> Any:
    if word.lower() in NO_VALUE:
        return None
    for kind, form in ((int, WHOLE_NUMBER), (float, NUMBER)):
        if form.fullmatch(word):
            try:
                return kind(word)
            except ValueError:  # more digits than Python reads
                continue
    return word


def fitted(value: Any, kind: Any) -> Any:
    """The value as its declared type has it: whole numbers as floats where the type is float, and scalars of numpy and torch
    as Python's numbers. Other types than numbers, texts, yes or no, choices, tuples and parts are not looked at.

    Raises:
        ValueError: the value is of another type.

    >>> fitted(3, float), fitted((1, 2.5), float | tuple[float, ...])
    (3.0, (1.0, 2.5))
    """
    value, origin, inside = _python_scalar(value), get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _first_that_fits(fitted, value, inside)
    if origin is Literal:
        fits = isinstance(value, tuple(map(type, inside))) and value in inside
    elif origin is tuple:
        if isinstance(value, tuple):
            return tuple(map(fitted, value, _kinds(inside, len(value))))
        fits = False
    elif kind is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
            return float(value)
        fits = isinstance(value, float)  # infinity, and what is not a number: the class refuses them
    elif kind is int:
        fits = isinstance(value, int) and not isinstance(value, bool)
    elif kind in (bool, str, NoneType) or (isinstance(kind, type) and issubclass(kind, Configurable)):
        fits = isinstance(value, kind)
    else:
        fits = True
    if not fits:
        raise ValueError(f"{type(value).__name__} is no {kind}")
    return value


def _python_scalar(value: Any) -> Any:
    """Numbers of numpy and tensors without dimensions as Python's numbers."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        try:
            return value.item()
        except RuntimeError:  # a tensor without data
            return value
    return value


def _kinds(inside: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    """The types of the entries of a tuple of this length; raises ValueError when there is no such tuple."""
    kinds = inside[:1] * count if inside[1:] == (...,) else inside
    if len(kinds) != count:
        raise ValueError(f"{count} entries instead of {len(kinds)}")
    return kinds


def described(kind: Any) -> str:
    """A type in words.

    >>> described(float | tuple[float, ...] | None), described(tuple[tuple[float, float], ...])
    ('a number, a tuple of numbers or None', 'a tuple of tuples of 2 numbers')
    >>> described(bool), described(Literal["fraction", "sigma"])
    ('True or False', 'fraction or sigma')
    """
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _either([described(one) for one in inside])
    if origin is Literal:
        return _either([str(one) for one in inside])
    words = {float: "a number", int: "a whole number", str: "a text", bool: "True or False", NoneType: "None"}
    return words.get(kind) or (f"a {_several(kind)}" if origin is tuple else f"a {getattr(kind, '__name__', kind)}")


def _several(kind: Any) -> str:
    """Part of a description: the type of the entries of a tuple, in the plural; or a tuple."""
    inside = get_args(kind)
    if get_origin(kind) is tuple:
        if inside[1:] != (...,) and len(set(inside)) > 1:
            return f"tuple ({', '.join(map(described, inside))})"
        count = "" if inside[1:] == (...,) else f"{len(inside)} "
        entries = _several(inside[0])
        return f"tuple of {count}{'tuples' + entries[5:] if entries.startswith('tuple') else entries}"
    return {float: "numbers", int: "whole numbers", str: "texts"}.get(kind, f"{getattr(kind, '__name__', kind)}s")


def _either(words: list[str]) -> str:
    return " or ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


@functools.cache
def _types(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


class Configurable:
    """A frozen dataclass that becomes a dictionary of plain values and comes back from it.

    Nested settings are stored with their shelf and name: ``{"_class_name": "AutoGuidance", "inner": {...}}``.
    What is given is first brought to the declared types (:func:`fitted`), then the class's own ``__post_init__`` checks it, and
    what it lets pass is refused if it is of another type than declared.
    """

    name: ClassVar[str]

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        own = cls.__dict__.get("__post_init__")
        if own is not None:
            type.__setattr__(cls, "__post_init__", functools.wraps(own)(lambda self: self._settle(own)))

    def __post_init__(self) -> None:
        self._settle(lambda self: None)

    def _settle(self, check: Callable[[Any], None]) -> None:
        """Bring all settings to their types, then check them.

        Raises:
            InvalidSetting: a value of another type, or one that the check refuses; the check's own words come first, because
                they say more.
        """
        refused: InvalidSetting | None = None
        for name, field in self.parameters().items():
            kind, value = self.types()[name], _python_scalar(getattr(self, name, field.default))
            try:
                value = fitted(value, kind)
            except ValueError:
                refused = refused or InvalidSetting(name, value, described(kind))
            object.__setattr__(self, name, value)
        try:
            check(self)
        except SteerclearError:
            raise
        except Exception as error:
            if refused is None:
                raise
            raise refused from error
        if refused is not None:
            raise refused
        depth = self._depth()
        if depth > MOST_NESTED:
            raise InvalidSetting(f"the depth of {self.name}", depth, f"at most {MOST_NESTED} parts inside one another")

    def _depth(self) -> int:
        """How many settings are inside one another, this one included."""
        parts = (getattr(self, name) for name in self.parameters())
        return 1 + max((part._depth() for part in parts if isinstance(part, Configurable)), default=0)

    @classmethod
    def types(cls) -> dict[str, Any]:
        """The declared type of each parameter."""
        return _types(cls)  # type: ignore[arg-type]  # classes are hashable

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

    def changed(self, **settings: Any) -> Self:
        """The same with some settings replaced; they are checked as ever."""
        return dataclasses.replace(self, **settings)  # type: ignore[type-var]  # every subclass is a dataclass

    @classmethod
    def with_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build from keyword settings.

        Raises:
            UnknownName: a setting that this class does not have; the message names the nearest.
            InvalidSetting: a setting that is missing, of another type, or out of range.
        """
        known = {name: field for name, field in cls.parameters().items() if field.init}
        for name in settings:
            if name not in known:
                raise UnknownName(f"parameter of {cls.name}", name, known)
        required = {
            name for name, field in known.items() if field.default is field.default_factory is dataclasses.MISSING
        }
        missing = sorted(required - settings.keys())
        if missing:
            cls(**settings, **dict.fromkeys(missing))  # the class says what it wants in place of None
            raise InvalidSetting(f"{missing[0]} of {cls.name}", None, "given")
        return cls(**settings)
