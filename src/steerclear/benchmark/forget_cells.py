"""One cell of the experiment of forgetting: images of one way of saying "no", as a classifier sees them, in a file of its own."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..bridges.diffusers.steer import steer
from ..core.guidance import Guidance
from ..core.laboratory import Column, Judge, Measurement, Seen
from ..core.saving import save_whole
from ..core.shapes import Float, Int, Tensor, UInt8
from ..features.label_classifier import LabelClassifier, classify

APART = 100_000
"""Seeds from one class to the next."""
OTHERS = {"unguided": 10_000_000, "reference": 20_000_000}
"""First seeds of images that others are compared with, or chosen from."""


@dataclass(frozen=True)
class Cell:
    """Images of one way at one strength that are to be without one class.

    Args:
        way, strength: how it is avoided.
        sampler, steps: the scheduler's short name, and how many steps it makes.
        number: of the class, from 0. Unguided images avoid none; they have one part per class all the same.
        images: how many.
        cost: network evaluations of an image, as planned.
    """

    way: str
    strength: float
    sampler: str
    steps: int
    number: int
    images: int
    cost: int

    @property
    def file_parts(self) -> tuple[str, ...]:
        """Way, strength, sampler, steps and class as they are in the file's name."""
        words = (self.way, f"{self.strength:g}", self.sampler, f"{self.steps}", f"{self.number}")
        return tuple(re.sub(r"[^a-z0-9.+]+", "-", word) for word in words)

    @property
    def file(self) -> str:
        return "_".join(self.file_parts) + ".safetensors"

    @property
    def seeds(self) -> range:
        first = OTHERS.get(self.way, 0) + APART * self.number
        return range(first, first + self.images)


@dataclass(frozen=True)
class Looked:
    """Images, as the classifier sees them.

    Args:
        labels: the likeliest class of each, ``[n]``.
        features: ``[n, width]``, float32.
        evaluations: of the network, by image, ``[n]``.
    """

    labels: Int[Tensor, " n"]
    features: Float[Tensor, "n width"]
    evaluations: Float[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, chosen: Tensor | slice) -> "Looked":
        return Looked(self.labels[chosen], self.features[chosen], self.evaluations[chosen])

    @staticmethod
    def joined(parts: Sequence["Looked"]) -> "Looked":
        columns = ([getattr(part, name) for part in parts] for name in ("labels", "features", "evaluations"))
        return Looked(*map(torch.cat, columns))


@dataclass(frozen=True)
class Looking(Judge):
    """The classifier as one who looks while an image is being made."""

    classifier: LabelClassifier
    classes: tuple[str, ...]

    def columns(self) -> list[Column]:
        return []

    def see(self, images: UInt8[Tensor, "n 3 height width"]) -> Seen:
        sure = classify(self.classifier, images)[0]
        return Seen({}, dict(zip(self.classes, sure.unbind(1), strict=True)))

    def measure(self, seen: Seen) -> dict[str, Measurement]:
        return {}


def load_cell(path: Path, images: int, made_with: Mapping[str, str]) -> Looked | None:
    """The first images of a file; None if it is missing, damaged, too short, or was made with something else."""
    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}) != dict(made_with):
                return None
            tensors = {name: file.get_tensor(name) for name in ("labels", "features", "evaluations")}
    except (OSError, SafetensorError):
        return None
    if len(tensors["labels"]) < images:
        return None
    found = Looked(tensors["labels"].long(), tensors["features"].float(), tensors["evaluations"].float())
    return found.rows(slice(images))


def save_cell(path: Path, looked: Looked, made_with: Mapping[str, str]) -> None:
    """Write the file completely or not at all."""
    tensors = {
        "labels": looked.labels.to(torch.uint8),
        "features": looked.features.half(),
        "evaluations": looked.evaluations,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_whole(path, lambda to: save_file(tensors, to, dict(made_with)))


def draw_cell(
    pipe: Any, judge: Looking, cell: Cell, guidance: Guidance, batch_size: int, on_images: Callable[[int], None]
) -> Looked:
    """Draw the images of a cell, each from its own seed, and look at them.

    Args:
        pipe: a pipeline of classes, with the cell's scheduler.
        judge: who looks, at the end, and on the way where an evidence asks.
        cell: what is drawn.
        guidance: how.
        batch_size: images at a time.
        on_images: called with the number of images after each batch.
    """
    negative = None if cell.way in OTHERS else judge.classes[cell.number]
    parts = []
    for first in range(0, cell.images, batch_size):
        seeds = cell.seeds[first : first + batch_size]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        with steer(pipe, guidance, negative_prompt=negative, judge=judge) as run:
            made = pipe(
                [""] * len(seeds), num_inference_steps=cell.steps, generator=generators, output_type="pt"
            ).images
        pixels = (made.float().cpu() * 255).round().to(torch.uint8)
        sure, features = classify(judge.classifier, pixels)
        parts.append(Looked(sure.argmax(1), features, run.evaluations.float().cpu()))
        on_images(len(seeds))
    return Looked.joined(parts)
