"""Images of which a part is spoiled, and a part of those is captioned so: a world for "low quality" as a negative prompt.

Captions on the web name what is bad about some bad images and say nothing about the others. So a model learns what "bad" looks
like, and it learns to draw bad images for a prompt that does not mention quality.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from ..core.errors import InvalidSetting
from ..core.settings import finite, whole
from ..core.shapes import Bool, Float, Int, Tensor, UInt8

BLUR = 1.6
"""Standard deviation of the blur, in pixels."""
BARS, THICKNESS, REACH = 3, 2.6, 7.0
"""Gaps in the strokes of an image: how many, how wide, and how far from the middle, in pixels."""
AT_ONCE = 4096
BAD = "bad"
"""The word before a class, in the name of its spoiled images."""


@dataclass(frozen=True)
class Spoiling:
    """Which images are spoiled, and how: half of them are blurred, the strokes of the others are broken.

    Everything about image k follows from the seed and k alone: not from how many images there are.

    Args:
        share: of the images that are spoiled, in [0, 1].
        told: share of the spoiled images whose caption says so, in [0, 1].
        seed: determines which, and where strokes break; another for each split.

    Raises:
        InvalidSetting: a share is outside [0, 1], or the seed is negative.
    """

    share: float = 0.3
    told: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        finite("share", self.share, low=0, high=1)
        finite("told", self.told, low=0, high=1)
        whole("seed", self.seed, low=0)

    def _draws(self, count: int, of: int, *shape: int) -> np.ndarray:
        return np.random.default_rng([self.seed, of]).random((count, *shape))

    def chosen(self, count: int) -> tuple[Bool[Tensor, " n"], Bool[Tensor, " n"]]:
        """Which of ``count`` images are spoiled, and which of them are captioned so, ``[count]`` each."""
        spoiled = torch.from_numpy(self._draws(count, 0) < self.share)
        return spoiled, spoiled & torch.from_numpy(self._draws(count, 1) < self.told)

    def spoil(self, images: UInt8[Tensor, "n channels size size"]) -> UInt8[Tensor, "n channels size size"]:
        """The images with the chosen ones spoiled."""
        result, (spoiled, _) = images.clone(), self.chosen(len(images))
        blurs = torch.from_numpy(self._draws(len(images), 2) < 0.5)
        bars = torch.from_numpy(self._draws(len(images), 3, BARS, 2)).float()
        for rows in torch.arange(len(images)).split(AT_ONCE):
            soft, torn = rows[spoiled[rows] & blurs[rows]], rows[spoiled[rows] & ~blurs[rows]]
            result[soft] = blurred(images[soft])
            result[torn] = broken(images[torn], bars[torn])
        return result


def blurred(images: UInt8[Tensor, "n channels size size"]) -> UInt8[Tensor, "n channels size size"]:
    """The images under a Gaussian blur of standard deviation :data:`BLUR`; beyond the edge the image goes on as at it.

    Raises:
        InvalidSetting: images smaller than the blur reaches.
    """
    reach = round(3 * BLUR)
    if images.shape[-1] <= reach:
        raise InvalidSetting("size of an image", images.shape[-1], f"more than {reach} pixels, the reach of the blur")
    weights = torch.exp(-torch.arange(-reach, reach + 1).float().square() / (2 * BLUR**2))
    weights = weights / weights.sum()
    channels = images.shape[1]
    pixels = F.pad(images.float(), (reach,) * 4, mode="replicate")
    pixels = F.conv2d(pixels, weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    pixels = F.conv2d(pixels, weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return pixels.round().clamp(0, 255).to(torch.uint8)


def broken(
    images: UInt8[Tensor, "n channels size size"], bars: Float[Tensor, "n bars 2"]
) -> UInt8[Tensor, "n channels size size"]:
    """The images with straight gaps: each has the value of the upper left pixel, the background of a digit.

    Args:
        images: to break.
        bars: direction and distance from the middle of each gap, in [0, 1): a full turn, and from -:data:`REACH` to it.
    """
    size = images.shape[-1]
    place = torch.arange(size) - (size - 1) / 2
    angle, away = 2 * np.pi * bars[..., 0], REACH * (2 * bars[..., 1] - 1)
    across = angle.cos()[..., None, None] * place + angle.sin()[..., None, None] * place[:, None]
    gap = ((across - away[..., None, None]).abs() < THICKNESS / 2).any(1, keepdim=True)
    return torch.where(gap, images[:, :, :1, :1], images)


def with_bad(classes: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the classes, then those of their spoiled images.

    >>> with_bad(("0", "1"))
    ('0', '1', 'bad 0', 'bad 1')
    """
    return (*classes, *(f"{BAD} {name}" for name in classes))


def labels_of(
    labels: Int[Tensor, " n"], classes: int, spoiling: Spoiling
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """The true labels, and those that captions say: of a spoiled image the label of its class plus ``classes``.

    Args:
        labels: of the classes without spoiling, ``[n]``.
        classes: how many there are.
        spoiling: which images are spoiled, and which are captioned so.
    """
    spoiled, told = spoiling.chosen(len(labels))
    return labels + classes * spoiled, labels + classes * told
