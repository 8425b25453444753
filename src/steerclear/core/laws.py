"""Claims about a guidance that a test can measure, as data; ``tests/test_laws.py`` measures every one."""

from dataclasses import dataclass

from .settings import Configurable


@dataclass(frozen=True)
class Law:
    """A claim about a guidance that a test can measure. Subclasses say what is claimed.

    Attributes:
        example: the guidance, with the settings for which the claim is made.
    """

    example: Configurable

    def __str__(self) -> str:
        return f"{type(self).__name__}({self.example})"


@dataclass(frozen=True)
class Identity(Law):
    """With these settings the guided prediction is the plain conditional one, bit for bit."""


@dataclass(frozen=True)
class Linear(Law):
    """The guided prediction is sum of weight x branch, to 1e-10 in float64."""

    weights: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Equals(Law):
    """With these settings the guidance is another one, to 1e-10 in float64, along a whole trajectory."""

    other: Configurable


@dataclass(frozen=True)
class PredictionTypeInvariant(Law):
    """The guided denoised image is the same for networks that predict noise, v, the image or the flow."""


@dataclass(frozen=True)
class NoPushWhenAbsent(Law):
    """Where the negative's prediction equals the prompt's, the guidance is as if there were no negative."""


@dataclass(frozen=True)
class Runs(Law):
    """Just these branches run at a step, in this order.

    Attributes:
        branches: None for all that the example declares (:meth:`~steerclear.core.guidance.Guidance.branches`).
    """

    branches: tuple[str, ...] | None = None
