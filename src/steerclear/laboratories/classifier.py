"""Your own classifier as a judge: one call, on any pipeline."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..core.errors import InvalidSetting
from ..core.laboratory import Asked, Judge, Judged, Laboratory
from ..core.settings import texts
from .shared.probabilities import ProbabilityJudge, Vocabulary

SEER = "your classifier"


@dataclass(frozen=True)
class Classifier(Laboratory):
    """A function of images as a judge: how often it sees each of its concepts. Without a truth there is no side effect.

    Args:
        probabilities: maps uint8 images, ``[n, 3, height, width]``, to the probability of every concept by name, ``[n]`` in
            [0, 1].
        concepts: the names that it gives, in the order of their columns.

    >>> import torch
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
        return ProbabilityJudge(SEER, Vocabulary.of(self.concepts, asked), self.probabilities)
