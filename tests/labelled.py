"""Labelled images in parquet files as the hub has them, made up: of class k, a bright square that grows with k."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from PIL import Image
from pyarrow import parquet

from steerclear.testbeds.labelled_images import World


def picture(world: World, label: int, number: int) -> np.ndarray:
    """uint8, ``[size, size]`` or ``[size, size, 3]``."""
    noise = np.random.default_rng(1000 * label + number).integers(0, 60, (world.size, world.size, world.channels))
    side = 3 + 2 * label
    noise[2 : 2 + side, 2 : 2 + side] += 190
    return noise.astype(np.uint8).squeeze()


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write(
    path: Path, world: World, labels: Sequence[Any], *, names: Sequence[str] | None = None, images: Sequence[Any] = (),
    column: str | None = None, first: int = 0,
) -> None:  # fmt: skip
    """A split.

    Args:
        path: the file; its folder is made.
        world: which images.
        labels: of the images.
        names: of the classes, in the schema; None for none.
        images: the encoded bytes; () for :func:`picture` of the labels.
        column: another name for that of the images.
        first: number of the first picture, so that two splits differ.
    """
    encoded = list(images) or [png(picture(world, label or 0, first + number)) for number, label in enumerate(labels)]
    rows = [{"bytes": one, "path": f"{number}.png"} for number, one in enumerate(encoded)]
    table = pyarrow.table({column or world.column: rows, "label": list(labels)})
    if names is not None:
        known = {"info": {"features": {"label": {"names": list(names), "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(known)})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)


def both_splits(folder: Path, world: World, train: int = 80, test: int = 60) -> Path:
    """Train and test, with equal classes."""
    count = len(world.classes)
    write(folder / "train.parquet", world, [row % count for row in range(train)], names=world.classes)
    write(folder / "test.parquet", world, [row % count for row in range(test)], names=world.classes, first=train)
    return folder
