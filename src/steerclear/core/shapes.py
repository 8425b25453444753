"""Names for the shapes used everywhere, checked under tests and free otherwise.

``@shaped`` checks the annotations of a function with jaxtyping and beartype when the environment
variable ``STEERCLEAR_CHECK_SHAPES`` is 1, as the test suite sets it; else it returns the function as it is.
"""

import os
from collections.abc import Callable
from typing import TypeVar

from jaxtyping import Bool, Float, Int, UInt8, jaxtyped
from torch import Tensor

__all__ = ["Bool", "Float", "Int", "PerImage", "Prediction", "Tensor", "UInt8", "shaped"]

PerImage = Float[Tensor, " batch"]
"""One number per image."""

Prediction = Float[Tensor, "batch *shape"]
"""One tensor per image: a sample, a network's prediction, a denoised image."""

Function = TypeVar("Function", bound=Callable)


def shaped(function: Function) -> Function:
    """Check a function's tensor shapes when checking is switched on."""
    if os.environ.get("STEERCLEAR_CHECK_SHAPES") != "1":
        return function
    from beartype import beartype

    return jaxtyped(function, typechecker=beartype)  # type: ignore[return-value]  # the same function, checked
