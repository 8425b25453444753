"""steerclear calibrate: measure a concept under a prompt once, for evidences that need or use it."""

from pathlib import Path
from typing import Annotated

import typer

from .. import options
from ..tables import print_calibrated

Negative = Annotated[str, typer.Option("--negative-prompt", help="The concept to be measured.")]
Images = Annotated[int | None, typer.Option(
    help="How many; 128 by default; as many and more tell the images apart well.", min=16, max=100_000
)]  # fmt: skip
OwnSeeds = Annotated[str | None, typer.Option(
    "--seeds", help="One per image, in place of --images; default: from 1000000 on, which compare, generate and tune do not take by default."
)]  # fmt: skip
JudgeName = Annotated[str | None, typer.Option(
    "--judge", help="The laboratory that says which images show it; default: the first's second one."
)]  # fmt: skip
Kept = Annotated[Path, typer.Option(
    "--output", "-o", metavar="FILE", help="The calibration, *.safetensors; a table is written beside it as JSON."
)]  # fmt: skip


def command(
    prompt: options.Prompt, negative_prompt: Negative, output: Kept, images: Images = None, seeds: OwnSeeds = None,
    judge: JudgeName = None, model: options.ModelName = None, config: options.Config = None,
    loras: options.Loras = None, num_inference_steps: options.Steps = 30, height: options.Height = None,
    width: options.Width = None, scheduler: options.SchedulerName = None, batch_size: options.BatchSize = 16,
    device: options.Device = "cpu", dtype: options.Dtype = None, offload: options.Offload = "none",
    outdir: options.Outdir = None, format: options.Output = options.Format.TEXT, quiet: options.Quiet = False,
) -> None:  # fmt: skip
    """Measure how a concept shows under a prompt, for --calibration: unguided images, watched and judged.

    Running again continues; what is there is not made again.
    """
    from ...core.errors import GivenTwice, PromptError
    from ...study.calibrate import FIRST_SEED, calibrate, calibration_folder, output_path
    from ...study.recipe import checked_prompt, parse_seeds
    from ...study.study import ModelAsked

    if prompt is None:
        raise PromptError("there is no prompt; say in a few words what the image should show.")
    if seeds is not None and images is not None:
        raise GivenTwice("the number of images", f"--seeds {seeds}", f"--images {images}")
    prompt, negative = checked_prompt("prompt", prompt), checked_prompt("negative prompt", negative_prompt)
    chosen = (
        range(FIRST_SEED, FIRST_SEED + (128 if images is None else images)) if seeds is None else parse_seeds(seeds)
    )
    path = output_path(output)
    asked = ModelAsked(
        model or "portraits", (), config, tuple(loras or ()), scheduler, dtype or "float32", device, offload
    )
    folder = calibration_folder(outdir, prompt, negative, asked.identity(), num_inference_steps, height, width)
    with options.progress_bars(not quiet) as bars:
        loaded = asked.load()
        on_progress = options.show_stages(bars)("watching unguided images")
        found = calibrate(
            loaded, prompt, negative, folder, path, seeds=tuple(chosen), num_inference_steps=num_inference_steps,
            height=height, width=width, judge=judge, batch_size=batch_size, on_progress=on_progress,
        )  # fmt: skip
    print_calibrated(found, folder, format, quiet=quiet)
