"""Guidances that look beyond the step at hand: at the level that comes next, and at the preview with another noise."""

import math
from dataclasses import dataclass
from typing import ClassVar

from steerclear.core.guidance import Guidance
from steerclear.core.laws import Identity, Law, Linear, PredictionTypeInvariant, Runs
from steerclear.core.records import Guided, State, Step
from steerclear.core.settings import finite


@dataclass(frozen=True)
class AheadGuidance(Guidance):
    """CFG++ around the prompt: the image is guided, and the noise that is added again is not.

    Equation:
        D = D_prompt + (w - 1) / (1 - s' / s) (D_prompt - D_empty),   s = sigma / alpha now, s' after the step

    Args:
        ahead_scale: w; 1 is off.
    """

    ahead_scale: float = 1.5

    name: ClassVar[str] = "ahead"
    paper: ClassVar[str] = "CFG++, Chung, Kim, Park, Nam and Ye, 2024, arXiv 2406.08070"
    cost: ClassVar[str] = "2 evaluations per step"
    off: ClassVar = {**Guidance.off, "ahead_scale": 1.0}

    def __post_init__(self) -> None:
        finite("ahead_scale", self.ahead_scale)

    def branches(self, negatives: int) -> tuple[str, ...]:
        return ("positive",) if self.ahead_scale == 1 else ("empty", "positive")

    def needs_noise_level(self) -> bool:
        return self.ahead_scale != 1

    def __call__(self, step: Step, state: State) -> Guided:
        if self.ahead_scale == 1:
            return Guided(step.predict_one("positive"), state)
        empty, positive = step.predict("empty", "positive")
        scale = (self.ahead_scale - 1) / (1 - step.next_noise_to_signal / step.noise_to_signal)
        return Guided(positive + scale * (positive - empty), state)

    @classmethod
    def laws(cls) -> tuple[Law, ...]:
        # the point at which laws are measured goes to half its level
        half = (("positive", 2.0), ("empty", -1.0))
        return Identity(cls(1.0)), Runs(cls(1.5)), Linear(cls(1.5), half), PredictionTypeInvariant(cls(1.5))


@dataclass(frozen=True)
class ReturnGuidance(Guidance):
    """Away from what the empty prompt makes of the preview at half the noise.

    Equation:
        D = D_prompt + w (D_prompt - D_empty(x')),   x' = alpha' D_prompt + sigma' e_prompt,   sigma' / alpha' half of it here

    Args:
        return_scale: w; 0 is off.
    """

    return_scale: float = 0.5

    name: ClassVar[str] = "return"
    paper: ClassVar[str] = "an example of the tests"
    cost: ClassVar[str] = "2 evaluations per step"
    off: ClassVar = {**Guidance.off, "return_scale": 0.0}

    def __post_init__(self) -> None:
        finite("return_scale", self.return_scale)

    def branches(self, negatives: int) -> tuple[str, ...]:
        return ("positive",) if self.return_scale == 0 else ("positive", "empty")

    def needs_noise_level(self) -> bool:
        return self.return_scale != 0

    def __call__(self, step: Step, state: State) -> Guided:
        positive = step.predict_one("positive")
        if self.return_scale == 0 or not math.isfinite(step.noise_to_signal):
            return Guided(positive, state)
        preview = step.denoised(positive)
        there = step.at(preview, step.noise(positive), step.noise_to_signal / 2)
        guided = preview + self.return_scale * (preview - there.denoised(there.predict_one("empty")))
        return Guided(step.from_denoised(guided), state)

    @classmethod
    def laws(cls) -> tuple[Law, ...]:
        level = f"{math.tan(0.8) / 2:.4g}"  # of the point at which laws are measured
        return Identity(cls(0.0)), Runs(cls(0.5), ("positive", f"empty@{level}")), PredictionTypeInvariant(cls(0.5))
