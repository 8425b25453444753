"""Two trees in the plane whose twigs interleave: a world that small networks learn with visible faults.

In the spirit of figure 1 of Karras et al. (2024, arXiv 2406.02507), with a drawing of our own. The faults are measured
against the truth by :func:`outlier_rate` and :func:`branch_coverage`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import ClassVar

import torch
from torch import Tensor

from ..core.errors import InvalidSetting, TooFewSamples
from ..core.settings import whole
from ..core.shapes import Float, Int, PerImage, Shaped
from .mixture import Mixture, MixtureTestbed, MixtureWorld

LENGTH, SHORTER = 0.5, 0.78
"""Length of a trunk, and of a branch as a share of its parent's."""
TURN = 0.62
"""Angle between a branch and its parent, in radians, before the irregularity."""
IRREGULAR = 0.45
"""Range of the irregularity of lengths and angles, as a share of them."""
THICKNESS = 0.02
"""Standard deviation across a trunk; it shrinks as lengths do."""
FAINTER = 0.5
"""Probability of a branch as a share of its parent's; two of them have as much as their parent."""
ROOTS = ((-0.26, -1.2, math.pi / 2), (0.26, 1.2, -math.pi / 2))
"""Where each trunk begins, and its direction."""
GOLDEN = (math.sqrt(5) - 1) / 2

NO_CLASS = 2
"""The label of the whole, beside 0 and 1, the classes."""
THRESHOLD_DRAWS, THRESHOLD_SEED = 100_000, 1_500_000_000
"""Exact draws from which the contour is found, so that the share outside of it is known to .0003; their seed."""
AT_ONCE = 512
"""Samples whose densities are computed at once: many more do not fit into a processor's cache."""
OUTSIDE = 0.01
"""Share of the mass outside of the contour."""
COVERED = 0.5
"""A branch is covered by at least this share of the samples that it should have."""


@dataclass(frozen=True)
class Limb:
    """One branch of a tree, a segment.

    Attributes:
        begin, end: its ends.
        depth: 0 for the trunk.
    """

    begin: tuple[float, float]
    end: tuple[float, float]
    depth: int


def limbs(root: tuple[float, float, float], depth: int, phase: float) -> list[Limb]:
    """A tree's branches, a parent before its children.

    Args:
        root: where the trunk begins, and its direction in radians.
        depth: generations of branches, the trunk among them.
        phase: of the irregularity, so that two trees differ.
    """
    turns = (math.modf(phase + count * GOLDEN)[0] - 0.5 for count in range(1, 2 ** (depth + 2)))

    def grow(x: float, y: float, angle: float, level: int) -> Iterator[Limb]:
        if level == depth:
            return
        length = LENGTH * SHORTER**level * (1 + IRREGULAR * next(turns))
        end = x + length * math.cos(angle), y + length * math.sin(angle)
        yield Limb((x, y), end, level)
        for side in (1, -1):
            turned = angle + side * TURN * (1 + IRREGULAR * next(turns))
            yield from grow(*end, turned, level + 1)

    return list(grow(*root, 0))


@dataclass(frozen=True)
class Fractal(MixtureTestbed):
    """Two trees whose crowns interleave, each a recursion of branches that become shorter, thinner and fainter.

    Equation:
        p(x) = 1/2 p(x | first) + 1/2 p(x | second),   c: the second tree
        p(x | tree) ~ sum over branches b at depth d of .5^d 1/K sum_k N(x; m_bk, C_bk)

    A branch is K components along its segment, as long as the distance between two of them and thinner across. A twig is a
    sixteenth as likely as the trunk and a third as thick, so small networks blur them and put samples between them.

    Args:
        depth: generations of branches, the trunk among them, at least 1.
        components: components per branch, at least 1.

    Raises:
        InvalidSetting: a number is below its minimum.
    """

    depth: int = 5
    components: int = 6

    name: ClassVar[str] = "fractal"

    def __post_init__(self) -> None:
        whole("depth", self.depth, low=1, high=9)
        whole("components", self.components, low=1)

    @cached_property
    def trees(self) -> tuple[list[Limb], list[Limb]]:
        """The branches of each class."""
        first, second = (limbs(root, self.depth, phase) for root, phase in zip(ROOTS, (0.1, 0.53), strict=True))
        return first, second

    @cached_property
    def classes(self) -> tuple[Mixture, Mixture]:
        """p(x | first) and p(x | second). Components of a branch follow one another, in the order of ``trees``."""
        first, second = (_mixture(tree, self.components) for tree in self.trees)
        return first, second

    @cached_property
    def world(self) -> MixtureWorld:
        first, second = self.classes
        assert first.axes is not None  # as `_mixture` makes them
        assert second.axes is not None
        both = Mixture(
            torch.cat([first.log_weights, second.log_weights]) - math.log(2), torch.cat([first.means, second.means]),
            torch.cat([first.variances, second.variances]), torch.cat([first.axes, second.axes]),
        )  # fmt: skip
        membership = torch.cat([torch.zeros(len(first.means)), torch.ones(len(second.means))])
        return MixtureWorld(both, membership)

    def of(self, label: int) -> Mixture:
        """p(x | class) of class 0 or 1; the whole for :data:`NO_CLASS`.

        Raises:
            InvalidSetting: another label.
        """
        if label not in (0, 1, NO_CLASS):
            raise InvalidSetting("label", label, f"0 or 1, the trees, or {NO_CLASS}, both of them")
        return self.world.full if label == NO_CLASS else self.classes[label]

    def branch_of(self, samples: Float[Tensor, "batch 2"], label: int) -> tuple[Int[Tensor, " batch"], PerImage]:
        """The likeliest branch of each clean sample, and its log p(x | class) (of the whole for :data:`NO_CLASS`).

        Branches are numbered as in ``trees``, those of the second behind those of the first if both are asked for.
        """
        mixture, found, density = self.of(label), [], []
        for some in samples.split(AT_ONCE):
            joint = mixture.log_joint(some, 1.0, 0.0)
            found.append(joint.unflatten(1, (-1, self.components)).logsumexp(2).argmax(1))
            density.append(joint.logsumexp(1))
        return torch.cat(found), torch.cat(density)


