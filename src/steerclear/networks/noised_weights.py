"""The network with noise on its weights."""

import zlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ..core.network import Network, Runner
from ..core.seeds import mixed
from ..core.settings import finite, whole
from .shared.copies import without_adapters
from .shared.second_weights import check_weights, running


@dataclass(frozen=True)
class NoisedWeights(Network):
    """The same network with Gaussian noise on the weights of its layers.

    Equation:
        W' = W + strength std(W) e,   e ~ N(0, 1)

    std(W) is the standard deviation of that layer's weight. Biases, norms and adapters stay as they are. The noise comes
    from the seed and the layer's path, on the CPU: it is the same on every device, with LoRA and without.

    Args:
        strength: relative to each weight's spread; at least 0.
        seed: of the noise, at least 0.

    Raises:
        InvalidSetting: out of range.
    """

    strength: float = 0.1
    seed: int = 0

    name: ClassVar[str] = "noised"
    memory: ClassVar[str] = "one more copy of the weights"
    time: ClassVar[str] = "one forward; the weights are made once"

    def __post_init__(self) -> None:
        finite("strength", self.strength, low=0)
        whole("seed", self.seed, low=0)

    @classmethod
    def examples(cls, network: Any) -> tuple[Self, ...]:
        return (cls(0.2, 4),)

    def check(self, pipe: Any, network: Any) -> None:
        check_weights(network)

    def idle(self, network: Any) -> str | None:
        return "its strength is 0" if self.strength == 0 else None

    def attached(self, pipe: Any, network: Any) -> AbstractContextManager[Runner]:
        return running(network, self.changed_weight)

    def changed_weight(self, path: str, weight: Tensor) -> Tensor:
        """The second weight of the layer ``path``."""
        key = mixed(self.seed, zlib.crc32(without_adapters(path).encode()))
        generator = torch.Generator().manual_seed(key % 2**32)
        noise = torch.randn(weight.shape, generator=generator).to(weight.device)
        return weight + self.strength * weight.std() * noise
