"""steerclear benchmark: the figures that the docs quote, measured again."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ..options import (
    BatchSize,
    Device,
    Format,
    Output,
    Seeds,
    Steps,
    progress_bars,
    show_methods,
    show_stages,
    typed_folder,
)  # fmt: skip
from ..streams import print_json

app = typer.Typer(no_args_is_help=True, help="Measure the figures that the docs quote.")
Folder = Annotated[
    Path,
    typer.Option(
        "--outdir", parser=typed_folder, metavar="PATH", help="Where images and figures go; running again goes on."
    ),
]

Model = Annotated[str, typer.Option("--model", help="A shipped model, a local folder, or a hub id or its address.")]
Pairs = Annotated[int, typer.Option("--pairs", help="Alternating pairs of runs.", min=1)]
LargePairs = Annotated[
    int,
    typer.Option(
        "--pairs", help="Alternating pairs of runs of the large network; of the medium one, five times.", min=1
    ),
]


@app.command("shipped")
def shipped(
    model: Model = "portraits",
    seeds: Seeds = "0-999",
    steps: Steps = 30,
    batch_size: BatchSize = 16,
    device: Device = "cpu",
    outdir: Folder = Path("out/benchmark"),
    format: Output = Format.TEXT,
) -> None:
    """The shipped model: fidelity at scale 1, the story of the negative prompt, its parts."""
    from ...benchmark.shipped import benchmark_shipped

    _portraits(benchmark_shipped, model, seeds, steps, batch_size, device, outdir, format)


@app.command("autoguidance")
def autoguidance(
    model: Model = "portraits",
    seeds: Seeds = "0-999",
    steps: Steps = 30,
    batch_size: BatchSize = 16,
    device: Device = "cpu",
    outdir: Folder = Path("out/benchmark"),
    format: Output = Format.TEXT,
) -> None:
    """Autoguidance with the weak network that ships, against no guidance, at the best of several scales."""
    from ...benchmark.autoguidance import benchmark_autoguidance

    _portraits(benchmark_autoguidance, model, seeds, steps, batch_size, device, outdir, format)


def _portraits(
    measure: Callable[..., Any],
    model: str,
    seeds: str,
    steps: int,
    batch_size: int,
    device: str,
    outdir: Path,
    format: Format,
) -> None:
    """Make the images of a benchmark, with a bar a method, and show its claims."""
    from ...models.loading import load_model
    from ...study.recipe import parse_seeds

    wanted = parse_seeds(seeds)
    loaded = load_model(model, device=device)
    with progress_bars() as bars:
        on_method, on_progress = show_methods(bars)
        result = measure(
            loaded, wanted, outdir, num_inference_steps=steps, batch_size=batch_size,
            on_method=on_method, on_progress=on_progress,
        )  # fmt: skip
    _print(result, format)


@app.command("tracking")
def tracking(
    model: Model = "portraits",
    schedulers: Annotated[
        str | None, typer.Option(help="Names, separated by commas; default: those that people use.")
    ] = None,
    seeds: Seeds = "0-255",
    steps: Steps = 30,
    guidance_scale: Annotated[float, typer.Option(help="Of all three methods; 1 is off.")] = 3.0,
    batch_size: BatchSize = 16,
    device: Device = "cpu",
    outdir: Folder = Path("out/benchmark"),
    format: Output = Format.TEXT,
) -> None:
    """Whether the dynamic negative works on each scheduler: against CFG and the negative prompt, with its defaults."""
    from ...benchmark.tracking import SCHEDULERS, benchmark_tracking
    from ...models.loading import load_model
    from ...study.recipe import parse_seeds

    names = SCHEDULERS if schedulers is None else tuple(name.strip() for name in schedulers.split(","))
    with progress_bars() as bars:
        on_method, on_progress = show_methods(bars)
        result = benchmark_tracking(
            lambda name: load_model(model, device=device, scheduler=name), names, parse_seeds(seeds), outdir,
            guidance_scale=guidance_scale, num_inference_steps=steps, batch_size=batch_size, on_method=on_method,
            on_progress=on_progress,
        )  # fmt: skip
    _print(result, format)


@app.command("overhead")
def overhead(
    model: Model = "portraits",
    pairs: Pairs = 31,
    outdir: Folder = Path("out/benchmark"),
    format: Output = Format.TEXT,
) -> None:
    """Time of steering with CFG against the plain pipeline, in one process."""
    from ...benchmark.overhead import benchmark_overhead
    from ...models.loading import load_model

    loaded = load_model(model)
    with progress_bars() as bars:
        result = benchmark_overhead(loaded, outdir, pairs=pairs, on_progress=show_stages(bars)("time, in turns"))
    _print(result, format)


@app.command("bridge")
def bridge(
    pairs: LargePairs = 9,
    memory_runs: Annotated[int, typer.Option(help="Fresh processes for the memory of each way.", min=1)] = 3,
    device: Device = "cpu",
    outdir: Folder = Path("out/benchmark"),
    format: Output = Format.TEXT,
) -> None:
    """What steering costs on networks with random weights, one of them of Stable Diffusion 1.5's size: time, memory, and
    what is left behind. Needs 8 GiB of memory."""
    from ...benchmark.bridge import benchmark_bridge

    with progress_bars() as bars:
        result = benchmark_bridge(
            outdir, pairs=pairs, memory_runs=memory_runs, device=device, on_stage=show_stages(bars)
        )
    _print(result, format)


def _print(result: Any, format: Format) -> None:
    if format is Format.JSON:
        print_json(result.model_dump_json(indent=1))
        return
    table = Table("claim", "figure", "interval", "bound", "met")
    for claim in result.claims:
        interval = "" if claim.low is None else f"[{claim.low:.4g}, {claim.high:.4g}]"
        table.add_row(claim.claim, f"{claim.value:.4g}", interval, claim.bound, "yes" if claim.met else "NO")
    Console().print(table)
