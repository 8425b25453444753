"""Discovery: one file on a shelf is one entry; a stranger's package adds entries by an entry point.

A shelf is a package (``steerclear.guidance``) with one entry a module. An entry is a class that derives from
the shelf's base class and is defined in that module. Its name on the command line is the class attribute ``name``.
Packages that are not ours announce a module under the entry point group ``steerclear.<shelf>``.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from .errors import InvalidSetting, UnknownName
from .settings import MOST_NESTED, Configurable
from .values import frozen, is_too_deep

CONFIGURABLE_SHELVES = ("guidance", "evidence")


def _modules(shelf: str) -> Iterator[ModuleType]:
    package = importlib.import_module(f"steerclear.{shelf}")
    for found in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name):
        yield importlib.import_module(f"{package.__name__}.{found.name}")
    for entry in entry_points(group=f"steerclear.{shelf}"):
        yield entry.load()


@cache
def entries(shelf: str, base: type[Configurable]) -> dict[str, Any]:
    """Every entry of a shelf, by name.

    Raises:
        InvalidSetting: two entries have one name.
    """
    found: dict[str, Any] = {}
    for module in _modules(shelf):
        for _, member in inspect.getmembers(module, inspect.isclass):
            if not issubclass(member, base) or member is base or member.__module__ != module.__name__:
                continue
            if member.__name__.startswith("_") or getattr(member, "name", None) is None:  # a base of several
                continue
            if found.get(member.name, member) is not member:
                raise InvalidSetting(f"the {shelf} name of {member.__qualname__}", member.name, "used once")
            found[member.name] = member
    return found


def find(shelf: str, base: type[Configurable], name: str) -> Any:
    """The entry of this name or class name.

    Raises:
        UnknownName: there is none; the message names the nearest.
    """
    known = entries(shelf, base)  # type: ignore[arg-type]  # classes are hashable
    by_class = {member.__name__: member for member in known.values()}
    member = known.get(name.lower().replace("_", "-")) or by_class.get(name)
    if member is None:
        raise UnknownName(shelf.rpartition(".")[2].removesuffix("s"), name, known)
    return member


def from_config(config: Mapping[str, Any]) -> Any:
    """A guidance or an evidence from its plain values; the inverse of :meth:`Configurable.to_config`.

    Raises:
        InvalidSetting: not a mapping, no ``_class_name``, too many parts inside one another, or a parameter that is missing,
            of another type or out of range.
        UnknownName: a class or a parameter that does not exist.
    """
    known = {
        member.__name__: member for shelf in CONFIGURABLE_SHELVES for member in entries(shelf, Configurable).values()
    }
    allowed = f"one of {', '.join(sorted(known))}"
    if not isinstance(config, Mapping):
        raise InvalidSetting("the guidance", config, f"a mapping with a _class_name, {allowed}")
    if is_too_deep(config):
        raise InvalidSetting(
            "the depth of the guidance", "too large", f"at most {MOST_NESTED} parts inside one another"
        )
    settings = dict(config)
    class_name = settings.pop("_class_name", None)
    if not isinstance(class_name, str):
        raise InvalidSetting("_class_name", class_name, allowed)
    if class_name not in known:
        raise UnknownName("guidance or evidence", class_name, known)
    values = {
        name: from_config(value) if isinstance(value, Mapping) else frozen(value) for name, value in settings.items()
    }
    return known[class_name].with_settings(values)
