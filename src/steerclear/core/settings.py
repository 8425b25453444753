"""Frozen dataclasses as settings, to and from JSON, and checks of their values."""

import dataclasses
import functools
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, get_args, get_origin, get_type_hints

from pydantic_core.core_schema import CoreSchema, is_instance_schema

from .errors import InvalidSetting, SteerclearError, UnknownName, in_words_of
from .shelf import entries
from .values import described, fitted, frozen, is_number, is_too_deep, parse_object, python_scalar

MOST_NESTED = 16
"""Largest depth of parts (guidances, evidences) inside one another."""
DEEPEST = f"at most {MOST_NESTED} parts inside one another"


def finite(name: str, value: object, *, low: float = -math.inf, high: float = math.inf) -> float:
    """The value as a Python number. Raises :class:`InvalidSetting` unless it is finite and ``low <= value <= high``."""
    value = python_scalar(value)
    # not math.isfinite, which cannot take whole numbers that are too large for a float
    if is_number(value) and abs(value) <= sys.float_info.max and low <= value <= high:
        return value
    if math.isfinite(low) and math.isfinite(high):
        bounds = f" from {low:g} to {high:g}"
    else:
        bounds = (
            f" of at least {low:g}" if math.isfinite(low) else f" of at most {high:g}" if math.isfinite(high) else ""
        )
    raise InvalidSetting(name, value, f"a finite number{bounds}")


def whole(name: str, value: object, *, low: int, high: int | None = None) -> int:
    """As :func:`finite`, for whole numbers."""
    value = python_scalar(value)
    if isinstance(value, int) and not isinstance(value, bool) and low <= value and (high is None or value <= high):
        return value
    bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
    raise InvalidSetting(name, value, f"a whole number {bounds}")


def folder_path(name: str, value: object) -> Path:
    """A path from a text or a path; ``~`` is the home folder.

    Raises:
        InvalidSetting: another type, an empty text, a text with a NUL, or ``~name`` of an unknown user.
    """
    if not isinstance(value, (str, os.PathLike)) or isinstance(os.fspath(value), bytes):
        raise InvalidSetting(name, value, "a path")
    if value == "":
        raise InvalidSetting(name, value, "a path", "'.' is the folder you are in")
    path = Path(value)
    if "\0" in str(path):
        raise InvalidSetting(name, str(path), "a path", "take the character NUL out of it")
    try:
        return path.expanduser()
    except RuntimeError as error:
        remedy = "it names no home folder that is known here; write it in full"
        raise InvalidSetting(name, str(path), "a path", remedy) from error


def callback(name: str, value: object) -> None:
    """Raises :class:`InvalidSetting` unless value is None or can be called."""
    if value is not None and not callable(value):
        raise InvalidSetting(name, value, "a function, or None")


def finite_each(name: str, value: object, *, low: float = -math.inf, high: float = math.inf) -> None:
    """As :func:`finite`, for one number or a tuple of them, one per negative prompt."""
    if isinstance(value, list) or value == ():
        each = "one for each negative prompt"
        several = in_words_of(f"a tuple with {each}", f"{each} with commas between them")
        raise InvalidSetting(name, value, f"a finite number, or {several}")
    many = {f"{name}[{index}]": one for index, one in enumerate(value)} if isinstance(value, tuple) else {name: value}
    for what, one in many.items():
        finite(what, one, low=low, high=high)


def texts(name: str, value: object, what: str) -> None:
    """Raises :class:`InvalidSetting` unless value is a tuple of texts, none empty; ``what`` names them."""
    if not isinstance(value, tuple) or not all(isinstance(one, str) and one for one in value):
        remedy = in_words_of("one alone has a comma behind it, as ('one',)", "several have commas between them")
        raise InvalidSetting(name, value, f"{in_words_of('a tuple of ', '')}{what}", remedy)


def probabilities(name: str, value: object) -> None:
    """Raises :class:`InvalidSetting` unless value is strictly between 0 and 1, or a tuple of such numbers."""
    for one in value if isinstance(value, tuple) and value else (value,):
        if not (is_number(one) and 0 < one < 1):
            raise InvalidSetting(name, value, "between 0 and 1, both excluded")


def one_each(name: str, value: float | tuple[float, ...], count: int) -> tuple[float, ...]:
    """A number for each of ``count`` negative prompts. Raises :class:`InvalidSetting` for a tuple of another length.

    >>> one_each("negative_scale", 1.5, 2), one_each("negative_scale", (1.0, 0.5), 2)
    ((1.5, 1.5), (1.0, 0.5))
    """
    if not isinstance(value, tuple):
        return (value,) * count
    if len(value) != count:
        several = "" if count == 1 else f", or {count} of them for {count} negative prompts"
        raise InvalidSetting(name, value, f"a number{several}")
    return value


def any_weight(value: float | tuple[float, ...]) -> bool:
    """Whether a number, or any of a tuple of them, is not 0.

    >>> any_weight(0.0), any_weight((0.0, 0.5))
    (False, True)
    """
    return any(value) if isinstance(value, tuple) else value != 0


def read_object(path: Path, what: str) -> dict[str, Any]:
    """The JSON object in a file, which should hold ``what``. Raises :class:`InvalidSetting` if it holds something else."""
    try:
        return parse_object(path.read_text(encoding="utf-8"))
    except ValueError as error:
        name, remedy = f"the content of {path}", f"{error}; write the file again"
        raise InvalidSetting(name, "damaged", f"a JSON object with {what}", remedy) from error


