"""Discovery: one file on a shelf is one entry; a stranger's package adds entries by an entry point.

A shelf is a package (``steerclear.guidance``, ``steerclear.telling.figures``); its entries are the concrete classes in its
modules and packages that derive from the shelf's base class and do not begin with an underscore. An entry's name on the
command line is its class attribute ``name``. Other packages announce a module under the entry point group
``steerclear.<shelf>``.
"""

import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

from .errors import InvalidSetting, SteerclearWarning, UnknownName, shortened


def _modules(shelf: str) -> Iterator[ModuleType]:
    package = importlib.import_module(f"steerclear.{shelf}")
    for found in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name):
        if not found.name.startswith("_"):
            yield importlib.import_module(f"{package.__name__}.{found.name}")
    for _, module in strangers(package.__name__):
        yield module


def strangers(group: str) -> Iterator[tuple[EntryPoint, Any]]:
    """What other packages announce under an entry point group, loaded.

    Warns:
        SteerclearWarning: an entry cannot be loaded. It is left out, so that all others stay usable.
    """
    for entry in entry_points(group=group):
        try:
            loaded = entry.load()
        except Exception as error:  # code of others may fail in any way
            package = f"the package {entry.dist.name!r}" if entry.dist else "an installed package"
            reason = shortened(f"{type(error).__name__}: {error}")
            warnings.warn(
                f"{package} announces {entry.name!r} ({entry.value}) in the group {group}, which cannot be imported and is left "
                f"out: {reason}; update or uninstall that package",
                SteerclearWarning, stacklevel=2,
            )  # fmt: skip
        else:
            yield entry, loaded


@cache
def entries(shelf: str, base: type[Any]) -> dict[str, Any]:
    """Every entry of a shelf, by name. The first call imports the modules of the shelf.

    Args:
        shelf: the package below ``steerclear``, such as "guidance" or "telling.figures".
        base: the class that all entries derive from.

    Raises:
        InvalidSetting: two entries have one name, or one has none.
    """
    found: dict[str, Any] = {}
    for module in _modules(shelf):
        for _, member in inspect.getmembers(module, inspect.isclass):
            here = f"{member.__module__}.".startswith(f"{module.__name__}.")  # and not imported from elsewhere
            if not issubclass(member, base) or not here or inspect.isabstract(member) or member.__name__[0] == "_":
                continue
            name = getattr(member, "name", None)
            if not isinstance(name, str):
                raise InvalidSetting(f"the class attribute name of {member.__qualname__}", name, "a text")
            if found.setdefault(name, member) is not member:
                raise InvalidSetting(f"the {shelf} name of {member.__qualname__}", name, "used once")
    return found


def find(shelf: str, base: type[Any], name: str) -> Any:
    """The entry of this name or class name.

    Raises:
        UnknownName: no entry has the name; the message names the nearest. It calls an entry by the base's class attribute
            ``kind``, or else by the shelf's name in the singular.
    """
    known = entries(shelf, base)  # type: ignore[arg-type]  # classes are hashable
    by_class = {member.__name__: member for member in known.values()}
    typed = name if isinstance(name, str) else ""
    member = known.get(typed.lower().replace("_", "-")) or by_class.get(typed)
    if member is None:
        raise UnknownName(getattr(base, "kind", shelf.rpartition(".")[2].removesuffix("s")), name, known)
    return member
