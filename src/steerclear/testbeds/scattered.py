"""Round components at random places, in any number of dimensions."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch

from ..core.settings import whole
from .mixture import Mixture, MixtureTestbed, MixtureWorld


@dataclass(frozen=True)
class Scattered(MixtureTestbed):
    """Round components at random places; a quarter of them are the concept.

    Equation:
        p(x) = sum_k w_k N(x; m_k, I / 4),   m_k ~ N(0, 0.64 I),   w_k ~ U(0.5, 1.5),   c: k = 1, 5, 9, ...

    Args:
        dimension: numbers per image, at least 1.
        components: number of components, at least 2.
        seed: seed of the places and the weights, at least 0.

    Raises:
        InvalidSetting: a number is below its minimum.
    """

    dimension: int = 64
    components: int = 12
    seed: int = 0

    name: ClassVar[str] = "scattered"

    def __post_init__(self) -> None:
        whole("dimension", self.dimension, low=1)
        whole("components", self.components, low=2)
        whole("seed", self.seed, low=0)

    @cached_property
    def world(self) -> MixtureWorld:
        generator = torch.Generator().manual_seed(self.seed)
        means = torch.randn(self.components, self.dimension, generator=generator, dtype=torch.float64)
        weights = 0.5 + torch.rand(self.components, generator=generator, dtype=torch.float64)
        membership = (torch.arange(self.components) % 4 == 1).double()
        return MixtureWorld(Mixture.isotropic(weights, 0.8 * means, 0.5), membership)
