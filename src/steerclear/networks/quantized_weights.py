"""The network with few bits per weight."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor

from ..core.network import Network, Runner
from ..core.settings import whole
from .shared.second_weights import check_weights, running


@dataclass(frozen=True)
class QuantizedWeights(Network):
    """The same network with the weights of its layers rounded to a few levels.

    Equation:
        W' = s round(W / s),   s = max |W| / (2^(bits - 1) - 1)

    Symmetric, with a scale s per output channel (the first dimension of a weight). The rounded weights keep the network's
    dtype: the error is wanted, not a smaller network. Biases, norms and adapters stay as they are.

    Args:
        bits: from 2 to 16.

    Raises:
        InvalidSetting: out of range.
    """

    bits: int = 4

    name: ClassVar[str] = "quantized"
    memory: ClassVar[str] = "one more copy of the weights"
    time: ClassVar[str] = "one forward; the weights are made once"

    def __post_init__(self) -> None:
        whole("bits", self.bits, low=2, high=16)

    @classmethod
    def examples(cls, network: Any) -> tuple[Self, ...]:
        return (cls(3),)

    def check(self, pipe: Any, network: Any) -> None:
        check_weights(network)

    def attached(self, pipe: Any, network: Any) -> AbstractContextManager[Runner]:
        return running(network, self.changed_weight)

    def changed_weight(self, path: str, weight: Tensor) -> Tensor:
        """The second weight of the layer ``path``."""
        largest = weight.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True)
        scale = (largest / (2 ** (self.bits - 1) - 1)).clamp(min=1e-30)  # a channel of zeros stays one
        return (weight / scale).round() * scale
