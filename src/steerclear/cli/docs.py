"""Writes the generated pages of docs/: the schema of results.json, the guidances, the command line.

Run as ``python -m steerclear.cli.docs docs``; the tests check that the pages in the repository are what this writes.
"""

import json
import sys
from pathlib import Path

from typer.main import get_command

from ..benchmark.claims import Benchmark, Claim
from ..core.guidance import guidances
from ..study.gallery import write_text
from ..study.results import Results
from ..telling.guidance_docs import documentation
from .app import app

MADE = "Written by `make docs`; do not edit."


def pages(folder: Path) -> dict[str, str]:
    """File name -> text of every generated page of a docs folder, which holds the measured ``benchmarks/*.json``."""
    return {
        "results.schema.json": json.dumps(Results.model_json_schema(), indent=1) + "\n",
        "guidances.md": _guidances(),
        "command-line.md": _command_line(),
        "measured.md": _measured(folder / "benchmarks"),
    }


def _guidances() -> str:
    parts = ["# Guidances", MADE]
    for name, cls in guidances().items():
        page = documentation(cls)
        parts += [f"## {name}", f"`steerclear.{cls.__name__}`: {page.summary}", f"```text\n{page.equation}\n```"]
        if page.parameters:
            rows = [f"| `{parameter}` | `{default}` | {meaning} |" for parameter, default, meaning in page.parameters]
            parts.append("\n".join(["| parameter | default | meaning |", "| --- | --- | --- |", *rows]))
        laws = "\n".join(f"- {law}" for law in cls.laws())
        parts += [f"Cost: {page.cost}.", f"Paper: {page.paper}.", f"Laws, each measured by the tests:\n\n{laws}"]
    return "\n\n".join(parts) + "\n"


def _command_line() -> str:
    """Options of every command, from the program itself (plain text: the terminal's boxes depend on its width)."""
    parts = ["# The command line", MADE]
    waiting = [("steerclear", get_command(app))]
    while waiting:
        name, command = waiting.pop(0)
        if hasattr(command, "commands"):
            waiting += [(f"{name} {child}", inner) for child, inner in command.commands.items()]
            continue
        rows = []
        for parameter in command.params:
            shown = ", ".join(parameter.opts) if parameter.param_type_name == "option" else parameter.name.upper()
            default = "" if parameter.default in (None, ()) or parameter.required else f"`{parameter.default}`"
            rows.append(f"| `{shown}` | {default} | {getattr(parameter, 'help', None) or ''} |")
        text = (command.help or "").replace("\n\n", "\n").strip()
        table = "\n".join(["| option | default | meaning |", "| --- | --- | --- |", *rows])
        parts += [f"## {name}", text, table]
    return "\n\n".join(parts) + "\n"


def benchmark_files(folder: Path) -> list[Path]:
    """What was measured, and behind it what was measured again with other seeds (not the settings beside images)."""
    found = [*folder.glob("*.json"), *folder.glob("again/*.json")]
    return sorted(found, key=lambda path: (path.stem, len(path.parts)))


def _measured(folder: Path) -> str:
    told = (
        "Each table is the output of `steerclear benchmark NAME --outdir docs/benchmarks`; of what was measured again, with "
        "`--seeds` and `--outdir docs/benchmarks/again`. A claim that is not met stays as such."
    )
    parts = ["# Measured", f"{MADE} {told}"]
    for path in benchmark_files(folder):
        found = Benchmark.model_validate_json(path.read_text())
        rows = [
            f"| {claim.claim} | {claim.value:.4g} | {_interval(claim)} | {claim.bound} | {'yes' if claim.met else '**no**'} |"
            for claim in found.claims
        ]
        model = f"`{found.model}` (`{found.model_digest}`)" if found.model_digest else found.model
        if found.weak_digest:
            model += f" with the weak network `{found.weak_digest}`"
        made = f"Model {model}, {found.scheduler}, {found.num_inference_steps} steps"
        table = "\n".join(["| claim | figure | interval | bound | met |", "| --- | --- | --- | --- | --- |", *rows])
        parts += [
            f"## steerclear benchmark {path.stem}" + ("" if path.parent == folder else ", again"),
            f"{made}, seeds {found.seeds}, steerclear {found.steerclear_version}. Intervals are 95 %.",
            table,
        ]
    return "\n\n".join(parts) + "\n"


def _interval(claim: Claim) -> str:
    return "" if claim.low is None else f"[{claim.low:.4g}, {claim.high:.4g}]"


def main(folder: Path) -> None:
    for name, text in pages(folder).items():
        write_text(folder / name, text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
