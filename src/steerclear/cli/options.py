"""Options that several commands share, and the progress bars."""

import os
import sys
import webbrowser
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import GivenTwice, InvalidSetting
from ..core.settings import folder_path
from ..telling.progress import console as console
from ..telling.progress import progress_bars as progress_bars
from ..telling.progress import show_methods as show_methods
from ..telling.progress import show_stages as show_stages

Prompt = Annotated[str | None, typer.Argument(help="What the image shows.")]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="A shipped model, a local folder or .safetensors file, or a hub id, a file there or its address.",
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        "--config",
        help="With a single file: a shipped model, folder or hub id whose configuration it has; default: told from its "
        "weights, and fetched from the hub.",
    ),
]
WeakName = Annotated[
    str | None,
    typer.Option(
        "--weak",
        help="A folder or hub id of a weak network, or of a pipeline that has one; or a kind like noised:0.1; "
        "default: the model's own.",
    ),
]
Networks = Annotated[
    list[str] | None,
    typer.Option(
        "--network",
        help="NAME=SOURCE: a network that a guidance asks for by this name; a source as for --weak; may be given again.",
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
Guidance = Annotated[
    str | None,
    typer.Option(
        help="A guidance's name, see: steerclear guidance list; default: cfg, and dynamic-negative with a negative prompt."
    ),
]
GuidanceScale = Annotated[float | None, typer.Option(help="Of the prompt, 1 is off; default: the guidance's own.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="key=value of the guidance; may be given again.")]
Seeds = Annotated[str, typer.Option("--seeds", help="One per image: 0-63 or 1,5,9.")]
Steps = Annotated[int, typer.Option("--steps", "--num-inference-steps", help="Sampler steps.", min=1, max=1000)]
SomeSeeds = Annotated[str | None, typer.Option("--seeds", help="One per image, such as 0-63 or 1,5,9; default: 0-7.")]
ManySeeds = Annotated[str | None, typer.Option("--seeds", help="One per image, such as 1,5,9; default: 0-63.")]
OptionalSteps = Annotated[
    int | None, typer.Option("--steps", "--num-inference-steps", help="Sampler steps; default: 30.", min=1, max=1000)
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
From = Annotated[
    Path | None,
    typer.Option(
        "--from", metavar="IMAGE", help="An image of steerclear; its settings and seed stand for what is not given."
    ),
]
Again = Annotated[
    Path | None,
    typer.Option(
        "--recipe",
        metavar="PATH",
        help="Ask again what was asked before: results.json, its folder or one of its images; options replace parts of it.",
    ),
]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Images in one forward.", min=1)]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[str | None, typer.Option("--dtype", help="float32, float16 or bfloat16; default: float32.")]
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
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Only the path of what was made (or JSON), warnings and errors.")
]
Open = Annotated[bool, typer.Option("--open", help="Open it in the default viewer.")]


def open_file(path: Path) -> None:
    """Open a file in the default viewer, or say where it is."""
    displays = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if not displays or not webbrowser.open(path.resolve().as_uri()):
        console().print(f"there is no display to open {path.resolve()} on", markup=False, soft_wrap=True)


def typed_networks(weak: str | None, networks: list[str] | None) -> dict[str, str] | None:
    """Name -> source of what ``--weak`` and ``--network`` say; None where neither is given.

    Raises:
        InvalidSetting: text without ``=``, or a name that is given twice.

    >>> typed_networks("noised:0.1", ["perturbed=dropped-layers:layers=mid_block"])
    {'weak': 'noised:0.1', 'perturbed': 'dropped-layers:layers=mid_block'}
    """
    found = {} if weak is None else {"weak": weak}
    for text in networks or ():
        name, equals, source = text.partition("=")
        if not equals or not name:
            raise InvalidSetting("--network", text, "NAME=SOURCE, like perturbed=dropped-layers:layers=mid_block")
        if name in found:
            raise GivenTwice(f"the {name} network", found[name], source)
        found[name] = source
    return found or None
