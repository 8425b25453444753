"""Negative prompts: are they there, given once, and short enough to be read?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import PromptError
from ..prompts import check_length

EMBEDDED = None
"""Stands for the text of a negative prompt that was given as embeddings."""


@dataclass(frozen=True)
class Negatives:
    """The negative prompts of one run.

    Args:
        texts: one entry a negative prompt: a text for all images, a tuple with one text for each prompt of the call, or
            ``EMBEDDED``.
        from_call: whether the pipeline's call gave them, so that its unconditional half is the first one.
    """

    texts: tuple[str | tuple[str, ...] | None, ...] = ()
    from_call: bool = False

    def __len__(self) -> int:
        return len(self.texts)

    def all_texts(self) -> list[str]:
        """Every text there is.

        >>> Negatives(("hat", ("beard", "wheel"))).all_texts()
        ['hat', 'beard', 'wheel']
        """
        known = [text for text in self.texts if text is not EMBEDDED]
        return [one for text in known for one in ((text,) if isinstance(text, str) else text)]

    def for_prompts(self, index: int, prompts: int) -> list[str] | None:
        """The index-th negative prompt, once for each of so many prompts; None when only its embeddings are known.

        >>> Negatives(("hat", ("hat", "beard"))).for_prompts(0, 2)
        ['hat', 'hat']
        """
        text = self.texts[index]
        if text is EMBEDDED:
            return None
        return [text] * prompts if isinstance(text, str) else list(text)


def given_to_steer(negative_prompt: str | Sequence[str] | None) -> Negatives:
    """The negative prompts of a ``with steer(...)`` block: one, or several that are all in force.

    Raises:
        PromptError: an empty one.

    >>> given_to_steer(["hat", "beard"]).texts
    ('hat', 'beard')
    """
    if negative_prompt is None:
        return Negatives()
    texts = (negative_prompt,) if isinstance(negative_prompt, str) else tuple(negative_prompt)
    for text in texts:
        if not isinstance(text, str):
            raise PromptError(f"a negative prompt must be a text, but one of them is {text!r}")
    if not texts or not all(text.strip() for text in texts):
        raise PromptError(
            f"negative_prompt is {negative_prompt!r}, and an empty text names no concept; say what shall not be there, "
            f"or leave negative_prompt out"
        )
    return Negatives(texts)


def given_to_call(negative_prompt: str | Sequence[str] | None, embeddings: Any) -> Negatives:
    """The negative prompt of the pipeline's own call. An empty one is none, as it is for diffusers."""
    if embeddings is not None:
        return Negatives((EMBEDDED,), from_call=True)
    if negative_prompt is None or not "".join(negative_prompt).strip():
        return Negatives()
    texts = negative_prompt if isinstance(negative_prompt, str) else tuple(negative_prompt)
    return Negatives((texts,), from_call=True)


def chosen(of_steer: Negatives, of_call: Negatives) -> Negatives:
    """Those of ``steer`` or those of the call.

    Raises:
        PromptError: both are given.
    """
    if len(of_steer) and len(of_call):
        raise PromptError(
            f"a negative prompt is given twice: steer has {', '.join(map(repr, of_steer.texts))}, and the pipeline's "
            f"call has one too; give it to one of them, or all of them to steer as a list"
        )
    return of_steer if len(of_steer) else of_call


def check_readable(pipe: Any, text: str) -> None:
    """A text encoder reads a limited number of tokens; what lies beyond would be dropped without a word.

    Raises:
        PromptError: words would fall off, or the pipeline has no text encoder; names the words.
    """
    tokenizer = getattr(pipe, "tokenizer", None)
    if tokenizer is None or getattr(pipe, "text_encoder", None) is None:
        raise PromptError(f"{type(pipe).__name__} has no tokenizer or no text encoder, so it cannot read {text!r}")
    convert = getattr(pipe, "maybe_convert_prompt", None)  # one word of textual inversion may be several tokens
    check_length(tokenizer, f"prompt {text!r}", text, convert and (lambda words: convert(words, tokenizer)))
