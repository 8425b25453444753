"""steerclear generate: images of one prompt under one guidance."""

from .. import options
from ..tables import print_images


def command(
    prompt: options.Prompt = None, negative_prompts: options.Negatives = None, source: options.From = None,
    guidance: options.Guidance = None, guidance_scale: options.GuidanceScale = None, set: options.Settings = None,
    redraw: options.DrawAgain = False, from_step: options.FromStep = None, from_sigma: options.FromSigma = None,
    tries: options.Tries = None, abandon: options.Abandon = None, model: options.ModelName = None, config: options.Config = None, weak: options.WeakName = None,
    networks: options.Networks = None, loras: options.Loras = None, calibrations: options.Calibrations = None, seeds: options.SomeSeeds = None,
    num_inference_steps: options.OptionalSteps = None, height: options.Height = None, width: options.Width = None,
    scheduler: options.SchedulerName = None, batch_size: options.BatchSize = 16, device: options.Device = "cpu",
    dtype: options.Dtype = None, offload: options.Offload = "none", outdir: options.Outdir = None,
    format: options.Output = options.Format.TEXT, quiet: options.Quiet = False, open: options.Open = False,
) -> None:  # fmt: skip
    """Make images and a sheet of them (sheet.png); running again makes only the missing ones."""
    given = dict(locals(), networks=options.typed_networks(weak, networks))
    from ...study.again import read_image
    from ...study.guidance_settings import Again
    from ...study.request import request
    from ...study.run import images_of
    from ...telling.sheet import write_sheet

    before = None if source is None else read_image(source)
    again = Again(redraw, from_step, from_sigma, tries, abandon)
    asked = request(given, guidance, guidance_scale, set or [], before, again=again, device=device, offload=offload)
    folder = asked.folder(outdir)
    loaded = asked.study.model.load()
    if before is not None:
        before.warn_of_other_files(loaded, given)
    asked = asked.for_model(loaded)
    for note in asked.notes(loaded) * (not quiet):
        options.console().print(note, markup=False, soft_wrap=True)
    with options.progress_bars(not quiet) as bars:
        on_method, on_progress = options.show_methods(bars)
        recipe, pictures = images_of(
            asked.study, folder, model=loaded, batch_size=batch_size, on_method=on_method, on_progress=on_progress
        )
    print_images(recipe, pictures, write_sheet(pictures, folder), format, quiet=quiet, open=open)
