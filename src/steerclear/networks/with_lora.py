"""The network with a LoRA that makes it worse."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from ..core.errors import InvalidSetting, UnsupportedModel, in_words_of
from ..core.network import Network, Runner
from ..core.settings import finite
from .shared.adapters import Scales, check_known, running, some_adapter, switched_on, with_adapters


@dataclass(frozen=True)
class WithLora(Network):
    """The same network with one more LoRA adapter, which is loaded and switched off in the pipeline itself.

    Args:
        adapter: its name.
        scale: of the adapter.

    Raises:
        InvalidSetting: not a name, or a scale that is not finite.
    """

    adapter: str
    scale: float = 1.0

    name: ClassVar[str] = "with-lora"
    memory: ClassVar[str] = "the adapter's weights"
    time: ClassVar[str] = "one forward, with the adapter"

    def __post_init__(self) -> None:
        if not isinstance(self.adapter, str) or not self.adapter:
            raise InvalidSetting("adapter", self.adapter, "the name of a LoRA adapter")
        finite("scale", self.scale)

    @classmethod
    def examples(cls, network: Any) -> tuple[Self, ...]:
        return tuple(cls(adapter, 0.7) for adapter in some_adapter(network, on=False))

    def check(self, pipe: Any, network: Any) -> None:
        check_known(network, (self.adapter,))
        if self.adapter in switched_on(network):
            raise UnsupportedModel(
                f"the LoRA adapter {self.adapter!r} is on in the pipeline itself, and the other network differs by "
                f"having it; switch it off there with "
                + in_words_of(
                    "pipe.set_adapters([...]) of the others, or pipe.disable_lora()", "scale 0, as in --lora FILE:0"
                )
            )
        with_adapters(network, self._wanted)

    def idle(self, network: Any) -> str | None:
        return "the scale of its adapter is 0" if self.scale == 0 else None

    def attached(self, pipe: Any, network: Any) -> AbstractContextManager[Runner]:
        return running(network, self._wanted)

    def _wanted(self, active: Sequence[str]) -> Scales:
        return {**dict.fromkeys(active), self.adapter: self.scale}
