"""steerclear benchmark: the figures that the docs quote, measured again."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from .options import BatchSize, Device, Format, ModelName, Output, Seeds, Steps, progress_bars, show_methods

app = typer.Typer(no_args_is_help=True, help="Measure the figures that the docs quote.")
Folder = Annotated[Path, typer.Option("--outdir", help="Where images and figures go; running again goes on.")]


@app.command("shipped")
def shipped(
    model: ModelName = "portraits",
    seeds: Seeds = "0-999",
    steps: Steps = 30,
    batch_size: BatchSize = 16,
    device: Device = "cpu",
    outdir: Folder = Path("out/benchmark"),
    format: Output = Format.TEXT,
) -> None:
    """The shipped model: fidelity at scale 1, the story of the negative prompt, autoguidance, its parts."""
    from ..benchmark import benchmark_shipped
    from ..bridges.loading import load_model
    from ..recipe import parse_seeds

    loaded = load_model(model, device=device)
    with progress_bars() as bars:
        on_method, on_progress = show_methods(bars)
        result = benchmark_shipped(
            loaded, parse_seeds(seeds), outdir, num_inference_steps=steps, batch_size=batch_size,
            on_method=on_method, on_progress=on_progress,
        )  # fmt: skip
    _print(result, format)


@app.command("overhead")
def overhead(
    model: ModelName = "portraits",
    pairs: Annotated[int, typer.Option(help="Alternating pairs of runs.", min=1)] = 9,
    outdir: Folder = Path("out/benchmark"),
    format: Output = Format.TEXT,
) -> None:
    """Time of steering with CFG against the plain pipeline, in one process."""
    from ..benchmark import benchmark_overhead
    from ..bridges.loading import load_model

    _print(benchmark_overhead(load_model(model), outdir, pairs=pairs), format)


def _print(result: Any, format: Format) -> None:
    if format is Format.JSON:
        typer.echo(result.model_dump_json(indent=1))
        return
    table = Table("claim", "figure", "interval", "bound", "met")
    for claim in result.claims:
        interval = "" if claim.low is None else f"[{claim.low:.4g}, {claim.high:.4g}]"
        table.add_row(claim.claim, f"{claim.value:.4g}", interval, claim.bound, "yes" if claim.met else "NO")
    Console().print(table)
