"""The ratio of the times of two actions, run in turns."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from scipy.stats import binom

from ..core.laboratory import Measurement
from .claims import OnProgress

Action = Callable[[], object]


def clock(device: str) -> str:
    """What :func:`seconds` measures, in words."""
    return "processor time" if torch.device(device).type == "cpu" else "time"


def seconds(action: Action, device: str = "cpu") -> float:
    """How long an action takes.

    On the CPU this is the processor time of the process, which other programs hardly change; on an accelerator the wall
    time until all work is done.
    """
    if torch.device(device).type == "cpu":
        began = time.process_time()
        action()
        return time.process_time() - began
    torch.accelerator.synchronize()
    began = time.perf_counter()
    action()
    torch.accelerator.synchronize()
    return time.perf_counter() - began


def time_ratio(
    plain: Action, other: Action, pairs: int, device: str = "cpu", on_progress: OnProgress | None = None
) -> Measurement:
    """Time of the other action over that of the plain one: the median over pairs, and an interval of at least 95 %.

    After one pair that does not count, the order alternates from pair to pair, so that a machine that slows down favours
    neither action. ``on_progress`` is called with (runs done, runs in all).
    """
    ratios = []
    for pair in range(-1, pairs):
        order = (plain, other) if pair % 2 == 0 else (other, plain)
        times = {}
        for place, action in enumerate(order):
            times[action] = seconds(action, device)
            if on_progress is not None:
                on_progress(2 * pair + 3 + place, 2 * pairs + 2)
        if pair >= 0:
            ratios.append(times[other] / times[plain])
    low, high = median_interval(ratios)
    return Measurement(value=statistics.median(ratios), low=low, high=high)


def median_interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Order statistics that enclose the median with a probability of at least 95 %, for any distribution.

    The number of the n values below the median is binomial(n, 1/2). None for fewer than six values.

    >>> median_interval([9, 1, 2, 3, 4, 5, 6, 7, 8])
    (2, 8)
    >>> median_interval([1, 2, 3])
    (None, None)
    """
    ranked = sorted(values)
    place = int(binom.ppf(0.025, len(ranked), 0.5))
    return (None, None) if place == 0 else (ranked[place - 1], ranked[-place])
