"""Estimates as measurements."""

from typing import Literal

from ..core.laboratory import Measurement
from ..metrics.estimates import Estimate


def measured(
    estimate: Estimate,
    interval: Literal["bootstrap", "jackknife"],
    *,
    truth: float | None = None,
    better: Literal["lower", "truth"],
) -> Measurement:
    return Measurement(
        value=estimate.value, low=estimate.low, high=estimate.high,
        interval=None if estimate.low is None else interval, truth=truth, better=better,
    )  # fmt: skip
