"""A method beside the first one, seed by seed: which differences are more than chance, and how selective it was."""

from ..core.laboratory import Column, Judge, Measurement, Seen
from ..metrics.rates import paired_difference_of_rates
from ..metrics.selectivity import selectivity
from ..metrics.two_sample import energy_test, mcnemar_test
from .results import Comparison

FEATURES = "features"
"""The column of the test that compares all features at once."""

SELECTIVITY = Column(
    name="selectivity", label="selectivity", percent=False, role="score", better="higher", detail=True,
    meaning="how much the concept fell, as a part of all that changed against the first method's images of the same seeds",
)  # fmt: skip


def compared(
    judge: Judge, seen: Seen, other: Seen, with_method: str
) -> tuple[list[Comparison], dict[str, Measurement]]:
    """What a judge sees in a method's images beside those of another method, of the same seeds in the same order.

    Args:
        judge: who saw both.
        seen, other: of the method, and of the one that it is compared with.
        with_method: the other's name.

    Returns:
        A comparison per concept and rate ("mcnemar"), and one of the features ("energy", whose difference is the squared energy
        distance) if the judge has any; the selectivity by its column's name, if there is one.
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
            p=mcnemar_test(first, second), paired=True, test="mcnemar",
        ))  # fmt: skip
    if seen.features is not None and other.features is not None:
        tested = energy_test(seen.features, other.features, paired=True)
        found.append(Comparison(
            column=FEATURES, with_method=with_method, difference=tested.statistic, p=tested.p, paired=True, test="energy"
        ))  # fmt: skip
    concepts = [column.name for column in judge.columns() if column.role == "concept"]
    rest = [name for name in ours if not {name, name.partition(":")[0]} & {*concepts, *judge.changed}]
    share = selectivity(theirs, ours, concepts, beside=judge.changed) if concepts and rest else None
    return found, {} if share is None else {SELECTIVITY.name: share.measured("jackknife")}
