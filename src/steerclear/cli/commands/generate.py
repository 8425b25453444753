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
    show_stages,
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
    from ...models.loading import load_model
    from ...study.again import read_image
    from ...study.folders import run_folder
    from ...study.generate import generate
    from ...study.request import request
    from ...telling.sheet import write_sheet

    options = {
        "prompt": prompt, "negative_prompts": negative_prompt, "model": model, "config": config, "weak": weak,
        "loras": lora, "seeds": seeds, "num_inference_steps": steps, "height": height, "width": width,
        "scheduler": scheduler, "dtype": dtype,
    }  # fmt: skip
    before = None if source is None else read_image(source)
    asked = request(options, guidance, guidance_scale, set or [], before)
    folder = asked.folder(outdir)
    loaded = load_model(**asked.loading, device=device, offload=offload)
    if before is not None:
        before.warn_of_other_files(loaded, options)
    asked = asked.for_model(loaded)
    for note in asked.notes(loaded) * (not quiet):
        console().print(note, markup=False, soft_wrap=True)
    recipe = asked.recipe(loaded)
    claim = run_folder(folder, {"command": "generate"} | recipe.asked(), recipes={"": recipe})
    with claim, progress_bars(quiet) as bars:
        on_progress = show_stages(bars)("images")
        pictures = generate(loaded, recipe, asked.seeds, folder, batch_size=batch_size, on_progress=on_progress)
        on_progress(1, 1)  # full when nothing is left to make
        sheet = write_sheet(pictures, folder)
    print_images(recipe, pictures, sheet, format, quiet=quiet, open=open)
