"""A kind of network as a stranger's package has it, and a guidance that asks two networks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from steerclear.core.guidance import Guidance
from steerclear.core.laws import Law, Linear, Runs
from steerclear.core.network import Forward, Network, Runner
from steerclear.core.records import Guided, State, Step
from steerclear.core.settings import finite


@dataclass(frozen=True)
class FaintSample(Network):
    """The same network, which is given the noisy sample times a factor.

    Args:
        factor: 1 is the network itself.

    Raises:
        InvalidSetting: a factor that is not finite.
    """

    factor: float = 0.5

    name: ClassVar[str] = "faint-sample"
    memory: ClassVar[str] = "none"
    time: ClassVar[str] = "one forward"

    def __post_init__(self) -> None:
        finite("factor", self.factor)

    @classmethod
    def examples(cls, network: Any) -> tuple[Self, ...]:
        return (cls(0.5),)

    def check(self, pipe: Any, network: Any) -> None:
        pass

    def idle(self, network: Any) -> str | None:
        return "its factor is 1" if self.factor == 1 else None

    @contextmanager
    def attached(self, pipe: Any, network: Any) -> Iterator[Runner]:
        def run(call: Forward) -> Any:
            return call.network(self.factor * call.args[0], *call.args[1:], **call.kwargs)

        yield run


@dataclass(frozen=True)
class TwoNetworks(Guidance):
    """Away from two networks at once: D = D_prompt + 0.5 (D_prompt - D_weak) + 0.25 (D_prompt - D_perturbed)."""

    name: ClassVar[str] = "two-networks"

    def branches(self, negatives: int) -> tuple[str, ...]:
        return ("positive", "perturbed:positive", "weak:positive")

    def __call__(self, step: Step, state: State) -> Guided:
        positive, perturbed, weak = step.predict("positive", "perturbed:positive", "weak:positive")
        return Guided(positive + 0.5 * (positive - weak) + 0.25 * (positive - perturbed), state)

    @classmethod
    def laws(cls) -> tuple[Law, ...]:
        weights = (("positive", 1.75), ("weak:positive", -0.5), ("perturbed:positive", -0.25))
        return (Linear(cls(), weights), Runs(cls()))
