"""Print results: a comparison's tables, their legend and its answer; where images are."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from .options import Format, open_file
from .streams import print_json

if TYPE_CHECKING:  # their torch would make every command slow, even --help
    from ..study.calibrate import Calibrated
    from ..study.gallery import Picture
    from ..study.recipe import Recipe
    from ..study.results import Results
    from ..study.tuned import Tuned


def print_results(results: "Results", page: Path, format: Format, *, quiet: bool, open: bool) -> None:
    """Print tables, answer, notes and the path of the page; ``quiet`` prints only the path, JSON ``results.json``."""
    if format is Format.JSON:
        print_json(results.model_dump_json(indent=1))
    elif quiet:
        print(page)
    else:
        _print_tables(results)
        Console().print(f"report: {page}", markup=False, highlight=False, emoji=False, soft_wrap=True)  # in one piece
    if open:
        open_file(page)


def _print_tables(results: "Results") -> None:
    from ..telling.glossary import explained
    from ..telling.looking import who
    from ..telling.summary import summary
    from ..telling.table import legend, terminal_tables

    console = Console(emoji=False, highlight=False)  # a prompt may have :words: between colons
    for table in terminal_tables(results, width=console.width):
        console.print("", table)
    words = [f"{line}." for line in explained("truth")] if results.target is not None else []
    for line in ("", legend(results), *who(results), *words):
        console.print(line, markup=False, style="dim")
    console.print()
    for sentence in summary(results):
        console.print(sentence, markup=False)
    for note in results.notes:
        console.print(f"note: {note}", markup=False)


def _drawn_again(pictures: Sequence["Picture"]) -> str:
    """How many draws images took, and which could not be cleared."""
    from ..study.recipe import format_seeds

    flagged, draws = [one.seed for one in pictures if one.flagged], sum(picture.draws for picture in pictures)
    left = f"; not cleared: seed {format_seeds(flagged)}" if flagged else "; all are clear"
    return f"drawn again: {draws} draws of {len(pictures)} images{left}"


def print_images(
    recipe: "Recipe", pictures: Sequence["Picture"], sheet: Path, format: Format, *, quiet: bool, open: bool
) -> None:
    """Print the folder and the sheet of images; ``quiet`` prints only the folder, JSON the recipe, files and traces."""
    if format is Format.JSON:
        names = ("seed", "evaluations", "draws", "flagged", "trace")
        rows = [{"file": str(one.path), **{name: getattr(one, name) for name in names}} for one in pictures]
        print_json(json.dumps({"recipe": recipe.model_dump(mode="json"), "images": rows}, indent=1))
    else:
        folder = sheet.parent
        print(folder if quiet else f"{len(pictures)} images in {folder}, side by side in {sheet}")
        if not quiet and any(picture.draws > 1 for picture in pictures):
            print(_drawn_again(pictures))
    if open:
        open_file(sheet)


def print_calibrated(found: "Calibrated", folder: Path, format: Format, *, quiet: bool) -> None:
    """Print the areas under the curve, the prior and the paths; ``quiet`` prints only the file's path, JSON all numbers."""
    from ..telling.calibrating import calibration_table

    about = found.calibration.about
    if format is Format.JSON:
        print_json(found.to_json())
    elif quiet:
        print(found.path)
    else:
        console = Console(emoji=False, highlight=False)
        console.print(calibration_table(found))
        lines = [
            f"{about.shown} of {about.images} images show {about.negative_prompt!r}, as the laboratory {about.judge} sees them.",
            *(f"left out: {name}: {why}" for name, why in found.left_out.items()),
            f"calibration: {found.path} (images in {folder})",
        ]
        for line in lines:
            console.print(line, markup=False, soft_wrap=True)


def print_tuned(found: "Tuned", file: Path, format: Format, *, quiet: bool, open: bool) -> None:
    """Print the best trials, the seeds held out and what was found; ``quiet`` prints only the file's path, JSON ``tune.json``."""
    from ..telling.tuning import FIGURE, final_table, pasted, told, trial_table

    figure = file.with_name(FIGURE)
    if format is Format.JSON:
        print_json(found.model_dump_json(indent=1))
    elif quiet:
        print(file)
    else:
        console = Console(emoji=False, highlight=False)
        for table in (trial_table(found), final_table(found)):
            console.print("", table)
        best = [pasted(found.best)] if found.best is not None and found.verdict == "use" else []
        for line in ("", *told(found), *best, f"tune: {file}, drawn in {figure}"):
            console.print(line, markup=False, soft_wrap=True)
    if open:
        open_file(figure)
