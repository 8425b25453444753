"""steerclear train: remake the shipped weights."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import TaskID

from ..options import Device, progress_bars, typed_folder

app = typer.Typer(no_args_is_help=True, help="Remake the shipped models.")


@app.callback()
def group() -> None:
    """Remake the shipped models."""


@app.command("portraits")
def portraits(
    preset: Annotated[
        str,
        typer.Option(
            help="cpu (several hours on two cores), gpu (longer); with --start-from: cpu-further, or cpu-weak, which makes "
            "the weak network alone."
        ),
    ] = "cpu",
    start_from: Annotated[
        str | None, typer.Option(help="Learn on from a finished pipeline: portraits, or a folder.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoints in the folder.")] = False,
    folder: Annotated[
        Path, typer.Option(parser=typed_folder, metavar="PATH", help="Where checkpoints and drawn portraits are kept.")
    ] = Path("out/train-portraits"),
    outdir: Annotated[
        Path, typer.Option(parser=typed_folder, metavar="PATH", help="Where the finished pipeline is written.")
    ] = Path("out/portraits"),
    seed: Annotated[
        int,
        typer.Option(
            help="All randomness follows from it; to learn on, take another than before.", min=0, max=2**32 - 1
        ),
    ] = 0,
    device: Device = "cpu",
) -> None:
    """Draw portraits, train every network on them, and pack the pipeline."""
    from ...models.loading import quiet

    quiet()  # before the training calls on diffusers and transformers
    from ...training.command import train_portraits

    with progress_bars() as bars:
        tasks: dict[str, TaskID] = {}

        def report(progress: Any) -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = bars.add_task(progress.stage, total=progress.steps)
            loss = "" if progress.loss is None else f" loss {progress.loss:.4f}"
            text = f"{progress.stage}{loss} {progress.images_per_second:.0f}/s"
            bars.update(tasks[progress.stage], completed=progress.step, description=text)

        train_portraits(preset, folder, outdir, seed=seed, device=device, resume=resume, report=report,
                        start_from=start_from)  # fmt: skip
    print(f"the pipeline is in {outdir}")
