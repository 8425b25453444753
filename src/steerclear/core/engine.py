"""A denoiser under a guidance: runs, caches and skips branches, keeps the state and the trace."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from .denoiser import Branch, Denoiser, Point
from .errors import InvalidSetting, NotFiniteError, UnsupportedModel
from .evidence import Circumstances, Surroundings
from .guidance import Guidance, declared
from .noise import from_denoised
from .numerics import norm, wide
from .records import Guided, PerStep, State, Step, Trace, TraceStep
from .redrawing import Record, Rewound
from .schedulers import ANOTHER_SCHEDULER, noise_to_signal, unreadable
from .settings import Configurable

GUIDANCE_NORM = "guidance_norm"
"""In the trace of every guidance, at steps that evaluate the prompt's branch at a known noise level."""


def check_noise_level(guidance: Guidance, scheduler: Any) -> None:
    """Raises :class:`UnsupportedModel` if a guidance needs the noise level and the scheduler does not give it."""
    reason = unreadable(scheduler) if guidance.needs_noise_level() else None
    if reason is not None:
        raise UnsupportedModel(
            f"{guidance.name} needs the noise level of every step, and {reason}; {ANOTHER_SCHEDULER}, or a guidance that "
            f"needs no noise level, such as negative or cfg"
        )


def of_schedule(guidance: Guidance, scheduler: Any, first: Any, evaluations: int) -> Iterator[str]:
    """What has no effect on a schedule and why, one clause each; arguments as for :func:`noise_to_signal`."""
    reason = guidance.has_no_step(noise_to_signal(scheduler, first, evaluations))
    if reason is not None:
        yield f"the guidance has no effect: {reason}"


UNGUIDED_REMEDY = (
    "No guidance has acted yet, so it comes from the network or its inputs. Try float32 instead of a half precision, or "
    "load the weights again."
)


