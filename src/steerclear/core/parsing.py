"""Reads what people type: values by the type of their setting, and guidances, networks, ... with their settings.

One form everywhere (``--guidance``, ``--set``, ``--methods``, ``--weak``, ``--judge``):

    name                                     with its defaults
    name:key=value,key=value                 with settings; the first may leave out its key
    name(key=value, key=value)               the same, for a part inside another one
    evidence.prior=0.3                       a key that reaches into a part
"""

import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import PathFinder
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from .errors import GivenTwice, InvalidSetting, UnknownName, typed
from .settings import DEEPEST, MOST_NESTED, Configurable, default_of, part_type
from .shelf import find
from .values import fitted, frozen, parse_json

NO_VALUE = ("none", "null")
YES_OR_NO = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?(?:inf|infinity|nan)", re.ASCII | re.IGNORECASE)
WHOLE_NUMBER = re.compile(r"[+-]?\d+", re.ASCII)
KEY = re.compile(r"\s*[\w.]+\s*=")
FUNCTION = re.compile(r"([^\W\d]\w*)((?:\.[^\W\d]\w*)*):[^\W\d]\w*(?:\.[^\W\d]\w*)*")
NEXT_NAME = re.compile(r"([^:(,=[]*)(?:[:(,]|$)")

VALUE = ""
"""Key of an assignment's own text in the tree of assignments; the other keys follow a dot."""


def parse_part(text: str, base: type[Configurable], assignments: Sequence[str] = ()) -> Any:
    """A guidance, an evidence, a network, ... from its name and settings, in one of the forms above.

    Each value is read by the type of its setting (:func:`read_setting`). A comma that no key follows belongs to the value
    before it. A part is itself typed in one of these forms; inside another part only parentheses keep several settings
    together.

    Args:
        text: as typed.
        base: what is named: :class:`~steerclear.core.guidance.Guidance`, :class:`~steerclear.core.evidence.Evidence`, ...
        assignments: further ``key=value``, which may also reach into parts.

    Raises:
        UnknownName: an unknown name or parameter; the message names the nearest.
        InvalidSetting: an assignment without ``=``, a setting given twice or missing, a value of another type or out of
            range, or too many parts inside one another.

    >>> from steerclear.core.guidance import Guidance
    >>> parse_part("cfg:4,guidance_rescale=0.7", Guidance)
    ClassifierFreeGuidance(guidance_scale=4.0, guidance_rescale=0.7)
    >>> parse_part("interval(inner=cfg(guidance_scale=4), stop=0.5)", Guidance, ["inner.guidance_rescale=0.7"]).inner
    ClassifierFreeGuidance(guidance_scale=4.0, guidance_rescale=0.7)
    """
    name, settings = name_and_settings(text, base.kind)
    cls = find(base.shelf, base.contract(), name)
    return _built(cls, {}, _tree([*_pairs(cls, settings), *assignments]))


def name_and_settings(text: str, what: str) -> tuple[str, str]:
    """Name and settings of what :func:`parse_part` takes; errors call it ``what``.

    >>> name_and_settings("interval(inner=cfg, stop=0.5)", "guidance"), name_and_settings("cfg", "guidance")
    (('interval', 'inner=cfg, stop=0.5'), ('cfg', ''))
    """
    name, sign, settings = _split_name(text.strip())
    if sign == "(":
        if not settings.endswith(")"):
            raise InvalidSetting(what, text, "a name, or name(key=value, key=value)", "close the parenthesis")
        settings = settings[:-1]
    depth = 1 + len(re.findall("[:(]", settings))
    if sign and depth > MOST_NESTED:
        raise InvalidSetting(f"the depth of {name}", depth, DEEPEST)
    return name or text.strip(), settings


def changed_by(part: Configurable, settings: str, assignments: Sequence[str] = ()) -> Any:
    """A part with some of its settings replaced by what is typed; assignments and errors as :func:`parse_part`.

    >>> from steerclear.core.guidance import Guidance
    >>> changed_by(parse_part("cfg:4", Guidance), "guidance_rescale=0.7")
    ClassifierFreeGuidance(guidance_scale=4.0, guidance_rescale=0.7)
    """
    own = {name: getattr(part, name) for name in part.parameters()}
    return _built(type(part), own, _tree([*_pairs(type(part), settings), *assignments]))


