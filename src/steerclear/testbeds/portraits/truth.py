"""The exact truth for a prompt: how often the portraits that it describes show each attribute.

A model that learned the captions perfectly draws, for a prompt c, portraits from Bayes' posterior

    p(a | c) = p(c | a) p(a) / sum over a' of p(c | a') p(a')

with the prior p(a) of :func:`~.attributes.every_combination` and the likelihood p(c | a) of
:func:`~.captions.probability_of_mentions`; so attributes that a prompt does not mention count as well. The posterior is
conditioned on the absence of everything that the prompt negates or a negative prompt names. That is what guidance away
from a concept should do; any other change is its collateral shift.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from ...core.errors import ImpossiblePrompt, UnknownWords
from ...core.seeds import Stream, uniform_per_image
from ...core.shapes import Bool, Float, Int, UInt8
from .attributes import BINARY, HAT_COLOR, PALETTES, Attributes, every_combination
from .captions import SKIN_WORDS, Wish, probability_of_mentions, read_prompt
from .drawing import draw_from_seeds

KNOWN = (
    f"man, woman, mustache, beard, glasses, hat ({', '.join(HAT_COLOR)}), smile, smiling, "
    f"hair ({', '.join(PALETTES['hair'])}), background ({', '.join(PALETTES['background'])}), "
    f"{', '.join(SKIN_WORDS.values())}, and without, no or not before any of them"
)
"""The words that a prompt may use, for error messages."""


def indicators(attributes: Attributes) -> dict[str, Bool[Tensor, " images"]]:
    """Whether each portrait shows each attribute: name -> bool of shape ``[n]``.

    The names are those of :func:`attribute_rates`: "mustache" for a binary attribute, "hair:black" for a level of another.
    "hat_color:red" means that a red hat is worn, since without a hat its color cannot be seen.

    Args:
        attributes: integers of shape ``[n]``, by name, for all attributes of the world: true ones, or a classifier's.

    >>> from .attributes import sample
    >>> bareheaded = indicators(sample(range(50), hat=0, hat_color=0))
    >>> bool(bareheaded["hat_color:red"].any())
    False
    """
    shown = {name: attributes[name] == 1 for name in BINARY}
    for name, palette in PALETTES.items():
        seen = shown["hat"] if name == "hat_color" else torch.ones_like(shown["hat"])
        shown |= {f"{name}:{level}": (attributes[name] == index) & seen for index, level in enumerate(palette)}
    return shown


def _understood(prompt: str) -> Wish:
    wish = read_prompt(prompt)
    if wish.unknown:
        raise UnknownWords(prompt, wish.unknown, KNOWN)
    return wish


def shows(concept: str, attributes: Attributes) -> Bool[Tensor, " images"]:
    """Whether each portrait shows everything that a concept names, bool of shape ``[n]``.

    Args:
        concept: words of the captions, such as "mustache", "red hat" or "man with a beard".
        attributes: integers of shape ``[n]``, by name.

    Raises:
        UnknownWords: the world does not know a word.

    >>> attributes, probability = every_combination()
    >>> round(float(probability[shows("red hat", attributes)].sum()), 6)
    0.0625
    """
    wish = _understood(concept)
    shown = torch.ones_like(attributes["man"], dtype=torch.bool)
    if wish.man is not None:
        shown &= attributes["man"] == wish.man
    for name, value in wish.mentions.values:
        shown &= attributes[name] == value
    named = indicators(attributes)
    for name in wish.absent:
        shown &= ~named[name]
    return shown


def concept_probability(concept: str, probabilities: Mapping[str, Tensor]) -> Float[Tensor, " images"]:
    """A classifier's probability that each portrait shows everything that a concept names: that of its least likely part.

    Args:
        concept: as for :func:`shows`, with its errors.
        probabilities: by attribute: that it is present, ``[n]``, if it is binary; of each level, ``[n, levels]``, if not.

    Returns:
        Probabilities in [0, 1], ``[n]``.

    >>> sure = {"hat": torch.tensor([0.9, 0.9]), "hat_color": torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1]])}
    >>> [round(p, 2) for p in concept_probability("red hat", sure).tolist()]
    [0.7, 0.1]
    """
    wish = _understood(concept)

    def named(name: str) -> Tensor:
        attribute, _, level = name.partition(":")
        if not level:
            return probabilities[attribute]
        of_level = probabilities[attribute][:, list(PALETTES[attribute]).index(level)]
        return torch.minimum(of_level, probabilities["hat"]) if attribute == "hat_color" else of_level

    certain = torch.ones(len(next(iter(probabilities.values()))))  # a concept that names nothing is always present
    man = [] if wish.man is None else [probabilities["man"] if wish.man else 1 - probabilities["man"]]
    parts = [probabilities[name][:, value] if name in PALETTES else probabilities[name] if value else 1 - probabilities[name]
             for name, value in wish.mentions.values]  # fmt: skip
    return torch.stack([certain, *man, *parts, *(1 - named(name) for name in wish.absent)]).amin(0)


def _concepts(negative_prompt: str) -> list[str]:
    """The concepts listed in a negative prompt, without those that name no attribute ("watermark")."""
    parts = re.split(r",|\b(?:and|or)\b", negative_prompt.lower())
    wishes = [(part, _understood(part)) for part in parts]
    return [part for part, wish in wishes if wish.man is not None or wish.mentions.values or wish.absent]


@lru_cache(maxsize=64)
def posterior(prompt: str, without: str | None = None) -> tuple[Attributes, Float[Tensor, " images"]]:
    """p(attributes | prompt, concepts absent) for every combination of attributes.

    Args:
        prompt: in the words of the captions. A named subject is conditioned on, because every caption that is not a bare
            list of keywords names it; "" is the unconditional distribution.
        without: a negative prompt: concepts separated by commas, "and" or "or", all of them absent. A concept of several
            words, such as "red hat", is absent if they do not occur together. None or "" for no negative prompt.

    Returns:
        The combinations and their probabilities, ``[combinations]``, float64, sum 1. Calls share both: do not modify them.

    Raises:
        UnknownWords: the world does not know a word.
        ImpossiblePrompt: no portrait fits, as for "a woman with a mustache".

    >>> attributes, probability = posterior("portrait photo of a man", without="mustache")
    >>> float(probability[attributes["mustache"] == 1].sum())
    0.0
    """
    wish = _understood(prompt)
    attributes, prior = every_combination()
    weight = prior * probability_of_mentions(attributes, wish.mentions)
    if wish.man is not None:
        weight = weight * (attributes["man"] == wish.man)
    named = indicators(attributes)
    for name in wish.absent:
        weight = weight * ~named[name]
    for concept in _concepts(without or ""):
        weight = weight * ~shows(concept, attributes)
    total = weight.sum()
    if total <= 0:
        raise ImpossiblePrompt(prompt, without)
    return attributes, weight / total


def attribute_rates(prompt: str, *, without: str | None = None) -> dict[str, float]:
    """The exact share of portraits that show each attribute, for a prompt and a negative prompt.

    Arguments and errors as :func:`posterior`. Returns probabilities in [0, 1] by the names of :func:`indicators`.

    >>> rates = attribute_rates("portrait photo of a man")
    >>> round(rates["mustache"], 6), round(rates["beard"], 6)
    (0.5, 0.325)
    >>> round(attribute_rates("portrait photo of a man", without="mustache")["beard"], 6)
    0.15
    """
    attributes, probability = posterior(prompt, without)
    # rounding in sums of thousands of float64 can exceed 1
    return {name: min(float(probability[shown].sum()), 1.0) for name, shown in indicators(attributes).items()}


def true_portraits(
    prompt: str, seeds: Sequence[int], *, without: str | None = None
) -> tuple[UInt8[Tensor, "images 3 64 64"], Attributes]:
    """True samples for a prompt: what a perfect model with perfect guidance would show.

    The attributes of image k are the posterior's inverse distribution function at one uniform number of image k's ``TRUTH``
    stream; its random variation comes from its ``DRAWING`` stream, as in training.

    Args:
        prompt, without: as for :func:`posterior`, with its errors.
        seeds: one integer in [0, 2**32) per image. Image k depends on its own seed alone.

    Returns:
        RGB pixels in 0 ... 255, uint8, and their attributes, ``[n]`` each.

    >>> images, shown = true_portraits("a man with a mustache", range(3))
    >>> images.shape, shown["mustache"].tolist()
    (torch.Size([3, 3, 64, 64]), [1, 1, 1])
    """
    attributes = _draw_attributes(*posterior(prompt, without), uniform_per_image(seeds, 1, Stream.TRUTH)[:, 0])
    return draw_from_seeds(attributes, seeds), attributes


def _draw_attributes(
    attributes: dict[str, Int[Tensor, " combinations"]],
    probability: Float[Tensor, " combinations"],
    uniform: Float[Tensor, " images"],
) -> Attributes:
    """The inverse distribution function, in float64; combinations of probability 0 are never drawn."""
    edges = probability.cumsum(0)
    rows = torch.searchsorted(edges / edges[-1], uniform.double(), right=True)
    return {name: column[rows] for name, column in attributes.items()}
