"""A guidance from what people type: a name, a scale, key=value pairs."""

import json
from collections.abc import Sequence
from typing import Any, get_args

from ..core.errors import GivenTwice, InvalidSetting, SteerclearError, UnknownName
from ..core.evidence import Evidence
from ..core.guidance import find_guidance, guidances
from ..core.settings import MOST_NESTED, Configurable
from ..core.shelf import entries, find
from ..core.values import NO_VALUE, read_setting, split_pairs

VALUE = ""
"""Key of an assignment's own text in the tree of assignments; the other keys are what lies behind a dot."""


def build_guidance(name: str, guidance_scale: float | None = None, assignments: Sequence[str] = ()) -> Any:
    """Build a guidance from its name and settings.

    Args:
        name: of the guidance.
        guidance_scale: None for the guidance's own default.
        assignments: ``key=value``, each value read by the type of its setting (:func:`~steerclear.core.values.read_setting`).
            ``evidence.prior=0.3`` and ``inner.evidence.prior=0.3`` reach into parts. A part takes the name of a guidance or an
            evidence with its defaults (``inner=cfg``), or with settings: ``inner=cfg(guidance_scale=4)``.

    Raises:
        UnknownName: a guidance or a parameter that there is not; the message names the nearest.
        InvalidSetting: an assignment without ``=``, a setting given twice, a value of another type or out of range, or too
            many parts inside one another.

    >>> build_guidance("cfg", 5.0).guidance_scale
    5.0
    >>> build_guidance("interval", None, ["inner=negative", "inner.guidance_scale=4", "stop=0.5"]).inner.guidance_scale
    4.0
    """
    cls = find_guidance(name)
    scale = [] if guidance_scale is None else [f"guidance_scale={json.dumps(guidance_scale)}"]
    return _built(cls, {}, _tree([*scale, *assignments]))


def first_that_takes(names: Sequence[str], guidance_scale: float | None, assignments: Sequence[str]) -> Any:
    """The first of these guidances that takes the settings, built; if none does, the first one's refusal is raised.

    >>> first_that_takes(["dynamic-negative", "negative"], None, ["guidance_rescale=0.5"]).name
    'negative'
    """
    refusals = []
    for name in names:
        try:
            return build_guidance(name, guidance_scale, assignments)
        except SteerclearError as refusal:
            refusals.append(refusal)
    raise refusals[0]


def _tree(assignments: Sequence[str]) -> dict[str, Any]:
    """``["a=1", "b.c=2"]`` -> ``{"a": {"": "1"}, "b": {"c": {"": "2"}}}``."""
    tree: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not all(key.split(".")):
            raise InvalidSetting("--set", assignment, "key=value, like guidance_scale=3")
        names = key.split(".")
        if len(names) > MOST_NESTED:
            raise InvalidSetting(
                f"the depth of --set {names[0]}...", len(names), f"at most {MOST_NESTED} parts inside one another"
            )
        node = tree
        for part in names:
            node = node.setdefault(part, {})
        if VALUE in node:
            raise GivenTwice(key, node[VALUE], text)
        node[VALUE] = text
    return tree


def _built(cls: type[Configurable], kept: dict[str, Any], tree: dict[str, Any]) -> Any:
    for name in tree:
        if name not in cls.parameters():
            raise UnknownName(f"parameter of {cls.name}", name, cls.parameters())
    settings = kept | {name: _value(cls.types()[name], node[VALUE]) for name, node in tree.items() if VALUE in node}
    for name, node in tree.items():
        inside = {key: value for key, value in node.items() if key != VALUE}
        if inside:
            before = settings[name] if name in settings else getattr(cls.with_settings(settings), name)
            settings[name] = _changed(name, before, inside)
    return cls.with_settings(settings)


def _value(kind: Any, text: str) -> Any:
    """The value of a setting of this type; for a part, the guidance or evidence that the text names."""
    part = next(
        (one for one in (kind, *get_args(kind)) if isinstance(one, type) and issubclass(one, Configurable)), None
    )
    if part is None:
        return read_setting(text, kind)
    return None if text.strip().lower() in NO_VALUE else _part(part, text.strip())


def _part(kind: type[Configurable], text: str) -> Any:
    """``name``, or ``name(key=value, key=value)``."""
    name, opened, pairs = text.partition("(")
    if opened and not pairs.endswith(")"):
        raise InvalidSetting(
            kind.__name__.lower(), text, "a name, or name(key=value, key=value)", "close the parenthesis"
        )
    depth = 1 + text.count("(")
    if depth > MOST_NESTED:
        raise InvalidSetting(f"the depth of {name}(...)", depth, f"at most {MOST_NESTED} parts inside one another")
    found = find("evidence", Evidence, name.strip()) if issubclass(kind, Evidence) else find_guidance(name.strip())
    return _built(found, {}, _tree(split_pairs(pairs[:-1])))


def _changed(name: str, before: Any, inside: dict[str, Any]) -> Any:
    """A part with some of its settings replaced."""
    if not isinstance(before, Configurable):
        parts = ", ".join([*guidances(), *entries("evidence", Evidence)])
        raise InvalidSetting(name, before, f"a guidance or an evidence before {name}.{next(iter(inside))} can be set",
                             f"add --set {name}=NAME, one of {parts}")  # fmt: skip
    return _built(type(before), {field: getattr(before, field) for field in before.parameters()}, inside)
