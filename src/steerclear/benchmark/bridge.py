"""The cost of steering on networks of realistic sizes: time, memory, and leftovers.

All is measured with plain classifier-free guidance, which the pipeline can do by itself, so that both give the same.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from ..core.devices import usable
from ..core.laboratory import Measurement
from ..core.settings import whole
from .claims import Benchmark, Claim, Experiment, OnStage, at_least, at_most
from .memory import leftovers
from .networks import MEDIUM, STABLE_DIFFUSION, VAE_FACTOR, Size, parameters, random_pipeline
from .one_run import SEED, peak_of_a_fresh_process, plain_run, steered_run
from .timing import clock, time_ratio

MEDIUM_STEPS, LARGE_STEPS, LARGE_STEPS_ACCELERATED = 4, 1, 20
MEDIUM_PAIRS = 5
"""Pairs of runs of the medium network for each of the large one."""
REQUIRED = {"millions": 20, "medium_time": 1.03, "large_time": 1.02, "large_memory": 1.02}


@dataclass(frozen=True)
class Bridge(Experiment):
    """Time, memory and leftovers of steering networks with random weights, one of them of Stable Diffusion 1.5's size.
    Needs 8 GiB of memory.

    Args:
        pairs: alternating pairs of runs of the large network; five times as many of the medium one, whose times vary more.
        memory_runs: fresh processes for the memory, with and without steering.
        device: where the networks run.
    """

    name = "bridge"
    continues: ClassVar[bool] = False
    medium: ClassVar[Size] = MEDIUM  # time of several steps, and leftovers
    large: ClassVar[Size] = STABLE_DIFFUSION  # time of one step on a CPU, 20 on an accelerator

    pairs: int = 9
    memory_runs: int = 3
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("pairs", "memory_runs"):
            whole(name, getattr(self, name), low=1)

    def measure(self, folder: Path, on_stage: OnStage) -> Benchmark:
        device = self.device
        steps = LARGE_STEPS if usable(device).type == "cpu" else LARGE_STEPS_ACCELERATED
        # first, while this process itself needs little memory
        peaks = _peaks(self.large, steps, self.memory_runs, device, on_stage("memory, in fresh processes"))
        claims = [
            *_medium(self.medium, MEDIUM_PAIRS * self.pairs, device, on_stage("time of a medium network")),
            *_large(self.large, steps, self.pairs, device, on_stage("time of a large network")),
            _memory_claim(self.large, steps, peaks),
        ]
        return Benchmark(
            model="Stable Diffusion's kind, with random weights", model_digest=None, scheduler="DDIMScheduler",
            num_inference_steps=MEDIUM_STEPS, seeds=str(SEED), claims=claims,
        )  # fmt: skip


def _medium(size: Size, pairs: int, device: str, on_progress: Callable[[int, int], None]) -> list[Claim]:
    pipe = random_pipeline(size, device)
    runs = partial(plain_run, pipe, MEDIUM_STEPS), partial(steered_run, pipe, MEDIUM_STEPS)
    ratio = time_ratio(*runs, pairs, device, on_progress)

    def watched(look: Callable[[], None]) -> None:
        def at_the_end(pipe: Any, index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
            if index == MEDIUM_STEPS - 1:
                look()
            return {}

        steered_run(pipe, MEDIUM_STEPS, at_the_end)

    left = leftovers(watched)
    what = f"a network of {parameters(pipe) / 1e6:.1f} M parameters, {MEDIUM_STEPS} steps"
    return [
        at_least("millions of parameters of the medium network", REQUIRED["millions"], parameters(pipe) / 1e6),
        at_most(f"{what}: {clock(device)} of steer with CFG over the plain pipeline, median of {pairs} pairs",
                REQUIRED["medium_time"], ratio),
        at_least("objects that the block made, each watched by a weak reference", 1, left.made),
        at_most("of these still alive after the block", 0, left.alive),
        at_most("bytes of tensors held after the block", 0, left.tensor_bytes),
        at_most("objects of any kind held after the block", 0, left.objects),
    ]  # fmt: skip


def _large(size: Size, steps: int, pairs: int, device: str, on_progress: Callable[[int, int], None]) -> list[Claim]:
    pipe = random_pipeline(size, device)
    plain, steered = partial(plain_run, pipe, steps), partial(steered_run, pipe, steps)
    ratio = time_ratio(plain, steered, pairs, device, on_progress)
    difference = (plain() - steered()).abs().max()
    return [
        at_most(f"{_described(size, steps)}, {parameters(pipe) / 1e6:.1f} M parameters: {clock(device)} of steer with CFG "
                f"over the plain pipeline, median of {pairs} pairs", REQUIRED["large_time"], ratio),
        at_most(f"{_described(size, steps)}: largest difference of the latents", 0, float(difference)),
    ]  # fmt: skip


def _described(size: Size, steps: int) -> str:
    pixels = size.latents * VAE_FACTOR
    return f"large network, {pixels} x {pixels}, {steps} step{'s' if steps > 1 else ''}"


def _peaks(
    size: Size, steps: int, runs: int, device: str, on_progress: Callable[[int, int], None]
) -> dict[bool, list[int]]:
    """Peak memory of fresh processes, in bytes, without (False) and with steering (True)."""
    peaks: dict[bool, list[int]] = {False: [], True: []}
    for run in range(2 * runs):
        steered = bool(run % 2)
        peaks[steered].append(peak_of_a_fresh_process(size, steps, device, steered=steered))
        on_progress(run + 1, 2 * runs)
    return peaks


def _memory_claim(size: Size, steps: int, peaks: dict[bool, list[int]]) -> Claim:
    plain, steered = (statistics.median(peaks[way]) for way in (False, True))
    ratios = [ours / theirs for ours in peaks[True] for theirs in peaks[False]]
    ratio = Measurement(value=steered / plain, low=min(ratios), high=max(ratios))
    return at_most(
        f"{_described(size, steps)}: peak memory of steer with CFG over the plain pipeline's {plain / 2**30:.2f} GiB "
        f"(medians of {len(peaks[True])} fresh processes each; lowest and highest)", REQUIRED["large_memory"], ratio,
    )  # fmt: skip