@dataclass
class GuidedDenoiser:
    """A denoiser under a guidance, for one batch from its first step to its last.

    Args:
        denoiser: is guided.
        guidance: guides it.
        surroundings: the batch, and what guidances and evidences may use.
        rewound: where a further draw begins anew; None for one from the start.
        keeps_until: the evaluations of steps up to this one are kept in ``records``; -1 for none.
        stochastic: whether a step of the sampler draws noise.

    Raises:
        InvalidSetting: the guidance's settings are for another number of negative prompts, or it declares something else than
            branches.
    """

    denoiser: Denoiser
    guidance: Guidance
    surroundings: Surroundings
    trace: Trace = field(default_factory=Trace)
    rewound: Rewound | None = None
    keeps_until: int = -1
    stochastic: bool = False

    def __post_init__(self) -> None:
        self.declared = declared(self.guidance, self.surroundings.negatives)
        # exact denoisers (testbeds) say so; all others are learned
        known = Circumstances(
            exact=getattr(self.denoiser, "exact", False), stochastic=self.stochastic,
            calibrations=self.surroundings.calibrations,
        )  # fmt: skip
        self.guidance = self.guidance.fitted(known)
        self.state: State = self.guidance.begin(self.surroundings)
        self.records: list[Record] = []
        self._fresh, self._evaluations = False, 0

    def predict(self, point: Point) -> Tensor:
        """The guided prediction at a point, in the denoiser's own space.

        Raises:
            NotFiniteError: a branch or the guidance gave NaN or infinity; names the step, the branch and the images.
            InvalidSetting: the guidance asked for a branch that it does not declare, or its answer is not what it promises.
        """
        if self.rewound is not None and point.index < self.rewound.begins_at:
            return self._again(self.rewound, point)
        if self.rewound is not None and not self._fresh:
            self._fresh = True
            self.rewound.freshen()
            self.state = self.state if self.rewound.state is None else self.rewound.state.resumed(self.state)
        remedy = self._remedy if self.trace.steps else lambda: UNGUIDED_REMEDY
        evaluation = _Evaluation(self.denoiser, point, self.surroundings.negatives, self._refuse_undeclared, remedy)
        step = evaluation.step()
        guided = self._checked(self.guidance(step, self.state), point)
        evaluation.check_finite("the guided prediction", guided.prediction, self._remedy)
        before, self.state = self.state, guided.state
        shown = {**evaluation.norms(step, guided.prediction), **guided.info}
        info = {name: values.detach().float().cpu() for name, values in shown.items()}
        level = step.noise_to_signal if step.has_noise_level else math.nan
        made = TraceStep(point.index, level, tuple(evaluation.asked), evaluation.count.cpu(), info)
        self.trace.add(made)
        if point.index <= self.keeps_until:
            self.records.append(Record(guided.prediction, before, made))
        return guided.prediction

    def _again(self, rewound: Rewound, point: Point) -> Tensor:
        """The prediction of an evaluation before a further draw begins anew; the network does not run."""
        none = torch.zeros(len(point.sample))
        if rewound.records is not None:
            record = rewound.records[self._evaluations]
            self._evaluations += 1
            self.trace.add(replace(record.step, evaluations=none))
            return record.prediction
        assert rewound.finished is not None
        level = point.sigma / point.alpha if point.alpha > 0 else math.inf
        self.trace.add(TraceStep(point.index, level, (), none, {}))
        sample, finished = wide(point.sample), wide(rewound.finished)
        return from_denoised(finished, sample, point.alpha, point.sigma, self.denoiser.prediction_type).to(
            point.sample.dtype
        )

    def _refuse_undeclared(self, branch: Branch) -> None:
        if branch not in self.declared:
            known = ", ".join(map(str, self.declared)) or "none"
            raise InvalidSetting(
                f"a branch that {self.guidance.name} asks for", str(branch), f"one that it declares ({known})",
                "its method branches() declares them",
            )  # fmt: skip

    def _checked(self, guided: Any, point: Point) -> Guided:
        """The guidance's answer, if it is what a guidance promises: anything else would broadcast, and mix images."""
        answer = f"the answer of {self.guidance.name}"
        if not isinstance(guided, Guided):
            raise InvalidSetting(f"the type of {answer}", type(guided).__name__, "Guided")
        shape, own = tuple(point.sample.shape), _shape(guided.prediction)
        if own != shape:
            raise InvalidSetting(f"the shape of the prediction in {answer}", own, f"the sample's, {shape}")
        for name, values in guided.info.items():
            if _shape(values) != shape[:1]:
                allowed = f"{shape[:1]}, a tensor of one number per image"
                raise InvalidSetting(f"the shape of info[{name!r}] in {answer}", _shape(values), allowed)
        return guided

    def _remedy(self) -> str:
        """Advice for a prediction that is not finite, where the guidance has acted."""
        scales = sorted(_amplifying(self.guidance).items(), key=lambda scale: -scale[1])
        lower = " or ".join(f"{name} (now {value:g})" for name, value in scales)
        return f"Try a lower {lower}, or float32 instead of a half precision." if scales else "Try float32."


def _shape(values: object) -> tuple[int, ...] | None:
    return tuple(values.shape) if isinstance(values, Tensor) else None


def _amplifying(part: Configurable, where: str = "") -> dict[str, float]:
    """The scales of a guidance and its parts whose size is above 1: only these can blow a prediction up."""
    found: dict[str, float] = {}
    for name in part.parameters():
        value = getattr(part, name)
        if isinstance(value, Configurable):
            found |= _amplifying(value, f"{where}{name}.")
        elif name.endswith("scale") and value is not None:
            largest = max((abs(one) for one in (value if isinstance(value, tuple) else (value,))), default=0)
            found |= {f"{where}{name}": largest} if largest > 1 else {}
    return found


