"""Guidances with a mistake, which every comparison with a pipeline's own guidance must catch."""

from dataclasses import dataclass

from steerclear.core.records import Guided
from steerclear.guidance.classifier_free import ClassifierFreeGuidance


@dataclass(frozen=True)
class Mutant(ClassifierFreeGuidance):
    """Classifier-free guidance with a mistake: "none", "branches swapped" or "scale"."""

    mistake: str = "none"

    def __call__(self, step, state):
        first, second = step.predict("empty", "positive")
        empty, positive = (second, first) if self.mistake == "branches swapped" else (first, second)
        scale = self.guidance_scale + (1e-3 if self.mistake == "scale" else 0)
        return Guided(empty + scale * (positive - empty), state)
