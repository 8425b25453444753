"""The pixels themselves, as features that need no network."""

import hashlib
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..core.features import Features
from ..core.settings import whole
from ..core.shapes import Float, Tensor, UInt8

BATCH = 256


@dataclass(frozen=True)
class PixelFeatures(Features):
    """The colors of an image shrunk to a few pixels, in [0, 1].

    They tell composition and color apart, and know nothing of what is shown: a moved object is as far as another one.

    Args:
        size: of the shrunk image: its rows and columns, 1 to 64.
        gray: keep brightness alone.
    """

    name = "pixels"

    size: int = 32
    gray: bool = False

    def __post_init__(self) -> None:
        whole("size", self.size, low=1, high=64)

    @property
    def described(self) -> str:
        return f"{'brightness' if self.gray else 'colors'} of images shrunk to {self.size} x {self.size} pixels"

    @property
    def key(self) -> str:
        return hashlib.sha256(f"pixels 1 {self.size} {self.gray}".encode()).hexdigest()[:32]

    def of(self, images: UInt8[Tensor, "n 3 height width"]) -> Float[Tensor, "n numbers"]:
        colors = 1 if self.gray else images.shape[1]
        return torch.cat([torch.empty(0, colors * self.size**2), *(self._of(some) for some in images.split(BATCH))])

    def _of(self, images: Tensor) -> Tensor:
        values = images.float() / 255
        values = values.mean(1, keepdim=True) if self.gray else values
        return F.interpolate(values, (self.size, self.size), mode="bilinear", antialias=True).flatten(1)
