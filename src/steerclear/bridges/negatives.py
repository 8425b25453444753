"""Negative prompts: are they given, given once, and short enough to be read?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import PromptError, in_words_of, shown
from ..core.prompts import check_length, check_text
from .families import Family

EMBEDDED = None
"""Stands for the text of a negative prompt that was given as embeddings."""


@dataclass(frozen=True)
class Negatives:
    """The negative prompts of one run.

    Args:
        texts: one per negative prompt: a text for all images, a tuple with one text per prompt of the call, or ``EMBEDDED``.
        from_call: whether the pipeline's call gave them, so that its unconditional part is the first one.
        labels: in place of texts, for pipelines that have classes.
    """

    texts: tuple[str | tuple[str, ...] | None, ...] = ()
    from_call: bool = False
    labels: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.texts) or len(self.labels)

    @property
    def unconditional(self) -> str:
        """Which branch the unconditional part of the pipeline's own batch is."""
        return "negative" if self.from_call else "empty"

    def check_there_is(self, index: int, condition: str, setting: str, function: str = "steer") -> None:
        """Raises :class:`PromptError` when a branch asks for a negative that was not given, by this setting of this function."""
        if index >= len(self):
            there = "is 1 negative" if len(self) == 1 else f"are {len(self)} negatives"
            raise PromptError(
                f"the guidance asks for the branch {condition!r}, but there {there}; give "
                f"{in_words_of(f'{setting} to {function}', '--negative-prompt')}"
            )

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
        PromptError: an empty one, or something that is not a text.

    >>> given_to_steer(["hat", "beard"]).texts
    ('hat', 'beard')
    """
    if negative_prompt is None:
        return Negatives()
    texts = _texts("negative_prompt", negative_prompt)
    if not texts or not all(text.strip() for text in texts):
        raise PromptError(
            f"negative_prompt is {shown(negative_prompt)}, and an empty text names no concept; name what must not be there, "
            f"or leave negative_prompt out"
        )
    return Negatives(texts)


def given_to_call(
    negative_prompt: str | Sequence[str] | None, embeddings: Any, prompts: int | None = None
) -> Negatives:
    """The negative prompt of the pipeline's own call. An empty one counts as none, as in diffusers.

    Args:
        negative_prompt: a text for all prompts, or a list with one per prompt.
        embeddings: the same, encoded already; None where it is not.
        prompts: how many prompts the call has; None where that is not known.

    Raises:
        PromptError: not a text, or not as many texts as prompts.
    """
    if embeddings is not None:
        return Negatives((EMBEDDED,), from_call=True)
    texts = _texts("negative_prompt", negative_prompt, prompts)
    if not "".join(texts).strip():
        return Negatives()
    return Negatives((negative_prompt if isinstance(negative_prompt, str) else texts,), from_call=True)


def _texts(name: str, given: Any, prompts: int | None = None) -> tuple[str, ...]:
    """None, one text, or a list of texts, one per prompt."""
    if given is None:
        return ()
    if isinstance(given, str):
        return (check_text("negative prompt", given),)
    if not isinstance(given, (list, tuple)):
        raise PromptError(f"{name} is {shown(given)}, but must be a text or a list of texts")
    for text in given:
        if not isinstance(text, str):
            raise PromptError(f"a negative prompt must be a text, but one of them is {shown(text)}")
        check_text("negative prompt", text)
    if prompts is not None and len(given) != prompts:
        raise PromptError(
            f"{name} of the pipeline's call has {len(given)} texts, and its prompt has {prompts}; give one text for "
            f"all, or a list of one for each prompt; a list of several negative prompts per image is for steer"
        )
    return tuple(given)


def check_complete(of_call: Negatives, call: Mapping[str, Any], prompts: int | None = None) -> None:
    """Refuse a negative prompt for the second text encoder alone, which diffusers reads or drops depending on the model.

    Args:
        of_call: the negative prompt of the call.
        call: its arguments.
        prompts: see :func:`given_to_call`.

    Raises:
        PromptError: ``negative_prompt_2`` or ``_3`` is given without ``negative_prompt``, or is not one text per prompt.
    """
    for further in ("negative_prompt_2", "negative_prompt_3"):
        texts = _texts(further, call.get(further), prompts)
        if not len(of_call) and "".join(texts).strip():
            raise PromptError(
                f"{further} is {call[further]!r}, and negative_prompt is not given, without which it may be dropped; "
                f"give negative_prompt, or both"
            )


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


def check_readable(pipe: Any, text: str, family: Family | None = None, longest: int | None = None) -> None:
    """Refuse a text that the text encoders do not read whole: the words beyond would be dropped without notice.

    Args:
        pipe: the pipeline.
        text: a prompt or negative prompt.
        family: says which tokenizers read the whole of it; None for a pipeline with one.
        longest: how many tokens the pipeline's call lets them read; None for as many as they can.

    Raises:
        PromptError: words would be cut off (names them), or the pipeline has no text encoder.
    """
    for tokenizer, read in check_encoders(pipe, family, text, longest):
        check_read_whole(pipe, tokenizer, text, read)


def check_read_whole(pipe: Any, tokenizer: Any, text: str, longest: int | None, what: str | None = None) -> None:
    """See :func:`check_readable`, for one tokenizer of the pipeline; ``what`` is what the text is, for the error."""
    convert = getattr(pipe, "maybe_convert_prompt", None)  # one word of textual inversion may be several tokens
    own = convert and (lambda words: convert(words, tokenizer))
    check_length(tokenizer, what or f"prompt {shown(text)}", text, own, longest)


def tokens_read(encoder: Any, longest: int | None) -> int | None:
    """How many tokens a text encoder reads when the call says ``longest``, which CLIP ignores; None for all it can."""
    return None if "clip" in str(getattr(getattr(encoder, "config", None), "model_type", "")) else longest


def check_encoders(
    pipe: Any, family: Family | None = None, text: str | None = None, longest: int | None = None
) -> list[tuple[Any, int | None]]:
    """The tokenizers that read the whole of a prompt, each with the number of tokens it reads; None for all it can.

    Raises:
        PromptError: the pipeline has no text encoder, or no tokenizer for it; names ``text`` where it is known. Or ``text`` is
            no class, where classes have names.
    """
    groups = (("tokenizer",),) if family is None else family.readers
    if not groups:
        if text is not None:
            pipe.check_prompt(text)
        return []
    for names in groups:
        encoders: list[Any] = [getattr(pipe, name.replace("tokenizer", "text_encoder"), None) for name in names]
        tokenizers = [getattr(pipe, name, None) for name in names]
        if all(part is not None for part in (*tokenizers, *encoders)):
            return list(zip(tokenizers, (tokens_read(encoder, longest) for encoder in encoders), strict=True))
    what = "a further prompt" if text is None else repr(text)
    raise PromptError(
        f"{type(pipe).__name__} has no tokenizer or no text encoder, so it cannot read {what}; load it with its text "
        f"encoders"
        + in_words_of(", or give the call negative_prompt_embeds and a guidance that needs no other branch", "")
    )
