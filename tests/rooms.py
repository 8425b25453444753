"""Which room may import which, and which libraries belong to one. The rule itself is tested by a test of its own."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

FLOORS = (
    ("core",),
    ("evidence", "networks", "testbeds", "metrics"),
    ("guidance", "features"),
    ("laboratories",),
    ("bridges",),
    ("models",),
    ("study",),
    ("telling",),
    ("training",),
    ("benchmark",),
    ("cli",),
)
"""The rooms from the ground up. A room imports from lower floors alone; rooms of one floor do not know one another."""

OUTSIDE = ("__init__", "__main__")
"""The doors of the house: they may import from every room. Only the highest may import from them."""

MOST_ROOMS = 15
HOME = {"matplotlib": {"telling.figures"}, "typer": {"cli"}, "PIL": {"testbeds", "study", "telling"}}
"""Libraries that only some rooms may import."""
LAZY = {"diffusers", "transformers", "matplotlib", "gradio", "ray", "typer"}
"""Never imported by ``import steerclear``."""

BY_NAME = ("import_module", "__import__")
BEYOND = "<beyond the top>"

Module = tuple[str, ...]
"""The path of a module below ``steerclear``, as ("guidance", "auto"); a package's own ends in "__init__"."""


def floor_of(room: str) -> int:
    for floor, rooms in enumerate(FLOORS):
        if room in rooms:
            return floor
    raise LookupError(f"the room {room!r} is on no floor; put it into tests/rooms.py and docs/architecture.md")


def imports(source: str, module: Module) -> Iterator[Module]:
    """Every module that a source imports, as a path of names; relative imports made absolute."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(node.level, node.module or "", module)
            yield from [(*base, alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in BY_NAME:
            named = [*node.args, *(word.value for word in node.keywords if word.arg == "name")][:1]
            if named and isinstance(named[0], ast.Constant) and isinstance(named[0].value, str):
                name = named[0].value.lstrip(".")
                yield _base(len(named[0].value) - len(name), name, module)


def _base(dots: int, name: str, module: Module) -> Module:
    """The path of a name behind some dots: (BEYOND,) if they lead out of the package."""
    start = ("steerclear", *module)[:-dots] if dots else ()
    return (BEYOND,) if dots and not start else (*start, *filter(None, name.split(".")))


def violations(source: str, module: Module) -> list[str]:
    """What a source imports that it may not: of a room above or beside its own, or of a library with another home."""
    where, room, found = ".".join(module), module[0], []
    rooms = {one for floor in FLOORS for one in floor}
    for target in imports(source, module):
        homes = HOME.get(target[0])
        if homes is not None and not any(f"{where}.".startswith(f"{home}.") for home in homes):
            found.append(f"{where} imports {target[0]}, which belongs to {', '.join(sorted(homes))}")
        if target[0] == BEYOND:
            found.append(f"{where} imports from beyond the top of the package; it has fewer folders than dots")
        if target[0] != "steerclear" or room in OUTSIDE:
            continue
        if target[-1] == "*":
            found.append(f"{where} imports * from {'.'.join(target[:-1])}; name what it needs")
        other = target[1] if len(target) > 1 else ""
        if other in rooms:
            if other != room and floor_of(other) >= floor_of(room):
                found.append(f"{where} imports the room {other}, which is not below {room}")
        elif other not in ("__version__", "*") and (other or room not in FLOORS[-1]):
            found.append(f"{where} imports {'.'.join(target[:2])}, which is of the door; import it from its room")
    return list(dict.fromkeys(found))


def circles(sources: Mapping[Module, str]) -> list[Module]:
    """Modules that import one another in a circle, at whatever depth."""
    known = set(sources)
    arrows = {module: {_nearest(target[1:], known) for target in imports(source, module) if target[0] == "steerclear"}
              for module, source in sources.items()}  # fmt: skip
    left = dict(arrows)
    while True:
        free = [module for module, targets in left.items() if not (targets - {None, module}) & left.keys()]
        if not free:
            return sorted(left)
        for module in free:
            del left[module]


def _nearest(target: Module, known: set[Module]) -> Module | None:
    """The module that an imported path of names is, or lies in."""
    for length in range(len(target), 0, -1):
        if target[:length] in known:
            return target[:length]
        if (*target[:length], "__init__") in known:
            return (*target[:length], "__init__")
    return None


def modules(root: Path) -> dict[Module, str]:
    """Path of names -> source of every module below ``root``."""
    return {path.relative_to(root).with_suffix("").parts: path.read_text() for path in sorted(root.rglob("*.py"))}


def functions(source: str) -> Iterator[tuple[str, int]]:
    """Name and number of lines of every function of a source, its decorators not counted."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1
