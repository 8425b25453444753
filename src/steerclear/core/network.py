"""What a kind of weak network promises."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from .settings import Configurable
from .shelf import entries


@dataclass(frozen=True)
class WeakCall:
    """One forward of the weak network, on one batch of branches and images.

    Args:
        network: the pipeline's own network as it is called, unsteered: hooks, offloading and compilation included.
        args, kwargs: what it would be given.
        seeds: one per row of the batch: the seed of the image of that row, the same in all of its branches.
        step: how many steps were made, from 0.
    """

    network: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    seeds: tuple[int, ...]
    step: int


WeakRunner = Callable[[WeakCall], Any]
"""Runs one forward of the weak network; gives back what the pipeline's own network would have."""


class WeakNetwork(Configurable, ABC):
    """The contract: a frozen dataclass, which says how a network becomes a weak one.

    Row k of a batch is row k alone, and the pipeline's network is never changed: a weak pass runs beside it.

    Class attributes:
        name: on the command line.
        memory, time: what it costs, in words.
    """

    shelf: ClassVar[str] = "networks"
    kind: ClassVar[str] = "kind of weak network"
    name: ClassVar[str]
    memory: ClassVar[str]
    time: ClassVar[str]

    @abstractmethod
    def check(self, pipe: Any, network: Any) -> None:
        """Refuse what cannot work, before anything runs.

        Args:
            pipe: the pipeline.
            network: its network (compiled, with adapters or with hooks of offloading as it may be).

        Raises:
            UnsupportedModel: says what is missing, and what to do.
        """

    def idle(self, network: Any) -> str | None:
        """Why this weak network is the network itself, so that there is no push away from it; None where it differs.

        Args:
            network: the pipeline's, see :meth:`check`.
        """
        return None

    @abstractmethod
    def attached(self, pipe: Any, network: Any) -> AbstractContextManager[WeakRunner]:
        """Entered before the first weak pass of a network, and left at the end of the ``with steer`` block.

        What is costly (a second set of weights) is made once, at the first pass, and is gone when the context is left.
        """


def weak_networks() -> dict[str, type[WeakNetwork]]:
    """All kinds there are, by their name on the command line."""
    return entries("networks", WeakNetwork)