def _pairs(cls: type[Configurable], settings: str) -> list[str]:
    """ "4, b=2" -> ["a=4", "b=2"], where a is the first setting of the class."""
    pairs = split_settings(settings)
    if pairs and not KEY.match(pairs[0]):
        first = next((name for name, field in cls.parameters().items() if field.init), None)
        if first is None:
            raise UnknownName(f"parameter of {cls.name}", pairs[0], ())
        pairs[0] = f"{first}={pairs[0]}"
    return pairs


def split_settings(text: str) -> list[str]:
    """Settings from a list with commas: a comma that no ``key=`` follows belongs to the value before it.

    >>> split_settings("auto_scale=1:3, weak=snapshot(step=4, width=0.1)|noised:0.1, levels=1,2")
    ['auto_scale=1:3', 'weak=snapshot(step=4, width=0.1)|noised:0.1', 'levels=1,2']
    """
    return _split_at(text, lambda before, rest: KEY.match(rest) is not None) if text.strip() else []


def is_part(text: str, base: type[Configurable]) -> bool:
    """Whether a text begins with the name of a part; otherwise it is a folder or the like.

    >>> from steerclear.core.guidance import Guidance
    >>> is_part("cfg:guidance_scale=4", Guidance), is_part("someone/a-model", Guidance)
    (True, False)
    """
    try:
        return bool(find(base.shelf, base.contract(), _split_name(text)[0]))
    except UnknownName:
        return False


def is_function_name(text: str) -> bool:
    """Whether a text has the form ``package.module:function``.

    >>> is_function_name("my_package.detector:faces"), is_function_name("clip:model=x"), is_function_name("detector.faces")
    (True, False, False)
    """
    return FUNCTION.fullmatch(text.strip()) is not None


def names_function(text: str) -> bool:
    """Whether a text is meant as ``package.module:function``: it has the form, and a dot or a module that is there.

    >>> names_function("json:loads"), names_function("nowhere.detector:faces"), names_function("portrait:second")
    (True, True, False)
    """
    found = FUNCTION.fullmatch(text.strip())
    if found is None:
        return False
    top, inside = found[1], found[2]
    return bool(inside) or top in sys.modules or PathFinder.find_spec(top, [*sys.path, os.getcwd()]) is not None


def part_text(part: Configurable, inside: bool = False) -> str:
    """The inverse of :func:`parse_part`: the name, the first setting, and those that differ from their defaults.

    Args:
        part: to be written.
        inside: whether the text will be inside another one, with parentheses around the settings.

    >>> from steerclear.core.guidance import Guidance
    >>> part_text(parse_part("CFG(guidance_rescale=0, guidance_scale=4.0)", Guidance))
    'cfg:guidance_scale=4'
    >>> part_text(parse_part("interval:inner=cfg:4,stop=0.5", Guidance))
    'interval:inner=cfg(guidance_scale=4),stop=0.5'
    """
    pairs = []
    for place, (name, field) in enumerate(part.parameters().items()):
        value = getattr(part, name)
        if value != default_of(field) or (place == 0 and value != ()):
            words = part_text(value, inside=True) if isinstance(value, Configurable) else typed(value)
            pairs.append(f"{name}={words}")
    if not pairs:
        return part.name
    return f"{part.name}({', '.join(pairs)})" if inside else f"{part.name}:{','.join(pairs)}"


def split_methods(text: str) -> list[str]:
    """Parts, with their settings, from a list with commas: a comma that a name follows begins the next one.

    >>> split_methods("cfg, dynamic-negative:negative_scale=1,0.5,guidance_scale=3,interval(inner=cfg, stop=0.5),negative")
    ['cfg', 'dynamic-negative:negative_scale=1,0.5,guidance_scale=3', 'interval(inner=cfg, stop=0.5)', 'negative']
    """

    def begins(before: str, rest: str) -> bool:
        name = NEXT_NAME.match(rest)
        return ":" not in before or (name is not None and not NUMBER.fullmatch(name[1].strip()))

    return _split_at(text, begins)


def _split_name(text: str) -> tuple[str, str, str]:
    """Name, the sign after it and the rest: ``("cfg", ":", "guidance_scale=4")``."""
    name = re.split("[:(]", text, maxsplit=1)[0]
    return name.strip(), text[len(name) : len(name) + 1], text[len(name) + 1 :]


