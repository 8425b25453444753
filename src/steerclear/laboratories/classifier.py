"""Your own classifier as a judge: one call, on any pipeline."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.errors import InvalidSetting, UnfitFeatures
from ..core.laboratory import Asked, Better, Column, Judge, Judged, Laboratory, Measurement, Role, Seen
from ..core.prompts import concepts_named
from ..core.settings import texts
from ..metrics.rates import rate

BATCH = 32
"""Images that the function is given at once."""


@dataclass(frozen=True)
class Classifier(Laboratory):
    """A function of images as a judge: how often it sees each of its concepts. Without a truth there is no side effect.

    Args:
        probabilities: maps uint8 images, ``[n, 3, height, width]``, to the probability of every concept by name, ``[n]`` in
            [0, 1].
        concepts: the names that it gives, in the order of their columns.

    >>> from steerclear.core.laboratory import Asked
    >>> bright = Classifier(lambda images: {"bright": (images.float().mean((1, 2, 3)) > 127).float()}, ("bright",))
    >>> judge = bright.judge(None, Asked("a man", ("bright",)))
    >>> judge.measure(judge.see(torch.tensor([0, 255, 255, 255], dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, 8, 8)))["bright"].value
    0.75
    """

    name = "classifier"

    probabilities: Callable[[Tensor], Mapping[str, Tensor]]
    concepts: tuple[str, ...]

    def __post_init__(self) -> None:
        if not callable(self.probabilities):
            remedy = "it is given in Python, as compare(..., judge=Classifier(function, names))"
            raise InvalidSetting("probabilities", self.probabilities, "a function of images", remedy)
        texts("concepts", self.concepts, "names")
        if not self.concepts:
            raise InvalidSetting("concepts", self.concepts, "at least one name")

    def to_config(self) -> dict[str, Any]:
        """Plain values; the function by its name only."""
        seen_by = getattr(self.probabilities, "__qualname__", type(self.probabilities).__qualname__)
        return {"_class_name": type(self).__name__, "probabilities": seen_by, "concepts": list(self.concepts)}

    def refuses(self, model: Judged, asked: Asked) -> str | None:
        return None

    def judge(self, model: Judged, asked: Asked) -> Judge:
        return _ClassifierJudge(self, concepts_named(asked.negative_prompts, self.concepts))


@dataclass(frozen=True)
class _ClassifierJudge(Judge):
    classifier: Classifier
    concepts: tuple[str, ...]

    def columns(self) -> list[Column]:
        def column(name: str, role: Role, better: Better | None) -> Column:
            meaning = f"share of images in which your classifier sees: {name}"
            return Column(name=name, label=name, meaning=meaning, percent=True, role=role, better=better)

        others = [name for name in self.classifier.concepts if name not in self.concepts]
        concepts = [column(name, "concept", "lower") for name in self.concepts]
        return concepts + [column(name, "rate", None) for name in others]

    def see(self, images: Tensor) -> Seen:
        parts = [self._probabilities(some) for some in images.split(BATCH)]
        sure = {name: torch.cat([part[name] for part in parts]) for name in self.classifier.concepts}
        return Seen({name: (value > 0.5).long() for name, value in sure.items()}, sure)

    def _probabilities(self, images: Tensor) -> dict[str, Tensor]:
        found, plain = self.classifier.probabilities(images), {}
        if not isinstance(found, Mapping):
            raise UnfitFeatures(
                f"the classifier gave a {type(found).__name__}; give a mapping of {self.classifier.concepts} to probabilities"
            )
        for name in self.classifier.concepts:
            value = torch.as_tensor(found[name]).double().cpu() if name in found else None
            if value is None or value.shape != (len(images),) or not ((value >= 0) & (value <= 1)).all():
                given = (
                    "nothing" if value is None else f"shape {list(value.shape)}, values {value.flatten()[:4].tolist()}"
                )
                raise UnfitFeatures(
                    f"the classifier gave {given} for {name!r}; give one probability in [0, 1] per image, shape [{len(images)}]"
                )
            plain[name] = value
        return plain

    def measure(self, seen: Seen) -> dict[str, Measurement]:
        return {column.name: rate(seen.shown[column.name]).measured() for column in self.columns()}
