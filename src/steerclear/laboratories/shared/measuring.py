"""How far a set of images is from a truth, whoever judges them and wherever the truth comes from."""

from ...core.laboratory import Column, Judge, Measurement, Seen, Truth
from ...core.metric import Compared, metrics
from ...metrics.estimates import Rate
from ...metrics.rates import rate


def rates(judge: Judge, seen: Seen, truth: Truth | None) -> dict[str, Measurement]:
    """How often each thing shows, by column; of a concept the truth is 0."""
    shown, found = judge.indicators(seen), {}
    for column in judge.columns():
        if column.role == "concept":
            found[column.name] = rate(shown[column.name]).measured(None if truth is None else 0.0)
        elif column.role == "rate":
            measured = rate(shown[column.name]).measured()
            found[column.name] = measured.model_copy(update={} if truth is None else _true_rate(truth, column.name))
    return found


def _true_rate(truth: Truth, name: str) -> dict[str, float | None]:
    """What a measurement says of its truth: the rate, and its interval where it was measured on images."""
    if name not in truth.rates or truth.images is None:
        return {"truth": truth.rates.get(name)}
    known = Rate.of(round(truth.rates[name] * truth.images), truth.images)
    return {"truth": known.value, "truth_low": known.low, "truth_high": known.high}


def scores(judge: Judge, seen: Seen, truth: Truth) -> dict[str, Measurement]:
    """Every metric of the shelf that these images are enough for, by name."""
    if seen.features is None or truth.features is None or truth.perfect is None:
        return {}
    images = Compared(
        seen.features, truth.features, truth.perfect, judge.indicators(seen), truth.rates, judge.changed, truth.images,
        truth.shown,
    )  # fmt: skip
    fewest = min(len(seen.features), len(truth.features), len(truth.perfect))
    enough = [metric for metric in metrics() if fewest >= metric.fewest]
    return {metric.name: metric.measure(images) for metric in enough if metric.fits(images)}


def score_columns() -> list[Column]:
    """The columns of :func:`scores`."""
    return [metric.column() for metric in metrics()]
