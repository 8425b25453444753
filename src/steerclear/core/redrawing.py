"""Drawing finished images again, until the concept is gone: which images, from where, and what is kept.

A door (``steerclear.sample``, a steered pipeline) knows how to draw some images of a batch again. This module decides what it
draws. Every decision is about one image, from that image's own seed and draws: image k of a batch is image k alone.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from .records import PerStep, State, Trace, TraceStep
from .rows import of_rows
from .seeds import Stream, mixed, stream_seed
from .shapes import Bool, PerImage, Prediction

FLAG = "concept"
"""In the trace: the probability by which an evidence flags an image."""
ABANDONED = "abandoned"
"""In the trace: 1 from the step on at which an image was given up."""
NEVER = 2**31 - 1
"""In place of that step for an image that was not given up."""


@dataclass(frozen=True)
class Redrawing:
    """How finished images are drawn again.

    Attributes:
        tries: most draws of one image, the first included; at least 1.
        threshold: an image is flagged whose probability of the concept is above it, in (0, 1).
        judge: the laboratory that flags; None for the run's own judge.
        by_evidence: whether an evidence flags, in place of a judge; its probability is in the trace as :data:`FLAG`.
        from_step: every further draw begins anew at this step; 0 draws from the start.
        from_sigma: ... at the first step whose sigma / alpha is not above this.
        latest: share of the steps at which the second draw begins anew where neither is given; each further one begins
            earlier, the last from the start.
        abandons: whether an evidence gives draws up on their way.
    """

    tries: int
    threshold: float
    judge: Any = None
    by_evidence: bool = False
    from_step: int | None = None
    from_sigma: float | None = None
    latest: float = 0.0
    abandons: bool = False

    def begins_at(self, draw: int, levels: Sequence[float]) -> int:
        """The step at which a further draw begins anew; 0 for one from the start.

        Args:
            draw: which one; 1 is the second.
            levels: sigma / alpha at the beginning of every step.

        >>> late = Redrawing(tries=5, threshold=0.5, latest=0.4)
        >>> [late.begins_at(draw, [9.0] * 30) for draw in range(1, 5)]
        [12, 8, 4, 0]
        >>> Redrawing(tries=5, threshold=0.5, from_sigma=8.0).begins_at(3, [80.0, 9.0, 7.0, 1.0])
        2
        """
        if self.from_step is not None:
            return min(self.from_step, len(levels) - 1)
        if self.from_sigma is not None:
            below = [index for index, level in enumerate(levels) if level <= self.from_sigma]
            return below[0] if below else len(levels) - 1
        again = self.tries - 1
        return round(self.latest * len(levels) * (again - draw) / max(again - 1, 1))


@dataclass(frozen=True)
class Record:
    """One evaluation of a run, for a further draw to go through again without the network.

    Attributes:
        prediction: the guided prediction.
        state: of the guidance before it.
        step: what the trace shows of it.
    """

    prediction: Prediction
    state: State
    step: TraceStep


@dataclass(frozen=True)
class Rewound:
    """Where a further draw begins anew, and how it gets there without the network.

    On a stochastic sampler the first draw's predictions are given again, and the sampler draws the same noise; from
    ``begins_at`` on the noise is fresh. A deterministic sampler has no noise of its own: the finished sample x_0 is given as
    the denoised prediction, and the sampler, which then solves a straight line, carries fresh starting noise z to
    x_0 + s z (a restart, after Xu et al. 2023, arXiv 2306.14878). In law x_t is the same either way, that of an image that was
    seen; what a multistep sampler remembers of the steps before is not.

    Attributes:
        begins_at: the first step that runs anew.
        records: of the first draw's evaluations before it, for these images; None on a deterministic sampler.
        state: of the guidance there; None to begin anew.
        finished: x_0, in the sampler's space; None on a stochastic sampler.
        freshen: called once before the first evaluation of that step: makes the noise fresh.
    """

    begins_at: int
    records: tuple[Record, ...] | None = None
    state: State | None = None
    finished: Prediction | None = None
    freshen: Callable[[], None] = lambda: None


def noise_seed(seed: int, draw: int) -> int:
    """The seed of the noise of a further draw of an image, in [0, 2**32); draw 0 keeps the image's own.

    >>> noise_seed(7, 0), noise_seed(7, 1) == noise_seed(7, 2)
    (7, False)
    """
    return seed if draw == 0 else mixed(stream_seed(seed, Stream.REDRAW), draw) % 2**32


def reseed(generators: Sequence[torch.Generator], seeds: Sequence[int], replayed: bool) -> None:
    """Make the noise of the coming steps fresh, where steps before were gone through again with the noise of before."""
    if replayed:
        for generator, seed in zip(generators, seeds, strict=True):
            generator.manual_seed(seed)


def latest_step(redrawing: Redrawing, levels: Sequence[float]) -> int:
    """The latest step at which a further draw may begin."""
    return max((redrawing.begins_at(number, levels) for number in range(1, redrawing.tries)), default=0)


def flagged_by_evidence(drawn: "Drawn") -> Tensor:
    """The probability that the evidence gave last, ``[n]``; 0 where it never gave one."""
    found = torch.zeros(len(drawn.trace.evaluations))
    for row in drawn.trace.table(FLAG):
        found = torch.where(row.isfinite(), row, found)
    return found


@dataclass(frozen=True)
class Drawn:
    """One draw of some images.

    Attributes:
        made: whatever the door makes: samples, images.
        trace: of this draw.
        finished: x_0 as the sampler has it, ``[n, ...]``.
        records: of its evaluations before the latest step at which a further draw may begin; ().
        stochastic: whether the sampler's steps drew noise.
    """

    made: Any
    trace: Trace
    finished: Prediction
    records: tuple[Record, ...] = ()
    stochastic: bool = False


@dataclass
class Outcome:
    """What became of a batch.

    Attributes:
        made: one entry per image: the draw that is kept, as the door made it, and the image's row in it.
        trace: of the draws that are kept; evaluations of all draws.
        draws: how often each image was drawn, ``[batch]``.
        flagged: images that could not be cleared, ``[batch]``.
        suspicion: probability of the concept in the draw that is kept, ``[batch]``; infinity for one that was abandoned.
    """

    made: list[tuple[Any, int]]
    trace: Trace
    draws: Tensor
    flagged: Bool[Tensor, " batch"]
    suspicion: PerImage = field(default_factory=lambda: torch.zeros(0))

    @property
    def probability(self) -> PerImage:
        """Of the concept in the draw that is kept, ``[batch]`` in [0, 1]; 1 for one that was abandoned."""
        return self.suspicion.clamp(max=1)


Draw = Callable[[Tensor, int, Rewound | None], Drawn | None]
"""Draws some images again: their rows, which draw it is (1 is the second), where it begins anew (None: at the start).

