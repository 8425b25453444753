"""Classifiers of the portraits' attributes: what an image shows, and its feature vector; and the one that ships with a model."""

from pathlib import Path
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..core.errors import NotFiniteError, UnsupportedModel
from ..core.shapes import Float, Int, UInt8

CLASSIFIER = "classifier.safetensors"
"""Its file in a model's folder."""

BINARY = ("man", "mustache", "beard", "glasses", "hat", "smile")
CATEGORICAL = {"hair": 5, "skin": 3, "background": 5, "hat_color": 4}
FEATURES = 128
BATCH = 128


class AttributeClassifier(nn.Module):
    """A network that reads the attributes of portraits: 64 x 64 pixels -> features -> logits of all attributes.

    Args:
        body: images in [-1, 1], ``[batch, 3, 64, 64]``, to features, ``[batch, width]``.
        width: how many features it gives.

    Class attributes:
        remedy: what to do if its file is damaged, as a clause.
    """

    remedy: ClassVar[str] = "copy the model again"

    def __init__(self, body: nn.Sequential, width: int) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(width, len(BINARY) + sum(CATEGORICAL.values()))
        self.feature_scale: Tensor
        self.register_buffer("feature_scale", torch.ones(()))

    def forward(self, images: Float[Tensor, "batch 3 64 64"]) -> Float[Tensor, "batch 23"]:
        """Images in [-1, 1], ``[batch, 3, 64, 64]`` -> logits ``[batch, 23]``."""
        return self.head(self.body(images))

    @torch.no_grad()
    def set_feature_scale(self, images: UInt8[Tensor, "images 3 64 64"]) -> None:
        """Make the features' mean variance over these portraits 1, so that distances have a unit."""
        self.feature_scale.fill_(1.0)
        self.feature_scale.copy_(read(self, images)[1].var(0).mean().sqrt())

    def save(self, path: Path) -> None:
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """From its file, as float32. Raises :class:`UnsupportedModel` if it is missing, damaged or of another network."""
        model = cls()  # type: ignore[call-arg]  # each classifier makes its own body
        try:
            weights = load_file(path)
        except (OSError, SafetensorError) as error:
            raise UnsupportedModel(f"the classifier {path} cannot be read ({error}); {cls.remedy}.") from error
        own, found = (
            {name: tuple(value.shape) for name, value in each.items()} for each in (model.state_dict(), weights)
        )
        for name in [*own, *found]:
            if own.get(name) != found.get(name):
                raise UnsupportedModel(
                    f"the classifier {path} is not that of portraits: the shape of its {name} is "
                    f"{found.get(name, 'missing')}, but must be {own.get(name, 'missing')}; {cls.remedy}."
                )
        model.load_state_dict(weights)
        return model.eval()


class PortraitClassifier(AttributeClassifier):
    """The classifier that ships with a model: strided convolutions with batch normalization, 128 features."""

    def __init__(self) -> None:
        def block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
            convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

        body = nn.Sequential(
            *block(3, 16, 2), *block(16, 32, 1), *block(32, 32, 2), *block(32, 64, 1), *block(64, 64, 2),
            *block(64, 96, 1), nn.Conv2d(96, 32, 1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 64, FEATURES), nn.ReLU(),
        )  # fmt: skip
        super().__init__(body, FEATURES)


def split_logits(logits: Float[Tensor, "batch 23"]) -> dict[str, Tensor]:
    """Logits by attribute: ``[batch]`` for a binary one, ``[batch, levels]`` for the others."""
    named = {name: logits[:, column] for column, name in enumerate(BINARY)}
    parts = logits[:, len(BINARY) :].split(list(CATEGORICAL.values()), dim=1)
    return named | dict(zip(CATEGORICAL, parts, strict=True))


def classification_loss(
    logits: Float[Tensor, "batch 23"], attributes: dict[str, Int[Tensor, " batch"]]
) -> Float[Tensor, ""]:
    """Cross-entropy of every attribute; the color of a hat counts only if there is one."""
    named = split_logits(logits.float())
    binary = [F.binary_cross_entropy_with_logits(named[name], attributes[name].float()) for name in BINARY]
    loss = torch.stack(binary).sum()
    for name in CATEGORICAL:
        each = F.cross_entropy(named[name], attributes[name], reduction="none")
        worn = attributes["hat"].float() if name == "hat_color" else torch.ones_like(each)
        loss = loss + 0.3 * (each * worn).sum() / worn.sum().clamp(min=1)
    return loss


@torch.no_grad()
def read(
    model: AttributeClassifier, images: UInt8[Tensor, "batch 3 64 64"]
) -> tuple[dict[str, Int[Tensor, " batch"]], Float[Tensor, "batch width"], dict[str, Tensor]]:
    """What each image shows (integers by attribute), its feature vector, and float32 probabilities by attribute.

    The probabilities are ``[batch]`` of "yes" for a binary attribute, ``[batch, levels]`` for the others. Features are
    divided by ``feature_scale``: over true portraits their mean variance is 1. Runs in batches; image k depends on its
    neighbors only in the last bits of float32.

    Raises:
        NotFiniteError: the classifier gives NaN or infinity, which any rate would count as 0.
    """
    sure: dict[str, list[Tensor]] = {name: [] for name in (*BINARY, *CATEGORICAL)}
    values: dict[str, list[Tensor]] = {name: [] for name in sure}
    features = []
    for some in images.split(BATCH):
        feature = model.body(some.float() / 127.5 - 1)
        features.append(feature / model.feature_scale)
        logits_of_all = model.head(feature)
        if not (logits_of_all.isfinite().all() and features[-1].isfinite().all()):
            raise NotFiniteError("the classifier's output", "for these images", f"Its file is damaged; {model.remedy}.")
        for name, logits in split_logits(logits_of_all).items():
            values[name].append((logits > 0).long() if name in BINARY else logits.argmax(1))
            sure[name].append(logits.sigmoid() if name in BINARY else logits.softmax(1))
    if not features:
        unsure = {name: torch.empty(0, CATEGORICAL[name]) if name in CATEGORICAL else torch.empty(0) for name in sure}
        return (
            {name: torch.empty(0, dtype=torch.long) for name in values},
            torch.empty(0, model.head.in_features),
            unsure,
        )
    attributes = {name: torch.cat(parts) for name, parts in values.items()}
    return attributes, torch.cat(features), {name: torch.cat(parts) for name, parts in sure.items()}
