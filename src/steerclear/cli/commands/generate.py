"""steerclear generate: images of one prompt under one guidance."""

import json
from typing import Annotated

import typer

from ..options import (
    BatchSize,
    Config,
    Device,
    Dtype,
    Format,
    Height,
    Loras,
    ModelName,
    Negatives,
    Offload,
    Outdir,
    Output,
    SchedulerName,
    Seeds,
    Steps,
    WeakName,
    Width,
    console,
    progress_bars,
)  # fmt: skip
from ..streams import print_json


def command(
    prompt: Annotated[str, typer.Argument(help="What the image shall show.")],
    negative_prompt: Negatives = None,
    guidance: Annotated[
        str | None,
        typer.Option(
            help="A guidance's name, see: steerclear guidance list; default: cfg, and dynamic-negative with a negative prompt."
        ),
    ] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(help="Of the prompt, 1 is off; default: the guidance's own.")
    ] = None,
    set: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of the guidance; may be given again.")
    ] = None,
    model: ModelName = "portraits",
    config: Config = None,
    weak: WeakName = None,
    lora: Loras = None,
    seeds: Seeds = "0-7",
    steps: Steps = 30,
    height: Height = None,
    width: Width = None,
    scheduler: SchedulerName = None,
    batch_size: BatchSize = 16,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    offload: Offload = "none",
    outdir: Outdir = None,
    format: Output = Format.TEXT,
) -> None:
    """Make images; running again makes only those that are missing."""
    from ...bridges.diffusers.asking import takes_classes
    from ...models.loading import asked_to_load, load_model
    from ...study.compare import recipe_of
    from ...study.folders import default_folder, refuse_early, run_folder
    from ...study.generate import check_recipe, generate, warn_of_idle_weak
    from ...study.guidance_settings import build_guidance, first_that_takes
    from ...study.methods import WITH_NEGATIVE, WITHOUT_NEGATIVE, Method, unmeasured
    from ...study.recipe import checked_prompt, parse_seeds

    negatives = tuple(checked_prompt("negative prompt", text) for text in negative_prompt or ())
    names = (guidance,) if guidance else WITH_NEGATIVE if negatives else (WITHOUT_NEGATIVE,)
    built = first_that_takes(names, guidance_scale, set or [])
    wanted = parse_seeds(seeds)
    text = checked_prompt("prompt", prompt)
    asked = {
        "command": "generate", "prompt": text, "negative_prompts": list(negatives), "num_inference_steps": steps,
        "height": height, "width": width,
    }  # fmt: skip
    loading = asked_to_load(model, weak, lora or [], scheduler, dtype)
    chosen = asked | loading | {"guidance": built.to_config()}
    folder = outdir or default_folder("generate", [text, *negatives], chosen)
    refuse_early(folder, asked)
    loaded = load_model(
        model,
        weak=weak,
        loras=lora or (),
        device=device,
        dtype=dtype,
        offload=offload,
        scheduler=scheduler,
        config=config,
    )
    if guidance is None and negatives:
        if takes_classes(loaded.pipe):
            built = build_guidance(WITH_NEGATIVE[-1], guidance_scale, set or [])
        said = f"guidance: {built.name}, which uses the negative prompt; --guidance takes another."
        console().print(said, markup=False, soft_wrap=True)
    for note in unmeasured(loaded.pipe.scheduler, built):
        console().print(f"note: {note}", markup=False, soft_wrap=True)
    recipe = recipe_of(loaded, Method(built.name, built.name, text, negatives, built), steps, height, width)
    check_recipe(loaded, recipe)
    warn_of_idle_weak(loaded, [recipe])
    with run_folder(folder, {"command": "generate"} | recipe.asked(), recipes={"": recipe}), progress_bars() as bars:
        task = bars.add_task("images", total=None)
        pictures = generate(
            loaded, recipe, wanted, folder, batch_size=batch_size,
            on_progress=lambda done, total: bars.update(task, completed=done, total=total),
        )  # fmt: skip
        bars.update(task, total=1, completed=1)
    if format is Format.JSON:
        rows = [{"seed": p.seed, "file": str(p.path), "evaluations": p.evaluations, "trace": p.trace} for p in pictures]
        print_json(json.dumps({"recipe": recipe.model_dump(mode="json"), "images": rows}, indent=1))
        return
    print(f"{len(pictures)} images in {folder}")
