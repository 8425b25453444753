"""Where two judges of the same images differ."""

from collections.abc import Sequence

from ..core.laboratory import Column, Frozen, Seen
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


def disagreements(
    columns: Sequence[Column], first: Seen, second: Seen, first_name: str, second_name: str, files: Sequence[str]
) -> list[Disagreement]:
    """Where two judges differ, for each concept and rate that both see.

    Args:
        columns: of the first judge.
        first, second: what each sees in the same images.
        first_name, second_name: of the judges.
        files: of the images, in order.
    """
    found = []
    for name in (column.name for column in columns if column.role in ("concept", "rate")):
        if name not in first.shown or name not in second.shown:
            continue
        differ = (first.shown[name] > 0) != (second.shown[name] > 0)
        share = rate(differ)
        images = [file for file, other in zip(files, differ.tolist(), strict=True) if other]
        found.append(
            Disagreement(
                column=name, first=first_name, second=second_name, share=share.value, low=share.low, high=share.high, images=images
            )
        )  # fmt: skip
    return found
