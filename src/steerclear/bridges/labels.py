"""Classes in the place of prompts: the branches of a class-conditional pipeline."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import InvalidSetting, PromptError, UnknownName
from .branches import Inputs, NetworkCall
from .families import Family
from .negatives import Negatives


def class_numbers(pipe: Any, family: Family, labels: int | str | Sequence[int | str] | None) -> tuple[int, ...]:
    """Class labels as numbers; names where the pipeline has them.

    Raises:
        UnknownName: the pipeline has no class of that name.
        InvalidSetting: a number that is no class.
    """
    if labels is None:
        return ()
    several = (labels,) if isinstance(labels, (int, str)) else tuple(labels)
    named = getattr(pipe, "labels", None) or {}
    count = null_class(pipe, family)
    numbers = []
    for label in several:
        if isinstance(label, str):
            if label not in named:
                raise UnknownName("class label", label, named)
            label = named[label]
        if not 0 <= label < count:
            raise InvalidSetting("negative_class_labels", label, f"a class from 0 to {count - 1}")
        numbers.append(int(label))
    return tuple(numbers)


def null_class(pipe: Any, family: Family) -> int:
    """The class that stands for none: the one behind the last."""
    return getattr(pipe, family.network).config.num_embeds_ada_norm


@dataclass(frozen=True)
class Labels:
    """The classes of one pipeline call.

    Args:
        pipe: the pipeline.
        family: which of the network's arguments holds the class.
        negatives: the negative classes.
    """

    pipe: Any
    family: Family
    negatives: Negatives

    def inputs(self, condition: str, call: NetworkCall) -> Inputs:
        """The network's class argument for ``empty``, ``negative``, ``negative_2`` and so on.

        Raises:
            PromptError: there is no such negative class, or a conjunction of classes is asked for.
        """
        kind, _, number = condition.partition("_")
        if kind == "conjunction":
            raise PromptError(
                f"the guidance asks for the prompt and the negative prompt together, and {type(self.pipe).__name__} has "
                f"classes, of which an image has one; use a guidance that takes the negative as it is, such as "
                f'DynamicNegativeGuidance(concept="negative")'
            )
        label = null_class(self.pipe, self.family) if kind == "empty" else self._negative(condition, number)
        assert self.family.class_labels is not None
        own = call.argument(self.family.class_labels)
        return {self.family.class_labels: torch.full_like(own[: call.batch_size], label)}

    def _negative(self, condition: str, number: str) -> int:
        index = int(number or 1) - 1
        self.negatives.check_there_is(index, condition, "negative_class_labels")
        return self.negatives.labels[index]
