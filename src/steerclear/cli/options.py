"""Options that several commands share, and the progress bars."""

import os
import sys
import webbrowser
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.errors import GivenTwice, InvalidSetting
from ..core.settings import folder_path
from ..telling.progress import console as console
from ..telling.progress import progress_bars as progress_bars
from ..telling.progress import show_methods as show_methods
from ..telling.progress import show_stages as show_stages


def typed_folder(text: str) -> Path:
    """A folder as people type it, see :func:`~steerclear.core.settings.folder_path`."""
    try:
        return folder_path("the folder", text)
    except InvalidSetting as error:  # typer would name only the text of a ValueError
        raise typer.BadParameter(str(error)) from error


class Format(StrEnum):
    """What is printed: a table for people, or JSON for programs."""

    TEXT = "text"
    JSON = "json"


FOLDER: dict[str, Any] = {"parser": typed_folder, "metavar": "PATH"}
STEPS = ("--steps", "--num-inference-steps")
SIDE: dict[str, Any] = {"help": "In pixels; default: the model's own.", "min": 8, "max": 16_384}

# What the images are of
Prompt = Annotated[str | None, typer.Argument(help="What the image should show.")]
Negatives = Annotated[
    list[str] | None, typer.Option("--negative-prompt", help="What the image should not show; may be repeated.")
]
Guidance = Annotated[str | None, typer.Option(
    help="A guidance's name, see: steerclear guidance list; default: cfg, and dynamic-negative with a negative prompt."
)]  # fmt: skip
GuidanceScale = Annotated[float | None, typer.Option(help="Of the prompt; 1 is off; default: the guidance's own.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="key=value of the guidance; may be repeated.")]
DrawAgain = Annotated[bool, typer.Option(
    "--redraw", help="Draw images again that show what a negative prompt names; the guidance draws, by default cfg at 3."
)]  # fmt: skip
FromStep = Annotated[int | None, typer.Option(
    "--from-step", help="With --redraw: further draws begin at this step; 0 is the start; default: each earlier than the one before.", min=0
)]  # fmt: skip
FromSigma = Annotated[float | None, typer.Option(
    "--from-sigma", help="With --redraw: further draws begin at this noise level, sigma / alpha, in place of a step."
)]  # fmt: skip
Tries = Annotated[
    int | None, typer.Option("--tries", help="With --redraw: most draws of one image; default: 8.", min=1)
]
Abandon = Annotated[str | None, typer.Option(
    "--abandon", metavar="EVIDENCE", help="With --redraw: an evidence, such as transition, that ends hopeless draws on their way."
)]  # fmt: skip
Seeds = Annotated[str, typer.Option("--seeds", help="One per image: 0-63 or 1,5,9.")]
SomeSeeds = Annotated[str | None, typer.Option("--seeds", help="One per image, such as 0-63 or 1,5,9; default: 0-7.")]
ManySeeds = Annotated[str | None, typer.Option("--seeds", help="One per image, such as 1,5,9; default: 0-63.")]
Calibrations = Annotated[list[Path] | None, typer.Option(
    "--calibration", metavar="FILE", help="What steerclear calibrate measured of a negative prompt; may be repeated."
)]  # fmt: skip
Steps = Annotated[int, typer.Option(*STEPS, help="Sampler steps.", min=1, max=1000)]
OptionalSteps = Annotated[int | None, typer.Option(*STEPS, help="Sampler steps; default: 30.", min=1, max=1000)]
Height = Annotated[int | None, typer.Option("--height", **SIDE)]
Width = Annotated[int | None, typer.Option("--width", **SIDE)]

# The model
ModelName = Annotated[str | None, typer.Option(
    "--model", help="A shipped model, a local folder or .safetensors file, a hub id, or a file there or its address."
)]  # fmt: skip
Config = Annotated[str | None, typer.Option(
    "--config", help="With a single file: a shipped model, folder or hub id whose configuration it uses; default: guessed from its "
    "weights, and fetched from the hub.",
)]  # fmt: skip
WeakName = Annotated[str | None, typer.Option(
    "--weak", help="A folder or hub id of a weak network, or of a pipeline that has one; or a kind like noised:0.1; default: the "
    "model's own.",
)]  # fmt: skip
Networks = Annotated[list[str] | None, typer.Option(
    "--network", help="NAME=SOURCE: a network that a guidance uses under this name; sources as for --weak; may be repeated."
)]  # fmt: skip
Loras = Annotated[list[str] | None, typer.Option(
    "--lora", help="A safetensors file, a folder or a hub id; FILE:0.8 for a scale; may be repeated."
)]  # fmt: skip
SchedulerName = Annotated[str | None, typer.Option(
    "--scheduler",
    help="Such as euler_a or 'dpm++ 2m karras', or a diffusers scheduler's class name; default: the model's own.",
)]  # fmt: skip
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[str | None, typer.Option("--dtype", help="float32, float16 or bfloat16; default: float32.")]
Offload = Annotated[str, typer.Option(
    "--offload", help="none, model, sequential or group: what waits in main memory, to save the GPU's."
)]  # fmt: skip
BatchSize = Annotated[int, typer.Option("--batch-size", help="Images per forward pass.", min=1)]

# Who looks at the images
JudgeName = Annotated[str | None, typer.Option(
    "--judge", help="The laboratory that says what the images show; none: nobody; default: the first that can."
)]  # fmt: skip
SecondJudge = Annotated[str | None, typer.Option(
    "--second-judge", help="Another laboratory, to see where the two differ."
)]  # fmt: skip
Watch = Annotated[str | None, typer.Option(
    "--watch", help="What else the judge looks for, as 'trees, sky'; default: the judge's own list."
)]  # fmt: skip
Truth = Annotated[str | None, typer.Option(
    help="What the images are compared with. exact: known to the judge; redrawn: images of the model in which the judge does not "
    "see the concept; none; default: exact if known, else redrawn if the judge has features.",
)]  # fmt: skip
ReferenceImages = Annotated[str | None, typer.Option(
    "--reference-images", metavar="NUMBER", help="Images that are drawn for a redrawn truth, from 8; default: twice the seeds."
)]  # fmt: skip
ReferenceMethod = Annotated[str | None, typer.Option(
    "--reference-method", help="The method that draws them, without a negative prompt; default: unguided."
)]  # fmt: skip
FeaturesName = Annotated[str | None, typer.Option(
    "--features", help="In what images are compared with a redrawn truth, such as pixels; default: the judge's own."
)]  # fmt: skip

# Where it comes from, where it goes, what is printed
Outdir = Annotated[Path | None, typer.Option(
    "--outdir", **FOLDER, help="Folder of this run; running again continues it; default: one in out, named after the question."
)]  # fmt: skip
From = Annotated[Path | None, typer.Option(
    "--from", metavar="IMAGE", help="An image made by steerclear; its settings and seed replace the defaults."
)]  # fmt: skip
Again = Annotated[Path | None, typer.Option(
    "--recipe", metavar="PATH", help="Repeat an earlier run: results.json, its folder or one of its images; options replace parts."
)]  # fmt: skip
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
    """Name -> source of ``--weak`` and ``--network``; None if neither is given.

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
