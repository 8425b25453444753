"""Classes in the place of prompts: the branches of a class-conditional pipeline."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...core.denoiser import kind_and_index
from ...core.errors import InvalidSetting, PromptError, UnknownName, in_words_of
from ..branches import Inputs, NetworkCall
from ..families import Family
from ..negatives import Negatives


def class_numbers(pipe: Any, family: Family, labels: int | str | Sequence[int | str] | None) -> tuple[int, ...]:
    """Class labels as numbers.

    Raises:
        UnknownName: the pipeline has no class of that name.
        InvalidSetting: not the number of a class, or an empty list.
    """
    if labels is None:
        return ()
    several = tuple(labels) if isinstance(labels, (list, tuple)) else (labels,)
    named = getattr(pipe, "labels", None) or {}
    count = null_class(pipe, family)
    allowed = f"a class from 0 to {count - 1}"
    if not several:
        raise InvalidSetting("negative_class_labels", labels, allowed, "leave it out for none")
    numbers = []
    for label in several:
        if isinstance(label, str):
            if label not in named:
                raise UnknownName("class label", label, named)
            label = named[label]
        number = _whole(label)
        if number is None or not 0 <= number < count:
            raise InvalidSetting("negative_class_labels", label, allowed)
        numbers.append(number)
    return tuple(numbers)


def _whole(label: Any) -> int | None:
    """Any library's integer as a plain one; None for anything else."""
    try:
        return None if isinstance(label, bool) else operator.index(label)
    except TypeError:
        return None


def null_class(pipe: Any, family: Family) -> int:
    """The number of the unconditional class, which follows the last class."""
    return getattr(pipe, family.network).config.num_embeds_ada_norm


@dataclass(frozen=True)
class Labels:
    """The classes of one pipeline call.

    Args:
        pipe: the pipeline.
        family: of the pipeline.
        argument: of the network, which holds the class.
        negatives: the negative classes.
    """

    pipe: Any
    family: Family
    argument: str
    negatives: Negatives

    def inputs(self, condition: str, call: NetworkCall) -> Inputs:
        """The network's class argument for ``empty``, ``negative``, ``negative_2`` and so on.

        Raises:
            PromptError: there is no such negative class, or a conjunction of classes is asked for.
        """
        kind, index = kind_and_index(condition)
        if kind == "conjunction":
            raise PromptError(
                f"the guidance asks for the prompt and the negative prompt together, and {type(self.pipe).__name__} has "
                f"classes, of which an image has one; use a guidance that takes the negative alone, such as "
                + in_words_of(
                    'DynamicNegativeGuidance(concept="negative")', "--guidance dynamic-negative --set concept=negative"
                )
            )
        if kind == "empty":
            label = null_class(self.pipe, self.family)
        else:
            self.negatives.check_there_is(index, condition, "negative_class_labels")
            label = self.negatives.labels[index]
        return {self.argument: torch.full_like(call.argument(self.argument)[: call.batch_size], label)}
