"""Some images of a batch: the same rows of every tensor in a state."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

from torch import Tensor


def of_rows(value: Any, rows: Tensor, batch_size: int) -> Any:
    """A state for some of its images, as if they were a batch of their own.

    A state has one entry per image in every tensor (:class:`~steerclear.core.records.State`). Dataclasses, tuples, lists and
    dictionaries are gone through; what knows better has a method ``of_rows(rows)``; other values stay.

    Args:
        value: the state.
        rows: indices of the images, ``[n]``.
        batch_size: of the whole batch.

    >>> import torch
    >>> of_rows({"log_odds": torch.tensor([0.5, 1.5, 2.5]), "level": 3.0}, torch.tensor([2, 0]), 3)
    {'log_odds': tensor([2.5000, 0.5000]), 'level': 3.0}
    """
    if isinstance(value, Tensor):
        return value[rows.to(value.device)] if value.ndim and len(value) == batch_size else value
    if hasattr(value, "of_rows"):
        return value.of_rows(rows)
    if is_dataclass(value) and not isinstance(value, type):
        own = {each.name: getattr(value, each.name) for each in fields(value) if each.init}
        return replace(value, **{name: of_rows(each, rows, batch_size) for name, each in own.items()})
    if isinstance(value, dict):
        return {name: of_rows(each, rows, batch_size) for name, each in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(of_rows(each, rows, batch_size) for each in value)
    return value


def scattered(whole: Any, part: Any, rows: Tensor, batch_size: int) -> Any:
    """The state of a batch in which some images went on alone: the inverse of :func:`of_rows`.

    Args:
        whole: the state of the batch; what it says of other images stays.
        part: the state of those images, as if they were a batch of their own.
        rows: their indices, ``[n]``.
        batch_size: of the whole batch.

    A state that was empty before the images went on alone (None in place of a tensor) takes NaN for the others, which
    nobody asks for.

    >>> import torch
    >>> scattered(torch.zeros(3), torch.tensor([5.0]), torch.tensor([1]), 3)
    tensor([0., 5., 0.])
    """
    if isinstance(part, Tensor):
        if not part.ndim or len(part) != len(rows):
            return part
        blank = part.new_full((batch_size, *part.shape[1:]), _nothing(part))
        found = whole.clone() if isinstance(whole, Tensor) and whole.shape == blank.shape else blank
        found[rows.to(found.device)] = part.to(found.dtype)
        return found
    if hasattr(part, "of_rows"):
        return whole
    if is_dataclass(part) and not isinstance(part, type):
        names = [each.name for each in fields(part) if each.init]
        own = {name: scattered(getattr(whole, name, None), getattr(part, name), rows, batch_size) for name in names}
        return replace(part, **own)
    if isinstance(part, dict):
        before = whole if isinstance(whole, dict) else {}
        return {name: scattered(before.get(name), each, rows, batch_size) for name, each in part.items()}
    if isinstance(part, (tuple, list)):
        same = isinstance(whole, (tuple, list)) and len(whole) == len(part)
        every = zip(whole if same else [None] * len(part), part, strict=True)
        return type(part)(scattered(old, new, rows, batch_size) for old, new in every)
    return part


def _nothing(part: Tensor) -> float:
    return float("nan") if part.is_floating_point() else 0
