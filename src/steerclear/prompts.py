"""Prompts as a text encoder reads them: what does not fit is named, not dropped in silence."""

from typing import Any

from .errors import PromptError


def words_beyond(tokenizer: Any, prompt: str) -> str:
    """The end of a prompt that a tokenizer with a fixed length cuts off; empty when all of it fits.

    Args:
        tokenizer: a transformers tokenizer with ``model_max_length``.
        prompt: the text.
    """
    limit = int(tokenizer.model_max_length)
    tokens = tokenizer(prompt, truncation=False, verbose=False).input_ids
    if len(tokens) <= limit:
        return ""
    kept = tokens[: limit - 1]  # the last place is the end token's
    return tokenizer.decode(tokens[len(kept) : -1], skip_special_tokens=True).strip()


def check_length(tokenizer: Any, what: str, prompt: str) -> None:
    """Raises :class:`PromptError` that names the words which fall off."""
    lost = words_beyond(tokenizer, prompt)
    if lost:
        raise PromptError(
            f"the {what} is longer than the {int(tokenizer.model_max_length)} tokens that this model reads; "
            f"these words fall off: {lost!r}. Shorten it, or put what matters first."
        )
