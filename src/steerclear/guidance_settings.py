"""A guidance from what people type: a name, a scale, key=value pairs."""

import json
from collections.abc import Sequence
from typing import Any

from .belief import Evidence
from .errors import InvalidSetting, UnknownName
from .guidance.base import find_guidance, guidances
from .settings import Configurable, parse_value
from .shelf import entries, find

VALUE = ""
"""Key of an assignment's own text in the tree of assignments; the other keys are what lies behind a dot."""


def build_guidance(name: str, guidance_scale: float | None = None, assignments: Sequence[str] = ()) -> Any:
    """Build a guidance from its name and settings.

    Args:
        name: of the guidance.
        guidance_scale: None for the guidance's own default.
        assignments: ``key=value``. ``evidence.prior=0.3`` and ``inner.evidence.prior=0.3`` reach into parts; a part takes
            the name of a guidance or an evidence (``inner=cfg``, ``evidence=constant``) with its defaults.

    Raises:
        UnknownName: a guidance or a parameter that there is not; the message names the nearest.
        InvalidSetting: an assignment without ``=``, a setting given twice, or a value out of range.

    >>> build_guidance("cfg", 5.0).guidance_scale
    5.0
    >>> build_guidance("interval", None, ["inner=negative", "inner.guidance_scale=4", "stop=0.5"]).inner.guidance_scale
    4
    """
    cls = find_guidance(name)
    scale = [] if guidance_scale is None else [f"guidance_scale={json.dumps(guidance_scale)}"]
    return _built(cls, {}, _tree([*scale, *assignments]))


def _tree(assignments: Sequence[str]) -> dict[str, Any]:
    """``["a=1", "b.c=2"]`` -> ``{"a": {"": "1"}, "b": {"c": {"": "2"}}}``."""
    tree: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not all(key.split(".")):
            raise InvalidSetting("--set", assignment, "key=value, like guidance_scale=3")
        node = tree
        for part in key.split("."):
            node = node.setdefault(part, {})
        if VALUE in node:
            raise InvalidSetting(key, text, f"given once; it is {node[VALUE]} already")
        node[VALUE] = text
    return tree


def _built(cls: type[Configurable], kept: dict[str, Any], tree: dict[str, Any]) -> Any:
    for name in tree:
        if name not in cls.parameters():
            raise UnknownName(f"parameter of {cls.name}", name, cls.parameters())
    settings = kept | {name: _value(name, node[VALUE]) for name, node in tree.items() if VALUE in node}
    for name, node in tree.items():
        inside = {key: value for key, value in node.items() if key != VALUE}
        if inside:
            before = settings[name] if name in settings else getattr(_made(cls, settings), name)
            settings[name] = _changed(name, before, inside)
    return _made(cls, settings)


def _value(name: str, text: str) -> Any:
    """The value of a setting; for a part, the guidance or evidence of that name with its defaults."""
    if name == "inner" and text != "null":
        return _made(find_guidance(text), {})
    if name == "evidence":
        return _made(find("evidence", Evidence, text), {})
    return parse_value(text)


def _changed(name: str, before: Any, inside: dict[str, Any]) -> Any:
    """A part with some of its settings replaced."""
    if not isinstance(before, Configurable):
        parts = ", ".join([*guidances(), *entries("evidence", Evidence)])
        raise InvalidSetting(name, before, f"a guidance or an evidence before {name}.{next(iter(inside))} can be set",
                             f"add --set {name}=NAME, one of {parts}")  # fmt: skip
    return _built(type(before), {field: getattr(before, field) for field in before.parameters()}, inside)


def _made(cls: type[Configurable], settings: dict[str, Any]) -> Any:
    try:
        return cls.with_settings(settings)
    except (TypeError, AttributeError) as error:  # a value of another kind than the checks of its class expect
        shown = ", ".join(f"{name}={value}" for name, value in settings.items()) or "nothing"
        raise InvalidSetting(cls.name, shown, "settings of the right kinds", str(error)) from error
