"""``steerclear.calibrate(pipe, prompt, negative_prompt, output)``: measure a concept once; and its table."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.table import Table

from ..core.calibration import Calibration
from ..core.laboratory import Laboratory
from ..core.settings import whole
from ..study.calibrate import FIRST_SEED, Calibrated
from ..study.calibrate import calibrate as measured
from .comparison import as_model, as_seeds
from .place import Place
from .progress import progress_bars, show_stages

ROWS = 12
"""Most levels in a table; the JSON file has all."""


def calibrate(
    model: Any, prompt: str, negative_prompt: str, output: Path | str, *, images: int = 128,
    seeds: Iterable[int] | str | None = None, num_inference_steps: int = 30, height: int | None = None,
    width: int | None = None, judge: Laboratory | str | None = None, folder: Path | str | None = None,
    batch_size: int = 16, progress: bool | None = None,
) -> Calibration:  # fmt: skip
    """Measure how a concept shows under a prompt: unguided images are watched by the evidences, and judged at the end.

    The file is what ``steer``, ``generate`` and ``compare`` take as ``calibration=``. A table of how well each evidence tells
    the images apart at each step is written beside it as JSON.

    Args:
        model: see :func:`~steerclear.telling.comparison.compare`.
        prompt: what the images show.
        negative_prompt: the concept, one text.
        output: the file, ``*.safetensors``.
        images: how many, at least 16.
        seeds: one per image, in place of ``images``; None for seeds from 1,000,000 on.
        num_inference_steps, height, width, batch_size, progress: see ``compare``; those of the runs that use the calibration.
        judge: says which images show the concept; None for the second laboratory of the first that can judge them.
        folder: of the images; calibrating again makes only what is missing. None for a temporary folder.

    Raises:
        InvalidSetting: fewer than 8 images show the concept, or do not; a value out of range.
        UnsupportedModel: no judge knows the concept, or the model takes classes for prompts.
        FolderConflict: the folder holds something else.
    """
    count = whole("images", images, low=16)
    chosen = tuple(range(FIRST_SEED, FIRST_SEED + count)) if seeds is None else as_seeds(seeds)
    place = Place(folder)
    with progress_bars(progress) as bars:
        found = measured(
            as_model(model, None), prompt, negative_prompt, place.path, output, seeds=chosen,
            num_inference_steps=num_inference_steps, height=height, width=width, judge=judge, batch_size=batch_size,
            on_progress=show_stages(bars)("watching unguided images"),
        )  # fmt: skip
    return found.calibration


def calibration_table(found: Calibrated) -> Table:
    """Areas under the curve by noise level: at most :data:`ROWS` levels, evenly spaced over the steps."""
    table = Table(title="how well each evidence tells which images will show it (area under the curve; 0.5 is chance)")
    table.add_column("sigma/alpha", justify="right")
    for name in found.areas:
        table.add_column(name, justify="right")
    count = len(found.levels)
    every = range(count) if count <= ROWS else sorted({round(k * (count - 1) / (ROWS - 1)) for k in range(ROWS)})
    for index in every:
        cells = [found.areas[name][index] for name in found.areas]
        table.add_row(f"{found.levels[index]:.3g}", *("-" if cell != cell else f"{cell:.2f}" for cell in cells))
    return table
