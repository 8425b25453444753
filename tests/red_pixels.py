"""A stranger's laboratory in one file: counts red pixels in the images of any pipeline."""

from dataclasses import dataclass

from torch import Tensor

from steerclear.core.laboratory import Asked, Column, Judge, Judged, Laboratory, Measurement, Seen
from steerclear.metrics.estimates import mean_estimate
from steerclear.metrics.rates import rate


def red_share(images: Tensor) -> Tensor:
    """The share of an image's pixels whose red is above green and blue, ``[n]``."""
    red, green, blue = images.unbind(1)
    return ((red > green) & (red > blue)).double().flatten(1).mean(1)


def colours(images: Tensor) -> dict[str, Tensor]:
    """A judge that is a function: how probably an image is red."""
    return {"red": red_share(images)}


@dataclass(frozen=True)
class RedPixels(Laboratory):
    """Red images are those with more red pixels than a threshold."""

    name = "red-pixels"

    threshold: float = 0.5

    def refuses(self, model: Judged, asked: Asked) -> str | None:
        return None

    def judge(self, model: Judged, asked: Asked) -> Judge:
        return _RedJudge(self.threshold, "red" in asked.negative_prompts)


@dataclass(frozen=True)
class _RedJudge(Judge):
    threshold: float
    unwanted: bool

    def columns(self) -> list[Column]:
        return [
            Column(name="red", label="red", meaning="share of red images", percent=True,
                   role="concept" if self.unwanted else "rate", better="lower" if self.unwanted else None),
            Column(name="red_pixels", label="red pixels", meaning="mean share of red pixels", percent=True, role="score",
                   side_effect=True),
        ]  # fmt: skip

    def see(self, images: Tensor) -> Seen:
        share = red_share(images)
        return Seen({"red": (share > self.threshold).long()}, {"red": share}, share.unsqueeze(1))

    def measure(self, seen: Seen) -> dict[str, Measurement]:
        assert seen.features is not None
        return {
            "red": rate(seen.shown["red"]).measured(),
            "red_pixels": mean_estimate(seen.features.squeeze(1)).measured("jackknife"),
        }
