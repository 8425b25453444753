"""Noise levels, and the four spaces in which a network may predict.

A noisy sample is x_t = alpha * x_0 + sigma * noise. A network predicts one of

    epsilon           noise
    v_prediction      (alpha * noise - sigma * x_0) / sqrt(alpha^2 + sigma^2)     (Salimans and Ho 2022)
    sample            x_0
    flow_prediction   noise - x_0                                   (Lipman et al. 2023, Liu et al. 2023)

Given x_t, alpha and sigma each determines the others by an affine map, so linear guidances whose coefficients sum to one
are the same in all four. alpha and sigma may be numbers or one tensor entry per image. For variance-exploding samplers
alpha is 1, and v is that of the sample rescaled to unit variance, as in diffusers' schedulers.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from .errors import InvalidSetting
from .shapes import Prediction

PredictionType = Literal["epsilon", "v_prediction", "sample", "flow_prediction"]
PREDICTION_TYPES: tuple[str, ...] = get_args(PredictionType)

Level = float | Tensor
"""alpha or sigma: one number, or one per image (shape ``[batch]``)."""


def per_image(level: Level, like: Tensor) -> Level:
    """A level shaped to broadcast over images.

    >>> per_image(torch.ones(2), torch.zeros(2, 3, 4)).shape
    torch.Size([2, 1, 1])
    """
    if isinstance(level, Tensor) and level.ndim:
        return level.to(like).reshape(-1, *[1] * (like.ndim - 1))
    return float(level)


def _divide(numerator: Tensor, denominator: Level) -> Tensor:
    """``numerator / denominator``, and 0 where the denominator is 0 (see :func:`to_denoised`)."""
    if isinstance(denominator, Tensor):
        safe = torch.where(denominator == 0, torch.ones_like(denominator), denominator)
        return torch.where(denominator == 0, torch.zeros_like(numerator), numerator / safe)
    return numerator / denominator if denominator != 0 else torch.zeros_like(numerator)


def _size(alpha: Level, sigma: Level) -> Level:
    if isinstance(alpha, Tensor) or isinstance(sigma, Tensor):
        return torch.sqrt(torch.as_tensor(alpha) ** 2 + torch.as_tensor(sigma) ** 2)
    return math.hypot(alpha, sigma)


def check_prediction_type(prediction_type: str) -> None:
    """Raises :class:`InvalidSetting` unless the type is one of the four."""
    if prediction_type not in PREDICTION_TYPES:
        raise InvalidSetting("prediction_type", prediction_type, f"one of {', '.join(PREDICTION_TYPES)}")


def to_denoised(
    prediction: Prediction, sample: Prediction, alpha: Level, sigma: Level, prediction_type: str
) -> Prediction:
    """The x_0 that a prediction implies.

    Args:
        prediction: the network's output, in its own space, shape ``[batch, ...]``.
        sample: x_t, same shape.
        alpha, sigma: x_t = alpha * x_0 + sigma * noise; non-negative, not both 0.
        prediction_type: the network's space.

    Returns:
        x_0 in the prediction's dtype. At alpha = 0, where a noise prediction says nothing about the image, it is 0, the
        mean of normalized data.

    >>> x = torch.tensor([[3.0]])
    >>> float(to_denoised(torch.tensor([[1.0]]), x, 0.5, 2.0, "epsilon"))
    2.0
    """
    check_prediction_type(prediction_type)
    if prediction_type == "sample":
        return prediction
    alpha, sigma = per_image(alpha, sample), per_image(sigma, sample)
    if prediction_type == "epsilon":
        return _divide(sample - sigma * prediction, alpha)
    if prediction_type == "v_prediction":
        size = _size(alpha, sigma)
        return (alpha / size**2) * sample - (sigma / size) * prediction
    return (sample - sigma * prediction) / (alpha + sigma)


def to_noise(
    prediction: Prediction, sample: Prediction, alpha: Level, sigma: Level, prediction_type: str
) -> Prediction:
    """The noise that a prediction implies; arguments as :func:`to_denoised`. 0 at sigma = 0 from a sample prediction.

    >>> x = torch.tensor([[3.0]])
    >>> float(to_noise(torch.tensor([[2.0]]), x, 0.5, 2.0, "sample"))
    1.0
    """
    check_prediction_type(prediction_type)
    if prediction_type == "epsilon":
        return prediction
    alpha, sigma = per_image(alpha, sample), per_image(sigma, sample)
    if prediction_type == "sample":
        return _divide(sample - alpha * prediction, sigma)
    if prediction_type == "v_prediction":
        size = _size(alpha, sigma)
        return (sigma / size**2) * sample + (alpha / size) * prediction
    return (sample + alpha * prediction) / (alpha + sigma)


def from_denoised(
    denoised: Prediction, sample: Prediction, alpha: Level, sigma: Level, prediction_type: str
) -> Prediction:
    """The inverse of :func:`to_denoised`. At sigma = 0 the noise is unknown and taken as 0.

    >>> x, v = torch.tensor([[3.0]]), torch.tensor([[0.7]])
    >>> round(float(from_denoised(to_denoised(v, x, 0.6, 0.8, "v_prediction"), x, 0.6, 0.8, "v_prediction")), 6)
    0.7
    """
    check_prediction_type(prediction_type)
    if prediction_type == "sample":
        return denoised
    noise = to_noise(denoised, sample, alpha, sigma, "sample")
    if prediction_type == "epsilon":
        return noise
    alpha, sigma = per_image(alpha, sample), per_image(sigma, sample)
    if prediction_type == "v_prediction":
        return (alpha * noise - sigma * denoised) / _size(alpha, sigma)
    return noise - denoised


def noise_per_prediction(alpha: Level, sigma: Level, prediction_type: str) -> Level:
    """The derivative of the implied noise by the prediction.

    The maps are affine, so this factor turns a difference of predictions into one of noises, the unit of norms and inner
    products in tracking.

    >>> noise_per_prediction(0.6, 0.8, "v_prediction"), noise_per_prediction(0.6, 0.8, "epsilon")
    (0.6, 1.0)
    """
    check_prediction_type(prediction_type)
    if prediction_type == "epsilon":
        return 1.0
    if prediction_type == "v_prediction":
        return alpha / _size(alpha, sigma)
    if prediction_type == "flow_prediction":
        return alpha / (alpha + sigma)
    if isinstance(sigma, Tensor):
        return torch.where(sigma == 0, torch.zeros_like(sigma), -alpha / sigma.clamp(min=torch.finfo(sigma.dtype).tiny))
    return -alpha / sigma if sigma != 0 else 0.0
