"""The records that rooms exchange: Step, Guided, Trace."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from .denoiser import Point, numbered
from .errors import InvalidSetting, UnknownName, UnsupportedModel
from .noise import from_denoised, noise_per_prediction, per_image, to_denoised, to_noise
from .numerics import wide
from .schedulers import ANOTHER_SCHEDULER
from .settings import Configurable, finite
from .shapes import Prediction
from .shelf import find

PerStep = dict[str, Tensor]
"""What the trace shows of one step: name -> one number per image."""


@dataclass(frozen=True)
class Step:
    """One step, as a guidance sees it.

    Attributes:
        point: where the sampler stands (sample, alpha, sigma, index, ...).
        prediction_type: the space of all predictions.
        negatives: number of negative prompts.
        ask: evaluates branches; see :meth:`predict`.
        move: makes the step at another point; see :meth:`at`. None if there is no other.
    """

    point: Point
    prediction_type: str
    negatives: int
    ask: Callable[[tuple[str, ...], Tensor | None], list[Tensor]] = field(repr=False)
    move: Callable[[Point], "Step"] | None = field(default=None, repr=False)

    @property
    def sample(self) -> Tensor:
        return self.point.sample

    @property
    def has_noise_level(self) -> bool:
        """Whether alpha and sigma are known, and so the denoised image and the noise of a prediction."""
        return not math.isnan(self.point.alpha)

    @property
    def alpha(self) -> float:
        """Raises :class:`UnsupportedModel` if the scheduler does not give it; see ``Guidance.needs_noise_level``."""
        return self._known(self.point.alpha)

    @property
    def sigma(self) -> float:
        """As :attr:`alpha`."""
        return self._known(self.point.sigma)

    @property
    def next_alpha(self) -> float:
        """alpha of the level that the sampler's step goes to: 1 after the last. Raises as :attr:`alpha`."""
        return self._known(self.point.next_alpha)

    @property
    def next_sigma(self) -> float:
        """sigma of that level: 0 after the last. Raises as :attr:`alpha`."""
        return self._known(self.point.next_sigma)

    def _known(self, level: float) -> float:
        if math.isnan(level):
            raise UnsupportedModel(
                "the guidance asks for the noise level of a step, which this scheduler does not give; "
                f"{ANOTHER_SCHEDULER}, or a guidance that needs none"
            )
        return level

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
    def noise_to_signal(self) -> float:
        """sigma / alpha: the noise level in variance-exploding coordinates; infinite at pure noise."""
        return self.sigma / self.alpha if self.alpha > 0 else float("inf")

    @property
    def next_noise_to_signal(self) -> float:
        """next_sigma / next_alpha, as :attr:`noise_to_signal`."""
        return self.next_sigma / self.next_alpha if self.next_alpha > 0 else float("inf")

    def predict(self, *branches: str, rows: Tensor | None = None) -> list[Tensor]:
        """Evaluate branches. A branch evaluated for all images costs nothing when asked for again; others are not run.

        Args:
            branches: see :mod:`steerclear.core.denoiser`. Those not yet evaluated run in one batch, in this order.
            rows: indices of the images needed, ``[n]``; None for all.

        Returns:
            A prediction per branch, in the network's own space, ``[batch, ...]`` or ``[n, ...]``.
        """
        return self.ask(branches, rows)

    def predict_one(self, branch: str, rows: Tensor | None = None) -> Tensor:
        """The prediction of one branch; see :meth:`predict`."""
        return self.ask((branch,), rows)[0]

    def at(self, denoised: Prediction, noise: Prediction, noise_to_signal: float) -> "Step":
        """The step at any other point, x' = alpha' x_0 + sigma' noise, to ask for its branches.

        The sampler does not move. Evaluations there count as all others; the trace names them ``positive@0.5`` for a
        ``noise_to_signal`` of 0.5. The timestep is that of :func:`~steerclear.core.schedulers.level_at`.

        Args:
            denoised: x_0, ``[batch, ...]``, in the sampler's space.
            noise: the same shape.
            noise_to_signal: sigma' / alpha', above 0 and finite; in the sampler's own scaling.

        Raises:
            InvalidSetting: another shape, or a level out of range.
            UnsupportedModel: the sampler's levels are unknown.
        """
        finite("noise_to_signal", noise_to_signal, low=torch.finfo(torch.float32).tiny)
        if not denoised.shape == noise.shape == self.sample.shape:
            shapes = tuple(denoised.shape), tuple(noise.shape)
            raise InvalidSetting("shapes of denoised and noise", shapes, f"{tuple(self.sample.shape)}, as the sample's")
        if self.move is None or self.point.levels is None:
            raise UnsupportedModel(
                "the guidance asks for predictions at another noise level, whose timestep this sampler does not give; "
                f"{ANOTHER_SCHEDULER}"
            )
        alpha, sigma, timestep = self.point.levels(noise_to_signal)
        sample = (alpha * wide(denoised) + sigma * wide(noise)).to(self.sample.dtype)
        return self.move(replace(self.point, sample=sample, alpha=alpha, sigma=sigma, timestep=timestep,
                                 next_alpha=math.nan, next_sigma=math.nan))  # fmt: skip

    def of_rows(self, rows: Tensor) -> "Step":
        """The step of some of the images, as if they were a batch of their own; only they are evaluated.

        Args:
            rows: their indices, ``[n]``.
        """
        known: dict[str, Tensor] = {}

        def ask(names: tuple[str, ...], own: Tensor | None) -> list[Tensor]:
            missing = tuple(dict.fromkeys(name for name in names if name not in known))
            if own is not None and missing:
                fresh = dict(zip(missing, self.ask(missing, rows[own]), strict=True))
                return [fresh[name] if name in fresh else known[name][own] for name in names]
            known.update(zip(missing, self.ask(missing, rows) if missing else (), strict=True))
            return [known[name] if own is None else known[name][own] for name in names]

        def move(point: Point) -> "Step":
            assert self.move is not None
            sample = self.sample.to(point.sample.dtype).index_copy(0, rows, point.sample)
            return self.move(replace(point, sample=sample)).of_rows(rows)

        moves = None if self.move is None else move
        return replace(self, point=replace(self.point, sample=self.sample[rows]), ask=ask, move=moves)

    def names(self, condition: str) -> list[str]:
        """``["negative", "negative_2", ...]``: one branch per negative prompt."""
        return [numbered(condition, index) for index in range(self.negatives)]

    def denoised(self, prediction: Prediction, rows: Tensor | None = None) -> Prediction:
        """The x_0 that a prediction implies, float32 or better.

        Args:
            prediction: ``[batch, ...]``, or ``[n, ...]`` of the rows.
            rows: as of :meth:`predict`.

        Raises:
            InvalidSetting: a prediction of another number of images.
            UnsupportedModel: as :attr:`alpha`.
        """
        return self._converted(to_denoised, prediction, rows)

    def noise(self, prediction: Prediction, rows: Tensor | None = None) -> Prediction:
        """The noise that a prediction implies, float32 or better. Arguments and errors as of :meth:`denoised`."""
        return self._converted(to_noise, prediction, rows)

    def from_denoised(self, denoised: Prediction, rows: Tensor | None = None) -> Prediction:
        """The inverse of :meth:`denoised`."""
        return self._converted(from_denoised, denoised, rows)

    def _converted(self, convert: Callable[..., Tensor], values: Tensor, rows: Tensor | None) -> Tensor:
        sample = self.sample if rows is None else self.sample[rows]
        if len(values) != len(sample):
            allowed = f"{len(sample)}, as the sample's"
            raise InvalidSetting("the number of images of a prediction", len(values), allowed, "name its rows=")
        return convert(wide(values), wide(sample), self.alpha, self.sigma, self.prediction_type)

    def noise_difference(self, left: Prediction, right: Prediction) -> Prediction:
        """noise(left) - noise(right), without the rounding of two conversions."""
        factor = noise_per_prediction(self.alpha, self.sigma, self.prediction_type)
        return per_image(factor, wide(left)) * (wide(left) - wide(right))


