"""Portraits as a world of weaknesses: of a prompt and of any, against true ones."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..core.errors import UnsupportedModel
from ..core.shapes import Tensor, UInt8
from ..features.portrait_classifier import CLASSIFIER, PortraitClassifier, read
from ..laboratories.portraits import REFERENCE_PORTRAITS, REFERENCE_SEEDS, has_classifier
from ..testbeds.portraits import true_portraits
from .portraits import MAN
from .weak_images import ImageWorld, distances
from .weak_world import ANY, Figured, Samples

PROMPT = "prompt"


@dataclass
class WeakPortraits(ImageWorld):
    """The shipped portraits, or a model at a part of its training, as ``steerclear train portraits --preset cpu-quarter`` makes it."""

    _true: dict[tuple[str, int], Tensor] = field(default_factory=dict)

    name = "portraits"
    shipped = "portraits"
    conditions = (PROMPT, ANY)
    figures = (
        Figured("frechet", "Fréchet distance", lower=True),
        Figured("precision", "precision"),
        Figured("recall", "recall"),
    )
    bounds = {PROMPT: 0.75}

    def _prompt(self, condition: str) -> str:
        return "" if condition == ANY else self.asked.prompt or MAN

    def prompts(self, condition: str, seeds: Sequence[int]) -> list[str]:
        return [self._prompt(condition)] * len(seeds)

    @cached_property
    def classifier(self) -> PortraitClassifier:
        if not has_classifier(self.model):
            raise UnsupportedModel(
                f"the model {self.model.name!r} has no {CLASSIFIER}, which sees what portraits show; take portraits, or a model "
                f"that steerclear train portraits made"
            )
        return PortraitClassifier.load((self.model.folder or Path()) / CLASSIFIER)

    def see(self, images: UInt8[Tensor, "n 3 height width"], seeds: Sequence[int]) -> dict[str, Tensor]:
        return {"features": read(self.classifier, images)[1].half()}

    def measure(self, condition: str, samples: Samples) -> dict[str, float]:
        features = samples["features"].float()
        return distances(features, self._real(self._prompt(condition), max(len(features), REFERENCE_PORTRAITS)))

    def _real(self, prompt: str, count: int) -> Tensor:
        if (prompt, count) not in self._true:
            images, _ = true_portraits(prompt, range(REFERENCE_SEEDS, REFERENCE_SEEDS + count))
            self._true[prompt, count] = read(self.classifier, images)[1]
        return self._true[prompt, count]