class _Evaluation:
    """The branches at one point: evaluated when first asked for, remembered, counted, checked.

    Args:
        denoiser: is guided.
        point: where.
        negatives: number of negative prompts.
        check: raises for a branch that may not be asked for.
        remedy: gives advice if a branch is not finite.
        within: the evaluation at the sampler's own point, whose counts it shares; None for that one itself.
    """

    def __init__(
        self, denoiser: Denoiser, point: Point, negatives: int, check: Callable[[Branch], None],
        remedy: Callable[[], str], within: "_Evaluation | None" = None,
    ) -> None:  # fmt: skip
        self.denoiser, self.point, self.negatives, self.check, self.remedy = denoiser, point, negatives, check, remedy
        self.own = self if within is None else within
        self.known: dict[str, Tensor] = {}
        self.asked: list[str] = []
        self.positive_of: tuple[Tensor, Tensor] | None = None  # rows, and the prompt's prediction of these alone
        self.elsewhere = 0
        none = torch.zeros(len(point.sample), device=point.sample.device)
        self.count: Tensor = none if within is None else within.count

    def step(self) -> Step:
        return Step(self.point, self.denoiser.prediction_type, self.negatives, self.ask, self.moved)

    def moved(self, point: Point) -> Step:
        """The step at another point, see ``Step.at``."""
        self.own.elsewhere += 1
        point = replace(point, elsewhere=self.own.elsewhere)
        return _Evaluation(self.denoiser, point, self.negatives, self.check, self.remedy, self.own).step()

    def ask(self, names: tuple[str, ...], rows: Tensor | None) -> list[Tensor]:
        missing = tuple(dict.fromkeys(name for name in names if name not in self.known))
        fresh = self._evaluate(missing, rows) if missing else {}
        if rows is None:
            self.known.update(fresh)
            return [self.known[name] for name in names]
        if "positive" in fresh:
            self.positive_of = rows, fresh["positive"]
        return [fresh[name] if name in fresh else self.known[name][rows] for name in names]

    def norms(self, step: Step, guided: Tensor) -> PerStep:
        """How far the guidance moved the prompt's prediction, as noise: ``||e_guided - e_positive||``; NaN where it has none."""
        positive = self.known.get("positive")
        if not step.has_noise_level:
            return {}
        if positive is None:
            return self._norms_of_rows(step, guided)
        if guided is positive:
            return {GUIDANCE_NORM: self.count.new_zeros(len(guided))}
        return {GUIDANCE_NORM: norm(step.noise_difference(guided, positive))}

    def _norms_of_rows(self, step: Step, guided: Tensor) -> PerStep:
        if self.positive_of is None or not len(self.positive_of[0]):
            return {}
        rows, positive = self.positive_of
        found = self.count.new_full((len(guided),), math.nan)
        found[rows] = norm(step.noise_difference(guided[rows], positive)).to(found.dtype)
        return {GUIDANCE_NORM: found}

    def _evaluate(self, names: tuple[str, ...], rows: Tensor | None) -> dict[str, Tensor]:
        branches = tuple(Branch.parse(name) for name in names)
        for branch in branches:
            self.check(branch)
        if rows is not None and not len(rows):
            return dict.fromkeys(names, self.point.sample[:0])
        predictions = self.denoiser.predict(self.point, branches, rows)
        shown = [self._shown(name) for name in names]
        self.own.asked.extend(name for name in shown if name not in self.own.asked)
        self.count[slice(None) if rows is None else rows] += len(names)
        for name, prediction in zip(shown, predictions, strict=True):
            self.check_finite(f"the prediction of branch {name!r}", prediction, self.remedy, rows)
        return dict(zip(names, predictions, strict=True))

    def _shown(self, name: str) -> str:
        """A branch's name in the trace: with its noise level if that is not the sampler's."""
        return f"{name}@{self.point.sigma / self.point.alpha:.4g}" if self.point.elsewhere else name

    def check_finite(
        self, what: str, prediction: Tensor, remedy: Callable[[], str], rows: Tensor | None = None
    ) -> None:
        if torch.isfinite(prediction.sum()):
            return
        bad = ~torch.isfinite(prediction).flatten(1).all(1)
        if not bad.any():
            return  # only the sum overflowed
        images = (bad.nonzero()[:, 0] if rows is None else rows[bad]).tolist()
        shown = f"images {images} of the batch; branches evaluated: {', '.join(self.own.asked)}"
        raise NotFiniteError(what, f"at step {self.point.index + 1} of {self.point.total} ({shown})", remedy())
