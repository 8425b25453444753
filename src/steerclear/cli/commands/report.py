"""steerclear report: redraw the page and the figures of a comparison."""

from pathlib import Path
from typing import Annotated

import typer

from ..options import FOLDER, Format, Open, Output, Quiet
from ..tables import print_results


def command(
    folder: Annotated[
        Path, typer.Argument(**(FOLDER | {"metavar": "FOLDER"}), help="Of a comparison, with results.json and images.")
    ],
    format: Output = Format.TEXT,
    quiet: Quiet = False,
    open: Open = False,
) -> None:
    """Redraw report.html and the figures from results.json and the images; no model is loaded."""
    from ...study.again import check_images, read_results
    from ...telling.report import write_all

    results = read_results(folder)
    folder = folder if folder.is_dir() else folder.parent
    check_images(results, folder)
    print_results(results, write_all(results, folder), format, quiet=quiet, open=open)
