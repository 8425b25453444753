"""Where to look next: points spread over a space, then those that optuna proposes from what was measured."""

import hashlib
import itertools
import math
import statistics
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import MissingPackage
from ..core.laboratory import Measurement
from .goals import Bounds
from .space import Choices, Varied

PER_SETTING, SHARE = 4, 4
"""Points that are spread before any is proposed: so many for each varied setting, and at least one in so many trials."""

FARTHEST = 10.0
"""Violations, as shares of a bound, that count alike: a model of all of them would not see the small ones."""

NEAR = 0.005
"""As a share of its range: a proposal this near to an earlier one in all settings is not tried."""

ELSEWHERE = 64
"""Points of the spread that are tried in turn where a proposal was measured before."""


class Refused(Exception):
    """These values cannot be measured; the message says why. The search goes on without them."""


@dataclass(frozen=True)
class Tried:
    """One point of the space.

    Attributes:
        values: key -> value as typed.
        measurements: by column; empty for one that was refused.
        refused: why it could not be measured, in a sentence; None if it was.
    """

    values: Mapping[str, str]
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    refused: str | None = None

    def value(self, bounds: Bounds) -> float | None:
        """Its objective; None if it has none."""
        found = self.measurements.get(bounds.goal.objective)
        return None if found is None or not math.isfinite(found.value) else found.value

    def keeps(self, bounds: Bounds) -> bool:
        """Whether it has an objective and keeps all limits."""
        return self.value(bounds) is not None and all(one <= 0 for one in bounds.violations(self.measurements))


Measure = Callable[[Mapping[str, str]], Mapping[str, Measurement]]
"""Measures the values of one point; raises :class:`Refused` for those that cannot be had."""


def spread(varied: Sequence[Varied], count: int) -> Iterator[dict[str, str]]:
    """Points that fill a space evenly, whatever their number.

    Equation:
        u_k = frac(1/2 + k (1/g, 1/g^2, ..., 1/g^d)),   g^(d+1) = g + 1

    The additive recurrence of Roberts (The Unreasonable Effectiveness of Quasirandom Sequences, 2018); in one dimension it is
    that of the golden ratio.
    """
    root = 2.0
    for _ in range(64):
        root = (1 + root) ** (1 / (len(varied) + 1))
    for k in range(count):
        yield {one.key: one.at(math.fmod(0.5 + k / root ** (place + 1), 1)) for place, one in enumerate(varied)}


