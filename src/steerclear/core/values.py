"""Values by their declared types: converted, checked and described; and JSON of limited depth."""

import functools
import json
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, TypeGuard, Union, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter

from .errors import in_words_of

DEEPEST_JSON = 64
"""Largest depth of lists and objects: deeper ones are damaged files, and would exhaust the stack."""

NESTING = (Mapping, list, tuple)


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a Python number; True and False are not.

    >>> is_number(2), is_number(0.5), is_number(True), is_number("2")
    (True, True, False, False)
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def python_scalar(value: Any) -> Any:
    """Numbers of numpy and tensors without dimensions as Python numbers; anything else as it is."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        try:
            return value.item()
        except RuntimeError:  # a tensor without data
            return value
    return value


def parse_json(text: str) -> Any:
    """JSON as Python values. Raises ValueError for other text, and for JSON deeper than :data:`DEEPEST_JSON`."""
    too_deep = f"it is nested more than {DEEPEST_JSON} levels deep"
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(too_deep) from None
    if is_too_deep(value):
        raise ValueError(too_deep)
    return value


def parse_object(text: str) -> dict[str, Any]:
    """A JSON object; as :func:`parse_json`, but raises ValueError also for other JSON."""
    value = parse_json(text)
    if not isinstance(value, dict):
        raise ValueError(f"it is JSON, but not an object: {type(value).__name__}")
    return value


def is_too_deep(value: Any) -> bool:
    """Whether lists and mappings are nested deeper than :data:`DEEPEST_JSON`."""
    level = [value]
    for _ in range(DEEPEST_JSON):
        inside = (one.values() if isinstance(one, Mapping) else one for one in level if isinstance(one, NESTING))
        level = [part for parts in inside for part in parts]
        if not level:
            return False
    return True


def frozen(value: Any) -> Any:
    """Lists as tuples, which settings have."""
    return tuple(frozen(item) for item in value) if isinstance(value, list) else value


def fitted(value: Any, kind: Any) -> Any:
    """The value as its declared type. Raises ValueError for a value of another type.

    Whole numbers become floats where the type is float, and scalars of numpy and torch Python numbers. Nothing else is
    converted.

    >>> fitted(3, float), fitted((1, 2.5), float | tuple[float, ...])
    (3.0, (1.0, 2.5))
    """
    try:
        return _checker(kind).validate_python((_python_scalars(value),))[0]
    except RecursionError:
        raise ValueError("tuples inside one another without end") from None


@functools.cache
def _checker(kind: Any) -> TypeAdapter:
    return TypeAdapter(tuple[kind], config=ConfigDict(strict=True, arbitrary_types_allowed=True))  # type: ignore[valid-type]


def _python_scalars(value: Any) -> Any:
    return tuple(map(_python_scalars, value)) if isinstance(value, tuple) else python_scalar(value)


def described(kind: Any) -> str:
    """A type in the words of Python or of the command line.

    >>> from steerclear.core.errors import on_command_line
    >>> described(float | tuple[float, ...] | None), described(tuple[tuple[float, float], ...])
    ('a number, a tuple of numbers or None', 'a tuple of tuples of 2 numbers')
    >>> described(bool), described(Literal["fraction", "sigma"])
    ('True or False', 'fraction or sigma')
    >>> with on_command_line():
    ...     described(float | tuple[float, ...] | None), described(tuple[tuple[float, float], ...]), described(bool)
    ('a number, numbers with commas between them or none', 'a table like [1, 0], [4, -2], or none', 'yes or no')
    """
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType, Literal):
        words = [str(one) if origin is Literal else described(one) for one in inside]
        return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
    if origin is tuple:
        table = any(get_origin(one) is tuple for one in inside)
        as_typed = "a table like [1, 0], [4, -2], or none" if table else f"{_entries(inside)} with commas between them"
        return in_words_of(f"a tuple{_several(inside)}", as_typed)
    words_of = {float: "a number", int: "a whole number", str: "a text", bool: in_words_of("True or False", "yes or no"),
                NoneType: in_words_of("None", "none")}  # fmt: skip
    name = str(getattr(kind, "__name__", kind))
    return words_of.get(kind) or f"a {in_words_of(name, name.lower())}"


def _several(inside: tuple[Any, ...]) -> str:
    """The entries of a tuple type, to follow the word "tuple" or "tuples"."""
    if inside[1:] != (...,) and len(set(inside)) > 1:
        return f" ({_entries(inside)})"
    count = "" if inside[1:] == (...,) else f"{len(inside)} "
    nested = get_origin(inside[0]) is tuple
    return f" of {count}" + (f"tuples{_several(get_args(inside[0]))}" if nested else _entries((inside[0], ...)))


def _entries(inside: tuple[Any, ...]) -> str:
    """The entries of a tuple, one by one or in the plural."""
    if inside[1:] != (...,):
        return ", ".join(map(described, inside))
    plural = {float: "numbers", int: "whole numbers", str: "texts"}
    return plural.get(inside[0], f"{getattr(inside[0], '__name__', inside[0])}s")
