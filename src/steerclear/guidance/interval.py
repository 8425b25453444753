"""Guidance in only a part of the trajectory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from ..core.errors import InvalidSetting
from ..core.guidance import Guidance, Wrapper, check_outermost, joined
from ..core.laws import Equals, Law, Runs
from ..core.records import Guided, State, Step
from ..core.settings import finite
from .classifier_free import ClassifierFreeGuidance
from .unguided import Unguided


def active_steps(start: float, stop: float, total: int) -> range:
    """The steps between two fractions of a run, both rounded down to whole steps, as by diffusers' guiders.

    >>> active_steps(0.25, 0.75, 10), active_steps(0.5, 0.55, 10)
    (range(2, 7), range(5, 5))
    """
    return range(int(start * total), int(stop * total))


@dataclass(frozen=True)
class IntervalGuidance(Wrapper):
    """Another guidance inside an interval, the plain conditional prediction outside.

    Equations:
        D = D_inner where int(start N) <= i < int(stop N), else D_prompt     (by="fraction")
        D = D_inner where start <= sigma / alpha < stop, else D_prompt       (by="sigma")

    i of N steps are done, as ``num_inference_steps`` counts them; ``start`` and ``stop`` are rounded down to whole steps, as
    in diffusers' guiders. By sigma they are the lowest and the highest level. Outside, the other branches are not run.

    Args:
        inner: the guidance inside the interval.
        start, stop: the bounds, start included, stop excluded; 0 <= start < stop, at most 1 for fractions.
        by: "fraction" or "sigma".

    Raises:
        InvalidSetting: bounds not in order or out of range, or an inner that draws again by an evidence.
    """

    inner: Guidance = field(default_factory=ClassifierFreeGuidance)
    start: float = 0.0
    stop: float = 1.0
    by: Literal["fraction", "sigma"] = "fraction"

    name: ClassVar[str] = "interval"
    paper: ClassVar[str] = (
        "Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in Diffusion Models, "
        "Kynkäänniemi, Aittala, Karras, Laine, Aila and Lehtinen, 2024, arXiv 2404.07724"
    )
    cost: ClassVar[str] = "the inner guidance's inside, 1 evaluation per step outside"

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Guidance):
            raise InvalidSetting("inner", self.inner, "a guidance")
        check_outermost(self.inner)
        highest = 1.0 if self.by == "fraction" else math.inf
        finite("start", self.start, low=0, high=highest)
        finite("stop", self.stop, low=0, high=highest)
        if self.start >= self.stop:
            raise InvalidSetting("start", self.start, f"below stop ({self.stop:g})")

    def branches(self, negatives: int) -> tuple[str, ...]:
        return joined(self.inner.branches(negatives), ("positive",))

    def __call__(self, step: Step, state: State) -> Guided:
        level = step.noise_to_signal if self.by == "sigma" else math.nan
        if self._is_inside(step.index, step.total, level):
            return self.inner(step, state)
        return Guided(step.predict_one("positive"), state)

    def needs_noise_level(self) -> bool:
        return self.by == "sigma" or self.inner.needs_noise_level()

    def has_no_step(self, levels: Sequence[float], steps: Sequence[int] | None = None) -> str | None:
        total, asked = len(levels), range(len(levels)) if steps is None else steps
        inside = [index for index in asked if self._is_inside(index, total, levels[index])]
        if inside:
            return self.inner.has_no_step(levels, inside)
        bounds = f"start={self.start:g} and stop={self.stop:g}"
        if self.by == "fraction":
            if steps is None:
                return f"{bounds} leave none of the {total} steps to {self.inner.name}; set them farther apart"
            return f"{bounds} leave none of the interval around it to {self.inner.name}; let the two overlap"
        return (
            f"{bounds} leave none of the {len(asked)} steps to {self.inner.name}, whose noise levels sigma / alpha fall from "
            f"{levels[asked[0]]:.3g} to {levels[asked[-1]]:.3g}; set them so that some of these lie between"
        )

    def _is_inside(self, index: int, total: int, level: float) -> bool:
        if self.by == "fraction":
            return index in active_steps(self.start, self.stop, total)
        return self.start <= level < self.stop

    @classmethod
    def laws(cls) -> tuple[Law, ...]:
        cfg = ClassifierFreeGuidance(guidance_scale=3.0)
        return (
            Equals(cls(cfg, 0.0, 1.0), cfg),
            Equals(cls(cfg, 0.0, 1e9, "sigma"), cfg),
            Equals(cls(cfg, 1e8, 1e9, "sigma"), Unguided()),
            Runs(cls(cfg, 0.5, 1.0), ("positive",)),
        )
