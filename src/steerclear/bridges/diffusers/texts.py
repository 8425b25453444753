"""Further prompts, encoded by the pipeline's own ``encode_prompt``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...core.errors import UnsupportedModel
from ..branches import Inputs
from ..families import Family
from ..negatives import EMBEDDED, Negatives, check_encoders, check_readable
from ..texts import PROMPTS, Texts, Wordings


@dataclass(frozen=True)
class Encoding:
    """One call of ``encode_prompt`` by the pipeline: the method, its arguments, what it returned."""

    encode: Callable[..., tuple[Any, ...]]
    arguments: Mapping[str, Any]
    encoded: tuple[Any, ...]


class PipelineTexts(Texts):
    """The texts of one pipeline call, encoded with the arguments that the pipeline used (device, LoRA scale, layers to
    skip): bit-identical to a prompt given to the pipeline.

    Args:
        pipe, family: the pipeline.
        negatives: the negative prompts.
        call: the arguments of the pipeline's call.
    """

    function = "steer"

    def __init__(self, pipe: Any, family: Family, negatives: Negatives, call: Mapping[str, Any]) -> None:
        super().__init__(negatives, call.get)
        self.pipe, self.family = pipe, family
        self.encodings: list[Encoding] = []

    def remember(self, encoding: Encoding) -> None:
        """What the pipeline itself encoded: first the prompt, and in some families the negative prompt after it."""
        if self.encodings and self.family.encodes_negatives_apart:
            own = {text.argument: encoding.encoded[text.positive] for text in self.family.texts}
            self.known[self.negatives.unconditional] = own
        self.encodings.append(encoding)

    def check_encodes(self, condition: str) -> None:
        if not self.encodings:
            raise UnsupportedModel(
                f"{type(self.pipe).__name__} did not encode its prompt by encode_prompt, so steerclear does not know "
                f"how to encode the {condition} prompt in the same way"
            )

    def check_text(self, text: str) -> None:
        check_readable(self.pipe, text, self.family, self.told("max_sequence_length"))

    @property
    def prompts(self) -> int:
        return len(self.encodings[0].encoded[self.family.texts[0].positive]) // self._images_per_prompt

    @property
    def _images_per_prompt(self) -> int:
        return self.encodings[0].arguments.get("num_images_per_prompt") or 1

    def as_empty(self) -> Inputs:
        if self.family.encodes_negatives_apart:
            text: Any = [""] * self.prompts
        else:  # an empty text given to the call is the pipeline's own business: it may differ from none at all
            text = self.family.empty if self.negatives.from_call else self.told("negative_prompt")
        return self._as_negative({**dict.fromkeys(PROMPTS), "prompt": text}, embedded=False)

    def as_negative(self, wordings: Wordings) -> Inputs:
        return self._as_negative(wordings, wordings["prompt"] is EMBEDDED)

    def _as_negative(self, wordings: Mapping[str, Any], embedded: bool) -> Inputs:
        if not embedded:
            check_encoders(self.pipe, self.family)
        own = {
            text.ready_made: self.told(f"negative_{text.ready_made}") if embedded else None
            for text in self.family.texts
        }
        if self.family.encodes_negatives_apart:
            encoded = self._encode({**wordings, **own})
            return {text.argument: encoded[text.positive] for text in self.family.texts}
        of_prompt, once = self.encodings[0].encoded, self._images_per_prompt
        prompt = {text.ready_made: of_prompt[text.positive][::once] for text in self.family.texts}
        negative = {f"negative_{name}": value for name, value in {**wordings, **own}.items()}
        # given as embeddings, the prompt is not encoded again
        encoded = self._encode({**dict.fromkeys(PROMPTS), **prompt, **negative, "do_classifier_free_guidance": True})
        return {text.argument: encoded[text.negative] for text in self.family.texts if text.negative is not None}

    def as_prompt(self, wordings: Wordings) -> Inputs:
        given = {text.ready_made: None for text in self.family.texts}
        negative = {f"negative_{name}": None for name in (*PROMPTS, *given)}
        encoded = self._encode({**wordings, **given, **negative, "do_classifier_free_guidance": False})
        return {text.argument: encoded[text.positive] for text in self.family.texts}

    def _encode(self, changed: Mapping[str, Any]) -> tuple[Any, ...]:
        own = self.encodings[0]
        known = {name: value for name, value in changed.items() if name in own.arguments}
        return own.encode(**{**own.arguments, **known})
