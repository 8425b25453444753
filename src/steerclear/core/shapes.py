"""Names for the shapes in signatures. They cost nothing; the tests check them in the whole package (``tests/shapes.py``)."""

from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor

__all__ = ["Bool", "Float", "Int", "PerImage", "Prediction", "Shaped", "Tensor", "UInt8"]

PerImage = Float[Tensor, " batch"]
"""One number per image."""

Prediction = Float[Tensor, "batch *shape"]
"""One tensor per image: a sample, a network's prediction, a denoised image."""
