"""What the network is given under a condition."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from diffusers.guiders.guider_utils import BaseGuidance
from diffusers.modular_pipelines.modular_pipeline import BlockState
from torch import Tensor

from ...core.errors import UnsupportedModel
from ..branches import Inputs, is_prompt


@dataclass(frozen=True)
class Field:
    """One input of the network, as the loop hands it to a guider.

    Attributes:
        name: in the pipeline's state, for the prompt; None when it is not from there.
        positive, negative: its value for the prompt, and for the unconditional or negative prompt (None: not prepared).
    """

    name: str | None
    positive: Any
    negative: Any


@dataclass(frozen=True)
class Fields:
    """All inputs of the network that depend on the condition: name in the loop -> field."""

    fields: Mapping[str, Field]

    @classmethod
    def of_values(cls, data: Mapping[str, Any], block: Any) -> "Fields":
        """From values, or pairs of values for prompt and negative prompt (SDXL, SD 3): the objects of the loop's state."""

        def name(value: Any) -> str | None:
            return next((known for known, held in vars(block).items() if held is value and value is not None), None)

        pairs = {key: value if isinstance(value, tuple) else (value, None) for key, value in data.items()}
        return cls({key: Field(name(first), first, second) for key, (first, second) in pairs.items()})

    @classmethod
    def of_names(cls, names: Mapping[str, str | tuple[str, str]], block: Any) -> "Fields":
        """From names in the loop's state (Wan, LTX, Z-Image); one name is for both prompts."""
        pairs = {key: value if isinstance(value, tuple) else (value, value) for key, value in names.items()}
        values = vars(block)
        return cls({key: Field(first, values.get(first), values.get(second)) for key, (first, second) in pairs.items()})

    @property
    def has_negative(self) -> bool:
        """Whether the pipeline prepared an unconditional or negative prompt."""
        return all(field.negative is not None for field in self.fields.values() if field.positive is not None)

    def under(self, condition: str, encoded: Inputs | None) -> Any:
        """What the loop is to run under a condition.

        Args:
            condition: a conjunction is a prompt, and has what else belongs to the prompt (sizes, image embeddings).
            encoded: another text's values, by the names that the pipeline's state has for the prompt ("prompt_embeds");
                None for the pipeline's own.

        Raises:
            UnsupportedModel: the other text is of another length.
        """
        as_prompt = is_prompt(condition)
        values: dict[str, Any] = {BaseGuidance._identifier_key: condition}
        for key, field in self.fields.items():
            if encoded is not None and field.name is not None and field.name in encoded:
                values[key] = _like(field.positive, encoded[field.name], condition)
            else:
                values[key] = field.positive if as_prompt or field.negative is None else field.negative
        return BlockState(**values)


def _like(own: Any, other: Tensor, condition: str) -> Tensor:
    """Another text's tensor, once per image as the prompt's own is (pipelines encode a prompt once)."""
    if not isinstance(own, Tensor) or own.shape[1:] != other.shape[1:]:
        raise UnsupportedModel(
            f"this pipeline encodes texts to different lengths, and the {condition} prompt does not have the prompt's; "
            f"steerclear can add prompts only where all have one length, as in Stable Diffusion XL, 3 and Wan"
        )
    return other.repeat_interleave(len(own) // len(other), dim=0).to(own)


class Conditions(list[Any]):
    """A list that grows while the loop goes through it, so that the result of one condition decides the next one.

    This is how a guidance runs only the branches that it asks for, in a loop that does not know of it.
    """

    def __init__(self, source: Iterator[Any]) -> None:
        super().__init__()
        self._source = source

    def __iter__(self) -> Iterator[Any]:
        yield from super().__iter__()
        for condition in self._source:
            self.append(condition)
            yield condition
