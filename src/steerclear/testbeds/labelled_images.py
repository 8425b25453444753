"""Real images with labels, as the Hugging Face hub lays them out: MNIST's digits, CIFAR-10; and digits of which a part is spoiled.

A split is one parquet file, ``<split>.parquet`` or ``<split>-....parquet``, with a column of encoded images and a column
``label``; the names of the classes are in the file's schema.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ..core.errors import InvalidSetting, MissingPackage, UnknownName
from ..core.shapes import Int, Tensor, UInt8
from .spoiled_images import Spoiling, labels_of, with_bad

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
LABEL = "label"
CONFIGURATIONS = ("data", "mnist", "plain_text")
"""Folders in which the hub has the files."""


@dataclass(frozen=True)
class World:
    """A set of labelled images.

    Args:
        name: for people and on the command line.
        hub: its id on the Hugging Face hub.
        column: of the images.
        channels: 1 for gray images, 3 for color.
        size: of an image in pixels.
        written: the names of the classes in the files, by label.
        spoiling: which images are spoiled after reading; None for none.
    """

    name: str
    hub: str
    column: str
    channels: int
    size: int
    written: tuple[str, ...]
    spoiling: Spoiling | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, by label; spoiled images have classes of their own, such as "bad 3"."""
        return self.written if self.spoiling is None else with_bad(self.written)


DIGITS = World("digits", "ylecun/mnist", "image", 1, 28, tuple("0123456789"))
CIFAR10 = World(
    "cifar10", "uoft-cs/cifar10", "img", 3, 32,
    ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)  # fmt: skip
SPOILED_DIGITS = replace(DIGITS, name="spoiled-digits", spoiling=Spoiling())
WORLDS = {world.name: world for world in (DIGITS, CIFAR10, SPOILED_DIGITS)}


def world_named(name: str) -> World:
    """The world of a name.

    Raises:
        UnknownName: there is none.
    """
    if name not in WORLDS:
        raise UnknownName("world", name, WORLDS)
    return WORLDS[name]


@dataclass(frozen=True)
class Labelled:
    """Images with their labels.

    Args:
        images: uint8, ``[n, channels, size, size]``.
        labels: what the images show, whole numbers from 0, ``[n]``.
        said: what their captions say, where that is not always the truth; None where it is, ``[n]``.
    """

    images: UInt8[Tensor, "n channels size size"]
    labels: Int[Tensor, " n"]
    said: Int[Tensor, " n"] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def captions(self) -> Int[Tensor, " n"]:
        """What a model is told of the images."""
        return self.labels if self.said is None else self.said

    def first(self, count: int) -> "Labelled":
        said = None if self.said is None else self.said[:count]
        return Labelled(self.images[:count], self.labels[:count], said)


def read_labelled(world: World, split: Split, data: Path | str | None = None) -> Labelled:
    """The images of a split, in the file's order.

    Args:
        world: which images.
        split: "train" or "test".
        data: folder that holds the parquet files, as ``train.parquet``, or as the hub has them; None loads them from the hub.

    Raises:
        InvalidSetting: the folder has no such file, or the file is not of this world.
        MissingPackage: pyarrow, which reads parquet, is not installed.
    """
    paths = files_of(world, split, data)
    tables = [_read_table(world, path) for path in paths]
    encoded = [row for images, _ in tables for row in images]
    labels = torch.tensor([label for _, labels in tables for label in labels], dtype=torch.long)
    pixels = torch.empty(len(encoded), world.channels, world.size, world.size, dtype=torch.uint8)
    for number, row in enumerate(encoded):
        pixels[number] = _decoded(world, row, number, paths[0])
    return Labelled(pixels, labels) if world.spoiling is None else _spoiled(world, split, pixels, labels)


def _spoiled(world: World, split: Split, images: Tensor, labels: Tensor) -> Labelled:
    assert world.spoiling is not None  # who calls this has asked
    own = replace(world.spoiling, seed=2 * world.spoiling.seed + SPLITS.index(split))
    return Labelled(own.spoil(images), *labels_of(labels, len(world.written), own))


def files_of(world: World, split: Split, data: Path | str | None = None) -> list[Path]:
    """The parquet files of a split; arguments and errors as for :func:`read_labelled`."""
    if split not in SPLITS:
        raise InvalidSetting("split", split, " or ".join(SPLITS))
    folder = _from_hub(world, split) if data is None else Path(data)
    patterns = (f"{split}.parquet", f"{split}-*.parquet")
    for place in (folder, *(folder / name for name in CONFIGURATIONS)):
        if found := [path for pattern in patterns for path in sorted(place.glob(pattern))]:
            return found
    allowed = f"a folder with {split}.parquet (or {split}-....parquet) of {world.hub}"
    raise InvalidSetting("data", str(folder), allowed)


def _from_hub(world: World, split: Split) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(world.hub, repo_type="dataset", allow_patterns=[f"*{split}*.parquet"]))
    except Exception as error:
        remedy = f"give a folder with its parquet files ({type(error).__name__}: {str(error).splitlines()[0][:100]})"
        raise InvalidSetting("data", world.hub, "a data set of the hub that can be reached", remedy) from error


def _read_table(world: World, path: Path) -> tuple[list[bytes], list[int]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise MissingPackage("reading parquet files", "pyarrow") from error
    try:
        table = parquet.read_table(path)
    except (ArrowException, OSError) as error:
        raise InvalidSetting("data", str(path), f"a parquet file ({str(error).splitlines()[0][:100]})") from error
    missing = [name for name in (world.column, LABEL) if name not in table.column_names]
    if missing:
        raise InvalidSetting("data", str(path), f"a file with the columns {world.column} and {LABEL} of {world.hub}")
    _check_classes(world, path, table.schema.metadata)
    labels = table.column(LABEL).to_pylist()
    if wrong := [label for label in labels if label not in range(len(world.written))]:
        raise InvalidSetting("data", str(path), f"labels from 0 to {len(world.written) - 1}", f"one is {wrong[0]!r}")
    return [row["bytes"] for row in table.column(world.column).to_pylist()], labels


def _check_classes(world: World, path: Path, metadata: dict[bytes, bytes] | None) -> None:
    """Refuse labels that mean something else; a file that does not say what they mean is believed."""
    try:
        features: Any = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        names: Sequence[str] = features[LABEL]["names"]
    except (ValueError, KeyError, TypeError):
        return
    if tuple(names) != world.written:
        raise InvalidSetting("data", str(path), f"the classes of {world.hub}: {', '.join(world.written)}")


def _decoded(world: World, row: bytes, number: int, path: Path) -> UInt8[Tensor, "channels size size"]:
    try:
        with Image.open(io.BytesIO(row)) as image:
            plain = np.array(image.convert("L" if world.channels == 1 else "RGB"))
    except (UnidentifiedImageError, OSError, ValueError, TypeError) as error:
        raise InvalidSetting("data", f"row {number} of {path}", "an image that can be read") from error
    pixels = (
        torch.from_numpy(plain).view(world.size, world.size, -1)
        if plain.shape[:2] == (world.size, world.size)
        else None
    )
    if pixels is None:
        allowed = f"an image of {world.size} x {world.size}"
        raise InvalidSetting("data", f"row {number} of {path}, {plain.shape[1]} x {plain.shape[0]}", allowed)
    return pixels.permute(2, 0, 1)
