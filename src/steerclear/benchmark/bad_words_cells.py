"""The images of "bad" as a negative prompt and of a weak network, as the model's classifier sees them; each cell in a file."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.nn import Module

from ..bridges.diffusers.steer import steer
from ..core.errors import InvalidSetting
from ..core.guidance import Guidance
from ..core.saving import save_whole
from ..core.seeds import image_generators
from ..core.shapes import Float, Int, Tensor
from ..features.label_classifier import LabelClassifier, classify
from ..guidance.auto import AutoGuidance
from ..guidance.classifier_free import ClassifierFreeGuidance
from ..guidance.negative_prompt import NegativePromptGuidance
from ..guidance.unguided import Unguided
from ..networks.shared.averages import average_of, snapshots_in
from ..networks.shared.naming import WEAK
from ..testbeds.spoiled_images import BAD

UNGUIDED, CFG, WORDS, AUTO, BOTH = "unguided", "cfg", "bad words", "weak network", "both"
BESIDE = 1.5
"""Scale of the negative prompt where a weak network is beside it."""
WAYS: Mapping[str, tuple[float, ...]] = {
    UNGUIDED: (1.0,), CFG: (1.5, 2.0, 3.0), WORDS: (1.25, 1.5, 2.0, 3.0), AUTO: (1.5, 2.0, 3.0), BOTH: (1.5, 2.0),
}  # fmt: skip
"""Way -> its scales."""
SETS, APART, OF_A_SET = 3, 10_000, 1_000_000
"""Sets of seeds; from one class to the next; from one set to the next."""


@dataclass(frozen=True)
class Cell:
    """Images of one class, of one way at one scale, from one set of seeds.

    Args:
        way: a key of :data:`WAYS`.
        scale: of its guidance; 1 is off.
        number: of the class, from 0.
        part: which set of seeds.
        images: how many.
    """

    way: str
    scale: float
    number: int
    part: int
    images: int

    @property
    def seeds(self) -> range:
        first = self.part * OF_A_SET + self.number * APART
        return range(first, first + self.images)

    @property
    def file(self) -> str:
        return f"{self.way.replace(' ', '-')}_{self.scale:g}_{self.number}_{self.part}.safetensors"

    @property
    def guidance(self) -> Guidance:
        ways: Mapping[str, Guidance] = {
            UNGUIDED: Unguided(), CFG: ClassifierFreeGuidance(self.scale), WORDS: NegativePromptGuidance(self.scale),
            AUTO: AutoGuidance(self.scale), BOTH: AutoGuidance(self.scale, NegativePromptGuidance(BESIDE)),
        }  # fmt: skip
        return ways[self.way]


@dataclass(frozen=True)
class Looked:
    """Images, as the classifier sees them.

    Args:
        asked: the class that was asked for, ``[n]``.
        seen: the likeliest class of each, ``[n]``; spoiled ones have classes of their own.
        features: ``[n, width]``.
    """

    asked: Int[Tensor, " n"]
    seen: Int[Tensor, " n"]
    features: Float[Tensor, "n width"]

    @staticmethod
    def joined(parts: Sequence["Looked"]) -> "Looked":
        return Looked(*(torch.cat([getattr(part, name) for part in parts]) for name in ("asked", "seen", "features")))


def weak_of(network: Module, snapshots: Path, at: float, width: float) -> Module:
    """A copy of a network with the weights that it had earlier in its training.

    Args:
        network: as it is now.
        snapshots: folder of its training's snapshots.
        at: after which share of the training, in (0, 1].
        width: relative standard deviation of the average of its weights.

    Raises:
        InvalidSetting: the folder has none, or they are not of this network.
    """
    kept = snapshots_in(snapshots)
    if not kept:
        remedy = "train with steerclear train digits --world spoiled-digits, which keeps them"
        raise InvalidSetting("snapshots", str(snapshots), "a folder of snapshots of the model's training", remedy)
    weights = average_of(kept, round(at * kept[-1].step), width)
    earlier = copy.deepcopy(network)
    own = {name: value.shape for name, value in earlier.named_parameters()}
    if own != {name: value.shape for name, value in weights.items()}:
        raise InvalidSetting("snapshots", str(snapshots), "snapshots of a training of this model's network")
    earlier.load_state_dict(weights, strict=False)
    return earlier.eval()


def draw(pipe: Any, cell: Cell, weak: Module, classifier: LabelClassifier, steps: int, batch_size: int) -> Looked:
    """Draw the images of a cell, each from its own seed, and look at them.

    Args:
        pipe: a pipeline of classes of which some are spoiled.
        cell: what is drawn.
        weak: the network of ways that ask one.
        classifier: who looks.
        steps: of the sampler.
        batch_size: images at a time.
    """
    name = pipe.classes[cell.number]
    negative = f"{BAD} {name}" if cell.way in (WORDS, BOTH) else None
    networks = {WEAK: weak} if cell.way in (AUTO, BOTH) else {}
    seen, features = [], []
    with steer(pipe, cell.guidance, negative_prompt=negative, networks=networks):
        for first in range(0, cell.images, batch_size):
            seeds = cell.seeds[first : first + batch_size]
            images = pipe(
                [name] * len(seeds), generator=image_generators(seeds), num_inference_steps=steps, output_type="pt"
            ).images  # fmt: skip
            probabilities, found = classify(classifier, (images.cpu() * 255).round().to(torch.uint8))
            seen.append(probabilities.argmax(1))
            features.append(found)
    return Looked(torch.full((cell.images,), cell.number), torch.cat(seen), torch.cat(features))


def save(path: Path, looked: Looked, made_with: Mapping[str, str]) -> None:
    """Write a cell completely or not at all."""
    tensors = {"asked": looked.asked, "seen": looked.seen, "features": looked.features.contiguous()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_whole(path, lambda to: save_file(tensors, to, dict(made_with)))


def load(path: Path, made_with: Mapping[str, str]) -> Looked | None:
    """A cell; None if it is missing, damaged, or was made with something else."""
    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}) != dict(made_with):
                return None
            return Looked(*(file.get_tensor(name) for name in ("asked", "seen", "features")))
    except (OSError, SafetensorError):
        return None
