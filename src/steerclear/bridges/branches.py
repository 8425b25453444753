"""From the pipeline's own network call to one that runs the branches a guidance asks for."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..core.denoiser import Point
from ..core.errors import UnsupportedModel
from ..core.schedulers import input_scale
from ..networks.shared.copies import plain

Inputs = Mapping[str, Tensor]
"""Name of a network's argument -> its value, one row per image. A dot leads into a dictionary or a list."""


@dataclass(frozen=True)
class Source:
    """Where the inputs of one branch come from.

    Args:
        part: which part of the pipeline's batch.
        conditions: arguments that replace that part's own prompt or class; of all images.
        controls: what a ControlNet gives for these conditions; of the images that are needed.
    """

    part: int
    conditions: Inputs = field(default_factory=dict)
    controls: Inputs = field(default_factory=dict)


@dataclass(frozen=True)
class NetworkCall:
    """One call of a network, as the pipeline makes it: a batch of one or two parts of the same images.

    Args:
        network: what the pipeline called.
        names: of the network's positional parameters; the noisy sample is the first.
        args, kwargs: as the pipeline gave them.
        parts: what each part of the batch is.
        shared: arguments that are the same for all images.
    """

    network: Callable[..., Any]
    names: Sequence[str]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    parts: tuple[str, ...]
    shared: frozenset[str] = frozenset()

    @property
    def sample(self) -> Tensor:
        """The network's input, of all parts."""
        return self.args[0] if self.args else self.kwargs[self.names[0]]

    @property
    def batch_size(self) -> int:
        """How many images there are."""
        return len(self.sample) // len(self.parts)

    def part(self, tensor: Tensor, index: int) -> Tensor:
        """One part's rows."""
        return tensor[index * self.batch_size : (index + 1) * self.batch_size]

    def argument(self, path: str) -> Any:
        """The value of an argument, by its name; a dot leads into a dictionary. None when it is not given."""
        name, *inner = path.split(".")
        position = self.names.index(name) if name in self.names else len(self.args)
        value: Any = self.args[position] if position < len(self.args) else self.kwargs.get(name)
        for key in inner:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def at(self, point: Point, scheduler: Any, timestep_scale: float) -> "NetworkCall":
        """The same call at another point, the same for all parts.

        Args:
            point: its sample is without what lies behind the latents (a mask and a picture).
            scheduler: which says how the network's input is scaled there.
            timestep_scale: the scheduler's timestep over the one that the network is told.

        Raises:
            UnsupportedModel: the network's input is not the sampler's latents.
        """
        sample = input_scale(scheduler, point.alpha, point.sigma) * point.sample
        timestep: Any = point.timestep / timestep_scale  # type: ignore[operator]  # a number, by Levels
        own, axis = self.sample, channel_axis(self.sample)
        behind = own.shape[axis] - sample.shape[axis]
        moved = sample.to(own).repeat(len(self.parts), *[1] * (own.ndim - 1))
        if behind > 0:
            moved = torch.cat([moved, own.narrow(axis, sample.shape[axis], behind)], dim=axis)
        told = self.argument("timestep")
        if moved.shape != own.shape or told is None:
            raise UnsupportedModel(
                f"the guidance looks at another noise level, and {type(self.network).__name__} is not called on the sampler's "
                f"latents and a timestep; use a guidance that asks at the sampler's own point alone"
            )
        if isinstance(told, Tensor):
            kept = told.dtype if told.is_floating_point() else torch.float32
            timestep = torch.full_like(told, timestep, dtype=kept)
        changed = {self.names[0]: moved, "timestep": timestep}
        args = tuple(changed.pop(name, value) for name, value in zip(self.names, self.args, strict=False))
        return replace(self, args=args, kwargs={**self.kwargs, **changed})

    def is_own(self, sources: Sequence[Source]) -> bool:
        """Whether these are the branches that the pipeline itself would run, in its order."""
        return len(sources) == len(self.parts) and all(
            source.part == index and not source.conditions and not source.controls
            for index, source in enumerate(sources)
        )

    def inputs(
        self, sources: Sequence[Source], rows: Tensor | None, span: slice
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments that run the branches (one source each) in one batch.

        Args:
            sources: of the branches, in order.
            rows: the images that are needed, ``[n]``; None for all.
            span: which rows of the joined batch.
        """
        whole = len(self.sample)

        def piece(source: Source, path: str, tensor: Tensor) -> Tensor:
            if path in source.controls:
                return source.controls[path]
            own = source.conditions[path] if path in source.conditions else self.part(tensor, source.part)
            return own if rows is None else own[rows]

        def joined(path: str, tensor: Tensor) -> Tensor:
            if tensor.ndim == 0 or len(tensor) != whole or path in self.shared:
                return tensor  # a timestep, say: the same for all images
            own = [piece(source, path, tensor) for source in sources]
            return (own[0] if len(own) == 1 else torch.cat(own))[span]

        args = tuple(map_tensors(joined, value, name) for name, value in zip(self.names, self.args, strict=False))
        return args, {name: map_tensors(joined, value, name) for name, value in self.kwargs.items()}

    def shapes(self, source: Source, arguments: Sequence[str]) -> tuple[torch.Size, ...]:
        """Of one image's conditions; branches can share a batch where these agree."""
        return tuple(source.conditions.get(path, self.argument(path)).shape[1:] for path in arguments)


def is_prompt(condition: str) -> bool:
    """Whether a condition is conditional: says what is to be there."""
    return condition == "positive" or condition.startswith("conjunction")


def positional_names(network: Any) -> tuple[str, ...]:
    """Names of the parameters of a network's forward, in order."""
    kind: Any = type(plain(network))
    return _positional_names(kind)


@cache
def _positional_names(kind: Any) -> tuple[str, ...]:
    return tuple(inspect.signature(kind.forward).parameters)[1:]


def channel_axis(tensor: Tensor) -> int:
    """Where the channels are: packed latents are tokens by channels."""
    return 1 if tensor.ndim >= 4 else -1


def map_tensors(function: Callable[[str, Tensor], Tensor], value: Any, path: str) -> Any:
    """Apply ``function(path, tensor)`` to every tensor inside of dictionaries, lists and tuples.

    >>> map_tensors(lambda path, tensor: path, {"a": [torch.zeros(1)], "b": 3}, "x")
    {'a': ['x.a.0'], 'b': 3}
    """
    if isinstance(value, Tensor):
        return function(path, value)
    if isinstance(value, dict):
        return {key: map_tensors(function, inner, f"{path}.{key}") for key, inner in value.items()}
    if isinstance(value, list):
        return [map_tensors(function, inner, f"{path}.{index}") for index, inner in enumerate(value)]
    if type(value) is tuple:
        return tuple(map_tensors(function, inner, f"{path}.{index}") for index, inner in enumerate(value))
    return value


def output_tensor(output: Any) -> Tensor:
    """The prediction in what a network returns."""
    return output[0] if isinstance(output, tuple) else output.sample


def spans(total: int, largest: int | None) -> Iterator[slice]:
    """A batch cut into slices of at most ``largest`` rows.

    >>> list(spans(5, 3))
    [slice(0, 3, None), slice(3, 5, None)]
    """
    largest = largest or max(total, 1)
    for start in range(0, total, largest):
        yield slice(start, min(start + largest, total))
