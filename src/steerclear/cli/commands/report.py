"""steerclear report: the page and the figures of a comparison, drawn again."""

from pathlib import Path
from typing import Annotated

import typer

from ..options import Format, Open, Output, Quiet, open_file, typed_folder
from ..streams import print_json
from ..tables import print_results


def command(
    folder: Annotated[
        Path,
        typer.Argument(parser=typed_folder, metavar="FOLDER", help="Of a comparison, with results.json and images."),
    ],
    format: Output = Format.TEXT,
    quiet: Quiet = False,
    open: Open = False,
) -> None:
    """Write report.html and the figures again, from results.json and the images alone; no model is loaded."""
    from ...study.again import check_images, read_results
    from ...telling.report import write_all

    results = read_results(folder)
    check_images(results, folder)
    page = write_all(results, folder)
    if format is Format.JSON:
        print_json(results.model_dump_json(indent=1))
    else:
        print_results(results, page, quiet=quiet)
    if open:
        open_file(page)
