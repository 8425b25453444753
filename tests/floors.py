"""Which floor each room is on, and what a module may import. The rule itself is tested by a test of its own."""

import ast
from collections.abc import Iterator
from pathlib import Path

FLOORS = (
    ("errors", "shapes", "numerics", "seeds", "values", "settings", "shelf", "saving", "__init__"),
    ("noise", "denoiser", "prompts", "records", "belief", "schedulers"),
    ("guidance", "evidence", "testbeds", "features", "metrics"),
    ("engine", "sampling"),
    ("models", "bridges"),
    ("recipe", "results", "gallery", "folders", "methods", "guidance_settings", "guidance_docs", "table", "templates", "figures",
     "generate", "measure", "compare", "report", "summary", "benchmark", "training"),
    ("cli", "__main__"),
)  # fmt: skip
SHELVES = ("guidance", "evidence", "testbeds", "features", "metrics")
SHARED_IN_SHELF = {
    "guidance": {"base"},
    "evidence": {"base"},
    "testbeds": set(),
    "features": set(),
    "metrics": {"estimates"},
}
HOME = {"matplotlib": {"figures"}, "typer": {"cli"}, "PIL": {"gallery", "figures", "report"}}
"""Libraries that only some rooms may import."""
LAZY = {"diffusers", "transformers", "matplotlib", "gradio", "ray", "typer"}
"""Never imported by ``import steerclear``."""


def floor_of(room: str) -> int:
    for floor, rooms in enumerate(FLOORS):
        if room in rooms:
            return floor
    raise LookupError(f"the room {room!r} is on no floor; put it into tests/floors.py and docs/architecture.md")


def imports(source: str, module: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every module that a source imports, as a path of names; relative imports made absolute.

    ``module`` is the path of the source below ``steerclear``, as ("guidance", "auto"); a package ends in "__init__".
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            named = tuple(node.module.split(".")) if node.module else ()
            if node.level:
                base = ("steerclear", *module)[: -node.level]
                targets = [base + named] if node.module else [(*base, alias.name) for alias in node.names]
                yield from targets
            else:
                yield named


def violations(source: str, module: tuple[str, ...]) -> list[str]:
    """What a source imports that it may not."""
    room, found = module[0], []
    for target in imports(source, module):
        if target[0] in HOME and room not in HOME[target[0]]:
            found.append(
                f"{'.'.join(module)} imports {target[0]}, which belongs to {', '.join(sorted(HOME[target[0]]))}"
            )
        if target[0] != "steerclear" or len(target) < 2:
            continue
        other = "__init__" if target[1].startswith("__") else target[1]
        if other == room:
            sibling = target[2] if len(target) > 2 else None
            on_shelf = room in SHELVES and len(module) == 2 and module[1] != "__init__"
            if on_shelf and sibling is not None and sibling not in SHARED_IN_SHELF[room]:
                found.append(f"{'.'.join(module)} imports its neighbour {sibling}")
            continue
        if floor_of(other) > floor_of(room):
            found.append(f"{'.'.join(module)} (floor {floor_of(room)}) imports {other} (floor {floor_of(other)})")
        elif room in SHELVES and other in SHELVES:
            found.append(f"{'.'.join(module)} imports the shelf {other}")
    return found


def modules(root: Path) -> Iterator[tuple[tuple[str, ...], str]]:
    """(path of names, source) of every module below ``root``."""
    for path in sorted(root.rglob("*.py")):
        yield path.relative_to(root).with_suffix("").parts, path.read_text()