@dataclass(frozen=True)
class State:
    """What a guidance's next step needs, and nothing else. One entry per image in every tensor."""

    def resumed(self, fresh: "State") -> "State":
        """This state of an earlier draw, for a further draw that goes on from it; most are as they were.

        Args:
            fresh: the state in which the further draw began.
        """
        return self


@dataclass(frozen=True)
class Guided:
    """What a guidance returns.

    Attributes:
        prediction: the guided prediction, in the network's own space, ``[batch, ...]``.
        state: what the next step needs.
        info: what the trace shows of this step.
    """

    prediction: Prediction
    state: State
    info: PerStep = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class TraceStep:
    """One step of the trace, or a further evaluation of one.

    Attributes:
        index: which step, from 0.
        noise_to_signal: the noise level sigma / alpha at its beginning; NaN if unknown.
        branches: those evaluated there, in order.
        evaluations: network evaluations of each image in this step, ``[batch]``, including those of ``further``.
        info: what the guidance showed there.
        further: the other evaluations of this step, by samplers that evaluate more than once (Heun, KDPM2, PNDM, ...), at
            points that are not kept.
    """

    index: int
    noise_to_signal: float
    branches: tuple[str, ...]
    evaluations: Tensor
    info: PerStep
    further: tuple["TraceStep", ...] = ()

    def __repr__(self) -> str:
        further = f", {len(self.further)} further" if self.further else ""
        level = f"sigma/alpha {self.noise_to_signal:.4g}"
        return f"TraceStep({self.index}: {level}, {' '.join(self.branches)}{further}{_shows(self.info)})"


