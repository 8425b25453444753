"""Prompts as a text encoder reads them: what does not fit is named, not dropped in silence."""

from collections.abc import Callable
from typing import Any

from .errors import PromptError, in_words_of, shown

Convert = Callable[[str], str]
"""What a pipeline does to a text before its tokenizer: a word of textual inversion may become several."""


def words_beyond(tokenizer: Any, prompt: str, convert: Convert | None = None, longest: int | None = None) -> str:
    """The words at the end of a prompt that a tokenizer with a fixed length cuts off; empty when all of it fits.

    A word that is cut in the middle counts as cut off.

    Args:
        tokenizer: a transformers tokenizer with ``model_max_length``.
        prompt: the text.
        convert: see :data:`Convert`.
        longest: how many tokens are read; None for as many as the tokenizer's model takes.
    """
    # one more than is read, to see that there is more; the whole text would be warned of
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
    """The text itself.

    Args:
        what: what it is, for the message.
        text: anything.

    Raises:
        PromptError: it is not a text, or has lone surrogates, as bytes that are not UTF-8 leave them.
    """
    if not isinstance(text, str):
        raise PromptError(f"the {what} is {shown(text)}, but must be a text.")
    try:
        text.encode()
    except UnicodeEncodeError:
        fault = in_words_of(
            "has a lone surrogate, which is not a character; leave it out",
            "has bytes that are not UTF-8; say it in a terminal or a file that is",
        )
        raise PromptError(f"the {what} {shown(text)} {fault}.") from None
    return text


def check_length(
    tokenizer: Any, what: str, prompt: str, convert: Convert | None = None, longest: int | None = None
) -> None:
    """Raises :class:`PromptError` that names the words which fall off; ``what`` names the text in the message."""
    lost = words_beyond(tokenizer, prompt, convert, longest)
    if lost:
        raise PromptError(
            f"the {what} is longer than the {longest or int(tokenizer.model_max_length)} tokens that this model reads; "
            f"these words fall off: {shown(lost)}. Shorten it, or put what matters first."
        )


def conjunction(prompt: str, negative: str) -> str:
    """The prompt and the negative prompt together: what the concept is *within* what the prompt shows.

    >>> conjunction("portrait photo of a man", "mustache"), conjunction("", "mustache")
    ('portrait photo of a man, mustache', 'mustache')
    """
    return f"{prompt}, {negative}" if prompt else negative
