"""The exact truth of a prompt: how often each attribute is there in the portraits that the prompt describes.

A model that learned captions perfectly shows, for a prompt c, portraits from Bayes' posterior

    p(a | c) = p(c | a) p(a) / sum over a' of p(c | a') p(a')

with the prior p(a) of :func:`~.attributes.every_combination` and the likelihood p(c | a) of
:func:`~.captions.probability_of_mentions`; so what a prompt leaves unsaid counts as well. What the prompt
negates, and what a negative prompt names, is excluded: the posterior is conditioned on its absence. That is
what guidance away from a concept ought to do, and whatever else moves is its collateral shift.
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
"""What a prompt may speak of, as an error tells it."""


def indicators(attributes: Attributes) -> dict[str, Bool[Tensor, " images"]]:
    """What each portrait shows, yes or no: bool of shape ``[n]`` by name.

    The names are those of :func:`attribute_rates`: "mustache" for a binary attribute, "hair:black" for a level
    of another. "hat_color:red" means a red hat that is worn, since the colour of no hat cannot be seen. Use it
    on what a classifier read in generated images, so that both sides of a comparison count the same thing.

    Args:
        attributes: integers of shape ``[n]``, by name, all of the world's attributes.

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
    """Whether each portrait shows all that a concept names: bool of shape ``[n]``.

    Args:
        concept: words of the captions, as "mustache", "red hat" or "man with a beard".
        attributes: integers of shape ``[n]``, by name.

    Raises:
        UnknownWords: for words that the world does not know.

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
    """How sure a classifier is that each portrait shows all that a concept names: that of the part it is least sure of.

    Args:
        concept: words of the captions, as :func:`shows` takes them.
        probabilities: by attribute: of "yes" for a binary one, ``[n]``; of each level for another, ``[n, levels]``.

    Returns:
        Probabilities in [0, 1], ``[n]``.

    Raises:
        UnknownWords: for words that the world does not know.

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

    certain = torch.ones(len(next(iter(probabilities.values()))))  # a concept that names nothing is always there
    man = [] if wish.man is None else [probabilities["man"] if wish.man else 1 - probabilities["man"]]
    parts = [
        probabilities[name][:, value]
        if name in PALETTES
        else (probabilities[name] if value else 1 - probabilities[name])
        for name, value in wish.mentions.values
    ]
    return torch.stack([certain, *man, *parts, *(1 - named(name) for name in wish.absent)]).amin(0)


def _concepts(negative_prompt: str) -> list[str]:
    """The concepts of a negative prompt, which is a list. Those that name nothing ("watermark") are left out."""
    parts = re.split(r",|\b(?:and|or)\b", negative_prompt.lower())
    wishes = [(part, _understood(part)) for part in parts]
    return [part for part, wish in wishes if wish.man is not None or wish.mentions.values or wish.absent]


@lru_cache(maxsize=64)
def posterior(prompt: str, without: str | None = None) -> tuple[Attributes, Float[Tensor, " images"]]:
    """p(attributes | prompt, concepts absent) for every combination of attributes.

    Args:
        prompt: in the words of the captions. A named subject is conditioned on, as every caption that is no
            bare list of keywords says it; "" is the unconditional distribution.
        without: a negative prompt: concepts separated by commas, "and" or "or", every one of them absent. A
            concept of several words, as "red hat", is absent when they are not there together. None or "": none.

    Returns:
        The combinations and their probabilities, ``[combinations]``, float64, summing to 1. Both are shared
        between calls: read them, do not write into them.

    Raises:
        UnknownWords: for words that the world does not know.
        ImpossiblePrompt: when no portrait can be so, as "a woman with a mustache".

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

    Args:
        prompt: as :func:`posterior` takes it.
        without: a negative prompt, as :func:`posterior` takes it.

    Returns:
        Probabilities in [0, 1] by the names of :func:`indicators`, computed in float64 from all combinations.

    Raises:
        UnknownWords: for words that the world does not know.
        ImpossiblePrompt: when no portrait can be so.

    >>> rates = attribute_rates("portrait photo of a man")
    >>> round(rates["mustache"], 6), round(rates["beard"], 6)
    (0.5, 0.325)
    >>> round(attribute_rates("portrait photo of a man", without="mustache")["beard"], 6)
    0.15
    """
    attributes, probability = posterior(prompt, without)
    # sums of thousands of float64 can end a last bit above 1
    return {name: min(float(probability[shown].sum()), 1.0) for name, shown in indicators(attributes).items()}


def true_portraits(
    prompt: str, seeds: Sequence[int], *, without: str | None = None
) -> tuple[UInt8[Tensor, "images 3 64 64"], Attributes]:
    """True samples of what a prompt describes: what a perfect model with perfect guidance would show.

    The attributes of image k are the inverse of the posterior's distribution function at one uniform number of
    image k's ``TRUTH`` stream; the rest of its looks comes from its ``DRAWING`` stream, as in training.

    Args:
        prompt: as :func:`posterior` takes it.
        seeds: one integer in [0, 2**32) an image. Image k depends on its own seed alone.
        without: a negative prompt, as :func:`posterior` takes it.

    Returns:
        RGB pixels in 0 ... 255, uint8, and the attributes that they show, ``[n]`` each.

    Raises:
        UnknownWords: for words that the world does not know.
        ImpossiblePrompt: when no portrait can be so.

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
    """Inverse of the distribution function, in float64; combinations of probability 0 are never drawn."""
    edges = probability.cumsum(0)
    rows = torch.searchsorted(edges / edges[-1], uniform.double(), right=True)
    return {name: column[rows] for name, column in attributes.items()}
