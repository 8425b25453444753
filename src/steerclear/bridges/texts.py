"""Further prompts of one run: each is encoded when a branch first asks for it, and remembered. Both doors share this."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ..core.denoiser import kind_and_index
from ..core.errors import PromptError
from ..core.prompts import conjunction
from .branches import Inputs
from .negatives import EMBEDDED, Negatives

PROMPTS = ("prompt", "prompt_2", "prompt_3")
"""A pipeline with several text encoders takes a prompt for each; those not given are as the first."""

Wordings = Mapping[str, list[str] | None]
"""Name of a text encoder's prompt -> one text per prompt of the call; None where it is not given."""


class Texts(ABC):
    """The texts of one run, encoded as the pipeline encoded its own.

    Args:
        negatives: the negative prompts.
        told: name -> argument of the pipeline's call; None where it is not given.
    """

    function: ClassVar[str]
    """What takes negative prompts, for the error."""

    def __init__(self, negatives: Negatives, told: Callable[[str], Any]) -> None:
        self.negatives, self.told = negatives, told
        self.known: dict[str, Inputs] = {}

    def inputs(self, condition: str) -> Inputs:
        """The text's values for ``empty``, ``negative``, ``conjunction``, ``negative_2`` and so on.

        Raises:
            PromptError: there is no such negative prompt, it has no text, or it is too long together with the prompt.
        """
        if condition not in self.known:
            self.check_encodes(condition)
            self.known[condition] = self._encoded(condition)
        return self.known[condition]

    def _encoded(self, condition: str) -> Inputs:
        kind, index = kind_and_index(condition)
        if kind == "empty":
            return self.as_empty()
        self.negatives.check_there_is(index, condition, "negative_prompt", self.function)
        wordings = self._wordings(index)
        return self.as_negative(wordings) if kind == "negative" else self.as_prompt(self._together(wordings))

    def _wordings(self, index: int) -> Wordings:
        """The index-th negative prompt, for each text encoder."""
        of_call = {name: self.told(f"negative_{name}") if self.negatives.from_call else None for name in PROMPTS}
        own = {name: self.several(text) for name, text in of_call.items()}
        return own | {"prompt": self.negatives.for_prompts(index, self.prompts)}

    def several(self, text: Any) -> list[str] | None:
        """A text of the call, once per prompt; None where it is not given."""
        return [text] * self.prompts if isinstance(text, str) else text and list(text)

    def _together(self, negatives: Wordings) -> Wordings:
        """The prompt and a negative prompt as one text, for each text encoder."""
        if self.told("prompt") is None or negatives["prompt"] is EMBEDDED:
            raise PromptError(
                "the guidance asks for the prompt and the negative prompt together, and one of them was given as "
                "embeddings; give both as text"
            )
        both: dict[str, list[str] | None] = {}
        for name in PROMPTS:
            prompts = self.several(self.told(name) or (negatives[name] and self.told("prompt")))
            texts = negatives[name] or negatives["prompt"]
            both[name] = prompts and [conjunction(*pair) for pair in zip(prompts, texts or (), strict=True)]
        for text in [text for texts in both.values() for text in texts or ()]:
            self.check_text(text)
        return both

    @property
    @abstractmethod
    def prompts(self) -> int:
        """How many prompts the call has."""

    @abstractmethod
    def check_text(self, text: str) -> None:
        """Raises :class:`PromptError` where the text encoders do not read the whole of a text."""

    @abstractmethod
    def check_encodes(self, condition: str) -> None:
        """Raises where the pipeline's own prompt was not encoded in a way that can be repeated."""

    @abstractmethod
    def as_empty(self) -> Inputs:
        """What the pipeline takes where no negative prompt is given, which for SDXL is zeros and not an empty text."""

    @abstractmethod
    def as_negative(self, wordings: Wordings) -> Inputs:
        """Texts in the way of negative prompts, which differs from that of prompts (``clip_skip`` is not for them)."""

    @abstractmethod
    def as_prompt(self, wordings: Wordings) -> Inputs:
        """Texts in the way of prompts."""