def _mixture(tree: list[Limb], components: int) -> Mixture:
    """Each branch as ``components`` Gaussians along it."""
    begin, end = (torch.tensor([getattr(limb, at) for limb in tree], dtype=torch.float64) for at in ("begin", "end"))
    depth = torch.tensor([limb.depth for limb in tree], dtype=torch.float64)
    places = (torch.arange(components, dtype=torch.float64) + 0.5) / components
    means = (begin[:, None] + places[:, None] * (end - begin)[:, None]).flatten(0, 1)
    along = (end - begin) / (end - begin).norm(dim=1, keepdim=True)
    across = torch.stack([-along[:, 1], along[:, 0]], 1)
    axes = torch.stack([along, across], 2).repeat_interleave(components, 0)
    spread = (end - begin).norm(dim=1) / components * 0.6, THICKNESS * SHORTER**depth
    variances = torch.stack(spread, 1).square().repeat_interleave(components, 0)
    weights = (FAINTER**depth).repeat_interleave(components)
    return Mixture((weights / weights.sum()).log(), means, variances, axes)


@dataclass(frozen=True, eq=False)
class Contour:
    """What exact draws say: the contour that holds 99 % of the mass, and the branches' shares of the draws inside it.

    Attributes:
        level: log density on the contour.
        shares: of all draws, those inside the contour that are nearest to each branch, ``[branches]``; they sum to .99.
    """

    level: float
    shares: Float[Tensor, " branches"]


@cache
def contour(fractal: Fractal, label: int = NO_CLASS) -> Contour:
    """The contour of a class, or of the whole, from :data:`THRESHOLD_DRAWS` exact draws."""
    generator = torch.Generator().manual_seed(THRESHOLD_SEED)
    branch, density = fractal.branch_of(fractal.of(label).drawn(THRESHOLD_DRAWS, generator), label)
    level = float(density.quantile(OUTSIDE))
    count = sum(len(tree) for tree in fractal.trees) if label == NO_CLASS else len(fractal.trees[label])
    shares = torch.bincount(branch[density >= level], minlength=count).double() / THRESHOLD_DRAWS
    return Contour(level, shares)


def outlier_threshold(fractal: Fractal, label: int = NO_CLASS) -> float:
    """The log density on the contour that holds 99 % of the mass of a class, or of the whole."""
    return contour(fractal, label).level


def tally(
    samples: Float[Tensor, "batch 2"], fractal: Fractal, label: int = NO_CLASS
) -> Int[Tensor, " one_and_branches"]:
    """How many samples are outside of the contour, and how many inside it are nearest to each branch.

    Args:
        samples: clean ones, ``[batch, 2]``, at least one.
        fractal: the world.
        label: 0 or 1 for samples of a class, :data:`NO_CLASS` for those of the whole.

    Raises:
        TooFewSamples: there are none.
        InvalidSetting: another label.
    """
    if not len(samples):
        raise TooFewSamples("a tally of branches", 0, 1)
    truth = contour(fractal, label)
    branch, density = fractal.branch_of(samples.double(), label)
    inside = density >= truth.level  # a sample that is not finite is outside
    counted = torch.bincount(branch[inside], minlength=len(truth.shares))
    return torch.cat([(~inside).sum()[None], counted])


def coverage_of(counts: Shaped[Tensor, "*sets one_and_branches"], shares: Float[Tensor, " branches"]) -> Tensor:
    """The share of branches that have at least :data:`COVERED` of the samples that they should have, per tally."""
    due = shares * counts.sum(-1, keepdim=True)
    return (counts[..., 1:] >= COVERED * due).double().mean(-1)


def outlier_rate(samples: Float[Tensor, "batch 2"], fractal: Fractal, label: int = NO_CLASS) -> float:
    """The share of samples outside of the contour that holds 99 % of the mass; of exact draws it is .01.

    Arguments and errors as :func:`tally`.
    """
    return float(tally(samples, fractal, label)[0] / len(samples))


def branch_coverage(samples: Float[Tensor, "batch 2"], fractal: Fractal, label: int = NO_CLASS) -> float:
    """The share of branches that have at least half of the samples that they should have, outliers not counted, in [0, 1].

    All branches count alike, the faintest twig as much as the trunk. Of a few thousand exact draws it is 1, but of fewer it is
    less, since a twig has one sample in 80. Arguments and errors as :func:`tally`.
    """
    return float(coverage_of(tally(samples, fractal, label), contour(fractal, label).shares))
