"""A method beside the first one, seed by seed: which differences are more than chance, and how selective it was."""

from typing import Literal

from ..core.laboratory import Column, Frozen, Judge, Measurement, Seen
from ..metrics.rates import paired_difference_of_rates
from ..metrics.selectivity import selectivity
from ..metrics.two_sample import energy_test, mcnemar_test

FEATURES = "features"
"""The column of the test that compares all features at once."""

SELECTIVITY = Column(
    name="selectivity", label="selectivity", percent=False, role="score", better="higher", detail=True,
    meaning="how much the concept fell, as a part of all that changed against the first method's images of the same seeds",
)  # fmt: skip


class Comparison(Frozen):
    """A method compared with another on the same seeds.

    Attributes:
        column: what is compared; "features" for all features at once.
        with_method: the name of the other method.
        difference: this method's rate less the other's, in [-1, 1]; for features their squared energy distance, at least 0.
        low, high: 95 % interval of the difference; None for features.
        p: how often chance alone makes as large a difference, in (0, 1].
        paired: whether images of one seed were compared.
        test: "mcnemar" for rates, "energy" for features.
    """

    column: str
    with_method: str
    difference: float
    low: float | None = None
    high: float | None = None
    p: float
    paired: bool = True
    test: Literal["mcnemar", "energy"]


def compared(
    judge: Judge, seen: Seen, other: Seen, with_method: str
) -> tuple[list[Comparison], dict[str, Measurement]]:
    """What a judge sees in a method's images beside those of another method, of the same seeds in the same order.

    Args:
        judge: who saw both.
        seen, other: of the method, and of the one that it is compared with.
        with_method: the other's name.

    Returns:
        A comparison per concept and rate, and one of the features if the judge has any; the selectivity by its column's name,
        if there is one.
    """
    ours, theirs = judge.indicators(seen), judge.indicators(other)
    found = []
    for column in judge.columns():
        if column.role not in ("concept", "rate"):
            continue
        first, second = ours[column.name], theirs[column.name]
        apart = paired_difference_of_rates(first, second)
        found.append(Comparison(
            column=column.name, with_method=with_method, difference=apart.value, low=apart.low, high=apart.high,
            p=mcnemar_test(first, second), test="mcnemar",
        ))  # fmt: skip
    if seen.features is not None and other.features is not None:
        tested = energy_test(seen.features, other.features, paired=True)
        found.append(Comparison(
            column=FEATURES, with_method=with_method, difference=tested.statistic, p=tested.p, test="energy"
        ))  # fmt: skip
    concepts = [column.name for column in judge.columns() if column.role == "concept"]
    rest = [name for name in ours if not {name, name.partition(":")[0]} & {*concepts, *judge.changed}]
    share = selectivity(theirs, ours, concepts, beside=judge.changed) if concepts and rest else None
    return found, {} if share is None else {SELECTIVITY.name: share.measured("jackknife")}
