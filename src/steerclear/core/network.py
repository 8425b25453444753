"""What a kind of network promises: a further network that a guidance may ask beside the pipeline's own."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from .settings import Configurable
from .shelf import entries


@dataclass(frozen=True)
class Forward:
    """One forward of a further network, on one batch of branches and images.

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


Runner = Callable[[Forward], Any]
"""Runs one forward of a further network; returns what the pipeline's own network would have returned."""


class Network(Configurable, ABC):
    """The contract: a frozen dataclass, which says how a pipeline's network becomes another one.

    A run gives it a name ("weak", "perturbed", ...), under which a guidance asks for its branches. Row k of a batch is row k
    alone, and the pipeline's network is never changed: the other one runs beside it.

    Class attributes:
        name: of the kind, on the command line.
        memory, time: what it costs, in words.
    """

    shelf: ClassVar[str] = "networks"
    kind: ClassVar[str] = "kind of network"
    name: ClassVar[str]
    memory: ClassVar[str]
    time: ClassVar[str]

    @classmethod
    @abstractmethod
    def examples(cls, network: Any) -> tuple[Self, ...]:
        """Settings that work with a network, each of which changes its predictions; the tests of all kinds take them.

        Args:
            network: of a pipeline, uncompiled.

        Returns:
            Nothing where this kind cannot be made of that network.
        """

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
        """Why this is the pipeline's network itself, so that a push away from it is 0; None where it differs.

        Args:
            network: the pipeline's, see :meth:`check`.
        """
        return None

    @abstractmethod
    def attached(self, pipe: Any, network: Any) -> AbstractContextManager[Runner]:
        """Entered before the first forward beside a network, and left at the end of the ``with steer`` block.

        What is costly (a second set of weights) is made once, at the first forward, and is gone when the context is left.
        """


def network_kinds() -> dict[str, type[Network]]:
    """All kinds there are, by their name on the command line."""
    return entries("networks", Network)
