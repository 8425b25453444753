"""Drawing images of a pipeline again: further calls of it, for the images that show the concept alone."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.denoiser import Point
from ...core.errors import UnsupportedModel
from ...core.numerics import wide
from ...core.redrawing import (
    Drawn,
    Outcome,
    Redrawing,
    Rewound,
    draw_until_clear,
    flagged_by_evidence,
    noise_seed,
    reseed,
)
from ...core.seeds import mixed
from ..negatives import Negatives
from .call import NotBegun, OneDraw, PipelineCall
from .evaluation import Run, Steering
from .flagging import Flagging, flagging_of
from .selecting import Batch, check_generators

OneCall = Callable[[Mapping[str, Any] | None, Run, OneDraw], tuple[Any, PipelineCall]]
"""(arguments, None for the user's own; what is told of the call; which draw it is) -> what the pipeline returned, and how."""


@dataclass(frozen=True)
class Made:
    """What the pipeline returned, and which images of the user's call are in it."""

    output: Any
    rows: list[int]


@dataclass(frozen=True)
class Noise:
    """The noise of each image of a call, as it was when the call began.

    Attributes:
        generators: of the user, who never finds them moved on by a further draw.
        seeds: one per image; further draws derive theirs from it.
    """

    generators: tuple[torch.Generator, ...]
    seeds: tuple[int, ...]

    @classmethod
    def of(cls, generators: tuple[torch.Generator, ...]) -> "Noise":
        return cls(generators, tuple(map(_seed, generators)))

    def fresh(self, rows: Sequence[int], seeds: Sequence[int]) -> list[torch.Generator]:
        """Generators of these seeds, on the devices of these images' own."""
        return [_blank(self.generators[row]).manual_seed(seed) for row, seed in zip(rows, seeds, strict=True)]


def _blank(like: torch.Generator) -> torch.Generator:
    return torch.Generator(like.device)


def _seed(generator: torch.Generator) -> int:
    """That of the generator; another one where it has been drawn from before, as in a second call with the same ones."""
    own, state = generator.initial_seed(), generator.get_state()
    if torch.equal(_blank(generator).manual_seed(own).get_state(), state):
        return own
    drawn = hashlib.sha256(state.numpy().tobytes()).digest()
    return mixed(own, int.from_bytes(drawn[:8], "little")) % 2**32


def check_redrawing(redrawing: Redrawing, steering: Steering, batch: Batch, arguments: Mapping[str, Any],
                    negatives: Negatives, pipe: Any) -> Flagging | None:  # fmt: skip
    """Refuse what cannot be drawn again, before the pipeline's network runs; returns who flags, None for an evidence.

    Raises:
        InvalidSetting, PromptError, UnsupportedModel: see :func:`check_generators` and :func:`flagging_of`.
    """
    check_generators(arguments.get("generator"), batch.images)
    if arguments.get("denoising_end") is not None:
        raise UnsupportedModel(
            "a call with denoising_end ends before its images are finished, so nobody can say what they show; leave it out, or "
            "use another guidance than redraw"
        )
    return flagging_of(pipe, redrawing, steering, negatives, arguments, batch)


def until_clear(
    pipe: Any, redrawing: Redrawing, batch: Batch, generator: Any, flagging: Flagging | None, run: Run, once: OneCall
) -> Any:
    """The user's call, and further ones for the images that are flagged.

    Args:
        pipe: the pipeline.
        redrawing: how images are drawn again.
        batch: the call.
        generator: of the call, checked.
        flagging: who flags; None for an evidence.
        run: is told what happened, of all draws together.
        once: calls the pipeline.

    Returns:
        What the pipeline returned, with the images that were drawn again in their places.
    """
    noise = Noise.of(check_generators(generator, batch.images))
    rows = list(range(batch.images))
    output, call = once(None, run, OneDraw(keeps=redrawing, generators=noise.generators))
    if _interrupted(pipe):  # by a callback: the images are not finished
        run.draws, run.flagged = torch.ones(batch.images, dtype=torch.long), torch.zeros(batch.images, dtype=torch.bool)
        return output
    first = _drawn(output, call, rows)

    def again(some: Tensor, number: int, rewound: Rewound | None) -> Drawn | None:
        own, inside = [rows[row] for row in some.tolist()], Run()
        arguments, draw = _further(batch, noise, own, number, rewound, call)
        made, drawing = once(arguments, inside, draw)
        run.forwards += inside.forwards
        return None if _interrupted(pipe) else _drawn(made, drawing, own)

    def probability(drawn: Drawn) -> Tensor:
        if flagging is None:
            return flagged_by_evidence(drawn)
        return flagging.probability(_images(drawn.made.output), drawn.made.rows)

    outcome = draw_until_clear(redrawing, first, again, probability)
    run.trace, run.draws, run.flagged = outcome.trace, outcome.draws, outcome.flagged
    return _merged(output, outcome)


def _interrupted(pipe: Any) -> bool:
    return bool(getattr(pipe, "_interrupt", False))


def _drawn(output: Any, call: PipelineCall, rows: list[int]) -> Drawn:
    guided = call.guided
    assert call.finished is not None  # the pipeline has returned
    assert not isinstance(guided, NotBegun)
    return Drawn(Made(output, rows), guided.trace, call.finished, tuple(guided.records), call.drew)


def _further(
    batch: Batch, noise: Noise, rows: list[int], number: int, rewound: Rewound | None, first: PipelineCall
) -> tuple[dict[str, Any], OneDraw]:
    """Arguments of the call that draws these images again, and which draw it is."""
    seeds = [noise_seed(noise.seeds[row], number) for row in rows]
    generators = noise.fresh(rows, seeds)
    own = tuple(noise.generators[row].initial_seed() for row in rows)
    arguments = batch.of_rows(rows) | {"generator": generators}
    if rewound is None:
        return arguments, OneDraw(number, own, dtype=first.dtype)
    replayed = rewound.records is not None

    def begin(point: Point) -> Tensor:
        if replayed:
            for generator, row in zip(generators, rows, strict=True):
                generator.set_state(first.noise[row])
            assert first.began is not None  # the first draw has begun
            return first.began[rows]
        return _noised(rewound.finished, point, noise.fresh(rows, seeds))

    freshen = partial(reseed, generators, seeds, replayed)
    return arguments, OneDraw(number, own, replace(rewound, freshen=freshen), begin, dtype=first.dtype)


def _noised(finished: Tensor | None, point: Point, generators: Sequence[torch.Generator]) -> Tensor:
    """Finished samples at the first noise level: alpha x_0 + sigma z."""
    assert finished is not None  # it is a restart
    shape = finished.shape[1:]
    drawn = [torch.randn(shape, generator=own, device=own.device, dtype=finished.dtype) for own in generators]
    noise = torch.stack([one.to(finished.device) for one in drawn])
    return (point.alpha * wide(finished) + point.sigma * wide(noise)).to(finished.dtype)


def _images(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output.images


def _merged(first: Any, outcome: Outcome) -> Any:
    """The first draw's output, with the images that were drawn again in their places."""
    kept = [(made.output, row) for made, row in outcome.made]
    if all(output is first for output, _ in kept):
        return first
    if isinstance(first, tuple):
        return type(first)(
            _column(first[place], [(output[place], row) for output, row in kept]) for place in range(len(first))
        )
    names = [each.name for each in dataclasses.fields(first)]
    return type(first)(
        **{
            name: _column(getattr(first, name), [(getattr(output, name), row) for output, row in kept])
            for name in names
        }
    )


def _column(first: Any, kept: list[tuple[Any, int]]) -> Any:
    """One field of an output: images, or what is said of each."""
    if isinstance(first, Tensor):
        return torch.stack([values[row] for values, row in kept])
    if isinstance(first, np.ndarray):
        return np.stack([values[row] for values, row in kept])
    return [values[row] for values, row in kept] if isinstance(first, list) else first
