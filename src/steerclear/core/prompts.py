"""Prompts as a text encoder reads them: words beyond its limit are named, not dropped silently."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from .errors import PromptError, in_words_of, shown

ARTICLES = {"a", "an", "the"}

Convert = Callable[[str], str]
"""Converts a text before the tokenizer sees it: textual inversion may turn one word into several."""


def words_beyond(tokenizer: Any, prompt: str, convert: Convert | None = None, longest: int | None = None) -> str:
    """The words at the end of a prompt that a tokenizer of fixed length cuts off; empty if the whole prompt fits.

    A word cut in the middle counts as cut off.

    Args:
        tokenizer: a transformers tokenizer with ``model_max_length``.
        prompt: the text.
        convert: see :data:`Convert`.
        longest: number of tokens that are read; None for the tokenizer's ``model_max_length``.
    """
    # one token above the limit shows that there are more; the tokenizer would warn about the whole text
    longer = (longest or int(tokenizer.model_max_length)) + 1

    def fits(text: str) -> bool:
        read = text if convert is None else convert(text)
        return len(tokenizer(read, truncation=True, max_length=longer, verbose=False).input_ids) < longer

    if fits(prompt):
        return ""
    words = prompt.split()
    low, high = 0, len(words)  # the first `low` words fit, the first `high` do not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(" ".join(words[:middle])) else (low, middle)
    return " ".join(words[low:])


def check_text(what: str, text: object) -> str:
    """The text, if valid; ``what`` names it in the message.

    Raises:
        PromptError: it is not a text, or it has lone surrogates, which come from bytes that are not UTF-8.
    """
    if not isinstance(text, str):
        raise PromptError(f"the {what} is {shown(text)}, but must be a text.")
    try:
        text.encode()
    except UnicodeEncodeError:
        fault = in_words_of(
            "has a lone surrogate, which is not a character; leave it out",
            "has bytes that are not UTF-8; use a terminal or a file in UTF-8",
        )
        raise PromptError(f"the {what} {shown(text)} {fault}.") from None
    return text


def check_length(
    tokenizer: Any, what: str, prompt: str, convert: Convert | None = None, longest: int | None = None
) -> None:
    """Raises :class:`PromptError` if words are cut off, and names them; ``what`` names the text in the message."""
    lost = words_beyond(tokenizer, prompt, convert, longest)
    if lost:
        raise PromptError(
            f"the {what} is longer than the {longest or int(tokenizer.model_max_length)} tokens that this model reads; "
            f"these words are cut off: {shown(lost)}. Shorten it, or put what matters first."
        )


def conjunction(prompt: str, negative: str) -> str:
    """The prompt and the negative prompt joined: the concept *within* what the prompt shows.

    >>> conjunction("portrait photo of a man", "mustache"), conjunction("", "mustache")
    ('portrait photo of a man, mustache', 'mustache')
    """
    return f"{prompt}, {negative}" if prompt else negative


def concepts_named(negative_prompts: Sequence[str], concepts: Sequence[str]) -> tuple[str, ...]:
    """The concepts that negative prompts name, by their words; if several match, the one with the fewest words.

    >>> concepts_named(["a hat, red hair"], ["hair:red", "hat", "hat_color:red", "beard"])
    ('hair:red', 'hat')
    """

    def words(text: str) -> set[str]:
        return set(re.split(r"[\W_]+", text.lower())) - {""}

    found = set()
    for negative in ",".join(negative_prompts).split(","):
        wanted = words(negative) - ARTICLES
        fitting = [concept for concept in concepts if wanted and wanted <= words(concept)]
        found |= {min(fitting, key=lambda concept: len(words(concept)))} if fitting else set()
    return tuple(concept for concept in concepts if concept in found)
