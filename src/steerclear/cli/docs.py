"""Writes the generated pages of docs/: one per shelf, the command line, the measured claims, the public names, the schema.

Run as ``python -m steerclear.cli.docs docs``; the tests check that the pages in the repository are what this writes.
"""

import inspect
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import typer
from typer.main import get_command

import steerclear

from ..benchmark.claims import Benchmark, Experiment
from ..core.evidence import Evidence
from ..core.features import Features
from ..core.guidance import Guidance
from ..core.laboratory import Laboratory
from ..core.metric import Metric
from ..core.network import Network
from ..core.settings import Configurable
from ..core.shelf import entries
from ..core.testbed import Testbed
from ..study.gallery import write_text
from ..study.results import Results
from ..telling.figures.base import Drawing
from ..telling.glossary import GLOSSARY
from ..telling.guidance_docs import documentation
from .commands import add_commands
from .commands.benchmark import SHARED

MADE = "Written by `make docs`; do not edit."


class Shelf(NamedTuple):
    """A page with one section per entry of a shelf."""

    page: str  # its file, and its heading in lower case
    shelf: str
    base: Any  # what the entries derive from
    told: str  # what they are, in one sentence


SHELVES = (
    Shelf("guidances", "guidance", Guidance, "A guidance turns several predictions of the network into one."),
    Shelf("evidences", "evidence", Evidence, "An evidence says how likely each image is becoming the concept. Guidances with a setting `evidence` take one."),
    Shelf("networks", "networks", Network, "Further networks that a guidance may ask beside the pipeline's own, by a name: `networks={\"perturbed\": ...}` in Python, `--network perturbed=...` on the command line; `weak=` and `--weak` name the weak one."),
    Shelf("laboratories", "laboratories", Laboratory, "A laboratory says what images show and, where it is known, what the truth is."),
    Shelf("features", "features", Features, "Features are a vector per image, in which sets of images are compared: `--features NAME`. The results name them. What a network of the hub or of a folder gives is kept per image in `steerclear` of the user's cache, or in the folder that `STEERCLEAR_CACHE` names (`none` keeps nothing): at most 2 GB, or `STEERCLEAR_CACHE_GB`, and the oldest go first. It is computed again with other weights, or another version of transformers or timm."),
    Shelf("metrics", "metrics", Metric, "A metric is one number about a set of images: a column of every comparison whose laboratory knows what it needs."),
    Shelf("figures", "telling.figures", Drawing, "A figure draws what `results.json` holds, as `NAME.png` beside the report; in Python `comparison.figure(NAME)`."),
    Shelf("benchmarks", "benchmark", Experiment, "A benchmark measures claims, each against its bound: `steerclear benchmark NAME`. [What was measured](measured.md) has the results."),
    Shelf("testbeds", "testbeds", Testbed, "A testbed is a world whose truth is known, so that the claims of a guidance can be checked exactly."),
)  # fmt: skip

FACTS = ("title", "meaning", "better", "cost", "memory", "time", "paper")
"""Class attributes that a page shows, where a contract has them."""

MEANINGS = {name: option.__metadata__[0].help for name, option in SHARED.items()}  # type: ignore[attr-defined]  # of Annotated
"""Of settings that are options of several commands, and whose classes do not explain them again."""


def pages(folder: Path) -> dict[str, str]:
    """File name -> text of every generated page of a docs folder, which holds the measured ``benchmarks/*.json``."""
    return {
        "results.schema.json": json.dumps(Results.model_json_schema(), indent=1) + "\n",
        "command-line.md": _command_line(),
        "measured.md": _measured(folder / "benchmarks"),
        "api.md": _api(),
        "glossary.md": _glossary(),
        **{f"{shelf.page}.md": _shelf_page(shelf) for shelf in SHELVES},
        **_with_files(folder),
    }


FILE = re.compile(r"<!-- file: (\S+) -->\n```python\n.*?```\n", re.DOTALL)
"""A block of a page that shows a file of the repository."""


def _with_files(folder: Path) -> dict[str, str]:
    """Pages that show whole files, with the files as they are now."""

    def block(found: re.Match) -> str:
        return f"<!-- file: {found[1]} -->\n```python\n{(folder.parent / found[1]).read_text()}```\n"

    texts = {page.name: page.read_text() for page in folder.glob("*.md")}
    return {name: FILE.sub(block, text) for name, text in texts.items() if FILE.search(text)}


