"""What a classifier of portraits learns from: portraits as drawn and through an autoencoder, with noise."""

from collections.abc import Callable

import torch

from ..core.shapes import Tensor, UInt8
from ..features.portrait_classifier import AttributeClassifier, classification_loss
from ..testbeds.portraits.attributes import Attributes
from .data import to_model

LARGEST_NOISE = 0.05
"""Largest standard deviation of the noise of the pixels, which are in [-1, 1]; each image has its own, down to 0."""


def classifier_loss(
    model: AttributeClassifier, images: UInt8[Tensor, "images 3 64 64"], rebuilt: UInt8[Tensor, "rebuilt 3 64 64"],
    attributes: Attributes, batch_size: int, device: str,
) -> Callable[[int, torch.Generator], Tensor]:  # fmt: skip
    """The loss of a step, for :func:`~.loop.train`: half of a batch is portraits as drawn, half went through an autoencoder.

    Args:
        model: the classifier.
        images: the portraits as drawn.
        rebuilt: the first of them, as an autoencoder gives them back.
        attributes: of all portraits.
        batch_size: images per step.
        device: where the model is.
    """
    half = batch_size // 2

    def loss(step: int, generator: torch.Generator) -> Tensor:
        true = torch.randint(len(images), (half,), generator=generator)
        again = torch.randint(len(rebuilt), (half,), generator=generator)
        pixels = to_model(torch.cat([images[true], rebuilt[again]]))
        strength = LARGEST_NOISE * torch.rand(len(pixels), 1, 1, 1, generator=generator)
        pixels = pixels + strength * torch.randn(pixels.shape, generator=generator)
        rows = torch.cat([true, again])
        shown = {name: column[rows].to(device) for name, column in attributes.items()}
        return classification_loss(model(pixels.to(device)), shown)

    return loss
