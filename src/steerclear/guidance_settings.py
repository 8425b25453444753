"""A guidance from what people type: a name, a scale, key=value pairs."""

import json
from collections.abc import Sequence
from typing import Any

from .errors import InvalidSetting, UnknownName
from .guidance.base import Guidance, find_guidance, guidances
from .settings import Configurable
from .shelf import entries, find


def build_guidance(name: str, guidance_scale: float | None = None, assignments: Sequence[str] = ()) -> Guidance:
    """Build a guidance from its name and settings.

    Args:
        name: of the guidance.
        guidance_scale: None for the guidance's own default.
        assignments: ``key=value``; ``evidence.prior=0.3`` and ``inner.guidance_scale=4`` reach into parts; a value that names
            a guidance or an evidence (``inner=cfg``, ``evidence=constant``) takes it with its defaults.

    Raises:
        UnknownName: a guidance or a parameter that there is not; the message names the nearest.
        InvalidSetting: an assignment without ``=``, or a value out of range.

    >>> build_guidance("cfg", 5.0).guidance_scale
    5.0
    >>> build_guidance("interval", None, ["inner=negative", "inner.guidance_scale=4", "stop=0.5"]).inner.guidance_scale
    4
    """
    cls = find_guidance(name)
    settings: dict[str, Any] = {}
    if guidance_scale is not None:
        if "guidance_scale" not in cls.parameters():
            raise UnknownName(f"parameter of {cls.name}", "guidance_scale", cls.parameters())
        settings["guidance_scale"] = guidance_scale
    nested: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise InvalidSetting("--set", assignment, "key=value, like guidance_scale=3")
        part, dot, inner_key = key.partition(".")
        if dot:
            nested.setdefault(part, {})[inner_key] = parse_value(text)
        else:
            settings[key] = _part(key, text)
    _check_names(cls, [*settings, *nested])
    for part, changes in nested.items():
        settings[part] = _changed(cls, settings, part, changes)
    return _build(cls, settings)


def parse_value(text: str) -> Any:
    """JSON where it is JSON, else text.

    >>> parse_value("3"), parse_value("0.5"), parse_value("null"), parse_value("conjunction")
    (3, 0.5, None, 'conjunction')
    """
    try:
        return json.loads(text)
    except ValueError:
        return text


def _part(key: str, text: str) -> Any:
    if key == "inner" and text != "null":
        return find_guidance(text)()
    if key == "evidence":
        from .belief import Evidence

        return find("evidence", Evidence, text)()
    return parse_value(text)


def _check_names(cls: type[Configurable], names: Sequence[str]) -> None:
    for name in names:
        if name not in cls.parameters():
            raise UnknownName(f"parameter of {cls.name}", name, cls.parameters())


def _changed(cls: type[Configurable], settings: dict[str, Any], part: str, changes: dict[str, Any]) -> Any:
    """The part with some of its settings replaced."""
    before = settings[part] if part in settings else getattr(_build(cls, dict(settings)), part)
    if not isinstance(before, Configurable):
        raise InvalidSetting(part, before, f"a guidance or an evidence before {part}.{next(iter(changes))} can be set",
                             f"add --set {part}=NAME, one of {', '.join([*guidances(), *entries('evidence', Configurable)])}")  # fmt: skip
    _check_names(type(before), list(changes))
    kept = {name: getattr(before, name) for name in before.parameters()}
    return _build(type(before), kept | changes)


def _build(cls: type[Configurable], settings: dict[str, Any]) -> Any:
    try:
        return cls.with_settings(settings)
    except TypeError as error:
        raise InvalidSetting(cls.name, settings, "settings of the right kinds", str(error)) from error
