"""steerclear compare: what each way of saying "no" removed, and what else it changed."""

import sys
from typing import Annotated

import typer

from ..options import (
    Again,
    BatchSize,
    Config,
    Device,
    Dtype,
    Format,
    Height,
    Loras,
    ManySeeds,
    ModelName,
    Negatives,
    Networks,
    Offload,
    Open,
    OptionalSteps,
    Outdir,
    Output,
    Prompt,
    Quiet,
    SchedulerName,
    WeakName,
    Width,
    progress_bars,
    show_methods,
    typed_networks,
)  # fmt: skip
from ..tables import print_results

Scale = Annotated[float | None, typer.Option(help="Of CFG and of the negative prompt, 1 is off; default: 3.")]
AutoScale = Annotated[float | None, typer.Option(help="Of autoguidance, 1 is off; default: 2.")]
Methods = Annotated[
    str | None,
    typer.Option(help="Names, separated by commas; any guidance, with settings as cfg:guidance_scale=5, works."),
]
JudgeName = Annotated[
    str | None,
    typer.Option("--judge", help="Who says what the images show; none: nobody; default: the first that can."),
]
Quick = Annotated[bool, typer.Option("--quick", help="16 seeds and 15 steps: within a minute on two cores.")]


def command(
    prompt: Prompt = None,
    negative_prompt: Negatives = None,
    recipe: Again = None,
    model: ModelName = None,
    config: Config = None,
    weak: WeakName = None,
    network: Networks = None,
    lora: Loras = None,
    outdir: Outdir = None,
    seeds: ManySeeds = None,
    steps: OptionalSteps = None,
    guidance_scale: Scale = None,
    auto_scale: AutoScale = None,
    methods: Methods = None,
    judge: JudgeName = None,
    height: Height = None,
    width: Width = None,
    scheduler: SchedulerName = None,
    batch_size: BatchSize = 16,
    device: Device = "cpu",
    dtype: Dtype = None,
    offload: Offload = "none",
    quick: Quick = False,
    format: Output = Format.TEXT,
    quiet: Quiet = False,
    open: Open = False,
) -> None:
    """Compare ways of steering away from something, on the same seeds.

    Writes report.html, its figures, results.json and every image into the folder.
    """
    from ...study.again import read_run
    from ...study.notes import repeat_command
    from ...study.request import asked_to_compare
    from ...study.run import run
    from ...telling.report import write_all

    options = {
        "prompt": prompt, "negative_prompts": negative_prompt, "model": model, "config": config,
        "networks": typed_networks(weak, network), "loras": lora, "seeds": seeds, "num_inference_steps": steps,
        "guidance_scale": guidance_scale, "auto_scale": auto_scale, "methods": methods, "judge": judge, "height": height,
        "width": width, "scheduler": scheduler, "dtype": dtype,
    }  # fmt: skip
    before = None if recipe is None else read_run(recipe)
    study, folder = asked_to_compare(options, before, quick=quick, folder=outdir, device=device, offload=offload)
    loaded = study.model.load()
    if before is not None:
        before.warn_of_other_files(loaded, options)
    with progress_bars(not quiet) as bars:
        on_method, on_progress = show_methods(bars)
        results = run(
            study, folder, model=loaded, batch_size=batch_size, command=repeat_command(sys.argv[1:]),
            on_method=on_method, on_progress=on_progress,
        )  # fmt: skip
    print_results(results, write_all(results, folder), format, quiet=quiet, open=open)
