"""What a testbed promises: a world whose truth is known, against which every claim of a guidance can be tested."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from .denoiser import Denoiser
from .noise import Level
from .settings import Configurable


class Testbed(Configurable, ABC):
    """The contract: a frozen dataclass that says what a prompt shows, p(x), and what part of it is the concept c.

    ``tests/test_testbeds.py`` holds every testbed to these laws:

        draw k depends on seed k alone
        the concept's share is the prior among draws of p(x), and what is left among draws of p(x | not c)
        the denoiser's prediction is the posterior mean: E[(x_0 - D(x_t)) D(x_t)] = 0 at every noise level
        the posterior is a martingale: the mean of p(c | x_t) is the prior at every noise level
    """

    __test__: ClassVar[bool] = False  # pytest: this is not a test
    shelf: ClassVar[str] = "testbeds"
    kind: ClassVar[str] = "testbed"
    name: ClassVar[str]

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of one image."""

    @property
    @abstractmethod
    def prior(self) -> float:
        """How often the concept shows without guidance, in (0, 1)."""

    @abstractmethod
    def draws(self, seeds: Sequence[int], *, without_concept: bool = False) -> Tensor:
        """Exact draws of p(x), or of p(x | not c): one per seed, ``[len(seeds), *shape]``, float64."""

    @abstractmethod
    def log_odds(self, sample: Tensor, alpha: Level, sigma: Level) -> Tensor:
        """log p(c | x_t) - log p(not c | x_t) at x_t = alpha x_0 + sigma noise, ``[batch]``, float64."""

    @abstractmethod
    def denoiser(self, prediction_type: str = "epsilon") -> Denoiser:
        """The world as a network that learned it perfectly: the exact posterior mean of every branch.

        Raises:
            InvalidSetting: an unknown prediction type.
        """
