"""The contract of a world of weaknesses: a main model, its weak networks, and how samples are drawn and measured."""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..core.errors import InvalidSetting
from ..core.guidance import Guidance
from ..core.network import Network
from ..core.parsing import parse_part
from ..guidance.auto import AutoGuidance
from ..guidance.classifier_free import ClassifierFreeGuidance
from ..guidance.interval import IntervalGuidance
from ..guidance.unguided import Unguided

UNGUIDED, CFG = "unguided", "cfg"
"""Ways without a weak network; any other way is the name of a weak one."""
OWN = "own"
"""The main network as it is."""
ANY = "any"
"""The condition that names nothing, under which classifier-free guidance has no effect."""
LONGEST_NAME = 150
"""Letters of a cell's folder, which is longer where a folder is typed for a network."""
WHOLE = (0.0, 1.0)
"""The interval of all steps."""
EARLIER, NARROWER, AVERAGES = "an earlier snapshot", "a narrower network", "another length of the average"
"""Families of weak networks that come from a training."""
NOISED, QUANTIZED, DROPOUT, LAYERS = "noised weights", "quantized weights", "dropout", "fewer layers"
"""Families of weak networks that are made of the main one."""
FAMILIES = {
    "snapshot": EARLIER, "noised": NOISED, "quantized": QUANTIZED, "dropout": DROPOUT, "dropped-layers": LAYERS,
}  # fmt: skip
"""Kind of network -> its family."""
OTHER = "another network"
"""The family of anything else."""
TRAINED = (EARLIER, NARROWER)
"""Families with the faults of a training, only stronger."""


@dataclass(frozen=True)
class WorldAsked:
    """What a world is made from.

    Args:
        model: a shipped model, a local folder or a hub id; None for the world's own.
        training: the folder of the main network's training, whose snapshots are weak networks; None for none.
        narrow: the folder of a smaller network, or of a model that has one; None for none.
        narrow_training: the folder of the smaller network's training; None for none.
        prompt: what images show, where the world takes a prompt; None for the world's own.
        num_inference_steps: of every sample.
        scheduler: another sampler than the model's own; None for its own.
        batch_size: samples at a time.
        device: where the networks run.
    """

    model: str | None = None
    training: str | None = None
    narrow: str | None = None
    narrow_training: str | None = None
    prompt: str | None = None
    num_inference_steps: int = 30
    scheduler: str | None = None
    batch_size: int = 250
    device: str = "cpu"

    def refuse(self, world: str, *names: str) -> None:
        """Raises :class:`InvalidSetting` where a setting is given that a world does not have."""
        for name in names:
            if getattr(self, name) != getattr(type(self), name):
                raise InvalidSetting(name, getattr(self, name), f"left out: the world {world} has none")


@dataclass(frozen=True)
class Weak:
    """A weak network.

    Args:
        family: what makes it weak, in words.
        how: what is typed for it: a kind of network, or a folder; "" for the model's own weak network.
    """

    family: str
    how: str


def family_named(how: str) -> str:
    """The family of a network that is typed.

    >>> family_named("noised:strength=0.1"), family_named("runs/other")
    ('noised weights', 'another network')
    """
    return FAMILIES.get(how.partition(":")[0].strip().lower(), OTHER)


def has_faults_of(main: str, weak: Weak) -> bool | None:
    """Whether a weak network has the faults of the main one, only stronger; None where that is not known.

    A main network has the faults of its training, which an earlier or narrower one has more of, unless a corruption was put into
    it: then another one of the same kind has that, made of it.

    Args:
        main: how the main network is made; "" as it is.
        weak: the weak one.

    >>> has_faults_of("", Weak(NARROWER, "runs/narrow")), has_faults_of("", Weak(NOISED, "noised:0.1"))
    (True, False)
    >>> has_faults_of("noised:0.1", Weak(NOISED, "noised:0.2")), has_faults_of("noised:0.1", Weak(NOISED, "noised:0.2,seed=1"))
    (True, False)
    """
    corrupted = family_named(main)
    if corrupted not in (NOISED, QUANTIZED):
        return {OTHER: None, AVERAGES: None}.get(weak.family, weak.family in TRAINED)
    if weak.family != corrupted:
        return False
    return corrupted != NOISED or parse_part(main, Network).seed == parse_part(weak.how, Network).seed


