"""What the models that ship can do, read from their files."""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import shipped
from .files import NETWORK_CONFIG, PIPELINE_INDEX, WEAK_FOLDER, WEIGHTS, read_json

CLASSIFIER_FILE = f"classifier{WEIGHTS}"


@dataclass(frozen=True)
class About:
    """One model.

    Attributes:
        name, pipeline: for ``--model``, and diffusers' class.
        parameters: the number of weights of its networks, without the weak one and the classifier.
        abilities: what it has, in sentences.
    """

    name: str
    pipeline: str
    parameters: int
    abilities: tuple[str, ...]


def about_shipped() -> list[About]:
    """All models that ship.

    >>> [one.name for one in about_shipped()]
    ['digits', 'portraits']
    """
    return [_about(name, folder) for name, folder in sorted(shipped().items())]


def _about(name: str, folder: Path) -> About:
    files = [path for path in folder.glob(f"*/*{WEIGHTS}") if path.parent.name != WEAK_FOLDER]
    index = read_json(folder / PIPELINE_INDEX)
    side = _side(folder, index)
    abilities = [f"makes images of {side} x {side} pixels"]
    if "class_names" in index:
        abilities.append(f"its prompts are classes: {', '.join(index['class_names'].values())}, or any")
    if (folder / WEAK_FOLDER).is_dir():
        abilities.append("has a weak network for autoguidance")
    if (folder / CLASSIFIER_FILE).is_file():
        truth = "real images" if "class_names" in index else "the exact truth"
        abilities.append(f"its images are measured against {truth} by a classifier that ships with it")
    return About(name, str(index["_class_name"]), sum(map(_parameters, files)), tuple(abilities))


def _side(folder: Path, index: Mapping[str, Any]) -> int:
    """Pixels of an image, each way: as the autoencoder makes them, or of the network's patches."""
    if "patch" in index:
        return read_json(folder / "unet" / NETWORK_CONFIG)["sample_size"] * index["patch"]
    return read_json(folder / "vae" / NETWORK_CONFIG)["sample_size"]


def _parameters(file: Path) -> int:
    """Numbers in a safetensors file, from its header."""
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        header = json.loads(opened.read(length))
    return sum(math.prod(one["shape"]) for name, one in header.items() if name != "__metadata__")
