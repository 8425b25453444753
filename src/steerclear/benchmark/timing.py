"""Two ways of doing one thing, in turns: how much longer one takes."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from scipy.stats import binom

from ..core.laboratory import Measurement
from .claims import OnProgress

Action = Callable[[], object]


def clock(device: str) -> str:
    """What :func:`seconds` reads, in words."""
    return "processor time" if torch.device(device).type == "cpu" else "time"


def seconds(action: Action, device: str = "cpu") -> float:
    """How long an action takes.

    On the CPU this is the time that the process itself had the processor: equal to the wall's on a machine with nothing
    else to do, and hardly moved by what else runs there. On an accelerator it is the wall's, until all is done.
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
    """How many times as long the other action takes: the median over pairs, and an interval of at least 95 %.

    The two are run once before, and then in turns, with the first place changing from pair to pair, so that a machine
    that becomes slower favours neither.

    Args:
        plain, other: the actions.
        pairs: how many of each.
        device: where they work.
        on_progress: called with (runs done, runs in all).
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
    """Order statistics that hold the median with a probability of at least 95 %, whatever the distribution.

    How many of n values lie below the median is binomial(n, 1/2); None for fewer than six, which cannot be so sure.

    >>> median_interval([9, 1, 2, 3, 4, 5, 6, 7, 8])
    (2, 8)
    >>> median_interval([1, 2, 3])
    (None, None)
    """
    ranked = sorted(values)
    place = int(binom.ppf(0.025, len(ranked), 0.5))
    return (None, None) if place == 0 else (ranked[place - 1], ranked[-place])