@dataclass(frozen=True)
class Figured:
    """A number that is measured of a set of samples.

    Args:
        name: of the figure.
        label: for people.
        lower: whether lower is better.
    """

    name: str
    label: str
    lower: bool = False


@dataclass(frozen=True)
class Cell:
    """One way of drawing.

    Args:
        main: name of the main network.
        condition: name of what is asked for.
        way: "unguided", "cfg", or the name of a weak network.
        scale: of the guidance; 1 for unguided.
        start, stop: of the interval, as fractions of the steps.
    """

    main: str
    condition: str
    way: str = UNGUIDED
    scale: float = 1.0
    start: float = 0.0
    stop: float = 1.0

    @property
    def weak(self) -> str | None:
        """The name of its weak network; None for none."""
        return None if self.way in (UNGUIDED, CFG) else self.way

    @property
    def unguided(self) -> "Cell":
        """What it is compared with."""
        return Cell(self.main, self.condition)

    def guidance(self) -> Guidance:
        """The guidance; a weak network is asked as "weak"."""
        if self.way == UNGUIDED:
            return Unguided()
        inner = ClassifierFreeGuidance(self.scale) if self.way == CFG else AutoGuidance(self.scale)
        interval = self.start, self.stop
        return inner if interval == WHOLE else IntervalGuidance(inner, *interval)

    def evaluations(self, steps: int) -> int:
        """Of networks, of one sample, as planned."""
        if self.way == UNGUIDED:
            return steps
        return steps + int(self.stop * steps) - int(self.start * steps)

    @property
    def folder(self) -> str:
        """The name of its folder."""
        words = [self.main, self.condition, self.way]
        if self.way != UNGUIDED:
            words += [f"{self.scale:g}", f"{self.start:g}-{self.stop:g}"]
        name = "_".join(re.sub(r"[^a-z0-9.+-]+", "-", word.lower()) for word in words)
        if len(name) <= LONGEST_NAME:
            return name
        return f"{name[:LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"  # with a path in it


Samples = Mapping[str, Tensor]
"""What is kept of samples, one row each; "evaluations" of networks is among it."""


class WeaknessWorld(ABC):
    """A main model, its weak networks, and samples that are measured against a truth.

    Class attributes:
        name: of the world.
        conditions: what may be asked for, the default first.
        figures: what is measured. The first decides which guidance is the best; the last must not be lost.
        bounds: condition -> the most that the first figure with autoguidance may be, as a share of the unguided one's.
        kept_share: the least that the last figure may be, as a share of the unguided one's.
    """

    name: ClassVar[str]
    conditions: ClassVar[tuple[str, ...]]
    figures: ClassVar[tuple[Figured, ...]]
    bounds: ClassVar[Mapping[str, float]]
    kept_share: ClassVar[float] = 1.0

    @property
    @abstractmethod
    def title(self) -> str:
        """The model, in words."""

    @property
    def digest(self) -> str | None:
        """Of the model's files; None without files."""
        return None

    @property
    @abstractmethod
    def sampler(self) -> str:
        """The sampler, in words."""

    @abstractmethod
    def mains(self) -> dict[str, str]:
        """Main network -> how it is made; :data:`OWN` is there."""

    @abstractmethod
    def weaknesses(self) -> dict[str, Weak]:
        """The weak networks by name."""

    @abstractmethod
    def made_with(self, main: str, weak: Weak | None) -> str:
        """What determines samples, beside the cell and the seeds: digests of networks. ``main`` is how it is made.

        Raises:
            InvalidSetting, UnsupportedModel: it cannot be made.
        """

    @abstractmethod
    def draw(
        self, cell: Cell, main: str, weak: Weak | None, seeds: Sequence[int], on_samples: Callable[[int], None]
    ) -> Samples:
        """Draw a sample for each seed, and look at it.

        Args:
            cell: what is drawn.
            main: how the main network is made.
            weak: the weak network of the cell; None for none.
            seeds: one per sample; sample k depends on its seed alone.
            on_samples: called with the number of samples after each batch.
        """

    @abstractmethod
    def measure(self, condition: str, samples: Samples) -> dict[str, float]:
        """The figures of a set of samples, by name. Those that a condition has not are left out."""
