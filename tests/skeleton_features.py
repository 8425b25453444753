"""A stranger's features in one file: the mean color of an image."""

from dataclasses import dataclass

from torch import Tensor

from steerclear.core.features import Features


@dataclass(frozen=True)
class MeanColor(Features):
    """The mean of red, green and blue, in [0, 1]."""

    name = "mean-color"

    @property
    def described(self) -> str:
        return "the mean color of an image"

    @property
    def key(self) -> str:
        return "mean-color-1"  # a digest of weights and preparation, where there are any

    def of(self, images: Tensor) -> Tensor:
        return images.float().mean((2, 3)) / 255
