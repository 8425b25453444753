"""Further prompts, encoded by the pipeline itself, as it encoded its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...core.denoiser import kind_and_index
from ...core.errors import PromptError, UnsupportedModel
from ...core.prompts import conjunction
from ..branches import Inputs, NetworkCall
from ..families import Family
from ..negatives import EMBEDDED, Negatives, check_encoders, check_readable

PROMPTS = ("prompt", "prompt_2", "prompt_3")
"""A pipeline with several text encoders takes a prompt for each; those not given are as the first."""

Wordings = Mapping[str, list[str] | None]
"""Name of a text encoder's prompt -> one text a prompt of the call; None where it is not given."""


@dataclass
class Texts:
    """The texts of one pipeline call: each is encoded when a branch first asks for it, and remembered.

    They are encoded with the arguments that the pipeline used (device, LoRA scale, layers to skip), so that a prompt
    given here is encoded bit by bit as one given to the pipeline.

    Args:
        pipe: the pipeline.
        family: which of the network's arguments come from the prompt.
        negatives: the negative prompts.
        call: the arguments of the pipeline's call.
    """

    pipe: Any
    family: Family
    negatives: Negatives
    call: Mapping[str, Any]
    encode: Callable[..., tuple[Any, ...]] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    encoded: tuple[Any, ...] = ()
    known: dict[str, Inputs] = field(default_factory=dict)

    def remember(
        self, encode: Callable[..., tuple[Any, ...]], arguments: Mapping[str, Any], encoded: tuple[Any, ...]
    ) -> None:
        """What the pipeline asked of its ``encode_prompt``, and what it got."""
        if self.encode is None:
            self.encode, self.arguments, self.encoded = encode, arguments, encoded
        elif self.family.encodes_negatives_apart:  # the prompt comes first, then the negative prompt
            own = {text.argument: encoded[text.positive] for text in self.family.texts}
            self.known[self.negatives.unconditional] = own

    def inputs(self, condition: str, call: NetworkCall) -> Inputs:
        """The network's text arguments for ``empty``, ``negative``, ``conjunction``, ``negative_2`` and so on.

        Raises:
            PromptError: there is no such negative prompt, it has no text, or it is too long together with the prompt.
        """
        if condition not in self.known:
            self.known[condition] = self._encoded(condition)
        return self.known[condition]

    def _encoded(self, condition: str) -> Inputs:
        if self.encode is None:
            raise UnsupportedModel(
                f"{type(self.pipe).__name__} did not encode its prompt by encode_prompt, so steerclear does not know "
                f"how to encode the {condition} prompt in the same way"
            )
        kind, index = kind_and_index(condition)
        if kind == "empty":
            return self._as_empty()
        self.negatives.check_there_is(index, condition, "negative_prompt")
        wordings = self._wordings(index)
        return self._as_negative(wordings) if kind == "negative" else self._together(wordings)

    def _wordings(self, index: int) -> Wordings:
        """The index-th negative prompt, for each text encoder."""
        of_call = {name: self.call.get(f"negative_{name}") if self.negatives.from_call else None for name in PROMPTS}
        own = {name: self._several(text) for name, text in of_call.items()}
        return own | {"prompt": self.negatives.for_prompts(index, self._prompts())}

    def _several(self, text: Any) -> list[str] | None:
        return [text] * self._prompts() if isinstance(text, str) else text and list(text)

    def _prompts(self) -> int:
        return len(self.encoded[self.family.texts[0].positive]) // self._images_per_prompt()

    def _images_per_prompt(self) -> int:
        return self.arguments.get("num_images_per_prompt") or 1

    def _as_empty(self) -> Inputs:
        """As the pipeline has it when no negative prompt is given, which for SDXL is zeros and no text."""
        if self.family.encodes_negatives_apart:
            text: Any = [""] * self._prompts()
        else:  # an empty text given to the call is the pipeline's own business: it may differ from none at all
            text = self.family.empty if self.negatives.from_call else self.call.get("negative_prompt")
        return self._as_negative({**dict.fromkeys(PROMPTS), "prompt": text}, embedded=False)

    def _as_negative(self, wordings: Mapping[str, Any], embedded: bool | None = None) -> Inputs:
        """In the way of negative prompts, which differs from that of prompts (``clip_skip`` is not for them)."""
        embedded = wordings["prompt"] is EMBEDDED if embedded is None else embedded
        if not embedded:
            check_encoders(self.pipe, self.family)
        own = {
            text.ready_made: self.call.get(f"negative_{text.ready_made}") if embedded else None
            for text in self.family.texts
        }
        if self.family.encodes_negatives_apart:
            encoded = self._encode({**wordings, **own})
            return {text.argument: encoded[text.positive] for text in self.family.texts}
        once = self._images_per_prompt()
        prompt = {text.ready_made: self.encoded[text.positive][::once] for text in self.family.texts}
        negative = {f"negative_{name}": value for name, value in {**wordings, **own}.items()}
        # given as embeddings, the prompt is not encoded again
        encoded = self._encode({**dict.fromkeys(PROMPTS), **prompt, **negative, "do_classifier_free_guidance": True})
        return {text.argument: encoded[text.negative] for text in self.family.texts if text.negative is not None}

    def _together(self, negatives: Wordings) -> Inputs:
        if self.call.get("prompt") is None or negatives["prompt"] is EMBEDDED:
            raise PromptError(
                "the guidance asks for the prompt and the negative prompt together, and one of them was given as "
                "embeddings; give both as text"
            )
        both: dict[str, list[str] | None] = {}
        for name in PROMPTS:
            prompts = self._several(self.call.get(name) or (negatives[name] and self.call["prompt"]))
            texts = negatives[name] or negatives["prompt"]
            both[name] = prompts and [conjunction(*pair) for pair in zip(prompts, texts or (), strict=True)]
        for text in [text for texts in both.values() for text in texts or ()]:
            check_readable(self.pipe, text, self.family, self.call.get("max_sequence_length"))
        given = {text.ready_made: None for text in self.family.texts}
        negative = {f"negative_{name}": None for name in (*PROMPTS, *given)}
        encoded = self._encode({**both, **given, **negative, "do_classifier_free_guidance": False})
        return {text.argument: encoded[text.positive] for text in self.family.texts}

    def _encode(self, changed: Mapping[str, Any]) -> tuple[Any, ...]:
        assert self.encode is not None
        known = {name: value for name, value in changed.items() if name in self.arguments}
        return self.encode(**{**self.arguments, **known})
