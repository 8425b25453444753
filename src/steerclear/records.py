"""What rooms hand to one another: Step, Guided, Trace."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .denoiser import Point, numbered
from .errors import UnknownName
from .noise import from_denoised, noise_per_prediction, per_image, to_denoised, to_noise
from .numerics import wide

PerStep = dict[str, Tensor]
"""What a person wants to see of one step: name -> one number an image."""


@dataclass(frozen=True)
class Step:
    """One step, as a guidance sees it.

    Attributes:
        point: where the sampler stands (sample, alpha, sigma, index, ...).
        prediction_type: the space of all predictions.
        negatives: how many negative prompts there are.
    """

    point: Point
    prediction_type: str
    negatives: int
    ask: Callable[[tuple[str, ...], Tensor | None], list[Tensor]] = field(repr=False)

    @property
    def sample(self) -> Tensor:
        return self.point.sample

    @property
    def alpha(self) -> float:
        return self.point.alpha

    @property
    def sigma(self) -> float:
        return self.point.sigma

    @property
    def index(self) -> int:
        return self.point.index

    @property
    def total(self) -> int:
        return self.point.total

    @property
    def substep(self) -> bool:
        return self.point.substep

    @property
    def batch_size(self) -> int:
        return len(self.point.sample)

    @property
    def fraction(self) -> float:
        """How much of the trajectory lies behind: 0 at the first step, below 1 at the last."""
        return self.index / max(1, self.total)

    @property
    def noise_to_signal(self) -> float:
        """sigma / alpha: the noise level in variance-exploding coordinates; infinite at pure noise."""
        return self.sigma / self.alpha if self.alpha > 0 else float("inf")

    def predict(self, *branches: str, rows: Tensor | None = None) -> Any:
        """Evaluate branches: what was evaluated for all images costs nothing when asked again, what is not asked for is not run.

        Args:
            branches: see :mod:`steerclear.denoiser`. Those not evaluated yet run in one batch, in this order.
            rows: indices of the images that are needed, ``[n]``; None for all.

        Returns:
            The prediction, or a list of them when several branches were named; in the network's own space,
            ``[batch, ...]`` or ``[n, ...]``.
        """
        predictions = self.ask(branches, rows)
        return predictions[0] if len(branches) == 1 else predictions

    def names(self, condition: str) -> list[str]:
        """``["negative", "negative_2", ...]``: one branch a negative prompt."""
        return [numbered(condition, index) for index in range(self.negatives)]

    def denoised(self, prediction: Tensor) -> Tensor:
        """The x_0 that a prediction implies, float32 or better."""
        return to_denoised(wide(prediction), wide(self.sample), self.alpha, self.sigma, self.prediction_type)

    def noise(self, prediction: Tensor) -> Tensor:
        """The noise that a prediction implies, float32 or better."""
        return to_noise(wide(prediction), wide(self.sample), self.alpha, self.sigma, self.prediction_type)

    def from_denoised(self, denoised: Tensor) -> Tensor:
        """The inverse of :meth:`denoised`."""
        return from_denoised(wide(denoised), wide(self.sample), self.alpha, self.sigma, self.prediction_type)

    def noise_difference(self, left: Tensor, right: Tensor) -> Tensor:
        """noise(left) - noise(right), without the cancellation of two conversions."""
        factor = noise_per_prediction(self.alpha, self.sigma, self.prediction_type)
        return per_image(factor, wide(left)) * (wide(left) - wide(right))


@dataclass(frozen=True)
class State:
    """What a guidance's next step needs; nothing else. One entry an image in every tensor."""


@dataclass(frozen=True)
class Guided:
    """What a guidance gives back.

    Attributes:
        prediction: the guided prediction, in the network's own space, ``[batch, ...]``.
        state: what the next step needs.
        info: what a person wants to see of this step, one number an image.
    """

    prediction: Tensor
    state: State
    info: PerStep = field(default_factory=dict)


@dataclass(frozen=True)
class TraceStep:
    """One evaluated step of the trace.

    Attributes:
        index, noise_to_signal: which step, at which noise level (sigma / alpha).
        branches: what was evaluated, in order.
        evaluations: network evaluations of each image at this step, ``[batch]``.
        info: what the guidance showed.
    """

    index: int
    noise_to_signal: float
    branches: tuple[str, ...]
    evaluations: Tensor
    info: PerStep


@dataclass
class Trace:
    """What the guidance did to every image at every step."""

    steps: list[TraceStep] = field(default_factory=list)

    @property
    def evaluations(self) -> Tensor:
        """Network evaluations of each image, ``[batch]``."""
        return torch.stack([step.evaluations for step in self.steps]).sum(0) if self.steps else torch.zeros(0)

    @property
    def branches(self) -> list[tuple[str, ...]]:
        """Which branches ran at each step."""
        return [step.branches for step in self.steps]

    def names(self) -> list[str]:
        """Everything that any step showed, in order of appearance."""
        return list(dict.fromkeys(name for step in self.steps for name in step.info))

    def table(self, name: str) -> Tensor:
        """``[steps, batch]``: NaN at steps that did not show ``name``.

        Raises:
            UnknownName: no step showed it.
        """
        if not self.steps:
            return torch.zeros(0, 0)
        if name not in self.names():
            raise UnknownName("measurement in this trace", name, self.names())
        blank = torch.full((len(self.steps[0].evaluations),), float("nan"))
        return torch.stack([step.info.get(name, blank).float() for step in self.steps])

    def levels(self) -> list[float]:
        """sigma / alpha of every step."""
        return [step.noise_to_signal for step in self.steps]

    @classmethod
    def joined(cls, parts: Sequence["Trace"]) -> "Trace":
        """The trace of several batches that made the same steps, as if they had been one."""
        steps = []
        for same in zip(*(part.steps for part in parts), strict=True):
            names = dict.fromkeys(name for step in same for name in step.info)
            blank = [torch.full((len(step.evaluations),), float("nan")) for step in same]
            info = {
                name: torch.cat([step.info.get(name, none) for step, none in zip(same, blank, strict=True)])
                for name in names
            }
            first = same[0]
            evaluations = torch.cat([step.evaluations for step in same])
            steps.append(TraceStep(first.index, first.noise_to_signal, first.branches, evaluations, info))
        return cls(steps)
