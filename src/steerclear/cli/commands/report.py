"""steerclear report: the page and the figures of a comparison, drawn again."""

from pathlib import Path
from typing import Annotated

import typer

from ..options import Format, Open, Output, Quiet, typed_folder
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
    print_results(results, page, format, quiet=quiet, open=open)
