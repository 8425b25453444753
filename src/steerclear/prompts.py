"""Prompts as a text encoder reads them: what does not fit is named, not dropped in silence."""

from typing import Any

from .errors import PromptError


def words_beyond(tokenizer: Any, prompt: str) -> str:
    """The words at the end of a prompt that a tokenizer with a fixed length cuts off; empty when all of it fits.

    A word that is cut in the middle counts as cut off.

    Args:
        tokenizer: a transformers tokenizer with ``model_max_length``.
        prompt: the text.
    """
    limit = int(tokenizer.model_max_length)

    def fits(text: str) -> bool:
        return len(tokenizer(text, truncation=False, verbose=False).input_ids) <= limit

    if fits(prompt):
        return ""
    words = prompt.split()
    low, high = 0, len(words)  # the first `low` words fit, the first `high` do not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(" ".join(words[:middle])) else (low, middle)
    return " ".join(words[low:])


def check_length(tokenizer: Any, what: str, prompt: str) -> None:
    """Raises :class:`PromptError` that names the words which fall off."""
    lost = words_beyond(tokenizer, prompt)
    if lost:
        raise PromptError(
            f"the {what} is longer than the {int(tokenizer.model_max_length)} tokens that this model reads; "
            f"these words fall off: {lost!r}. Shorten it, or put what matters first."
        )
