"""A testbed in one file: a mixture of Gaussians on a line."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from steerclear.testbeds.mixture import Mixture, MixtureTestbed, MixtureWorld


@dataclass(frozen=True)
class TwoPoints(MixtureTestbed):
    """Two narrow clusters on a line; the right one is the concept.

    Equation:
        p(x) = 3/4 N(x; -1, 0.01) + 1/4 N(x; 1, 0.01)
    """

    name: ClassVar[str] = "two-points"

    @property
    def world(self) -> MixtureWorld:
        means = torch.tensor([[-1.0], [1.0]])
        return MixtureWorld(Mixture.isotropic([3, 1], means, 0.1), torch.tensor([0.0, 1.0]))
