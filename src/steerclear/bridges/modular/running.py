"""Which pipeline runs a guider.

Modular Diffusers tells a guider the index and the timestep of a step, but not the scheduler, the noisy sample or the
prompt, which a guidance needs; and a guider cannot ask. But it is always called from within the pipeline's loop, so its
callers hold them: the pipeline (this guider is one of its components), the pipeline's state and the loop's.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

from diffusers.modular_pipelines.modular_pipeline import BlockState, ModularPipeline, PipelineState


@dataclass(frozen=True)
class Loop:
    """The loop that a guider is called from: the modular pipeline, its state (all inputs and intermediate values of the
    run), and the state that the blocks of the loop share (the noisy sample is its ``latents``)."""

    pipe: Any
    state: Any
    block: Any


def running_loop(guider: Any) -> Loop | None:
    """The loop that called us; None when no modular pipeline with this guider is among our callers."""
    pipe = state = block = None
    for value in _values_of_callers():
        if block is None and isinstance(value, BlockState) and hasattr(value, "latents"):
            block = value
        elif state is None and isinstance(value, PipelineState):
            state = value
        elif pipe is None and isinstance(value, ModularPipeline):
            pipe = value if any(component is guider for component in value.components.values()) else None
        if pipe is not None and state is not None and block is not None:
            return Loop(pipe, state, block)
    return None


def _values_of_callers() -> Iterator[Any]:
    """The local variables of all callers, the nearest first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield from tuple(frame.f_locals.values())
        frame = frame.f_back
