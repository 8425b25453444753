"""Ten components along a spiral in the plane."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from ..core.shapes import Float
from .mixture import Mixture, MixtureTestbed, MixtureWorld

COMPONENTS = 10


def spiral_component(index: Float[Tensor, " k"]) -> tuple[Float[Tensor, "k 2"], Float[Tensor, "k 2 2"]]:
    """m_k and C_k of the components with these indices, float64; from 10 on they continue the :class:`Spiral`."""
    radius, angle = 0.45 + 0.14 * index, 1.15 * index
    means = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()], 1), torch.stack([angle.sin(), angle.cos()], 1)], 1)
    return means, turn @ torch.diag(torch.tensor([0.18, 0.09], dtype=torch.float64) ** 2) @ turn.mT


@dataclass(frozen=True)
class Spiral(MixtureTestbed):
    """Ten elliptic components along a spiral, some of which overlap; every third is the concept (pi = 0.3).

    Equation:
        p(x) = 1/10 sum_k N(x; m_k, C_k),   m_k = (0.45 + 0.14 k) (cos 1.15 k, sin 1.15 k),   c: k = 1, 4, 7

    In two dimensions every density can be plotted, so a distribution shift is visible.
    """

    name: ClassVar[str] = "spiral"

    @cached_property
    def world(self) -> MixtureWorld:
        means, covariances = spiral_component(torch.arange(COMPONENTS, dtype=torch.float64))
        membership = torch.zeros(COMPONENTS)
        membership[[1, 4, 7]] = 1
        return MixtureWorld(Mixture.full(torch.ones(COMPONENTS), means, covariances), membership)
