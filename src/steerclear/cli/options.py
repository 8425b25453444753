"""Options that several commands share, and the progress bars."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import InvalidSetting
from ..core.settings import folder_path
from ..telling.progress import console as console
from ..telling.progress import progress_bars as progress_bars
from ..telling.progress import show_methods as show_methods
from ..telling.progress import show_stages as show_stages

ModelName = Annotated[str, typer.Option("--model", help="A shipped model, a local folder, or a hub id or its address.")]
WeakName = Annotated[
    str | None,
    typer.Option(
        "--weak",
        help="A folder or hub id of a weak network, or of a pipeline that has one; or a kind like noised:0.1; "
        "default: the model's own.",
    ),
]
Loras = Annotated[
    list[str] | None,
    typer.Option("--lora", help="A safetensors file, a folder or a hub id; FILE:0.8 for a scale; may be given again."),
]
Height = Annotated[
    int | None, typer.Option("--height", help="Of the image in pixels; default: the model's own.", min=8, max=16_384)
]
Width = Annotated[
    int | None, typer.Option("--width", help="Of the image in pixels; default: the model's own.", min=8, max=16_384)
]
Negatives = Annotated[
    list[str] | None, typer.Option("--negative-prompt", help="What the image shall not show; may be given again.")
]
Seeds = Annotated[str, typer.Option("--seeds", help="One per image: 0-63 or 1,5,9.")]
Steps = Annotated[int, typer.Option("--steps", "--num-inference-steps", help="Sampler steps.", min=1, max=1000)]
OptionalSeeds = Annotated[str | None, typer.Option("--seeds", help="One per image; default 0-63.")]
OptionalSteps = Annotated[
    int | None, typer.Option("--steps", "--num-inference-steps", help="Sampler steps; default 30.", min=1, max=1000)
]


def typed_folder(text: str) -> Path:
    """A folder as people type it, see :func:`~steerclear.core.settings.folder_path`."""
    try:
        return folder_path("the folder", text)
    except InvalidSetting as error:  # of a ValueError only the text would be named
        raise typer.BadParameter(str(error)) from error


Outdir = Annotated[
    Path | None,
    typer.Option(
        "--outdir",
        parser=typed_folder,
        metavar="PATH",
        help="Folder of this run; running again goes on in it; default: one in out, named after the question.",
    ),
]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Images in one forward.", min=1)]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[str, typer.Option("--dtype", help="float32, float16 or bfloat16.")]
Offload = Annotated[
    str, typer.Option("--offload", help="none, model, sequential or group: what waits in main memory; saves the GPU's.")
]
SchedulerName = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        help="Such as euler_a or 'dpm++ 2m karras', or a diffusers scheduler's class name; default: the model's own.",
    ),
]


class Format(StrEnum):
    """What is printed: a table for people, or JSON for programs."""

    TEXT = "text"
    JSON = "json"


Output = Annotated[Format, typer.Option("--format", help="text for people, json for programs.")]
