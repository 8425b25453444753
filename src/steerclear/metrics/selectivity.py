"""Selectivity: which part of what a method changed was the concept."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ..core.errors import TooFewSamples, UnfitFeatures
from .estimates import LEVEL, Estimate, jackknife


def selectivity(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], concepts: Iterable[str], *, beside: Iterable[str] = (),
    level: float = LEVEL,
) -> Estimate | None:  # fmt: skip
    """How much the concept fell, per unit of all that changed between two images of each seed.

        S = F / (F + M)
        F = max(0, share of images that lost the concept - share that gained it), the mean over concepts
        M = share of images in which it changed, the mean over everything else

    1: the concept fell, and nothing else changed in any image. 1/2: a concept that falls by ten points costs one other thing
    a change in a tenth of the images on average. 0: the concept did not fall. "Everything else" goes by attribute: all levels
    of "hair:black", "hair:brown", ... are one thing, which changes when one of them does. Images of one seed are compared, so
    chance adds nothing: a method that changes nothing has M = 0. What a judge errs in differently in both images adds to M.

    Args:
        before, after: name -> one bool, or 0 or 1, per seed, ``[n]``, in the same order; before with the concept not yet
            removed.
        concepts: names of what should fall.
        beside: what else the question asked to change, such as the colors of a hat: names, or attributes for all their levels.
        level: confidence of the interval, in (0, 1): a jackknife over seeds.

    Returns:
        S in [0, 1] with its interval, cut to [0, 1]; None where neither the concept fell nor anything changed.

    Raises:
        UnfitFeatures: no concept or nothing else is among the names, or the names or lengths differ.
        TooFewSamples: there is no image.

    >>> before = {"beard": torch.tensor([1, 1, 0, 0]), "hat": torch.tensor([1, 0, 0, 1])}
    >>> after = {"beard": torch.tensor([0, 0, 0, 0]), "hat": torch.tensor([1, 0, 0, 0])}
    >>> round(selectivity(before, after, ["beard"]).value, 4)  # 1/2 against 1/4
    0.6667
    """
    fall, moved = _changes(before, after, set(concepts), set(beside))
    count = len(fall)
    if count == 0:
        raise TooFewSamples("the selectivity", 0, 1, "images")

    def share(fallen: Tensor, other: Tensor) -> Tensor:
        fallen = fallen.clamp(min=0)
        return fallen / (fallen + other)

    if not fall.sum() > 0 and not moved.any():
        return None
    value = float(share(fall.sum(), moved.sum()))
    left_out = share(fall.sum() - fall, moved.sum() - moved)
    estimate = jackknife(
        value, left_out.nan_to_num(nan=value), level
    )  # without its only change there is nothing to share
    if estimate.low is None or estimate.high is None:
        return estimate
    return Estimate(value, max(0.0, estimate.low), min(1.0, estimate.high))


def _changes(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], concepts: set[str], beside: set[str]
) -> tuple[Tensor, Tensor]:
    """By how much the concept fell in each image, in [-1, 1], and the share of other things that changed, ``[n]`` each."""
    if set(before) != set(after) or len({len(one) for one in (*before.values(), *after.values())}) > 1:
        raise UnfitFeatures(
            "the selectivity compares the same things in images of the same seeds; see both with one judge"
        )
    fell, others = [], dict[str, list[Tensor]]()
    for name, values in before.items():
        attribute = name.partition(":")[0]
        if name in concepts:
            fell.append(values.double() - after[name].double())
        elif not {name, attribute} & beside:
            others.setdefault(attribute, []).append(values.bool() != after[name].bool())
    if not fell or not others:
        raise UnfitFeatures(
            f"the selectivity needs a concept and something else among {', '.join(sorted(before))}; "
            f"the concepts are {', '.join(sorted(concepts)) or 'none'}"
        )
    changed = [torch.stack(levels).any(0).double() for levels in others.values()]
    return torch.stack(fell).mean(0), torch.stack(changed).mean(0)