def _table(columns: str, rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; ``columns`` are its headings, separated by blanks."""
    lines = [columns.split(), ["---"] * len(columns.split()), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _glossary() -> str:
    told = f"{MADE} The words of this project, as its commands explain them."
    return f"# Glossary\n\n{told}\n\n{_table('word meaning', GLOSSARY.items())}\n"


def _shelf_page(shelf: Shelf) -> str:
    text = f"{MADE} {shelf.told} [Add your own](add-your-own.md) in one file."
    parts = [f"# {shelf.page.capitalize()}", text]
    for name, cls in sorted(entries(shelf.shelf, shelf.base).items()):
        parts += [f"## {name}", *_entry(cls)]
    return "\n\n".join(parts) + "\n"


def _entry(cls: type[Configurable]) -> list[str]:
    """What an entry says about itself, as the paragraphs of its section."""
    page = documentation(cls)
    home = "steerclear" if cls.__name__ in steerclear.__all__ else cls.__module__
    parts = [f"`{home}.{cls.__name__}`: {page.summary}"]
    if page.equation:
        parts.append(f"```text\n{page.equation}\n```")
    if page.parameters:
        rows = ((f"`{one.name}`", f"`{one.default}`" if one.default else "", one.meaning or MEANINGS.get(one.name, ""))
                for one in page.parameters)  # fmt: skip
        parts.append(_table("parameter default meaning", (map(_cell, row) for row in rows)))
    facts = {fact: getattr(cls, fact, None) for fact in FACTS}
    told = [f"- {fact.capitalize()}: {text.rstrip('.')}." for fact, text in facts.items() if isinstance(text, str)]
    parts += ["\n".join(told).replace("Better: truth.", "Better: nearer to the truth.")] if told else []
    laws = [re.sub(r"^(.*?=.*?): ", r"`\1`: ", str(law)) for law in (cls.laws() if hasattr(cls, "laws") else ())]
    promised = "\n".join(f"- {law}" for law in laws)
    return [*parts, f"What it promises, each measured by the tests:\n\n{promised}"] if laws else parts


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _api() -> str:
    """The public names, for the site: mkdocstrings puts each name's documentation in its place."""
    parts = ["# Python", f"{MADE} Every public name of `steerclear`."]
    for name in steerclear.__all__:
        member = getattr(steerclear, name)
        if not name.startswith("_"):
            home = inspect.getmodule(member).__name__  # type: ignore[union-attr]  # classes and functions have one
            parts.append(f"::: {home}.{name}")
    return "\n\n".join(parts) + "\n"


def _command_line() -> str:
    """Options of every command, from the program itself (plain text: the terminal's boxes depend on its width)."""
    parts = ["# The command line", MADE]
    program = typer.Typer()
    add_commands(program)
    waiting = [("steerclear", get_command(program))]
    while waiting:
        name, command = waiting.pop(0)
        if hasattr(command, "commands"):
            waiting += [(f"{name} {child}", inner) for child, inner in command.commands.items()]
            continue
        rows = []
        for parameter in command.params:
            shown = ", ".join(parameter.opts) if parameter.param_type_name == "option" else parameter.name.upper()
            default = "" if parameter.default in (None, ()) or parameter.required else f"`{parameter.default}`"
            rows.append((f"`{shown}`", default, getattr(parameter, "help", None) or ""))
        text = (command.help or "").replace("\n\n", "\n").strip()
        parts += [f"## {name}", text, _table("option default meaning", rows)]
    return "\n\n".join(parts) + "\n"


def benchmark_files(folder: Path) -> list[Path]:
    """What was measured, and behind it what was measured again with other options (not the settings beside images)."""
    found = [*folder.glob("*.json"), *folder.glob("*/*.json")]
    return sorted(found, key=lambda path: (path.stem, len(path.parts), path.parts))


def _measured(folder: Path) -> str:
    told = (
        "Each table is the output of `steerclear benchmark NAME`, with the seeds that it names. What was measured again with other "
        "options has their word behind the name, and the pages that quote it have the command. A claim that is not met stays as "
        "such."
    )
    parts = ["# Measured", f"{MADE} {told}"]
    for path in benchmark_files(folder):
        found = Benchmark.model_validate_json(path.read_text())
        rows = [
            (one.claim, f"{one.value:.4g}", one.interval, one.bound, "yes" if one.met else "**no**")
            for one in found.claims
        ]
        model = f"`{found.model}` (`{found.model_digest}`)" if found.model_digest else found.model
        if found.weak_digest:
            model += f" with the weak network `{found.weak_digest}`"
        made = f"Model {model}, {found.scheduler}, {found.num_inference_steps} steps"
        parts += [
            f"## steerclear benchmark {path.stem}" + ("" if path.parent == folder else f", {path.parent.name}"),
            f"{made}, seeds {found.seeds}, steerclear {found.steerclear_version}. Intervals are 95 %.",
            _table("claim figure interval bound met", rows),
        ]
    return "\n\n".join(parts) + "\n"


def main(folder: Path) -> None:
    for name, text in pages(folder).items():
        write_text(folder / name, text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
