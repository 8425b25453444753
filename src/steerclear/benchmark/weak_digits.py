"""The digits as a world of weaknesses: by class and of any class, against real ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from ..core.errors import UnsupportedModel
from ..core.shapes import Tensor, UInt8
from ..features.label_classifier import LABEL_CLASSIFIER, LabelClassifier, classify
from ..laboratories.digits import REFERENCE, Reference, read_reference
from .forget_rows import divergence
from .weak_images import ImageWorld, distances
from .weak_world import ANY, Figured, Samples

CLASS = "class"


@dataclass
class WeakDigits(ImageWorld):
    """The shipped digits, or another model with named classes and features of real images.

    An image of the condition "class" is of the class of a real image: that of its seed. So the shares of the classes are those of
    real images.
    """

    name = "digits"
    shipped = "digits"
    conditions = (CLASS, ANY)
    figures = (
        Figured("frechet", "Fréchet distance", lower=True),
        Figured("precision", "precision"),
        Figured("balance", "KL divergence of the classes, nats", lower=True),
        Figured("as_asked", "images of the asked class"),
        Figured("recall", "recall"),
    )
    bounds = {CLASS: 0.65, ANY: 0.5}

    def __post_init__(self) -> None:
        self.asked.refuse(self.name, "prompt")

    @property
    def _folder(self) -> Path:
        folder = self.model.folder or Path()
        if not all((folder / name).is_file() for name in (LABEL_CLASSIFIER, REFERENCE)):
            raise UnsupportedModel(
                f"the model {self.model.name!r} has no {LABEL_CLASSIFIER} or no {REFERENCE}; take digits, or a model that "
                f"steerclear train digits made"
            )
        return folder

    @cached_property
    def real(self) -> Reference:
        return read_reference(self._folder / REFERENCE)

    @cached_property
    def classifier(self) -> LabelClassifier:
        return LabelClassifier.load(self._folder / LABEL_CLASSIFIER)

    def _labels(self, seeds: Sequence[int]) -> Tensor:
        return self.real.labels[torch.tensor(seeds) % len(self.real.labels)]

    def prompts(self, condition: str, seeds: Sequence[int]) -> list[str]:
        if condition == ANY:
            return [""] * len(seeds)
        return [self.model.pipe.classes[label] for label in self._labels(seeds).tolist()]

    def see(self, images: UInt8[Tensor, "n 3 height width"], seeds: Sequence[int]) -> dict[str, Tensor]:
        sure, features = classify(self.classifier, images)
        return {
            "features": features.half(),
            "seen": sure.argmax(1).to(torch.uint8),
            "asked": self._labels(seeds).to(torch.uint8),
        }

    def measure(self, condition: str, samples: Samples) -> dict[str, float]:
        seen, classes = samples["seen"].long(), len(self.model.pipe.classes)
        counts, real = (torch.bincount(labels, minlength=classes).double() for labels in (seen, self.real.labels))
        found = distances(samples["features"].float(), self.real.features)
        found["balance"] = divergence(counts, real)
        if condition == CLASS:
            found["as_asked"] = float((seen == samples["asked"].long()).double().mean())
        return found
