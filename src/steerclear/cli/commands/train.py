"""steerclear train: remake the shipped weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import TaskID

from ..options import FOLDER, Device, progress_bars

app = typer.Typer(no_args_is_help=True, help="Remake the shipped models.")


@app.callback()
def group() -> None:
    """Remake the shipped models."""


@contextmanager
def _reported() -> Iterator[Callable[[Any], None]]:
    """What a training calls after every step: a progress bar per stage."""
    with progress_bars() as bars:
        tasks: dict[str, TaskID] = {}

        def report(progress: Any) -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = bars.add_task(progress.stage, total=progress.steps)
            loss = "" if progress.loss is None else f" loss {progress.loss:.4f}"
            text = f"{progress.stage}{loss} {progress.images_per_second:.0f}/s"
            bars.update(tasks[progress.stage], completed=progress.step, description=text)

        yield report


@app.command("portraits")
def portraits(
    preset: Annotated[str, typer.Option(
        help="cpu (several hours on two cores), gpu (longer); with --start-from: cpu-further, cpu-weak, which trains only the "
        "weak network, or cpu-quarter, which stops a new denoiser after a quarter of its training."
    )] = "cpu",
    start_from: Annotated[
        str | None, typer.Option(help="Continue training a finished pipeline: portraits, or a folder.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoints in the folder.")] = False,
    folder: Annotated[Path, typer.Option(
        **FOLDER, help="For checkpoints and drawn portraits."
    )] = Path("out/train-portraits"),
    outdir: Annotated[Path, typer.Option(**FOLDER, help="For the finished pipeline.")] = Path("out/portraits"),
    seed: Annotated[int, typer.Option(
        help="Determines all randomness; to continue training a pipeline, give another than before.", min=0, max=2**32 - 1
    )] = 0,
    device: Device = "cpu",
) -> None:  # fmt: skip
    """Draw portraits, train every network on them, and pack the pipeline."""
    from ...models.loading import quiet

    quiet()  # before training imports diffusers and transformers
    from ...training.command import train_portraits

    with _reported() as report:
        train_portraits(
            preset, folder, outdir, seed=seed, device=device, resume=resume, report=report, start_from=start_from
        )
    print(f"the pipeline is in {outdir}")


@app.command("digits")
def digits(
    data: Annotated[Path | None, typer.Option(
        help="Folder with the data set's parquet files, train and test; without it they are loaded from the Hugging Face hub.",
        exists=True, file_okay=False,
    )] = None,
    world: Annotated[str, typer.Option(help="digits (MNIST), cifar10, or spoiled-digits (a part blurred or broken, as class bad 3 and so on).")] = "digits",
    preset: Annotated[str, typer.Option(help="cpu (an hour on two cores for digits), brief (minutes: a small network, for a first look), narrow (a smaller sister of cpu, to be its weak network), or gpu (larger and longer).")] = "cpu",
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoints in the folder.")] = False,
    folder: Annotated[Path, typer.Option(**FOLDER, help="For checkpoints.")] = Path("out/train-digits"),
    outdir: Annotated[Path, typer.Option(**FOLDER, help="For the finished pipeline.")] = Path("out/digits"),
    seed: Annotated[int, typer.Option(help="Determines all randomness.", min=0, max=2**32 - 1)] = 0,
    device: Device = "cpu",
) -> None:  # fmt: skip
    """Train a denoiser and a classifier of real images with classes, and pack the pipeline. Needs steerclear[data]."""
    from ...models.loading import quiet

    quiet()
    from ...training.command import train_digits

    with _reported() as report:
        train_digits(world, data, preset, folder, outdir, seed=seed, device=device, resume=resume, report=report)
    print(f"the pipeline is in {outdir}")


def _add(name: str, result: str, same: str, told: str) -> None:
    """Add the command of what is trained on portraits beside the model.

    Args:
        name: of the command.
        result: what it writes, in a word.
        same: what does not depend on the seed.
        told: its help.
    """

    @app.command(name, help=told)
    def command(
        resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoints in the folder.")] = False,
        folder: Annotated[Path, typer.Option(
            **FOLDER, help="For checkpoints and drawn portraits."
        )] = Path(f"out/train-{name}"),
        outdir: Annotated[Path, typer.Option(**FOLDER, help=f"For the {result}.")] = Path(f"out/{name}"),
        seed: Annotated[int, typer.Option(
            help=f"Determines all randomness but that of the {same}.", min=0, max=2**32 - 1
        )] = 1,
        device: Device = "cpu",
    ) -> None:  # fmt: skip
        from ...models.loading import quiet

        quiet()
        from ...training.command import train_beside

        with _reported() as report:
            train_beside(name, folder, outdir, seed=seed, device=device, resume=resume, report=report)
        print(f"the {result} is in {outdir}")


_add(
    "second-classifier", "classifier", "portraits",
    "Train the second classifier of portraits, which shares no weights with that of the model (some minutes on two cores).",
)  # fmt: skip
_add(
    "clip", "CLIP", "portraits and texts",
    "Train the portraits' CLIP, a small model of images and texts for the judge clip (some minutes on two cores).",
)  # fmt: skip
