"""The network itself, which sees only the beginning of the text."""

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor

from ..core.errors import SteerclearWarning, UnsupportedModel
from ..core.network import Forward, Network, Runner
from ..core.settings import whole
from .shared.copies import plain

TEXT = "encoder_hidden_states"
TOKENS = {TEXT: 1, "encoder_attention_mask": 1, "encoder_hidden_states_mask": 1, "txt_ids": -2}
"""The network's arguments with an entry per token -> along which dimension."""


@dataclass(frozen=True)
class NarrowContext(Network):
    """The same network, given only the first tokens of the text.

    Embeddings that are pooled from the whole text (SDXL, SD 3, Flux) stay as they are.

    Args:
        tokens: how many; at least 1. CLIP's first is the start token, which does not depend on the prompt.

    Raises:
        InvalidSetting: fewer than 1.

    Warns:
        SteerclearWarning: the text has no more tokens than that, so the network is the pipeline's own.
    """

    tokens: int = 1

    name: ClassVar[str] = "narrow-context"
    memory: ClassVar[str] = "none"
    time: ClassVar[str] = "one forward with a shorter text"

    def __post_init__(self) -> None:
        whole("tokens", self.tokens, low=1)

    @classmethod
    def examples(cls, network: Any) -> tuple[Self, ...]:
        return (cls(3),) if TEXT in inspect.signature(type(plain(network)).forward).parameters else ()

    def check(self, pipe: Any, network: Any) -> None:
        if TEXT not in inspect.signature(type(plain(network)).forward).parameters:
            raise UnsupportedModel(
                f"{type(plain(network)).__name__} takes no text ({TEXT}), so its context cannot be narrowed"
            )

    @contextmanager
    def attached(self, pipe: Any, network: Any) -> Iterator[Runner]:
        names = tuple(inspect.signature(type(plain(network)).forward).parameters)[1:]
        warned = False

        def narrowed(name: str, value: Any) -> Any:
            nonlocal warned
            if name not in TOKENS or not isinstance(value, Tensor):
                return value
            length = value.shape[TOKENS[name]]
            if name == TEXT and length <= self.tokens and not warned:
                warned = True
                warnings.warn(
                    f"a narrow context has no effect: the text has {length} tokens, and with tokens={self.tokens} all "
                    f"of them are seen; take fewer",
                    SteerclearWarning,
                    stacklevel=2,
                )
            return value.narrow(TOKENS[name], 0, min(self.tokens, length))

        def run(call: Forward) -> Any:
            args = (narrowed(name, value) for name, value in zip(names, call.args, strict=False))
            return call.network(*args, **{name: narrowed(name, value) for name, value in call.kwargs.items()})

        yield run