None where that was interrupted: what was drawn before is kept, and nothing is drawn any more."""


def draw_until_clear(redrawing: Redrawing, first: Drawn, draw: Draw, probability: Callable[[Drawn], Tensor]) -> Outcome:
    """Draw flagged images again, each until it is clear or its tries are used up; the least suspicious draw is kept then.

    Args:
        redrawing: how.
        first: the first draw, of the whole batch.
        draw: draws some of the images again.
        probability: that each image of a draw shows the concept, ``[n]``.
    """
    found = _probability(first, probability)
    count = len(found)
    outcome = Outcome([(first.made, row) for row in range(count)], first.trace, torch.ones(count, dtype=torch.long),
                      found > redrawing.threshold, found.clone())  # fmt: skip
    gone, levels = _abandoned_at(first.trace), first.trace.levels
    readable = not any(map(math.isnan, levels))  # else nobody knows how much noise a restart needs
    for number in range(1, redrawing.tries):
        flagged = outcome.flagged.nonzero()[:, 0]
        if not len(flagged):
            break
        wanted = redrawing.begins_at(number, levels) if first.stochastic or readable else 0
        for begins_at, rows in _groups(flagged, gone, wanted, first.stochastic).items():
            rewound = None if begins_at == 0 else _rewound(first, rows, begins_at)
            drawn = draw(rows, number, rewound)
            if drawn is None:
                return outcome
            _settle(outcome, redrawing, rows, drawn, probability)
    return outcome


def _groups(rows: Tensor, gone: Tensor, wanted: int, stochastic: bool) -> dict[int, Tensor]:
    """The step at which each image begins anew: not behind the one at which its first draw was abandoned."""
    given_up = gone[rows]
    at = given_up.clamp(max=wanted) if stochastic else torch.where(given_up < NEVER, 0, wanted)
    return {int(step): rows[at == step] for step in at.unique()}


def _abandoned_at(trace: Trace) -> Tensor:
    """The step at which each image was given up; :data:`NEVER` for the others."""
    if ABANDONED not in trace.names:
        return torch.full((len(trace.evaluations),), NEVER)
    table = torch.stack([_is_gone(step) for step in trace.steps])
    return torch.where(table.any(0), table.int().argmax(0), NEVER)


def _is_gone(step: TraceStep) -> Tensor:
    """Whether each image was given up at any evaluation of a step."""
    gone = step.info.get(ABANDONED, torch.zeros(len(step.evaluations))) > 0
    return torch.stack([gone, *map(_is_gone, step.further)]).any(0)


def _probability(drawn: Drawn, probability: Callable[[Drawn], Tensor]) -> Tensor:
    """Of the concept; infinity for images that were abandoned, so that any finished draw is better."""
    found = probability(drawn).double().cpu()
    return torch.where(_abandoned_at(drawn.trace) < NEVER, torch.full_like(found, math.inf), found)


def _rewound(first: Drawn, rows: Tensor, begins_at: int) -> Rewound:
    count = len(first.finished)
    if not first.stochastic:
        return Rewound(begins_at, finished=first.finished[rows.to(first.finished.device)])
    before = [record for record in first.records if record.step.index < begins_at]
    after = next(record for record in first.records if record.step.index >= begins_at)
    records = tuple(
        Record(*(of_rows(part, rows, count) for part in (one.prediction, None, one.step))) for one in before
    )
    return Rewound(begins_at, records, of_rows(after.state, rows, count))


def _settle(
    outcome: Outcome, redrawing: Redrawing, rows: Tensor, drawn: Drawn, probability: Callable[[Drawn], Tensor]
) -> None:
    """Keep what is better than before."""
    found = _probability(drawn, probability)
    better = found < outcome.suspicion[rows]
    outcome.draws[rows] += 1
    for row, own in zip(rows[better].tolist(), better.nonzero()[:, 0].tolist(), strict=True):
        outcome.made[row] = drawn.made, own
    outcome.trace = merged(outcome.trace, drawn.trace, rows, better)
    outcome.suspicion[rows] = torch.minimum(found, outcome.suspicion[rows])
    outcome.flagged[rows] = outcome.suspicion[rows] > redrawing.threshold


def merged(whole: Trace, part: Trace, rows: Tensor, kept: Tensor) -> Trace:
    """The trace of a batch of which some images were drawn again: evaluations add up, numbers are of the draw that is kept.

    Args:
        whole: of the batch.
        part: of the images drawn again; it has the same steps.
        rows: their rows in the batch.
        kept: which of them keep the new draw, ``[len(rows)]``.
    """
    return Trace([_merged(one, other, rows, kept) for one, other in zip(whole.steps, part.steps, strict=True)])


def _merged(one: TraceStep, other: TraceStep, rows: Tensor, kept: Tensor) -> TraceStep:
    evaluations = one.evaluations.clone()
    evaluations[rows] += other.evaluations
    further = tuple(_merged(*both, rows, kept) for both in zip(one.further, other.further, strict=False))
    return replace(one, evaluations=evaluations, info=_info(one, other, rows, kept), further=further)


def _info(one: TraceStep, other: TraceStep, rows: Tensor, kept: Tensor) -> PerStep:
    found: PerStep = {}
    for name in dict.fromkeys([*one.info, *other.info]):
        blank = torch.full((len(one.evaluations),), math.nan)
        values = one.info[name].clone() if name in one.info else blank
        values[rows[kept]] = other.info[name][kept] if name in other.info else math.nan
        found[name] = values
    return found
