"""A second classifier of portraits, which shares neither weights nor training portraits with the one that ships with a model.

Who flags images and who measures them can so be two: images that were chosen by one classifier are counted by the other.
"""

from pathlib import Path

import torch.nn.functional as F
from torch import nn

from ..core.shapes import Float, Tensor
from ..core.sums import check_sums
from ..features.portrait_classifier import AttributeClassifier

SECOND_CLASSIFIER = "second_classifier.safetensors"
"""Its file, in float16."""

WEIGHTS_FOLDER = Path(__file__).parent / "weights"
"""Where its file lies with its digest. Not in a model's folder, whose digest says which model made an image."""

SECOND_FEATURES = 96
CHANNELS = (24, 48, 64)
GROUPS = 8


class _Residual(nn.Module):
    """x + f(x), with f two convolutions behind group normalizations (He et al. 2016, arXiv 1603.05027); may halve the size."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first_norm, self.second_norm = nn.GroupNorm(GROUPS, inputs), nn.GroupNorm(GROUPS, outputs)
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.skip = nn.Sequential(nn.AvgPool2d(stride), nn.Conv2d(inputs, outputs, 1)) if stride > 1 else nn.Identity()

    def forward(
        self, images: Float[Tensor, "batch inputs height width"]
    ) -> Float[Tensor, "batch outputs lower narrower"]:
        hidden = self.first(F.silu(self.first_norm(images)))
        return self.skip(images) + self.second(F.silu(self.second_norm(hidden)))


class SecondClassifier(AttributeClassifier):
    """A residual network with group normalization, a stem of 6 x 6 pixels and average pooling; 96 features."""

    remedy = "install steerclear again"

    def __init__(self) -> None:
        fine, middle, coarse = CHANNELS
        body = nn.Sequential(
            nn.Conv2d(3, fine, 6, 2, 2), _Residual(fine, middle, 2), _Residual(middle, coarse, 2), _Residual(coarse, coarse),
            nn.GroupNorm(GROUPS, coarse), nn.SiLU(), nn.AvgPool2d(2), nn.Flatten(),
            nn.Linear(16 * coarse, SECOND_FEATURES), nn.SiLU(),
        )  # fmt: skip
        super().__init__(body, SECOND_FEATURES)


def second_classifier(folder: Path = WEIGHTS_FOLDER) -> SecondClassifier:
    """The second classifier, from the folder of its file and its digest.

    Raises:
        UnsupportedModel: its file is missing, damaged or of another network.
    """
    check_sums("the second classifier of portraits", folder)
    return SecondClassifier.load(folder / SECOND_CLASSIFIER)
