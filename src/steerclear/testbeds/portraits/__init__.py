"""Cartoon portraits whose truth is known: attributes, captions, drawings, and the exact answer to any prompt."""

from .attributes import BINARY, LEVELS, PALETTES, Attributes, every_combination, sample
from .captions import Mentions, Wish, probability_of_mentions, read_prompt, write_caption
from .drawing import SIZE, VARIATIONS, draw, draw_from_seeds
from .truth import attribute_rates, concept_probability, indicators, posterior, shows, true_portraits

__all__ = [
    "BINARY", "LEVELS", "PALETTES", "SIZE", "VARIATIONS", "Attributes", "Mentions", "Wish", "attribute_rates",
    "concept_probability", "draw", "draw_from_seeds", "every_combination", "indicators", "posterior",
    "probability_of_mentions", "read_prompt", "sample", "shows", "true_portraits", "write_caption",
]  # fmt: skip
