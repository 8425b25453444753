"""How portraits are captioned, and the exact probability that a portrait gets a caption.

A caption names the subject and some of the attributes that are present, never absent ones. It is of one of two kinds,
chosen independently of the portrait:

- *plain* (probability ``PLAIN``): only the subject. So "portrait photo of a man" says nothing about mustaches, and a model
  trained on it shows mustaches as often as men have them.
- *told*: each present attribute is mentioned with its own probability; if none is, the hair is mentioned. A share
  ``KEYWORDS`` of these captions are bare lists, as in alt texts.

"without", "no" and "not" occur only in endings that say nothing about the portrait ("without watermark"), so a model has
seen the words but was never taught to negate.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from .attributes import BACKGROUND, HAIR, HAT_COLOR, SKIN, Attributes

PLAIN = 0.40
KEYWORDS = 0.10
NEUTRAL = 0.10
MENTION = {
    "mustache": 0.4, "beard": 0.35, "glasses": 0.25, "hat": 0.4, "smile": 0.15,
    "hair": 0.3, "skin": 0.12, "background": 0.25,
}  # fmt: skip
HAT_COLOR_TOLD = 0.85
OPENINGS = ("portrait photo of a", "portrait photo of a", "photo of a", "portrait of a", "a")
NEUTRAL_ENDINGS = ("without watermark", "without text", "no watermark", "no text", "no border", "not cropped")
SKIN_WORDS = {"light": "light-skinned", "tan": "tan", "dark": "dark-skinned"}


@dataclass(frozen=True)
class Mentions:
    """The attributes that a caption mentions, with their values. ``hat_color`` occurs only together with ``hat``."""

    values: tuple[tuple[str, int], ...]
    keywords: bool = False

    def __contains__(self, name: str) -> bool:
        return name in dict(self.values)

    def get(self, name: str) -> int | None:
        return dict(self.values).get(name)


def _chance(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))


def _one_of(options: Sequence[str], generator: torch.Generator) -> str:
    return options[int(torch.randint(len(options), (), generator=generator))]


def write_caption(portrait: dict[str, int], generator: torch.Generator) -> str:
    """One caption for one portrait.

    >>> man = dict(man=1, mustache=1, beard=0, glasses=0, hat=0, smile=1, hair=0, skin=0, background=0, hat_color=0)
    >>> write_caption(man, torch.Generator().manual_seed(5)) != ""
    True
    """
    if _chance(generator) < PLAIN:
        return _compose(portrait, Mentions(()), generator)
    told = {}
    for name, probability in MENTION.items():
        there = name in ("hair", "skin", "background") or portrait[name] == 1
        if _chance(generator) < probability and there:
            told[name] = portrait[name]
    if "hat" in told and _chance(generator) < HAT_COLOR_TOLD:
        told["hat_color"] = portrait["hat_color"]
    if not told:
        told["hair"] = portrait["hair"]
    return _compose(portrait, Mentions(tuple(told.items()), _chance(generator) < KEYWORDS), generator)


def _things(mentions: Mentions) -> list[str]:
    """Noun phrases to follow "with", including articles."""
    things = [f"a {name}" for name in ("mustache", "beard") if name in mentions]
    things += ["glasses"] if "glasses" in mentions else []
    hair = mentions.get("hair")
    return things + ([] if hair is None else [f"{list(HAIR)[hair]} hair"])


def _hat(mentions: Mentions) -> str | None:
    if "hat" not in mentions:
        return None
    color = mentions.get("hat_color")
    return "a hat" if color is None else f"a {list(HAT_COLOR)[color]} hat"


def _compose(portrait: dict[str, int], mentions: Mentions, generator: torch.Generator) -> str:
    things, hat = _things(mentions), _hat(mentions)
    skin, background = mentions.get("skin"), mentions.get("background")
    wearing = hat is not None and _chance(generator) < 0.5
    if hat is not None and not wearing:
        things.append(hat)
    things = [things[i] for i in torch.randperm(len(things), generator=generator).tolist()]
    if mentions.keywords:
        words = [thing.removeprefix("a ") for thing in things + ([hat] if wearing and hat else [])]
        words += ["smiling"] if "smile" in mentions else []
        words += [f"{list(SKIN_WORDS.values())[skin]}"] if skin is not None else []
        words += [f"{list(BACKGROUND)[background]} background"] if background is not None else []
        return ", ".join(words)
    subject = "man" if portrait["man"] else "woman"
    words = [_one_of(OPENINGS, generator)]
    words += [list(SKIN_WORDS.values())[skin]] if skin is not None else []
    words.append(subject)
    words += [f"wearing {hat}"] if wearing else []
    if things:
        words.append("with " + (things[0] if len(things) == 1 else ", ".join(things[:-1]) + " and " + things[-1]))
    caption = " ".join(words)
    caption += ", smiling" if "smile" in mentions else ""
    caption += f" on a {list(BACKGROUND)[background]} background" if background is not None else ""
    if _chance(generator) < NEUTRAL:
        caption += " " + _one_of(NEUTRAL_ENDINGS, generator)
    return caption


def probability_of_mentions(attributes: Attributes, mentions: Mentions) -> Tensor:
    """P(a caption with exactly these mentions | the portrait) per row of attributes, ``[n]``, float64.

    The wording (opening, order, neutral ending) does not depend on the portrait and cancels.
    """
    rows = len(attributes["man"])
    told = torch.full((rows,), 1 - PLAIN, dtype=torch.float64)
    nothing = torch.ones(rows, dtype=torch.float64)
    for name, chance in MENTION.items():
        always = name in ("hair", "skin", "background")
        there = torch.ones(rows, dtype=torch.float64) if always else attributes[name].double()
        nothing = nothing * (1 - chance * there)
        value = mentions.get(name)
        told = told * (1 - chance * there if value is None else chance * there * (attributes[name] == value))
    if "hat" in mentions:
        color = mentions.get("hat_color")
        told = told * (
            1 - HAT_COLOR_TOLD if color is None else HAT_COLOR_TOLD * (attributes["hat_color"] == color).double()
        )
    if set(dict(mentions.values)) == {"hair"}:
        told = told + (1 - PLAIN) * nothing * (attributes["hair"] == mentions.get("hair"))
    if mentions.values:
        return told * (KEYWORDS if mentions.keywords else 1 - KEYWORDS)
    return torch.full((rows,), PLAIN, dtype=torch.float64)


@dataclass(frozen=True)
class Wish:
    """A parsed prompt.

    Args:
        man: 1 for a man, 0 for a woman, None if neither is named.
        mentions: attributes that the prompt asks for.
        absent: attributes named after "without", "no" or "not": a binary attribute ("hat") or a level of another
            ("hair:black", "hat_color:red").
        unknown: words that this world does not know.
    """

    man: int | None
    mentions: Mentions
    absent: tuple[str, ...]
    unknown: tuple[str, ...] = ()


_NOUNS = {"mustache": "mustache", "moustache": "mustache", "mustaches": "mustache", "beard": "beard",
          "glasses": "glasses", "hat": "hat", "smile": "smile", "smiling": "smile"}  # fmt: skip
_NEUTRAL = {"watermark", "text", "border", "cropped"}
_FILLER = {"portrait", "photo", "of", "a", "an", "any", "the", "with", "and", "wearing", "on", ","} | _NEUTRAL
_PEOPLE = {"man": 1, "men": 1, "woman": 0, "women": 0}
_COLORED = {"hair": HAIR, "background": BACKGROUND, "hat": HAT_COLOR}
_COLORS = {color for palette in _COLORED.values() for color in palette}
_SKINS = {word: index for index, word in enumerate(SKIN_WORDS.values())}
_NEGATIONS = {"without", "no", "not"}
_JOINS = {"and", "or", "nor"}
_ENDS_NEGATION = {",", "with", "wearing", "on", "smiling", *_PEOPLE}


def read_prompt(prompt: str) -> Wish:
    """Parse a prompt in the language of the captions.

    A negation covers the thing that follows it, and those joined to it by "and", "or" or "nor", up to a comma or the next
    "with", "wearing", "on" or "smiling".

    >>> wish = read_prompt("portrait photo of a man with a mustache without hat")
    >>> wish.man, wish.mentions.get("mustache"), wish.absent
    (1, 1, ('hat',))
    >>> read_prompt("a woman wearing a red hat").mentions.values
    (('hat', 1), ('hat_color', 0))
    >>> read_prompt("a man not wearing a red hat or glasses, smiling").absent
    ('hat_color:red', 'glasses')
    """
    values: dict[str, int] = {}
    absent: list[str] = []
    unknown: list[str] = []
    colors: list[str] = []
    man: int | None = None
    scope = ""  # of a negation: "open" until it names something, then "named", and "joined" after an "and"
    for word in re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*|,", prompt.lower()):
        if word in _NEGATIONS:
            scope = "open"
            continue
        if scope == "named" and word in _JOINS:
            scope = "joined"
            continue
        if scope == "named" or (scope == "joined" and word in _ENDS_NEGATION) or word == ",":
            scope = ""
        said: tuple[str, int, str] | None = None
        if word in _COLORED and colors and colors[-1] in _COLORED[word]:
            color = colors.pop()
            name = "hat_color" if word == "hat" else word
            said = name, list(_COLORED[word]).index(color), f"{name}:{color}"
        elif word in _SKINS:
            said = "skin", _SKINS[word], f"skin:{list(SKIN)[_SKINS[word]]}"
        elif word in _NOUNS:
            said = _NOUNS[word], 1, _NOUNS[word]

        if said and scope:
            absent.append(said[2])
        elif said:
            values |= {"hat": 1} if said[0] == "hat_color" else {}
            values[said[0]] = said[1]
        elif word in _PEOPLE:
            man = 1 - _PEOPLE[word] if scope else _PEOPLE[word]
        elif word in _COLORS:
            colors.append(word)
        elif word in ("hair", "background"):
            unknown += [f"no {word}"] if scope else []  # every portrait has both
        elif word not in _FILLER:
            unknown.append(word)
        names_something = word not in _FILLER - _NEUTRAL and word not in _COLORS
        if scope and names_something:
            scope = "named"
    return Wish(man, Mentions(tuple(values.items()), man is None), tuple(dict.fromkeys(absent)), (*unknown, *colors))


@cache
def meaning(caption: str) -> tuple[int | None, frozenset[tuple[str, int]]]:
    """What a caption says, regardless of wording: captions of equal meaning describe the same distribution of portraits.

    >>> meaning("photo of a man with glasses and a red hat") == meaning("a man wearing a red hat with glasses without text")
    True
    """
    wish = read_prompt(caption)
    return wish.man, frozenset(wish.mentions.values)
