"""The attributes of portraits, and their exact joint distribution.

Every attribute is a column of integers, one per image: 0 or 1 for a binary attribute, an index into the palette for the
others. The distribution is a chain of conditional probabilities: sampling follows the chain, and
:func:`every_combination` multiplies it out.
"""

import itertools
from collections.abc import Sequence
from functools import lru_cache

import torch

from ...core.seeds import uniform_per_image
from ...core.shapes import Float, Int, Shaped, Tensor
from .streams import PortraitStream

Attributes = dict[str, Int[Tensor, " images"]]
"""Attribute name -> integers of shape ``[images]``."""

HAIR = {"black": (0.10, 0.09, 0.10), "brown": (0.40, 0.23, 0.11), "blond": (0.90, 0.73, 0.32),
        "red": (0.74, 0.27, 0.09), "gray": (0.64, 0.64, 0.66)}  # fmt: skip
SKIN = {"light": (0.97, 0.81, 0.69), "tan": (0.82, 0.60, 0.43), "dark": (0.46, 0.30, 0.21)}
BACKGROUND = {"blue": (0.53, 0.73, 0.93), "green": (0.60, 0.82, 0.60), "gray": (0.76, 0.76, 0.78),
              "yellow": (0.96, 0.88, 0.55), "pink": (0.95, 0.74, 0.81)}  # fmt: skip
HAT_COLOR = {"red": (0.80, 0.14, 0.16), "blue": (0.14, 0.25, 0.66), "green": (0.12, 0.47, 0.25),
             "black": (0.13, 0.13, 0.15)}  # fmt: skip

PALETTES = {"hair": HAIR, "skin": SKIN, "background": BACKGROUND, "hat_color": HAT_COLOR}
BINARY = ("man", "mustache", "beard", "glasses", "hat", "smile")
LEVELS = dict.fromkeys(BINARY, 2) | {name: len(palette) for name, palette in PALETTES.items()}

PALETTE_PROBABILITIES = {
    "hair": (0.25, 0.30, 0.20, 0.12, 0.13),
    "skin": (0.50, 0.27, 0.23),
    "background": (0.25, 0.20, 0.20, 0.18, 0.17),
    "hat_color": (0.25, 0.25, 0.25, 0.25),
}


def probability_of_one(name: str, before: dict[str, Shaped[Tensor, " images"]]) -> Tensor | float:
    """P(binary attribute = 1 | the attributes before it in the chain).

    Only men have mustaches and beards, and a beard is likelier with a mustache. So exact removal of mustaches makes beards
    rarer, and clumsy removal removes beards too.
    """
    if name == "mustache":
        return 0.5 * before["man"]
    if name == "beard":
        return before["man"] * (0.15 + 0.35 * before["mustache"])
    return {"man": 0.5, "glasses": 0.3, "hat": 0.25, "smile": 0.5}[name]


def probability_of(attributes: Attributes) -> Float[Tensor, " images"]:
    """p(attributes) per row, ``[batch]``, float64: the chain multiplied out.

    >>> float(probability_of({name: torch.zeros(1, dtype=torch.long) for name in LEVELS}))  # doctest: +ELLIPSIS
    0.00102...
    """
    exact = {name: column.double() for name, column in attributes.items()}  # torch converts integers to float32
    probability = torch.ones(len(attributes["man"]), dtype=torch.float64)
    for name in LEVELS:
        if name in PALETTES:
            table = torch.tensor(PALETTE_PROBABILITIES[name], dtype=torch.float64)
            probability = probability * table[attributes[name]]
        else:
            one = torch.as_tensor(probability_of_one(name, exact), dtype=torch.float64)
            probability = probability * torch.where(attributes[name] == 1, one, 1 - one)
    return probability


def sample(seeds: Sequence[int], **fixed: int) -> Attributes:
    """Draw the attributes of one portrait per seed.

    Args:
        seeds: one per image; an image's attributes depend on its own seed alone.
        fixed: attributes with fixed values, such as ``man=1``. Later attributes in the chain depend on them; earlier ones
            are not reweighted, so fix ``man`` as well as ``mustache``.

    >>> people = sample(range(4), man=1, mustache=0)
    >>> people["mustache"].tolist()
    [0, 0, 0, 0]
    """
    uniforms = uniform_per_image(seeds, len(LEVELS), PortraitStream.ATTRIBUTES)
    attributes: Attributes = {}
    for column, name in enumerate(LEVELS):
        uniform = uniforms[:, column].contiguous()
        if name in fixed:
            attributes[name] = torch.full((len(uniform),), int(fixed[name]))
        elif name in PALETTES:
            edges = torch.tensor(PALETTE_PROBABILITIES[name]).cumsum(0)
            attributes[name] = torch.bucketize(uniform, edges[:-1], right=True)
        else:
            attributes[name] = (uniform < probability_of_one(name, attributes)).long()
    return attributes


@lru_cache(maxsize=1)
def every_combination() -> tuple[Attributes, Float[Tensor, " images"]]:
    """All possible combinations of attributes and their exact probabilities (float64, sum 1).

    >>> attributes, probability = every_combination()
    >>> round(float(probability.sum()), 12)
    1.0
    >>> round(float(probability[attributes["mustache"] == 1].sum()), 12)
    0.25
    """
    grid = torch.tensor(list(itertools.product(*(range(levels) for levels in LEVELS.values()))))
    attributes = {name: grid[:, column] for column, name in enumerate(LEVELS)}
    probability = probability_of(attributes)
    possible = probability > 0
    return {name: column[possible] for name, column in attributes.items()}, probability[possible]
