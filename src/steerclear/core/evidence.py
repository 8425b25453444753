"""What an evidence promises: is this image becoming the concept? Log-odds, one per image."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from .records import State, Step
from .settings import Configurable


@dataclass(frozen=True)
class Belief:
    """What an evidence says at a step.

    Attributes:
        log_odds: L = log p(concept | x_t) - log p(not concept | x_t), one per image, ``[batch]``, float64.
        state: what the evidence needs further on.
    """

    log_odds: Tensor
    state: State


@dataclass(frozen=True)
class Push:
    """What was done at a step, for an evidence that must remember it.

    Attributes:
        positive, concept: predictions under the prompt and under the concept, in the network's space.
        guided: the prediction of "the prompt without the concept", before any classifier-free guidance on top, and with this
            push alone: the pushes away from other negatives say nothing about this concept.
        weight: the theory's weight of the concept's direction, w = exp(L) clamped, without the user's negative_scale,
            ``[batch]``.
    """

    positive: Tensor
    concept: Tensor
    guided: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Circumstances:
    """What is known of a run before its first step: settings that were left open (None) follow from it.

    Attributes:
        exact: the denoiser is that of a world whose truth is known, and not a learned network.
        prior: how often the concept shows without guidance, in (0, 1), or a tuple with one for each negative prompt; 0.5
            where nobody knows.
    """

    exact: bool = False
    prior: float | tuple[float, ...] = 0.5


class Evidence(Configurable, ABC):
    """The contract: a frozen dataclass of one concept; log-odds in, log-odds out, per image, no hidden state.

    At each step ``update`` comes first (the sampler has moved: what does that say?), then ``remember``
    (this is what we pushed: keep what the next update needs).

    Class attributes:
        name: on the command line.
        paper: title, authors, year, arXiv number.
        trust_region: whether a guidance limits the push (its weight, and its length to that of noise).
    """

    shelf: ClassVar[str] = "evidence"
    kind: ClassVar[str] = "evidence"
    name: ClassVar[str]
    paper: ClassVar[str]
    trust_region = True

    def fitted(self, known: Circumstances) -> "Evidence":
        """The same evidence with what was left open (None) set to what fits the run."""
        return self

    def for_concepts(self, count: int) -> tuple["Evidence", ...]:
        """One evidence per negative prompt: where a setting has a number for each, every one gets its own.

        Raises:
            InvalidSetting: the setting has another number of entries.
        """
        return (self,) * count

    @abstractmethod
    def begin(self, batch_size: int) -> State:
        """The state before the first step."""

    @abstractmethod
    def update(self, step: Step, positive: Tensor, concept: Tensor, state: State) -> Belief:
        """The log-odds at the point that the sampler really reached.

        Args:
            step: where the sampler stands.
            positive, concept: the predictions there, in the network's space, ``[batch, ...]``.
            state: from :meth:`begin` or :meth:`remember`.
        """

    def remember(self, step: Step, push: Push, state: State) -> State:
        """The state for the next step, once the push is known. Most evidences need nothing more."""
        return state
