"""Further prompts, encoded by the text encoder block of a modular pipeline."""

from collections.abc import Mapping
from typing import Any

from diffusers.modular_pipelines.modular_pipeline import PipelineState

from ...core.errors import PromptError
from ..branches import Inputs
from ..negatives import Negatives, check_read_whole, tokens_read
from ..texts import PROMPTS, Texts, Wordings
from .running import Loop

EMBEDDINGS, NEGATIVE = "prompt_embeds", "negative_"
TOKENIZERS = ("tokenizer_3", "tokenizer_2", "tokenizer")


def check_text(loop: Loop, text: str) -> None:
    """See :func:`~steerclear.bridges.negatives.check_readable`.

    Of several text encoders the last one reads the most: the T5 of SD 3, up to the call's ``max_sequence_length``.
    """
    name = next((name for name in TOKENIZERS if getattr(loop.pipe, name, None) is not None), None)
    if name is None:
        raise PromptError(f"{type(loop.pipe).__name__} has no tokenizer, so it cannot read {text!r}")
    encoder = getattr(loop.pipe, name.replace("tokenizer", "text_encoder"), None)
    longest = tokens_read(encoder, loop.state.get("max_sequence_length"))
    check_read_whole(loop.pipe, getattr(loop.pipe, name), text, longest)


class StateTexts(Texts):
    """The texts of one run of a modular pipeline.

    Args:
        loop: the pipeline's loop.
        negatives: the negative prompts.
    """

    function = "steerclear.guider"

    def __init__(self, loop: Loop, negatives: Negatives) -> None:
        super().__init__(negatives, loop.state.get)
        self.loop = loop

    def check_encodes(self, condition: str) -> None:
        if self.told("prompt") is None:
            raise PromptError(
                f"the guidance asks for the branch {condition!r}, and the prompt was given as embeddings, so no text encoder "
                f"block ran that could encode it; give the prompt as text to a pipeline with its text encoder"
            )

    def check_text(self, text: str) -> None:
        check_text(self.loop, text)

    @property
    def prompts(self) -> int:
        prompt = self.told("prompt")
        return 1 if isinstance(prompt, str) else len(prompt)

    def as_empty(self) -> Inputs:
        none: Wordings = dict.fromkeys(PROMPTS)
        # none at all is what the pipeline takes for empty (zeros in SDXL); SD 3 then prepares nothing
        return self.as_negative(none) or self.as_negative({**none, "prompt": [""] * self.prompts})

    def as_negative(self, wordings: Wordings) -> Inputs:
        changed = {"prompt": self.several(self.told("prompt"))} | {
            NEGATIVE + name: one for name, one in wordings.items()
        }
        return {
            name.removeprefix(NEGATIVE): value
            for name, value in self._run_block(changed).items()
            if name.startswith(NEGATIVE) and value is not None
        }

    def as_prompt(self, wordings: Wordings) -> Inputs:
        encoded = self._run_block({f"{NEGATIVE}prompt": None, **wordings})
        return {name: value for name, value in encoded.items() if not name.startswith(NEGATIVE)}

    def _run_block(self, changed: Mapping[str, Any]) -> dict[str, Any]:
        """Run the pipeline's text encoder block on a copy of its state, with some of the inputs changed."""
        for block in self.loop.pipe.blocks.sub_blocks.values():
            if "prompt" in block.input_names and EMBEDDINGS in block.intermediate_output_names:
                state = PipelineState({**self.loop.state.values, **changed}, dict(self.loop.state.kwargs_mapping))
                block(self.loop.pipe, state)
                return {name: state.get(name) for name in block.intermediate_output_names}
        raise PromptError(
            f"{type(self.loop.pipe).__name__} has no block that makes {EMBEDDINGS} of a prompt, so it cannot encode a "
            f"further prompt; add its text encoder block"
        )
