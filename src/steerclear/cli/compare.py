"""steerclear compare: what each way of saying "no" removed, and what else it changed."""

import sys
from typing import Annotated

import typer
from rich.console import Console

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
    OptionalSeeds,
    OptionalSteps,
    Outdir,
    Output,
    SchedulerName,
    WeakName,
    Width,
    progress_bars,
    show_methods,
)  # fmt: skip
from .streams import print_json

DEFAULT_SEEDS, DEFAULT_STEPS = "0-63", 30
QUICK_SEEDS, QUICK_STEPS = "0-15", 15


def command(
    prompt: Annotated[str, typer.Argument(help="What the image shall show.")],
    negative_prompt: Negatives = None,
    model: ModelName = "portraits",
    weak: WeakName = None,
    lora: Loras = None,
    outdir: Outdir = None,
    seeds: OptionalSeeds = None,
    steps: OptionalSteps = None,
    guidance_scale: Annotated[float, typer.Option(help="Of CFG and of the negative prompt; 1 is off.")] = 3.0,
    auto_scale: Annotated[float, typer.Option(help="Of autoguidance; 1 is off.")] = 2.0,
    methods: Annotated[
        str | None,
        typer.Option(help="Names, separated by commas; any guidance, with settings as cfg:guidance_scale=5, works."),
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="Who says what the images show; none: nobody; default: the first that can.")
    ] = None,
    height: Height = None,
    width: Width = None,
    scheduler: SchedulerName = None,
    batch_size: BatchSize = 16,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    offload: Offload = "none",
    quick: Annotated[
        bool, typer.Option("--quick", help="16 seeds and 15 steps: within a minute on two cores.")
    ] = False,
    format: Output = Format.TEXT,
) -> None:
    """Compare ways of steering away from something, on the same seeds.

    Writes report.html, its figures, results.json and every image into the folder.
    """
    from ..core.parsing import split_methods
    from ..core.saving import stays_if_unwritable
    from ..models.loading import asked_to_load
    from ..study.folders import default_folder, refuse_early
    from ..study.notes import repeat_command
    from ..study.recipe import parse_seeds
    from ..study.run import asked_of, question_of, run
    from ..study.study import ModelAsked, comparison
    from ..telling.report import REPORT_FILE, write_figures, write_report
    from ..telling.table import terminal_tables

    study = comparison(
        prompt, tuple(negative_prompt or ()), parse_seeds((QUICK_SEEDS if quick else DEFAULT_SEEDS) if seeds is None else seeds),
        (QUICK_STEPS if quick else DEFAULT_STEPS) if steps is None else steps, guidance_scale, auto_scale,
        None if methods is None else split_methods(methods), height, width, judge=judge,
        model=ModelAsked(model, () if weak is None else (("weak", weak),), tuple(lora or ()), scheduler, dtype, device, offload),
    )  # fmt: skip
    loading = asked_to_load(model, weak, lora or [], scheduler, dtype)
    asked = asked_of(study)
    scales = {"guidance_scale": guidance_scale, "auto_scale": auto_scale}
    texts = [study.prompt, *study.negative_prompts]
    folder = outdir or default_folder("compare", texts, question_of(study) | scales | loading)
    refuse_early(folder, asked)
    loaded = study.model.load()
    with progress_bars() as bars:
        on_method, on_progress = show_methods(bars)
        results = run(
            study, folder, model=loaded, batch_size=batch_size, command=repeat_command(sys.argv[1:]),
            on_method=on_method, on_progress=on_progress,
        )  # fmt: skip
    with stays_if_unwritable(folder / REPORT_FILE):
        write_figures(results, folder)
        write_report(results, folder)
    if format is Format.JSON:
        print_json(results.model_dump_json(indent=1))
        return
    console = Console(emoji=False)  # a prompt may have :words: between colons
    for table in terminal_tables(results, width=console.width):
        console.print("", table)
    for note in results.notes:
        console.print(f"note: {note}", markup=False)
    console.print(f"report: {folder / REPORT_FILE}", markup=False, soft_wrap=True)  # a path stays in one piece
