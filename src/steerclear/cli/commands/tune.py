"""steerclear tune: the settings of a guidance that are best under a limit, found on some seeds and measured on others."""

import sys
from typing import Annotated

import typer

from .. import options
from ..tables import print_tuned

Guidance = Annotated[str | None, typer.Option(
    help="What is tuned: a method or guidance as for compare --methods, such as autoguidance or cfg:guidance_rescale=0.5."
)]  # fmt: skip
Vary = Annotated[list[str] | None, typer.Option(
    "--vary", metavar="KEY=LOW:HIGH",
    help="A setting and its range; LOW:HIGH:log for equal ratios; ONE|OTHER for choices; several with commas, or repeated. start "
    "and stop put the guidance into an interval; weak=ONE|OTHER takes other networks; {KEY} in a --network is filled.",
)]  # fmt: skip
Minimise = Annotated[str | None, typer.Option("--minimise", "--minimize", metavar="NAME", help="A measurement, such as frechet.")]  # fmt: skip
Maximise = Annotated[str | None, typer.Option("--maximise", "--maximize", metavar="NAME", help="A measurement, such as recall.")]  # fmt: skip
SubjectTo = Annotated[list[str] | None, typer.Option(
    "--subject-to", metavar="LIMIT",
    help="What must be kept, as 'mustache <= 2 %', 'recall >= unguided' or 'frechet <= 0.9 * default'; may be repeated.",
)]  # fmt: skip
Trials = Annotated[int | None, typer.Option(help="How many settings are tried; default: 30.", min=1, max=10_000)]
Images = Annotated[int | None, typer.Option(help="Of each trial; default: one per seed; 256 without --seeds.", min=1)]
OwnSeeds = Annotated[str | None, typer.Option(
    "--seeds", help="Of the search; default: from 2000000 on, which compare, generate and calibrate do not take by default."
)]  # fmt: skip
FinalSeeds = Annotated[str | None, typer.Option(
    "--final-seeds", help="Of the last measurement, which the search has not seen; default: 0-255."
)]  # fmt: skip


def command(
    prompt: options.Prompt = None, negative_prompts: options.Negatives = None, guidance: Guidance = None,
    settings: options.Settings = None, vary: Vary = None, minimise: Minimise = None, maximise: Maximise = None,
    subject_to: SubjectTo = None, trials: Trials = None, images: Images = None, seeds: OwnSeeds = None,
    final_seeds: FinalSeeds = None, model: options.ModelName = None, config: options.Config = None,
    weak: options.WeakName = None, networks: options.Networks = None, loras: options.Loras = None,
    calibrations: options.Calibrations = None, outdir: options.Outdir = None,
    num_inference_steps: options.OptionalSteps = None, judge: options.JudgeName = None, height: options.Height = None,
    width: options.Width = None, scheduler: options.SchedulerName = None, batch_size: options.BatchSize = 16,
    device: options.Device = "cpu", dtype: options.Dtype = None, offload: options.Offload = "none",
    watch: options.Watch = None, truth: options.Truth = None, reference_images: options.ReferenceImages = None,
    reference_method: options.ReferenceMethod = None, features: options.FeaturesName = None,
    format: options.Output = options.Format.TEXT, quiet: options.Quiet = False, open: options.Open = False,
) -> None:  # fmt: skip
    """Find the settings of a guidance that are best under limits, and measure them on seeds that the search has not seen.

    Running again continues; more trials go on from those that are there. Writes tune.json, tuning.png and every image.
    """
    given = dict(locals(), networks=options.typed_networks(weak, networks))
    from ...study.commands import repeat_command
    from ...study.request import asked_to_tune
    from ...study.tune import tune
    from ...telling.tuning import write_found

    asked, folder = asked_to_tune(given, folder=outdir, device=device, offload=offload)
    loaded = asked.study.model.load()
    with options.progress_bars(not quiet) as bars:
        on_method, on_progress = options.show_methods(bars)
        found = tune(
            asked, folder, model=loaded, batch_size=batch_size, command=repeat_command(sys.argv[1:]),
            on_method=on_method, on_progress=on_progress,
        )  # fmt: skip
    print_tuned(found, write_found(found, folder), format, quiet=quiet, open=open)
