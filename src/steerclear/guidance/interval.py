"""Guidance in a part of the trajectory only."""

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from ..errors import InvalidSetting
from ..records import Guided, State, Step
from ..settings import finite
from .base import Equals, Guidance, Law, Runs, Wrapper, built


@dataclass(frozen=True)
class IntervalGuidance(Wrapper):
    """Another guidance inside of an interval, the plain conditional prediction outside of it.

    Equation:
        D = D_inner where start <= u < stop, else D_prompt

    u is the fraction of steps done (``by="fraction"``; 0 at the first) or the noise level sigma / alpha (``by="sigma"``, for
    which the bounds are the lowest and the highest level). Outside, the other branches are not run.

    Args:
        inner: the guidance inside of the interval.
        start, stop: the bounds, start included, stop excluded; 0 <= start < stop, at most 1 for fractions.
        by: "fraction" or "sigma".

    Raises:
        InvalidSetting: bounds that are not in order or out of range.
    """

    inner: Guidance = field(default_factory=lambda: built("ClassifierFreeGuidance"))
    start: float = 0.0
    stop: float = 1.0
    by: Literal["fraction", "sigma"] = "fraction"

    name: ClassVar[str] = "interval"
    paper: ClassVar[str] = (
        "Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in Diffusion Models, "
        "Kynkäänniemi, Aittala, Karras, Laine, Aila and Lehtinen, 2024, arXiv 2404.07724"
    )
    cost: ClassVar[str] = "the inner guidance's inside, 1 evaluation a step outside"

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Guidance):
            raise InvalidSetting("inner", self.inner, "a guidance")
        if self.by not in ("fraction", "sigma"):
            raise InvalidSetting("by", self.by, "fraction or sigma")
        highest = 1.0 if self.by == "fraction" else math.inf
        finite("start", self.start, low=0, high=highest)
        finite("stop", self.stop, low=0, high=highest)
        if self.start >= self.stop:
            raise InvalidSetting("start", self.start, f"below stop ({self.stop:g})")

    def __call__(self, step: Step, state: State) -> Guided:
        where = step.fraction if self.by == "fraction" else step.noise_to_signal
        if self.start <= where < self.stop:
            return self.inner(step, state)
        return Guided(step.predict("positive"), state)

    @classmethod
    def laws(cls) -> tuple[Law, ...]:
        cfg = built("ClassifierFreeGuidance", guidance_scale=3.0)
        return (
            Equals(cls(cfg, 0.0, 1.0), cfg),
            Equals(cls(cfg, 0.0, 1e9, "sigma"), cfg),
            Equals(cls(cfg, 1e8, 1e9, "sigma"), built("Unguided")),
            Runs(cls(cfg, 0.5, 1.0), ("positive",)),
        )
