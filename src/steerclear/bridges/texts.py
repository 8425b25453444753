"""Further prompts, encoded by the pipeline itself, as it encoded its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..errors import PromptError, UnsupportedModel
from ..prompts import conjunction
from .families import Family
from .negatives import Negatives, check_readable

TextTensors = Mapping[str, Tensor]
"""Name of a network's argument -> its value, one row an image."""


@dataclass
class Texts:
    """The texts of one pipeline call: each is encoded when a branch first asks for it, and remembered.

    They are encoded with the arguments that the pipeline used (device, LoRA scale, layers to skip), so that a prompt
    given here is encoded bit by bit as one given to the pipeline.

    Args:
        pipe: the pipeline.
        family: which of the network's arguments come from the prompt.
        negatives: the negative prompts.
    """

    pipe: Any
    family: Family
    negatives: Negatives
    encode: Callable[..., tuple[Any, ...]] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    encoded: tuple[Any, ...] = ()
    known: dict[str, TextTensors] = field(default_factory=dict)

    def remember(
        self, encode: Callable[..., tuple[Any, ...]], arguments: Mapping[str, Any], encoded: tuple[Any, ...]
    ) -> None:
        """What the pipeline asked of its ``encode_prompt``, and what it got."""
        self.encode, self.arguments, self.encoded = encode, arguments, encoded

    def inputs(self, condition: str) -> TextTensors:
        """The network's text arguments for ``empty``, ``negative``, ``conjunction``, ``negative_2`` and so on.

        Raises:
            PromptError: there is no such negative prompt, it has no text, or it is too long together with the prompt.
        """
        if condition not in self.known:
            self.known[condition] = self._encoded(condition)
        return self.known[condition]

    def _encoded(self, condition: str) -> TextTensors:
        if self.encode is None:
            raise UnsupportedModel(
                f"{type(self.pipe).__name__} did not encode its prompt by encode_prompt, so steerclear does not know "
                f"how to encode the {condition} prompt in the same way"
            )
        kind, _, number = condition.partition("_")
        if kind == "empty":
            return self._as_negative([""] * self._prompts())
        index = int(number or 1) - 1
        if index >= len(self.negatives):
            known = (
                "is 1 negative prompt" if len(self.negatives) == 1 else f"are {len(self.negatives)} negative prompts"
            )
            raise PromptError(
                f"the guidance asks for the branch {condition!r}, but there {known}; give negative_prompt to steer"
            )
        texts = self.negatives.for_prompts(index, self._prompts())
        return self._as_negative(texts) if kind == "negative" else self._together(texts)

    def _prompts(self) -> int:
        return len(self.encoded[self.family.texts[0].positive]) // self._images_per_prompt()

    def _images_per_prompt(self) -> int:
        return self.arguments.get("num_images_per_prompt") or 1

    def _as_negative(self, texts: list[str] | None) -> TextTensors:
        """In the way of negative prompts, which differs from that of prompts (``clip_skip`` is not for them)."""
        own = self.arguments.get("negative_prompt_embeds") if texts is None else None
        prompt = self.encoded[self.family.texts[0].positive][:: self._images_per_prompt()]  # so it is not encoded again
        encoded = self._encode(
            prompt=None, prompt_embeds=prompt, negative_prompt=texts, negative_prompt_embeds=own, halves=True
        )
        return {text.argument: encoded[text.negative] for text in self.family.texts}

    def _together(self, texts: list[str] | None) -> TextTensors:
        prompts = self.arguments.get("prompt")
        if prompts is None or texts is None:
            raise PromptError(
                "the guidance asks for the prompt and the negative prompt together, and one of them was given as "
                "embeddings; give both as text"
            )
        prompts = [prompts] if isinstance(prompts, str) else prompts
        both = [conjunction(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
        for text in both:
            check_readable(self.pipe, text)
        encoded = self._encode(
            prompt=both, prompt_embeds=None, negative_prompt=None, negative_prompt_embeds=None, halves=False
        )
        return {text.argument: encoded[text.positive] for text in self.family.texts}

    def _encode(self, *, halves: bool, **texts: Any) -> tuple[Any, ...]:
        assert self.encode is not None
        if getattr(self.pipe, "text_encoder", None) is None:
            raise PromptError(f"{type(self.pipe).__name__} has no text encoder to read a further prompt with")
        return self.encode(**{**self.arguments, **texts, "do_classifier_free_guidance": halves})