def _split_at(text: str, begins: Callable[[str, str], bool]) -> list[str]:
    """Split at the commas outside parentheses and brackets where ``begins(text before, text after)``."""
    pieces, depth, start = [], 0, 0
    for place, sign in enumerate(text):
        depth += (sign in "([") - (sign in ")]")
        if sign == "," and depth == 0 and begins(text[start:place], text[place + 1 :]):
            pieces.append(text[start:place])
            start = place + 1
    return [piece.strip() for piece in (*pieces, text[start:])]


def _tree(assignments: Sequence[str]) -> dict[str, Any]:
    """``["a=1", "b.c=2"]`` -> ``{"a": {"": "1"}, "b": {"c": {"": "2"}}}``."""
    tree: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        names = key.strip().split(".")
        if not equals or not all(names):
            raise InvalidSetting("the setting", assignment, "key=value, like guidance_scale=3")
        if len(names) > MOST_NESTED:
            raise InvalidSetting(f"the depth of {names[0]}...", len(names), DEEPEST)
        node = tree
        for name in names:
            node = node.setdefault(name, {})
        if VALUE in node:
            raise GivenTwice(key, node[VALUE], text)
        node[VALUE] = text
    return tree


def _built(cls: type[Configurable], kept: dict[str, Any], tree: dict[str, Any]) -> Any:
    """The class with the settings kept of a part, and those of a tree."""
    types = cls.types()
    for name in tree:
        if name not in cls.parameters():
            raise UnknownName(f"parameter of {cls.name}", name, cls.parameters())
    settings = kept | {name: _value(node[VALUE], types[name]) for name, node in tree.items() if VALUE in node}
    for name, node in tree.items():
        inside = {key: value for key, value in node.items() if key != VALUE}
        if not inside:
            continue
        part, behind = part_type(types[name]), f"{name}.{next(iter(inside))}"
        if part is None:
            raise UnknownName(f"parameter of {cls.name}", behind, cls.parameters())
        before = settings[name] if name in settings else getattr(cls.with_settings(settings), name)
        if not isinstance(before, Configurable):
            raise InvalidSetting(name, before, f"one of {', '.join(part.known())} before {behind} can be set")
        own = {field: getattr(before, field) for field in before.parameters()}
        settings[name] = _built(type(before), own, inside)
    return cls.with_settings(settings)


def _value(text: str, kind: Any) -> Any:
    part = part_type(kind)
    if part is None:
        return read_setting(text, kind)
    return None if text.strip().lower() in NO_VALUE else parse_part(text, part)


def read_setting(text: str, kind: Any) -> Any:
    """A typed value, read by the setting's declared type.

    ``yes``, ``true``, ``on`` and ``1`` are True. ``none`` is None where the type allows it, and the empty tuple where the type
    allows only tuples. Entries of a tuple are separated by commas, with or without brackets around them. Text that does not
    fit is returned as the number, None or text that it looks like, for the setting's class to refuse.

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
    """As :func:`read_setting`; raises ValueError if the text does not fit."""
    word, origin, inside = text.strip(), get_origin(kind), get_args(kind)
    nothing = word.lower() in NO_VALUE
    if kind is str:
        return text
    if origin is tuple:
        return () if nothing else _read_tuple(word, kind)
    if origin not in (Union, UnionType):
        value = YES_OR_NO.get(word.lower()) if kind is bool else word if origin is Literal else _as_it_looks(word)
        return fitted(value, kind)
    for one in sorted(inside, key=lambda one: one is str) if not nothing else ():
        try:
            return _read(text, one)
        except ValueError:
            continue
    return fitted(None if nothing else word, kind)


def _read_tuple(word: str, kind: Any) -> tuple[Any, ...]:
    inside = get_args(kind)
    if any(get_origin(one) is tuple for one in inside):  # each in brackets, and perhaps all of them together
        try:
            return fitted(frozen(parse_json(word)), kind)
        except ValueError:
            return fitted(frozen(parse_json(f"[{word}]")), kind)
    if word.startswith("[") and word.endswith("]") and str not in inside:
        word = word[1:-1]
    parts = word.split(",")
    kinds = inside[:1] * len(parts) if inside[1:] == (...,) else inside
    return tuple(_read(part.strip(), one) for part, one in zip(parts, kinds, strict=True))


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