class Configurable:
    """A frozen dataclass that is saved as a dictionary of plain values and read back from it.

    Nested settings are stored with their class: ``{"_class_name": "AutoGuidance", "inner": {...}}``.
    Values are converted to their declared types (:func:`~steerclear.core.values.fitted`), and None to the empty tuple where
    the type allows only tuples. Then the class's own ``__post_init__`` checks them, and other types are refused.

    Class attributes:
        name: on the command line.
        shelf, kind: of a contract (:class:`~steerclear.core.guidance.Guidance`, ...): the package of its entries, and what
            errors call an entry.
    """

    name: ClassVar[str]
    shelf: ClassVar[str]
    kind: ClassVar[str]

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        own = cls.__dict__.get("__post_init__")
        if own is not None:
            cls.__post_init__ = functools.wraps(own)(lambda self: self._settle(own))  # type: ignore[method-assign]

    def __post_init__(self) -> None:
        self._settle(lambda self: None)

    def _settle(self, check: Callable[[Any], None]) -> None:
        """Convert all settings to their types, then check them. The check's own errors are preferred: they say more."""
        refused: InvalidSetting | None = None
        for name, field in self.parameters().items():
            kind, value = self.types()[name], python_scalar(getattr(self, name, field.default))
            if value is None and get_origin(kind) is tuple:
                value = ()  # as "none" on the command line
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
            raise InvalidSetting(f"the depth of {self.name}", depth, DEEPEST)

    def _inside(self) -> Iterator["Configurable"]:
        values = (getattr(self, name) for name in self.parameters())
        return (value for value in values if isinstance(value, Configurable))

    def parts(self) -> Iterator["Configurable"]:
        """This one and every part inside it."""
        yield self
        for part in self._inside():
            yield from part.parts()

    def _depth(self) -> int:
        return 1 + max((part._depth() for part in self._inside()), default=0)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return is_instance_schema(cls)  # a part is checked when it is made

    @classmethod
    @functools.cache
    def types(cls) -> dict[str, Any]:
        """The declared type of each parameter."""
        return get_type_hints(cls)

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
        """The same with some settings replaced, and checked."""
        return dataclasses.replace(self, **settings)  # type: ignore[type-var]  # every subclass is a dataclass

    @classmethod
    def contract(cls) -> type["Configurable"]:
        """The base class of its shelf."""
        return next(base for base in cls.__mro__ if "shelf" in vars(base))

    @classmethod
    def known(cls) -> dict[str, Any]:
        """The entries of the shelf that derive from this class, by name on the command line."""
        every = entries(cls.shelf, cls.contract())  # type: ignore[arg-type]  # classes are hashable
        return {name: member for name, member in every.items() if issubclass(member, cls)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """An entry of this class's shelf from its plain values; the inverse of :meth:`to_config`.

        Raises:
            InvalidSetting: not a mapping, no ``_class_name``, too many parts inside one another, or a setting that
                :meth:`with_settings` refuses.
            UnknownName: an unknown class or parameter.
        """
        known = {member.__name__: member for member in cls.known().values()}
        allowed = f"one of {', '.join(sorted(known))}"
        if not isinstance(config, Mapping):
            raise InvalidSetting(f"the {cls.kind}", config, f"a mapping with a _class_name, {allowed}")
        if is_too_deep(config):
            raise InvalidSetting(f"the depth of the {cls.kind}", "too large", DEEPEST)
        settings = dict(config)
        class_name = settings.pop("_class_name", None)
        if not isinstance(class_name, str):
            raise InvalidSetting("_class_name", class_name, allowed)
        if class_name not in known:
            raise UnknownName(cls.kind, class_name, known)
        types = known[class_name].types()
        for name, value in settings.items():
            part = part_type(types.get(name))
            settings[name] = part.from_config(value) if part and isinstance(value, Mapping) else frozen(value)
        return known[class_name].with_settings(settings)

    @classmethod
    def with_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build from keyword settings.

        Raises:
            UnknownName: an unknown setting; the message names the nearest.
            InvalidSetting: a setting is missing, of another type, or out of range.
        """
        known = {name: field for name, field in cls.parameters().items() if field.init}
        for name in settings:
            if name not in known:
                raise UnknownName(f"parameter of {cls.name}", name, known)
        required = {name for name, field in known.items() if default_of(field) is dataclasses.MISSING}
        missing = sorted(required - settings.keys())
        if missing:
            cls(**settings, **dict.fromkeys(missing))  # the class says what it wants in place of None
            raise InvalidSetting(f"{missing[0]} of {cls.name}", None, "given")
        return cls(**settings)


def part_type(kind: Any) -> type[Configurable] | None:
    """The class of parts that a setting of this type takes; None if it takes none.

    >>> part_type(float | None) is None, part_type(Configurable | None)
    (True, <class 'steerclear.core.settings.Configurable'>)
    """
    types = (one for one in (kind, *get_args(kind)) if isinstance(one, type))
    return next((one for one in types if issubclass(one, Configurable)), None)


def default_of(field: dataclasses.Field) -> Any:
    """The default of a setting; ``dataclasses.MISSING`` if it must be given."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
