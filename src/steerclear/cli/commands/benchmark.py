"""steerclear benchmark: measure the figures that the docs quote; one command per entry of the shelf ``benchmark``."""

import inspect
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from ..options import FOLDER, BatchSize, Device, Format, Output, Seeds, Steps, progress_bars, show_stages
from ..streams import print_json

Model = Annotated[str, typer.Option("--model", help="A shipped model, a local folder, or a hub id or its address.")]
SHARED = {"model": Model, "seeds": Seeds, "num_inference_steps": Steps, "batch_size": BatchSize, "device": Device}
"""Options that other commands have too."""

CONTINUES = {
    True: "For images and figures; running again continues.",
    False: "For the results; running again measures everything anew.",
}
"""Help of ``--outdir``, by whether a benchmark continues."""


class Benchmarks(TyperGroup):
    """The commands, imported only when needed, because their imports are heavy."""

    @property
    def commands(self) -> dict[str, Any]:  # type: ignore[override]  # click fills a dictionary
        return _commands()

    @commands.setter
    def commands(self, given: object) -> None:
        """typer sets an empty dictionary."""


@cache
def _commands() -> dict[str, Any]:
    from ...benchmark.claims import experiments

    built = typer.Typer()
    built.callback()(lambda: None)  # makes it a group even with a single command
    for name, kind in experiments().items():
        built.command(name)(_command(kind))
    return dict(typer.main.get_group(built).commands)


app = typer.Typer(cls=Benchmarks, no_args_is_help=True, help="Measure the figures that the docs quote.")


@app.callback()
def group() -> None:
    """Measure the figures that the docs quote."""


def _command(kind: type[Any]) -> Any:
    """The command of a benchmark: an option for each of its settings."""
    from ...telling.guidance_docs import documentation

    page = documentation(kind)

    def command(outdir: Path, format: Format, **settings: Any) -> None:
        experiment = kind(**settings)
        with progress_bars() as bars:
            result = experiment.run(outdir, show_stages(bars))
        _print(result, format)

    options = []
    for name, _, meaning in page.parameters:
        own = typer.Option(f"--{name.replace('_', '-')}", help=meaning[:1].upper() + meaning[1:])
        options.append((name, SHARED.get(name, Annotated[kind.types()[name], own]), getattr(kind, name)))
    folder = Annotated[Path, typer.Option("--outdir", **FOLDER, help=CONTINUES[kind.continues])]
    options += [("outdir", folder, Path("out/benchmark")), ("format", Output, Format.TEXT)]
    command.__signature__ = inspect.Signature([  # type: ignore[attr-defined]  # what typer reads the options from
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=option)
        for name, option, default in options
    ])  # fmt: skip
    command.__doc__ = page.summary
    return command


def _print(result: Any, format: Format) -> None:
    if format is Format.JSON:
        print_json(result.model_dump_json(indent=1))
        return
    table = Table("claim", "figure", "interval", "bound", "met")
    for claim in result.claims:
        table.add_row(claim.claim, f"{claim.value:.4g}", claim.interval, claim.bound, "yes" if claim.met else "NO")
    Console().print(table)
