"""Branches, and what a denoiser promises.

A *branch* is one network under one condition. It is written ``condition`` or ``network:condition``:

    positive            the prompt
    empty               the empty prompt (the unconditional prediction)
    negative            the first negative prompt; negative_2, negative_3, ... the others
    conjunction         the prompt and the first negative prompt together; conjunction_2, ...
    weak:positive       the network that the run calls "weak", under the prompt; and so on
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from .errors import InvalidSetting

MAIN = "main"
_NETWORK = r"[a-z_][a-z0-9_]*"
_BRANCH = re.compile(
    rf"(?:(?P<network>{_NETWORK}):)?(?P<condition>positive|empty|(?:negative|conjunction)(?:_(?:[2-9]|[1-9][0-9]+))?)"
)


@dataclass(frozen=True)
class Branch:
    """One network under one condition.

    >>> Branch.parse("weak:negative_2")
    Branch(network='weak', condition='negative_2')
    >>> Branch.parse("positive").network
    'main'
    >>> Branch.parse("negative_0")
    Traceback (most recent call last):
    ...
    steerclear.core.errors.InvalidSetting: ...
    """

    network: str
    condition: str

    @classmethod
    def parse(cls, name: str, what: str = "branch") -> "Branch":
        """Raises :class:`InvalidSetting` if the name is not a branch; the message calls it ``what``."""
        match = _BRANCH.fullmatch(name) if isinstance(name, str) else None
        if match is None:
            raise InvalidSetting(what, name, "positive, empty, negative or conjunction (with _2, _3, ...), "
                                             "behind the name of a network and a colon if it is not the main one")  # fmt: skip
        return cls(match["network"] or MAIN, match["condition"])

    def __str__(self) -> str:
        return self.condition if self.network == MAIN else f"{self.network}:{self.condition}"

    @staticmethod
    def is_network(name: str) -> bool:
        """Whether a network may have this name: lower-case letters, digits and underscores, no digit first.

        >>> Branch.is_network("perturbed_2"), Branch.is_network("2nd"), Branch.is_network("Weak")
        (True, False, False)
        """
        return re.fullmatch(_NETWORK, name) is not None


def numbered(condition: str, index: int) -> str:
    """The name of the index-th (from 0) negative or conjunction.

    >>> numbered("negative", 0), numbered("negative", 1)
    ('negative', 'negative_2')
    """
    return condition if index == 0 else f"{condition}_{index + 1}"


def kind_and_index(condition: str) -> tuple[str, int]:
    """The inverse of :func:`numbered`.

    >>> kind_and_index("negative"), kind_and_index("conjunction_2"), kind_and_index("empty")
    (('negative', 0), ('conjunction', 1), ('empty', 0))
    """
    kind, _, number = condition.partition("_")
    return kind, int(number or 1) - 1


Levels = Callable[[float], tuple[float, float, object]]
"""sigma / alpha -> (alpha, sigma, timestep)."""


@dataclass(frozen=True)
class Point:
    """Where a sampler stands before a step.

    Args:
        sample: x_t, ``[batch, ...]``, in the sampler's own scaling: x_t = alpha * x_0 + sigma * noise.
        alpha, sigma: the noise level, the same for all images of the batch; NaN if unknown
            (:func:`steerclear.core.schedulers.unreadable`).
        timestep: the network's argument for that level.
        index: index of the step, from 0, as ``num_inference_steps`` counts steps. Samplers that evaluate more than once per
            step have several points with the same index.
        total: number of steps.
        substep: True at a point that is not kept, such as Heun's second evaluation.
        next_alpha, next_sigma: the noise level that the sampler's step goes to, in the same scaling: 1 and 0 after the last
            step; NaN if unknown.
        levels: sigma / alpha -> (alpha, sigma, timestep) of any level, in the sampler's scaling and units; None if unknown.
        elsewhere: 0 at the sampler's own point, k at the k-th that a guidance chose within a step (``Step.at``), where the
            timestep is in the sampler's units, not yet in the network's.
    """

    sample: Tensor
    alpha: float
    sigma: float
    timestep: object
    index: int
    total: int
    substep: bool = False
    next_alpha: float = math.nan
    next_sigma: float = math.nan
    levels: Levels | None = None
    elsewhere: int = 0


class Denoiser(Protocol):
    """Anything that predicts under conditions: a steered pipeline, or an exact world, which has ``exact = True``."""

    @property
    def prediction_type(self) -> str:
        """The space of its predictions, see :data:`~steerclear.core.noise.PREDICTION_TYPES`."""
        ...

    def predict(self, point: Point, branches: tuple[Branch, ...], rows: Tensor | None) -> list[Tensor]:
        """One prediction per branch, ``[batch or n, ...]``, in one forward where shapes allow.

        Args:
            point: where the sampler stands, or a point that a guidance chose (``elsewhere`` above 0).
            branches: in the order in which a batched forward has them.
            rows: image indices, ``[n]``; None for the whole batch.
        """
        ...
