"""The network with the dropout of its training switched on, seeded per image."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import Dropout, Module

from ..core.errors import InvalidSetting, UnsupportedModel, in_words_of
from ..core.network import Forward, Network, Runner
from ..core.seeds import MIXING, STRIDE, mixed
from ..core.settings import finite, texts, whole
from .shared.copies import beside, chosen, is_adapter, plain


@dataclass(frozen=True)
class SeededDropout(Network):
    """The same network with dropout in its dropout layers: after attention, in feed-forward layers and resnets.

    Equation:
        h' = m h / (1 - p),   m = 0 with probability p, else 1

    The mask m of an image follows from the seed, the image's own seed, the step and the layer, in integers: it is the same
    at any batch size, in all branches, and on every device.

    Args:
        probability: p, above 0 and below 1.
        seed: of the masks, at least 0.
        layers: which dropout layers, by their path; ``*`` stands for anything.

    Raises:
        InvalidSetting: out of range, or not a tuple of paths.
    """

    probability: float = 0.1
    seed: int = 0
    layers: tuple[str, ...] = ("*",)

    name: ClassVar[str] = "dropout"
    memory: ClassVar[str] = "none"
    time: ClassVar[str] = "one forward, and the masks"

    def __post_init__(self) -> None:
        finite("probability", self.probability, low=0, high=1)
        if self.probability in (0, 1):
            raise InvalidSetting("probability", self.probability, "above 0 and below 1")
        whole("seed", self.seed, low=0)
        texts("layers", self.layers, "paths of layers")
        if not self.layers:
            raise InvalidSetting("layers", self.layers, "at least one path", "leave it out for all")

    @classmethod
    def examples(cls, network: Any) -> tuple[Self, ...]:
        has_dropout = any(isinstance(module, Dropout) for module in plain(network).modules())
        return (cls(0.3, 1),) if has_dropout else ()

    def check(self, pipe: Any, network: Any) -> None:
        with self.attached(pipe, network):
            pass

    @contextmanager
    def attached(self, pipe: Any, network: Any) -> Iterator[Runner]:
        places = self._places(network)
        own = {path: _Masked(self.probability, self.seed, path) for path in places}
        other = beside(network, own)

        def run(call: Forward) -> Any:
            for layer in own.values():
                layer.call = call
            try:
                return other(*call.args, **call.kwargs)
            finally:
                for layer in own.values():
                    layer.call = None

        yield run

    def _places(self, network: Any) -> list[str]:
        if not any(isinstance(module, Dropout) for module in plain(network).modules()):
            raise UnsupportedModel(
                f"{type(plain(network)).__name__} has no dropout layers; use "
                f"{in_words_of('DroppedLayers or NoisedWeights', 'dropped-layers or noised')}"
            )
        return [path for path in chosen(network, self.layers, Dropout) if not is_adapter(path)]


class _Masked(Module):
    """A dropout layer with a mask per image."""

    def __init__(self, probability: float, seed: int, path: str) -> None:
        super().__init__()
        self.probability, self.seed, self.layer = probability, seed, zlib.crc32(path.encode())
        self.call: Forward | None = None

    def forward(self, hidden: Tensor) -> Tensor:
        assert self.call is not None
        rows = len(self.call.seeds)
        if len(hidden) % rows:
            raise UnsupportedModel(
                f"a dropout layer sees a batch of {len(hidden)}, which does not divide into {rows} images"
            )
        keys = [mixed(self.seed, seed, self.call.step, self.layer) for seed in self.call.seeds]
        kept = mask(keys, hidden.numel() // rows, self.probability, hidden.device)
        return hidden * kept.reshape(hidden.shape).to(hidden.dtype) / (1 - self.probability)


def mask(keys: list[int], count: int, probability: float, device: torch.device) -> Tensor:
    """Which of ``count`` numbers of each row are kept, ``[rows, count]``; each is dropped with this probability.

    Each row is SplitMix64 (Steele, Lea and Flood 2014) from its key, in integers, so that devices agree.

    >>> rows = mask([1, 2], 1000, 0.25, torch.device("cpu"))
    >>> bool((rows[1] == mask([2], 1000, 0.25, torch.device("cpu"))[0]).all()), int(rows.sum(1).sub(750).abs().max()) < 50
    (True, True)
    """
    state = torch.tensor([_signed(key) for key in keys], device=device)[:, None]
    state = state + _signed(STRIDE) * torch.arange(1, count + 1, device=device)
    for shift, factor in MIXING:
        state = (state ^ _shifted(state, shift)) * _signed(factor)
    state = state ^ _shifted(state, 31)
    return _shifted(state, 11) >= round(probability * 2**53)


def _signed(value: int) -> int:
    """The same 64 bits as a signed integer."""
    value %= 2**64
    return value - 2**64 if value >= 2**63 else value


def _shifted(values: Tensor, bits: int) -> Tensor:
    """Logical shift to the right."""
    return (values >> bits) & (2 ** (64 - bits) - 1)
