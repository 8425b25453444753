"""How a model of images and texts is asked whether something is in an image: two statements, one with it, one without a word on it.

The other statement never says "no X": models of images and texts hardly read a negation (Yuksekgonul et al. 2023, arXiv
2210.01936), so "no hat" resembles an image with a hat.
"""

import re

from ...core.prompts import ARTICLES

FRAMES = (("a photo of {}", "a photo"), ("a picture with {}", "a picture"))
"""Statements with and without a thing; the answers to all of them are averaged."""
GENERAL = ("person", "text", "watermark", "blur")
"""What is watched in any image unless something else is asked for."""
MOST_NOUNS = 6
"""How many of a prompt's own nouns are watched."""

_SMALL = """
a an the and or nor but of in on at by to from with without into onto over under near behind between through against around
above below beside inside outside during for as is are was were be being been has have had it its his her their our your my
this that these those some any no not very more most such same other another each every all both many few several one two
three four five six seven eight nine ten up down off out there here while who whose which what where when how
"""
_OF_PICTURES = """
photo photograph photography picture image portrait painting drawing illustration sketch render rendering artwork art style
shot closeup close-up view scene quality resolution detail details lighting background foreground composition masterpiece
wallpaper hd uhd hdr bokeh
"""
_DESCRIBING = """
red blue green yellow black white gray grey brown blond orange purple pink golden silver dark light bright big small large
little tiny huge tall short long wide narrow old young new modern ancient vintage happy sad angry high low soft hard warm cold
hot sharp clean dirty wet dry rich deep full empty open wooden beautiful pretty cute epic dramatic cinematic realistic
photorealistic professional detailed intricate elegant standing sitting wearing holding looking
"""
_NO_NOUNS = {*_SMALL.split(), *_OF_PICTURES.split(), *_DESCRIBING.split()}
_ENDINGS_OF_OTHERS = ("ly", "ful", "ous", "ish", "less")
_ED_OR_ING = re.compile(r"[a-z]{3,}(?:ed|ing)")
_NOUNS_ALL_THE_SAME = {
    "building", "ceiling", "ring", "king", "string", "spring", "wing", "painting", "clothing", "seed", "weed", "family",
    "butterfly", "lily", "jelly", "belly", "fish", "dish", "bed", "sled", "shed", "reed", "swing", "wedding", "evening",
    "morning", "dragonfly", "fly", "sibling", "duckling", "goldfish", "starfish", "jellyfish",
}  # fmt: skip
_UNCOUNTED = {
    "text", "hair", "water", "grass", "snow", "rain", "fog", "smoke", "fire", "sand", "blood", "people", "men", "women",
    "children", "blur", "nudity", "graffiti", "furniture", "food", "makeup", "noise", "writing", "clothing", "sky", "jewelry",
}  # fmt: skip


def nouns(prompt: str) -> tuple[str, ...]:
    """The words of a prompt that are probably names of things, at most :data:`MOST_NOUNS`, in its order.

    A list of small words, of words about pictures and of common adjectives is left out, and so are words that end as adverbs,
    adjectives and participles do. This is no parser: what it finds is a beginning, and ``--watch`` is for what matters.

    >>> nouns("a highly detailed photo of an old man with a red hat, smiling, in a garden")
    ('man', 'hat', 'garden')
    """
    found = []
    for word in re.findall(r"[^\W\d_]+(?:[-'][^\W\d_]+)*", prompt.lower()):
        kept = word in _NOUNS_ALL_THE_SAME
        other = word.endswith(_ENDINGS_OF_OTHERS) or _ED_OR_ING.fullmatch(word.rpartition("-")[2]) is not None
        if len(word) > 1 and word not in _NO_NOUNS and (kept or not other):
            found.append(word)
    return tuple(dict.fromkeys(found))[:MOST_NOUNS]


def bare(thing: str) -> str:
    """A thing in lower case, without spaces around it and an article before it.

    >>> bare(" A red  Hat "), bare("glasses")
    ('red hat', 'glasses')
    """
    words = thing.lower().split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in ARTICLES else words)


def with_article(thing: str) -> str:
    """A thing as it follows "a photo of": with "a" or "an", unless it is a plural or a material.

    >>> [with_article(thing) for thing in ("mustache", "old hat", "glasses", "red hair", "a dog", "glass")]
    ['a mustache', 'an old hat', 'glasses', 'red hair', 'a dog', 'a glass']
    """
    first, last = thing.split()[0], thing.split()[-1]
    plural = last.endswith("s") and not last.endswith(("ss", "us", "is"))
    if first in ARTICLES or plural or last in _UNCOUNTED:
        return thing
    return f"an {thing}" if first[0] in "aeiou" else f"a {thing}"


def names(prompt: str, thing: str) -> bool:
    """Whether a prompt says a thing itself, so that it cannot be added to it.

    >>> names("a photo of a man", "man"), names("a photo of a woman", "man")
    (True, False)
    """
    words = " ".join(re.findall(r"[^\W_]+(?:-[^\W_]+)*", prompt.lower()))
    return f" {thing} " in f" {words} "


def pairs(thing: str, prompt: str = "") -> tuple[tuple[str, str], ...]:
    """Pairs of statements about an image, with a thing and without a word on it; lower case.

    The prompt makes a pair too, "PROMPT with THING" and "PROMPT", unless it is empty or names the thing.

    >>> pairs("mustache", "Portrait photo of a man")[-1]
    ('portrait photo of a man with a mustache', 'portrait photo of a man')
    >>> pairs("man", "portrait photo of a man")
    (('a photo of a man', 'a photo'), ('a picture with a man', 'a picture'))
    """
    said, base = with_article(thing), " ".join(prompt.lower().split()).rstrip(" ,.;:")
    general = [(having.format(said), lacking) for having, lacking in FRAMES]
    return (*general, (f"{base} with {said}", base)) if base and not names(base, thing) else tuple(general)
