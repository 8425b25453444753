"""A measured folder beside the first one: image by image where their images have the same names, else as two sets."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..core.laboratory import Judge, Measurement, Seen
from ..metrics.rates import difference_of_rates, rate
from ..metrics.two_sample import energy_test
from .comparisons import FEATURES, compared
from .judging import FEWEST
from .results import Comparison

MOST_TESTED = 1000
"""Most images of each folder of which all features are compared: the distances between all of them are in memory."""


@dataclass(frozen=True)
class Named:
    """What is seen in images, and their names; see :func:`~steerclear.study.outside_folders.pair_names`."""

    names: Sequence[str]
    seen: Seen

    def some(self, rows: Sequence[int]) -> Seen:
        """What is seen in these images."""
        chosen, seen = torch.tensor(rows, dtype=torch.long), self.seen
        return Seen(
            {name: values[chosen] for name, values in seen.shown.items()},
            {name: values[chosen] for name, values in seen.probabilities.items()},
            None if seen.features is None else seen.features[chosen],
        )


def beside(judge: Judge, own: Named, first: Named, with_name: str) -> tuple[list[Comparison], dict[str, Measurement]]:
    """What a judge sees in a folder beside the first one.

    Images with the same name belong together, if there are at least :data:`~steerclear.study.judging.FEWEST` such pairs and
    they are most of the smaller folder.

    Args:
        judge: who saw both.
        own, first: the folder, and the one that it is compared with.
        with_name: the first one's name.

    Returns:
        As :func:`~steerclear.study.comparisons.compared`; of sets without pairs the difference of each rate with its interval
        ("newcombe"), and the test of the features.
    """
    place = {name: row for row, name in enumerate(first.names)}
    pairs = [(row, place[name]) for row, name in enumerate(own.names) if name in place]
    if len(pairs) >= FEWEST and 2 * len(pairs) > min(len(own.names), len(first.names)):
        mine, theirs = own.some([one for one, _ in pairs]), first.some([other for _, other in pairs])
        if len(pairs) <= MOST_TESTED:
            return compared(judge, mine, theirs, with_name)
        found, further = compared(judge, _blind(mine), _blind(theirs), with_name)
        return [*found, *_features(mine, theirs, with_name, paired=True)], further
    return _apart(judge, own.seen, first.seen, with_name), {}


def _apart(judge: Judge, seen: Seen, other: Seen, with_name: str) -> list[Comparison]:
    ours, theirs, found = judge.indicators(seen), judge.indicators(other), []
    for column in judge.columns():
        if column.role not in ("concept", "rate"):
            continue
        difference = difference_of_rates(rate(ours[column.name]), rate(theirs[column.name]))
        found.append(
            Comparison(
                column=column.name, with_method=with_name, difference=difference.value, low=difference.low,
                high=difference.high, paired=False, test="newcombe",
            )
        )  # fmt: skip
    return found + _features(seen, other, with_name, paired=False)


def _features(seen: Seen, other: Seen, with_name: str, *, paired: bool) -> list[Comparison]:
    """The test of all features at once, of the first :data:`MOST_TESTED` images of each folder."""
    if seen.features is None or other.features is None or min(len(seen.features), len(other.features)) < 2:
        return []
    tested = energy_test(seen.features[:MOST_TESTED], other.features[:MOST_TESTED], paired=paired)
    return [
        Comparison(
            column=FEATURES,
            with_method=with_name,
            difference=tested.statistic,
            p=tested.p,
            paired=paired,
            test="energy",
        )
    ]


def _blind(seen: Seen) -> Seen:
    return Seen(seen.shown, seen.probabilities)