@dataclass(repr=False)
class Trace:
    """What the guidance did to every image at every step: one entry per step, as ``num_inference_steps`` counts them."""

    steps: list[TraceStep] = field(default_factory=list)

    def __repr__(self) -> str:
        if not self.steps:
            return "Trace(no steps)"
        least, most = (int(end) for end in self.evaluations.aminmax())
        cost = f"{least}" if least == most else f"{least} to {most}"
        return (
            f"Trace({_counted(len(self.steps), 'step')}, {_counted(len(self.evaluations), 'image')}, "
            f"{cost} evaluations per image{_shows(self.names)})"
        )

    def add(self, evaluation: TraceStep) -> None:
        """Append a step, or a further evaluation of the last one, if it has the same index."""
        if not self.steps or self.steps[-1].index != evaluation.index:
            self.steps.append(evaluation)
            return
        last = self.steps[-1]
        evaluations = last.evaluations + evaluation.evaluations
        self.steps[-1] = replace(last, evaluations=evaluations, further=(*last.further, evaluation))

    @property
    def evaluations(self) -> Tensor:
        """Network evaluations of each image, ``[batch]``."""
        return torch.stack([step.evaluations for step in self.steps]).sum(0) if self.steps else torch.zeros(0)

    @property
    def branches(self) -> list[tuple[str, ...]]:
        """The branches that ran at the beginning of each step."""
        return [step.branches for step in self.steps]

    @property
    def levels(self) -> list[float]:
        """sigma / alpha at the beginning of every step; NaN if unknown."""
        return [step.noise_to_signal for step in self.steps]

    @property
    def names(self) -> list[str]:
        """The names of all numbers that any step showed, in order of appearance."""
        return list(dict.fromkeys(name for step in self.steps for name in step.info))

    def table(self, name: str) -> Tensor:
        """``[steps, batch]``: NaN at steps that did not show ``name``.

        Raises:
            UnknownName: no step showed it.
        """
        if not self.steps:
            return torch.zeros(0, 0)
        if name not in self.names:
            raise UnknownName("measurement in this trace", name, self.names)
        blank = torch.full((len(self.steps[0].evaluations),), float("nan"))
        return torch.stack([step.info.get(name, blank).float() for step in self.steps])

    def figure(self, *names: str) -> Any:
        """The trace drawn: a panel per number, with a line per image over the steps.

        Args:
            names: of :attr:`names`; without any, all but lengths ("push_norm").

        Returns:
            A matplotlib figure, which notebooks show; ``figure.savefig("trace.png")`` writes it.

        Raises:
            UnknownName: no step showed a number of this name.
        """
        return find("telling.figures", Configurable, "trace")(names).of_run(self)  # core does not import drawing

    @classmethod
    def joined(cls, parts: Sequence["Trace"]) -> "Trace":
        """The traces of several batches that made the same steps, as of one batch."""
        return cls([_joined(same) for same in zip(*(part.steps for part in parts), strict=True)])


def _joined(same: Sequence[TraceStep]) -> TraceStep:
    first = same[0]
    names = dict.fromkeys(name for step in same for name in step.info)
    blank = [torch.full((len(step.evaluations),), float("nan")) for step in same]
    info = {
        name: torch.cat([step.info.get(name, none) for step, none in zip(same, blank, strict=True)]) for name in names
    }
    further = tuple(_joined(each) for each in zip(*(step.further for step in same), strict=True))
    evaluations = torch.cat([step.evaluations for step in same])
    return TraceStep(first.index, first.noise_to_signal, first.branches, evaluations, info, further)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _shows(names: Iterable[str]) -> str:
    shown = ", ".join(names)
    return f"; shows {shown}" if shown else ""
