"""Shared arithmetic, per image and in float32 or better."""

import math

import torch
from torch import Tensor

from .shapes import PerImage, Prediction, Shaped


def wide(tensor: Tensor) -> Tensor:
    """The tensor in float32, or in float64 if it is that already."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def dot(left: Prediction, right: Prediction) -> PerImage:
    """Inner product of each image: the sum over all dimensions but the batch.

    >>> dot(torch.ones(2, 3), torch.tensor([[1.0, 2, 3], [0, 0, 1]])).tolist()
    [6.0, 1.0]
    """
    return (wide(left) * wide(right)).flatten(1).sum(1)


def norm(tensor: Prediction) -> PerImage:
    """Euclidean norm of each image.

    >>> norm(torch.tensor([[3.0, 4.0]])).tolist()
    [5.0]
    """
    return dot(tensor, tensor).sqrt()


def parallel(push: Prediction, along: Prediction) -> Prediction:
    """The part of a push that lies along a direction, per image: ``<push, along> / |along|^2 along``, 0 where ``along`` is 0.

    Args:
        push, along: ``[batch, ...]``, of one shape. The length of ``along`` has no effect.

    Returns:
        float32, or float64 if one of the two is.

    >>> parallel(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0]])).tolist()
    [[3.0, 0.0]]
    """
    longest = wide(along).flatten(1).abs().amax(1)
    unit = wide(along) / over_images(torch.where(longest > 0, longest, 1), wide(along))  # no square under- or overflows
    squared = dot(unit, unit)
    share = dot(push, unit) / torch.where(squared > 0, squared, 1)
    return over_images(share, wide(push)) * unit


def orthogonal(push: Prediction, along: Prediction) -> Prediction:
    """A push without its part :func:`parallel` to a direction.

    >>> orthogonal(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0]])).tolist()
    [[0.0, 4.0]]
    """
    return wide(push) - parallel(push, along)


def over_images(
    values: Shaped[Tensor, " batch"], like: Shaped[Tensor, "batch *shape"]
) -> Shaped[Tensor, "batch *ones"]:
    """One number per image, shaped and cast to multiply ``like``."""
    return values.to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))


def standard_deviation(tensor: Prediction) -> PerImage:
    """Standard deviation of each image over all dimensions but the batch (Bessel's correction, as in diffusers)."""
    return wide(tensor).flatten(1).std(1)


def rescaled(guided: Prediction, conditional: Prediction, amount: float) -> Prediction:
    """Bring the standard deviation of each image back to the conditional's (Lin et al. 2023, arXiv 2305.08891, eq. 15, 16).

    Args:
        guided, conditional: predictions, ``[batch, ...]``.
        amount: 0 leaves ``guided`` as it is, 1 rescales it fully.
    """
    if amount == 0:
        return guided
    factor = over_images(standard_deviation(conditional) / standard_deviation(guided), guided)
    return amount * (guided * factor) + (1 - amount) * guided


def logit(probability: float) -> float:
    """log(p / (1 - p)) for 0 < p < 1.

    >>> logit(0.5)
    0.0
    """
    return math.log(probability) - math.log1p(-probability)
