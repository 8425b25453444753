"""steerclear generate: images of one prompt under one guidance."""

import json
from dataclasses import replace
from typing import Annotated

import typer

from .options import (
    BatchSize,
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
    show_methods,
)  # fmt: skip
from .streams import print_json


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
    from ..bridges.diffusers.asking import takes_classes
    from ..models.loading import asked_to_load
    from ..study.folders import default_folder, refuse_early
    from ..study.guidance_settings import build_guidance, first_that_takes
    from ..study.methods import WITH_NEGATIVE, WITHOUT_NEGATIVE, Method, unmeasured
    from ..study.recipe import parse_seeds
    from ..study.run import images_of, question_of
    from ..study.study import ModelAsked, Study, checked_negatives

    negatives = checked_negatives(negative_prompt or ())
    names = (guidance,) if guidance else WITH_NEGATIVE if negatives else (WITHOUT_NEGATIVE,)
    built = first_that_takes(names, guidance_scale, set or [])
    networks = () if weak is None else (("weak", weak),)
    asked_model = ModelAsked(model, networks, tuple(lora or ()), scheduler, dtype, device, offload)
    study = Study(prompt, negatives, (Method(built.name, built.name, prompt, negatives, built),), parse_seeds(seeds),
                  steps, height, width, model=asked_model)  # fmt: skip
    asked = question_of(study, "generate")
    chosen = asked | asked_to_load(model, weak, lora or [], scheduler, dtype) | {"guidance": built.to_config()}
    folder = outdir or default_folder("generate", [study.prompt, *negatives], chosen)
    refuse_early(folder, asked)
    loaded = study.model.load()
    if guidance is None and negatives:
        if takes_classes(loaded.pipe):
            built = build_guidance(WITH_NEGATIVE[-1], guidance_scale, set or [])
        said = f"guidance: {built.name}, which uses the negative prompt; --guidance takes another."
        console().print(said, markup=False, soft_wrap=True)
    for note in unmeasured(loaded.pipe.scheduler, built):
        console().print(f"note: {note}", markup=False, soft_wrap=True)
    method = Method(built.name, built.name, study.prompt, negatives, built)
    with progress_bars() as bars:
        on_method, on_progress = show_methods(bars)
        recipe, pictures = images_of(
            replace(study, methods=(method,)), folder, model=loaded, batch_size=batch_size, on_method=on_method,
            on_progress=on_progress,
        )  # fmt: skip
    if format is Format.JSON:
        rows = [{"seed": p.seed, "file": str(p.path), "evaluations": p.evaluations, "trace": p.trace} for p in pictures]
        print_json(json.dumps({"recipe": recipe.model_dump(mode="json"), "images": rows}, indent=1))
        return
    print(f"{len(pictures)} images in {folder}")
