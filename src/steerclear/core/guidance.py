"""What a guidance promises.

A guidance is a frozen dataclass of plain numbers. It turns predictions of several branches into one:

    state = guidance.begin(surroundings)
    guided = guidance(step, state)        # Guided(prediction, state, info)

It has no hidden state, and nothing it computes is shared across a batch: image k of a batch is image k alone.
A scale means the same in every guidance, and :data:`OFF` has the value at which it does nothing:

    guidance_scale   classifier-free scale of the prompt; 1 is off
    negative_scale   push away from a negative prompt; 0 is off
    auto_scale       push away from the weak network; 1 is off

With all of its scales off a guidance is the plain conditional prediction, bit for bit. What it claims beyond that it
states as :class:`Law` objects, and one test measures every law of every guidance.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from .evidence import Circumstances, Evidence, Surroundings
from .laws import Law
from .records import Guided, State, Step
from .settings import Configurable, read_object
from .shelf import entries, find

CONFIG_NAME = "guider_config.json"
OFF = {"guidance_scale": 1.0, "negative_scale": 0.0, "auto_scale": 1.0}
"""Each scale, and the value at which it does nothing."""


class Guidance(Configurable, ABC):
    """The contract. Subclasses are frozen dataclasses, one per file; their docstring has equation and paper.

    Class attributes:
        name: on the command line.
        paper: title, authors, year, arXiv number.
        cost: network evaluations a step, in words.
        uses_negative: whether a negative prompt has an effect at all.
        uses_weak: whether a weak network is needed.
    """

    shelf: ClassVar[str] = "guidance"
    kind: ClassVar[str] = "guidance"
    name: ClassVar[str]
    paper: ClassVar[str]
    cost: ClassVar[str]
    uses_negative: ClassVar[bool] = False
    uses_weak: ClassVar[bool] = False

    def begin(self, surroundings: Surroundings) -> State:
        """The state before the first step. Most guidances need none."""
        return State()

    @abstractmethod
    def __call__(self, step: Step, state: State) -> Guided:
        """Guide one step; asks the step for the branches that it needs, and for no others."""

    @classmethod
    @abstractmethod
    def laws(cls) -> tuple[Law, ...]:
        """What this guidance claims, as data."""

    def negative_has_no_effect(self) -> str | None:
        """Why a negative prompt changes nothing with these settings, or None when it does change something."""
        return None if self.uses_negative else f"{self.name} does not look at negative prompts"

    def fitted(self, known: Circumstances) -> Self:
        """The same guidance; what its parts leave open (None) is set to what fits the run."""
        parts = {name: getattr(self, name) for name in self.parameters()}
        fitting = {name: part.fitted(known) for name, part in parts.items() if isinstance(part, Guidance | Evidence)}
        return self.changed(**fitting) if fitting else self

    def check_negatives(self, count: int) -> None:
        """Refuse a number of negative prompts that these settings do not fit, before anything runs.

        Raises:
            InvalidSetting: says which setting, and how many there are.
        """

    def further_conditions(self, negatives: int) -> tuple[str, ...]:
        """The conditions beyond "positive" that some step may ask for, of whichever network.

        A bridge gets all of them ready before the first evaluation, so that a text that cannot be had is refused there and
        not in the middle of the steps. What is not named here is made ready when it is asked for, and may be refused late.

        Args:
            negatives: how many negative prompts there are.
        """
        return ()

    def needs_weak(self) -> bool:
        """Whether these settings ask the weak network for anything."""
        return self.uses_weak

    def needs_noise_level(self) -> bool:
        """Whether these settings ask a step for its noise level or the next one, for a denoised image, or for ``step.at``.

        Some schedulers do not say it, and are then refused before the first evaluation.
        """
        return False

    def has_no_step(self, levels: Sequence[float], steps: Sequence[int] | None = None) -> str | None:
        """Why these settings leave the guidance no step of a schedule, or None where there is one.

        Args:
            levels: sigma / alpha at the beginning of every step; NaN where the scheduler does not say.
            steps: those that a guidance around this one leaves to it; None for all.
        """
        return None

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write ``guider_config.json`` into a folder, as diffusers does for its guiders."""
        path = Path(folder) / CONFIG_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_config(), indent=2) + "\n")
        return path

    @staticmethod
    def from_pretrained(folder: str | Path) -> "Guidance":
        """Read what :meth:`save_pretrained` wrote, or the guidance in what a guider of ours wrote.

        Raises:
            InvalidSetting: the file is damaged.
            UnknownName: a guidance or a parameter that does not exist.
        """
        config = read_object(Path(folder) / CONFIG_NAME, "the settings of a guidance")
        return Guidance.from_config(config.get("guidance", config))


class Wrapper(Guidance):
    """A guidance around another: what is asked of it before the first step, ``inner`` answers."""

    inner: Guidance
    uses_negative: ClassVar[bool] = True
    uses_weak: ClassVar[bool] = True

    def begin(self, surroundings: Surroundings) -> State:
        return self.inner.begin(surroundings)

    def negative_has_no_effect(self) -> str | None:
        return self.inner.negative_has_no_effect()

    def check_negatives(self, count: int) -> None:
        self.inner.check_negatives(count)

    def further_conditions(self, negatives: int) -> tuple[str, ...]:
        return self.inner.further_conditions(negatives)

    def needs_weak(self) -> bool:
        return self.inner.needs_weak()

    def needs_noise_level(self) -> bool:
        return self.inner.needs_noise_level()

    def has_no_step(self, levels: Sequence[float], steps: Sequence[int] | None = None) -> str | None:
        return self.inner.has_no_step(levels, steps)


def guidances() -> dict[str, type[Guidance]]:
    """All guidances there are, by their name on the command line."""
    return entries("guidance", Guidance)


def find_guidance(name: str) -> type[Guidance]:
    """By command-line name or class name.

    Raises:
        UnknownName: there is none; the message names the nearest.
    """
    return find("guidance", Guidance, name)


def switched_off(guidance: Guidance) -> Guidance:
    """The same guidance with every scale off, inside of wrappers too: the plain conditional prediction."""
    off: dict[str, Any] = {name: value for name, value in OFF.items() if name in guidance.parameters()}
    inner = getattr(guidance, "inner", None)
    if isinstance(inner, Guidance):
        off["inner"] = switched_off(inner)
    return guidance.changed(**off)
