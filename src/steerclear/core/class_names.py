"""What text names which class of a model whose prompts are classes."""

from collections.abc import Sequence

from .errors import PromptError, shown

NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FILLERS = frozenset(
    ["a", "an", "the", "digit", "number", "class", "photo", "picture", "image", "drawing", "of", "handwritten"]
)
"""Words that may come before a class: "a photo of a cat", "the digit 3"."""
ANY = "any"
"""The word for no class, where a text must not be empty."""


def class_number(text: str, names: Sequence[str]) -> int:
    """The class that a text names; the number of no class, ``len(names)``, for "any" and an empty one.

    Args:
        text: the name of a class; words before it like "a photo of a" are skipped, and a digit may be a word. Of texts joined
            by commas all must name the same class, or any.
        names: of the classes, by number.

    Raises:
        PromptError: none or several; says which classes there are.

    >>> names = ("3", "5")
    >>> class_number("a photo of the digit five", names), class_number("any, 3", names), class_number("", names)
    (1, 0, 2)
    """
    whole = _named(text, names)
    parts = (_named(part, names) for part in text.split(",") if part.strip())
    found = set(parts if whole is None else (whole,)) - {len(names)}
    if None in found:
        raise PromptError(
            f"{shown(text)} is no class of this model; it has {', '.join(names)}, and {ANY!r} or an empty text for any of them"
        )
    if len(found) > 1:
        raise PromptError(
            f"{shown(text)} names several classes, and an image has one; give one, and of several to avoid each as a "
            f"negative prompt of its own; a dynamic negative beside a class takes the setting concept=negative"
        )
    return next((number for number in found if number is not None), len(names))


def _named(text: str, names: Sequence[str]) -> int | None:
    """The class of a text without commas; the number of no class for "any"; None if it names none."""
    known = {name.casefold(): number for number, name in enumerate(names)}
    words = text.casefold().strip(" .").split()
    for first in range(len(words)):
        name = " ".join(words[first:])
        digit = str(NUMBER_WORDS.index(name)) if name in NUMBER_WORDS else name
        if name in known or digit in known:
            return known.get(name, known.get(digit))
        if words[first] == ANY:
            return len(names) if FILLERS.issuperset(words[first + 1 :]) else None
        if words[first] not in FILLERS:
            return None
    return None
