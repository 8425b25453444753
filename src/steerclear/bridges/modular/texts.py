"""Further prompts, encoded by the pipeline's own text encoder block, as it encoded its prompt."""

from dataclasses import dataclass, field
from typing import Any

from diffusers.modular_pipelines.modular_pipeline import PipelineState

from ...core.denoiser import kind_and_index
from ...core.errors import PromptError
from ...core.prompts import conjunction
from ..negatives import Negatives, check_read_whole, tokens_read
from .conditions import Encoded
from .running import Loop

POSITIVE, NEGATIVE = "prompt", "negative_prompt"
FURTHER = ("_2", "_3")
"""Of the prompts that pipelines take for their second and third text encoder."""
EMBEDDINGS = "prompt_embeds"
TOKENIZERS = tuple("tokenizer" + further for further in (*reversed(FURTHER), ""))


def check_text(loop: Loop, text: str) -> None:
    """A text encoder reads a limited number of tokens; what lies beyond would be dropped without a word.

    Where there are several, the last one reads the most: the T5 of SD 3, up to the call's ``max_sequence_length``.

    Raises:
        PromptError: words would fall off; names them.
    """
    name = next((name for name in TOKENIZERS if getattr(loop.pipe, name, None) is not None), None)
    if name is None:
        raise PromptError(f"{type(loop.pipe).__name__} has no tokenizer, so it cannot read {text!r}")
    encoder = getattr(loop.pipe, name.replace("tokenizer", "text_encoder"), None)
    check_read_whole(
        loop.pipe, getattr(loop.pipe, name), text, tokens_read(encoder, loop.state.get("max_sequence_length"))
    )


@dataclass
class Texts:
    """The texts of one run: each is encoded when a guidance first asks for it, and remembered.

    Args:
        loop: the pipeline's loop.
        negatives: the negative prompts.
    """

    loop: Loop
    negatives: Negatives
    known: dict[str, Encoded] = field(default_factory=dict)

    def encoded(self, condition: str) -> Encoded:
        """What the network is given for ``empty``, ``negative``, ``conjunction``, ``negative_2`` and so on.

        Raises:
            PromptError: there is no such negative prompt, it has no text, or it is too long together with the prompt.
        """
        if condition not in self.known:
            self.known[condition] = self._encoded(condition)
        return self.known[condition]

    def _encoded(self, condition: str) -> Encoded:
        prompts = self._prompts(condition)
        kind, index = kind_and_index(condition)
        if kind == "empty":
            # none at all is what the pipeline takes for empty (zeros in SDXL); SD 3 then prepares nothing
            return self._as_negative(prompts, None) or self._as_negative(prompts, [""] * len(prompts))
        if index >= len(self.negatives):
            raise PromptError(
                f"the guidance asks for the branch {condition!r}, but there is no such negative prompt; give it to "
                f"steerclear.guider(..., negative_prompt=...)"
            )
        texts = self.negatives.for_prompts(index, len(prompts))
        assert texts is not None  # a negative that is known by its embeddings alone comes without a prompt
        return self._as_negative(prompts, texts) if kind == "negative" else self._together(prompts, texts)

    def _prompts(self, condition: str) -> list[str]:
        prompt = self.loop.state.get(POSITIVE)
        if prompt is None:
            raise PromptError(
                f"the guidance asks for the branch {condition!r}, and the prompt was given as embeddings, so there is no text "
                f"encoder block that could encode it; give the prompt as text to a pipeline with its text encoder"
            )
        return [prompt] if isinstance(prompt, str) else list(prompt)

    def _as_negative(self, prompts: list[str], texts: list[str] | None) -> Encoded:
        """In the way of negative prompts, which differs from that of prompts (``clip_skip`` is not for them)."""
        changed = {POSITIVE: prompts, NEGATIVE: texts, **{NEGATIVE + further: None for further in FURTHER}}
        negative = "negative_"
        encoded = self._run_block(changed)
        return {
            name.removeprefix(negative): value
            for name, value in encoded.items()
            if name.startswith(negative) and value is not None
        }

    def _together(self, prompts: list[str], texts: list[str]) -> Encoded:
        changed: dict[str, Any] = {NEGATIVE: None}
        for name in (POSITIVE, *(POSITIVE + further for further in FURTHER)):
            own = prompts if name == POSITIVE else self.loop.state.get(name)
            if own is None:
                continue
            own = [own] if isinstance(own, str) else own
            changed[name] = [conjunction(prompt, text) for prompt, text in zip(own, texts, strict=True)]
        for text in changed[POSITIVE]:
            check_text(self.loop, text)
        return {name: value for name, value in self._run_block(changed).items() if not name.startswith("negative_")}

    def _run_block(self, changed: dict[str, Any]) -> dict[str, Any]:
        """Run the pipeline's text encoder block on a copy of its state, with some of the inputs changed."""
        for block in self.loop.pipe.blocks.sub_blocks.values():
            if POSITIVE in block.input_names and EMBEDDINGS in block.intermediate_output_names:
                state = PipelineState({**self.loop.state.values, **changed}, dict(self.loop.state.kwargs_mapping))
                block(self.loop.pipe, state)
                return {name: state.get(name) for name in block.intermediate_output_names}
        raise PromptError(
            f"{type(self.loop.pipe).__name__} has no block that makes {EMBEDDINGS} of a {POSITIVE}, so it cannot encode a "
            f"further prompt; add its text encoder block"
        )
