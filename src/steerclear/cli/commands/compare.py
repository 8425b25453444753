"""steerclear compare: what each way of saying "no" removed, and what else it changed."""

import sys
from typing import Annotated

import typer

from .. import options
from ..tables import print_results

Scale = Annotated[float | None, typer.Option(help="Of CFG and of the negative prompt; 1 is off; default: 3.")]
AutoScale = Annotated[float | None, typer.Option(help="Of autoguidance; 1 is off; default: 2.")]
Methods = Annotated[str | None, typer.Option(
    help="Names of methods or guidances, separated by commas, with settings as cfg:guidance_scale=5; default: the standard ones."
)]  # fmt: skip
Quick = Annotated[bool, typer.Option("--quick", help="16 seeds and 15 steps: within a minute on two cores.")]


def command(
    prompt: options.Prompt = None, negative_prompts: options.Negatives = None, recipe: options.Again = None,
    model: options.ModelName = None, config: options.Config = None, weak: options.WeakName = None,
    networks: options.Networks = None, loras: options.Loras = None, calibrations: options.Calibrations = None,
    outdir: options.Outdir = None,
    seeds: options.ManySeeds = None, num_inference_steps: options.OptionalSteps = None, guidance_scale: Scale = None,
    auto_scale: AutoScale = None, methods: Methods = None, judge: options.JudgeName = None, height: options.Height = None,
    width: options.Width = None, scheduler: options.SchedulerName = None, batch_size: options.BatchSize = 16,
    device: options.Device = "cpu", dtype: options.Dtype = None, offload: options.Offload = "none",
    second_judge: options.SecondJudge = None, watch: options.Watch = None, truth: options.Truth = None,
    reference_images: options.ReferenceImages = None, reference_method: options.ReferenceMethod = None, features: options.FeaturesName = None,
    quick: Quick = False, format: options.Output = options.Format.TEXT, quiet: options.Quiet = False,
    open: options.Open = False,
) -> None:  # fmt: skip
    """Compare ways of steering away from something, on the same seeds.

    Writes report.html, its figures, results.json and every image into the folder.
    """
    given = dict(locals(), networks=options.typed_networks(weak, networks))
    from ...study.again import read_run
    from ...study.commands import repeat_command
    from ...study.request import asked_to_compare
    from ...study.run import run
    from ...telling.report import write_all

    before = None if recipe is None else read_run(recipe)
    study, folder = asked_to_compare(given, before, quick=quick, folder=outdir, device=device, offload=offload)
    loaded = study.model.load()
    if before is not None:
        before.warn_of_other_files(loaded, given)
    with options.progress_bars(not quiet) as bars:
        on_method, on_progress = options.show_methods(bars)
        results = run(
            study, folder, model=loaded, batch_size=batch_size, command=repeat_command(sys.argv[1:]),
            on_method=on_method, on_progress=on_progress,
        )  # fmt: skip
    print_results(results, write_all(results, folder), format, quiet=quiet, open=open)