def search(
    varied: Sequence[Varied], bounds: Bounds, measure: Measure, trials: int, *, first: Mapping[str, str] | None = None,
    kept: Sequence[Tried] = (), seed: int = 0, on_trial: Callable[[Tried], None] | None = None,
) -> list[Tried]:  # fmt: skip
    """Look for the values that are best under the limits.

    Each proposal depends only on the trials before it and the seed, so a search that is stopped and continued is the same as one
    in one piece. Proposals are those of optuna's Gaussian processes, one of the objective and one of each limit, at the greatest
    expected improvement over the best point that keeps the limits (Gardner et al. 2014, Bayesian optimization with inequality
    constraints).

    Args:
        varied: the space.
        bounds: the objective and its limits.
        measure: see :data:`Measure`.
        trials: their number, those kept among them. Fewer where the space has no more points.
        first: the values that are tried first; None for none.
        kept: of an earlier search of the same space, in their order.
        seed: of the proposals.
        on_trial: called after each new trial.

    Raises:
        MissingPackage: optuna is not installed, and there are more trials than are spread.
    """
    tried = list(kept[:trials])
    known = {_key(one.values) for one in tried}
    beginning = max(PER_SETTING * len(varied), trials // SHARE)
    even = [*([dict(first)] if first else ()), *spread(varied, beginning + trials + ELSEWHERE)]
    while len(tried) < trials:
        proposal = None if len(tried) < beginning else _proposed(varied, bounds, tried, seed)
        fresh = proposal is not None and not any(_near(varied, proposal, one.values) for one in tried)
        points = itertools.chain([proposal] if proposal is not None and fresh else [], even)
        values = next((one for one in points if _key(one) not in known), None)
        if values is None:
            break
        try:
            one = Tried(values, dict(measure(values)))
        except Refused as refusal:
            one = Tried(values, refused=str(refusal))
        tried.append(one)
        known.add(_key(values))
        if on_trial is not None:
            on_trial(one)
    return tried


def _key(values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(values.items()))


def _near(varied: Sequence[Varied], values: Mapping[str, str], others: Mapping[str, str]) -> bool:
    """Whether two points are so near that they measure the same."""
    return all(
        values[one.key] == others[one.key]
        if isinstance(one, Choices) or one.whole
        else abs(float(values[one.key]) - float(others[one.key])) <= NEAR * (one.high - one.low)
        for one in varied
    )


def needs_optuna() -> Any:
    """The package; MissingPackage if it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise MissingPackage("steerclear tune", "optuna") from error
    return optuna


def _proposed(varied: Sequence[Varied], bounds: Bounds, tried: Sequence[Tried], seed: int) -> dict[str, str]:
    """What optuna would try next."""
    optuna = needs_optuna()
    with warnings.catch_warnings(), _quietly(optuna):
        warnings.simplefilter("ignore")  # of parts that optuna calls experimental
        study = _told(optuna, varied, bounds, tried, _seed_of(seed, len(tried)))
        trial = study.ask(_distributions(optuna, varied))
    return {
        one.key: trial.params[one.key] if isinstance(one, Choices) else one.text(float(trial.params[one.key]))
        for one in varied
    }


def _told(optuna: Any, varied: Sequence[Varied], bounds: Bounds, tried: Sequence[Tried], seed: int) -> Any:
    """A study of optuna that knows what was tried; only in memory, because :class:`Tried` are what is kept.

    A point that could not be measured counts as bad as the worst one, so that the search turns away from it.
    """
    limited = (lambda trial: trial.user_attrs["beyond"]) if bounds.numbers else None
    sampler = optuna.samplers.GPSampler(n_startup_trials=0, seed=seed, constraints_func=limited)
    study, distributions = optuna.create_study(sampler=sampler), _distributions(optuna, varied)
    losses = [bounds.goal.loss(value) for one in tried if (value := one.value(bounds)) is not None]
    for one in tried if losses else ():
        study.enqueue_trial({span.key: _parameter(span, one.values[span.key]) for span in varied})
        trial, value = study.ask(distributions), one.value(bounds)
        beyond = [FARTHEST] * len(bounds.numbers) if value is None else bounds.violations(one.measurements)
        trial.set_user_attr("beyond", [min(each, FARTHEST) for each in beyond])
        study.tell(trial, _bent(max(losses) if value is None else bounds.goal.loss(value), losses))
    return study


def _bent(loss: float, losses: Sequence[float]) -> float:
    """A loss on a scale on which a few that are far worse than the rest do not hide the differences between good ones.

    Equation:
        log(1 + (l - least) / (median - least))
    """
    least, middle = min(losses), statistics.median(losses)
    return math.log1p((loss - least) / (middle - least)) if middle > least else loss - least


def _parameter(one: Varied, text: str) -> str | int | float:
    """A value as optuna has it."""
    return text if isinstance(one, Choices) else round(float(text)) if one.whole else float(text)


def _distributions(optuna: Any, varied: Sequence[Varied]) -> dict[str, Any]:
    kinds = optuna.distributions
    return {
        one.key: kinds.CategoricalDistribution(one.texts) if isinstance(one, Choices)
        else kinds.IntDistribution(round(one.low), round(one.high), log=one.log) if one.whole
        else kinds.FloatDistribution(one.low, one.high, log=one.log)
        for one in varied
    }  # fmt: skip


def _seed_of(seed: int, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:4], "big")


@contextmanager
def _quietly(optuna: Any) -> Iterator[None]:
    """A block in which optuna does not report each trial."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
