"""The classifier of labelled images: what class an image shows, and its features."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ..core.errors import NotFiniteError, UnsupportedModel
from ..core.saving import save_whole
from ..core.shapes import Float, Tensor, UInt8

LABEL_CLASSIFIER = "classifier.safetensors"
"""Its file in a model's folder."""
FEATURES = 64
BATCH = 256


class LabelClassifier(nn.Module):
    """Convolutions with batch normalization, 64 features, one logit a class.

    Args:
        channels: 1 for gray images, 3 for color.
        classes: how many there are.
    """

    feature_scale: Tensor

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
            convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

        self.body = nn.Sequential(
            *block(channels, 32, 1), *block(32, 32, 2), *block(32, 64, 1), *block(64, 64, 2), *block(64, 96, 1),
            *block(96, 96, 2), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(96 * 4, FEATURES), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(FEATURES, classes)
        self.register_buffer("feature_scale", torch.ones(()))

    def forward(self, pixels: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Logits of images in [-1, 1]."""
        return self.head(self.body(pixels))

    @torch.no_grad()
    def set_feature_scale(self, images: UInt8[Tensor, "n channels height width"]) -> None:
        """Divide features so that their mean variance over these images is 1."""
        features = torch.cat([self.body(pixels_of(some)) for some in images.split(BATCH)])
        self.feature_scale.copy_(features.var(0).mean().sqrt())

    def save(self, path: Path) -> None:
        tensors = {name: value.contiguous() for name, value in self.state_dict().items()}
        save_whole(path, lambda to: save_file(tensors, to))

    @classmethod
    def load(cls, path: Path) -> "LabelClassifier":
        """The classifier of a file.

        Raises:
            UnsupportedModel: the file is missing, damaged, or not such a classifier.
        """
        try:
            weights = load_file(path)
            channels, classes = weights["body.0.weight"].shape[1], weights["head.weight"].shape[0]
            model = cls(channels, classes)
            model.load_state_dict(
                {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
            )
        except (OSError, SafetensorError, KeyError, IndexError, RuntimeError) as error:
            what: Any = str(error).splitlines()[0][:100]
            raise UnsupportedModel(
                f"the classifier {path} cannot be read ({what}); make it with `steerclear train digits`."
            ) from error
        return model.eval()


def pixels_of(images: UInt8[Tensor, "n channels height width"]) -> Float[Tensor, "n channels height width"]:
    """Values in [-1, 1]."""
    return images.float() / 127.5 - 1


@torch.no_grad()
def classify(
    model: LabelClassifier, images: UInt8[Tensor, "n channels height width"]
) -> tuple[Float[Tensor, "n classes"], Float[Tensor, "n features"]]:
    """Probabilities by class, and features divided by ``feature_scale``.

    Args:
        model: the classifier.
        images: with the channels of the classifier, or three equal ones for one.

    Raises:
        NotFiniteError: the classifier gives NaN or infinity.
    """
    channels = model.body[0].weight.shape[1]  # type: ignore[union-attr,index]
    sure, features = [torch.empty(0, model.head.out_features)], [torch.empty(0, FEATURES)]
    for some in images.split(BATCH):
        own = some.float().mean(1, keepdim=True) if channels == 1 and some.shape[1] == 3 else some.float()
        feature = model.body(own / 127.5 - 1)
        logits = model.head(feature)
        if not logits.isfinite().all():
            raise NotFiniteError(
                "the classifier's output",
                "for these images",
                "Its file is damaged; make it again with `steerclear train digits`.",
            )
        sure.append(logits.softmax(1))
        features.append(feature / model.feature_scale)
    return torch.cat(sure), torch.cat(features)
