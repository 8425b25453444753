"""steerclear generate: images of one prompt under one guidance."""

from ..options import (
    BatchSize,
    Config,
    Device,
    Dtype,
    Format,
    From,
    Guidance,
    GuidanceScale,
    Height,
    Loras,
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
    Settings,
    SomeSeeds,
    WeakName,
    Width,
    console,
    progress_bars,
    show_methods,
    typed_networks,
)  # fmt: skip
from ..tables import print_images


def command(
    prompt: Prompt = None,
    negative_prompt: Negatives = None,
    source: From = None,
    guidance: Guidance = None,
    guidance_scale: GuidanceScale = None,
    set: Settings = None,
    model: ModelName = None,
    config: Config = None,
    weak: WeakName = None,
    network: Networks = None,
    lora: Loras = None,
    seeds: SomeSeeds = None,
    steps: OptionalSteps = None,
    height: Height = None,
    width: Width = None,
    scheduler: SchedulerName = None,
    batch_size: BatchSize = 16,
    device: Device = "cpu",
    dtype: Dtype = None,
    offload: Offload = "none",
    outdir: Outdir = None,
    format: Output = Format.TEXT,
    quiet: Quiet = False,
    open: Open = False,
) -> None:
    """Make images and a sheet of them (sheet.png); running again makes only those that are missing."""
    from ...study.again import read_image
    from ...study.request import request
    from ...study.run import images_of
    from ...telling.sheet import write_sheet

    options = {
        "prompt": prompt, "negative_prompts": negative_prompt, "model": model, "config": config,
        "networks": typed_networks(weak, network), "loras": lora, "seeds": seeds, "num_inference_steps": steps,
        "height": height, "width": width, "scheduler": scheduler, "dtype": dtype,
    }  # fmt: skip
    before = None if source is None else read_image(source)
    asked = request(options, guidance, guidance_scale, set or [], before, device=device, offload=offload)
    folder = asked.folder(outdir)
    loaded = asked.study.model.load()
    if before is not None:
        before.warn_of_other_files(loaded, options)
    asked = asked.for_model(loaded)
    for note in asked.notes(loaded) * (not quiet):
        console().print(note, markup=False, soft_wrap=True)
    with progress_bars(not quiet) as bars:
        on_method, on_progress = show_methods(bars)
        recipe, pictures = images_of(
            asked.study, folder, model=loaded, batch_size=batch_size, on_method=on_method, on_progress=on_progress
        )
    print_images(recipe, pictures, write_sheet(pictures, folder), format, quiet=quiet, open=open)
