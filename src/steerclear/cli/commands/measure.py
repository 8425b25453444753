"""steerclear measure: what folders of images show, whoever made them."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from .. import options
from ..tables import print_results

Folders = Annotated[list[Path], typer.Argument(
    **(options.FOLDER | {"metavar": "FOLDER..."}), help="Of images, or of a comparison; each is a row."
)]  # fmt: skip
Concepts = Annotated[list[str] | None, typer.Option(
    "--concept", help="What the images should not show; several with commas between them, or repeated."
)]  # fmt: skip
JudgeName = Annotated[str | None, typer.Option(
    "--judge", help="The laboratory that says what the images show, with settings as labels:folder=DIR; none: nobody."
)]  # fmt: skip
SecondJudge = Annotated[str | None, typer.Option("--second-judge", help="Another one, to tell where they differ.")]
Watch = Annotated[str | None, typer.Option(
    "--watch", help="What else to look for, with commas between; default: what the judge looks for by itself."
)]  # fmt: skip
Reference = Annotated[Path | None, typer.Option(
    "--reference", **(options.FOLDER | {"metavar": "FOLDER"}),
    help="Of images; those in which the judge sees no concept are what the others are compared with.",
)]  # fmt: skip
Prompted = Annotated[str | None, typer.Option(
    "--prompt", help="What the images should show, for a judge that knows the truth of it."
)]  # fmt: skip
FeatureName = Annotated[str | None, typer.Option(
    "--features", help="In which features images are compared; default: the judge's own."
)]  # fmt: skip


def command(
    folders: Folders, concepts: Concepts = None, judge: JudgeName = None, watch: Watch = None,
    reference: Reference = None, features: FeatureName = None, second_judge: SecondJudge = None, prompt: Prompted = None,
    outdir: options.Outdir = None, batch_size: options.BatchSize = 16, format: options.Output = options.Format.TEXT,
    quiet: options.Quiet = False, open: options.Open = False,
) -> None:  # fmt: skip
    """Measure folders of images, whoever made them: what they show, and how far they are from a reference.

    Writes report.html, its figures and results.json into a folder of its own. A file that cannot be read is named and left
    out. A stopped run goes on where it was.
    """
    from ...study.commands import repeat_command
    from ...study.outside import Outside, measure_folders, words
    from ...telling.report import write_all

    asked = Outside(
        tuple(folders), words("--concept", concepts or ()) , None if watch is None else words("--watch", [watch]), prompt,
        reference, judge, second_judge, features,
    )  # fmt: skip
    folder = asked.outdir(outdir)
    with options.progress_bars(not quiet) as bars:
        stage = options.show_stages(bars)
        results = measure_folders(
            asked,
            folder,
            batch_size=batch_size,
            command=repeat_command(sys.argv[1:]),
            on_folder=lambda one: stage(one.label),
        )
    print_results(results, write_all(results, folder), format, quiet=quiet, open=open)
