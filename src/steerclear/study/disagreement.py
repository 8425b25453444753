"""Where two judges of the same images differ."""

from collections.abc import Sequence

from ..core.laboratory import Column, Frozen, Seen
from ..core.prompts import ARTICLES
from ..metrics.rates import rate


class Disagreement(Frozen):
    """One column in which two judges saw the same images.

    Attributes:
        column: its name.
        first, second: the judges.
        share: of the images in which they differ, in [0, 1].
        low, high: its 95 % interval.
        images: those images.
    """

    column: str
    first: str
    second: str
    share: float
    low: float
    high: float
    images: list[str] = []


def seen_by_both(columns: Sequence[Column], others: Sequence[Column]) -> dict[str, str]:
    """The concepts and rates that two judges both count, by the name of the first one's column: the second one's.

    Case and articles do not matter. What a judge reads without counting it, as the number of a color, is no column.

    >>> share = Column(name="mustache", label="mustache", meaning="", role="concept")
    >>> seen_by_both([share], [share.model_copy(update={"name": "a Mustache"})])
    {'mustache': 'a Mustache'}
    """
    counted = [[one.name for one in some if one.role in ("concept", "rate")] for some in (columns, others)]
    second = {_bare(name): name for name in counted[1]}
    return {name: second[_bare(name)] for name in counted[0] if _bare(name) in second}


def _bare(name: str) -> str:
    return " ".join(word for word in name.casefold().split() if word not in ARTICLES)


def disagreements(
    columns: Sequence[Column], others: Sequence[Column], first: Seen, second: Seen, first_name: str, second_name: str,
    files: Sequence[str],
) -> list[Disagreement]:  # fmt: skip
    """Where two judges differ, for each concept and rate that both count.

    Args:
        columns, others: of the first judge, and of the second.
        first, second: what each sees in the same images.
        first_name, second_name: of the judges.
        files: of the images, in order.
    """
    found = []
    for name, other_name in seen_by_both(columns, others).items():
        differ = (first.shown[name] > 0).cpu() != (second.shown[other_name] > 0).cpu()
        share = rate(differ)
        images = [file for file, other in zip(files, differ.tolist(), strict=True) if other]
        found.append(
            Disagreement(
                column=name, first=first_name, second=second_name, share=share.value, low=share.low, high=share.high, images=images
            )
        )  # fmt: skip
    return found
