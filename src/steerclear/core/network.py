"""What a kind of network promises: a further network that a guidance may ask beside the pipeline's own."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from .settings import Configurable


@dataclass(frozen=True)
class Forward:
    """One forward of a further network, on one batch of branches and images.

    Args:
        network: the pipeline's own network as it is called, unsteered: hooks, offloading and compilation included.
        args, kwargs: its arguments.
        seeds: the seed of each row's image, one per row of the batch; the same in all branches of an image.
        step: index of the step, from 0.
    """

    network: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    seeds: tuple[int, ...]
    step: int


Runner = Callable[[Forward], Any]
"""Runs one forward of a further network; returns what the pipeline's own network would have returned."""


class Network(Configurable, ABC):
    """The contract: a frozen dataclass that says how a pipeline's network becomes another one.

    A run gives it a name ("weak", "perturbed", ...), by which a guidance asks for its branches. Row k of a batch is row k
    alone, and the pipeline's network is never changed: the second network runs separately.

    Class attributes:
        name: of the kind, on the command line.
        memory, time: its cost, in words.
    """

    shelf: ClassVar[str] = "networks"
    kind: ClassVar[str] = "kind of network"
    name: ClassVar[str]
    memory: ClassVar[str]
    time: ClassVar[str]

    @classmethod
    @abstractmethod
    def examples(cls, network: Any) -> tuple[Self, ...]:
        """Settings that work with a pipeline's network (uncompiled), each changing its predictions; used by the tests.

        Returns:
            () if this kind cannot be made of that network.
        """

    @abstractmethod
    def check(self, pipe: Any, network: Any) -> None:
        """Refuse what cannot work, before anything runs.

        Args:
            pipe: the pipeline.
            network: its network, possibly compiled, with adapters or with offloading hooks.

        Raises:
            UnsupportedModel: says what is missing, and what to do.
        """

    def idle(self, network: Any) -> str | None:
        """Why this equals the pipeline's network (see :meth:`check`), so a push away from it is 0; None if it differs."""
        return None

    def digest(self) -> str | None:
        """A hash of the files that it is made of, which its settings only name; None if there are none."""
        return None

    @abstractmethod
    def attached(self, pipe: Any, network: Any) -> AbstractContextManager[Runner]:
        """Entered before the first forward beside a network, and left at the end of the ``with steer`` block.

        Anything costly (a second set of weights) is made once, at the first forward, and freed when the context is left.
        """
