"""A laboratory in one file: which images are red."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from steerclear.core.laboratory import Asked, Column, Judge, Judged, Laboratory, Measurement, Seen
from steerclear.core.settings import finite
from steerclear.metrics.rates import rate


@dataclass(frozen=True)
class RedPixels(Laboratory):
    """An image shows "red" where most of its pixels are red.

    Args:
        most: share of red pixels above which an image counts as red, from 0 to 1.

    Raises:
        InvalidSetting: a share out of range.
    """

    most: float = 0.5

    name: ClassVar[str] = "red-pixels"

    def __post_init__(self) -> None:
        finite("most", self.most, low=0, high=1)

    def refuses(self, model: Judged, asked: Asked) -> str | None:
        return None if "red" in asked.negative_prompts else "no negative prompt is 'red'"

    def judge(self, model: Judged, asked: Asked) -> Judge:
        return RedJudge(self.most)


@dataclass(frozen=True)
class RedJudge(Judge):
    most: float

    def columns(self) -> list[Column]:
        meaning = "share of images of which most pixels are red"
        return [Column(name="red", label="red", meaning=meaning, percent=True, role="concept", better="lower")]

    def see(self, images: Tensor) -> Seen:
        red, green, blue = images.float().unbind(1)
        share = (red > 1.5 * green.maximum(blue)).float().mean((1, 2))
        return Seen(shown={"red": (share > self.most).long()}, probabilities={"red": share})

    def measure(self, seen: Seen) -> dict[str, Measurement]:
        return {"red": rate(seen.shown["red"]).measured()}
