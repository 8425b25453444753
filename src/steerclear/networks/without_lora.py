"""The network without its LoRA."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from ..core.errors import UnsupportedModel, in_words_of
from ..core.network import Network, Runner
from ..core.settings import texts
from .shared.adapters import Scales, check_known, running, some_adapter, switched_on, with_adapters


@dataclass(frozen=True)
class WithoutLora(Network):
    """The same network with LoRA adapters off: autoguidance then strengthens what they do.

    The LoRA of the text encoders stays on: both networks read the same text.

    Args:
        adapters: names of those to switch off; () for all of them.

    Raises:
        InvalidSetting: not a tuple of names.
    """

    adapters: tuple[str, ...] = ()

    name: ClassVar[str] = "without-lora"
    memory: ClassVar[str] = "none"
    time: ClassVar[str] = "one forward, without the adapters"

    def __post_init__(self) -> None:
        texts("adapters", self.adapters, "names of LoRA adapters")

    @classmethod
    def examples(cls, network: Any) -> tuple[Self, ...]:
        return tuple(cls((adapter,)) for adapter in some_adapter(network, on=True))

    def check(self, pipe: Any, network: Any) -> None:
        check_known(network, self.adapters)
        on = switched_on(network)
        if not on or (self.adapters and not on.intersection(self.adapters)):
            raise UnsupportedModel(
                f"the pipeline's network has {', '.join(self.adapters) or 'all its LoRA adapters'} switched off "
                f"already, so nothing would differ; "
                + in_words_of(
                    "switch on with pipe.set_adapters", "give one a scale other than 0, as in --lora FILE:0.8"
                )
            )
        with_adapters(network, self._wanted)

    def attached(self, pipe: Any, network: Any) -> AbstractContextManager[Runner]:
        return running(network, self._wanted)

    def _wanted(self, active: Sequence[str]) -> Scales:
        return {name: None for name in active if self.adapters and name not in self.adapters}
