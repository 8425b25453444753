"""What a guidance promises.

A guidance is a frozen dataclass of plain numbers. It turns predictions of several branches into one:

    state = guidance.begin(surroundings)
    guided = guidance(step, state)        # Guided(prediction, state, info)

It has no hidden state, and shares nothing across a batch: image k of a batch is image k alone.
A scale means the same in every guidance (``Guidance.off`` has the value at which it is off):

    guidance_scale   classifier-free scale of the prompt; 1 is off
    negative_scale   push away from a negative prompt; 0 is off
    auto_scale       push away from the weak network; 1 is off

With all scales off a guidance is the plain conditional prediction, bit for bit. Its further claims are :class:`Law`
objects; one test measures every law of every guidance.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar, Self

from .denoiser import MAIN, Branch, kind_and_index
from .errors import InvalidSetting
from .evidence import Circumstances, Evidence, Surroundings
from .laws import Law
from .records import Guided, State, Step
from .redrawing import Redrawing
from .settings import Configurable, read_object
from .shelf import find
from .values import is_number

CONFIG_NAME = "guider_config.json"


class Guidance(Configurable, ABC):
    """The contract. Subclasses are frozen dataclasses, one per file; their docstring has equation and paper.

    Class attributes:
        name: on the command line.
        paper: title, authors, year, arXiv number.
        cost: network evaluations per step, in words.
        off: the value at which each scale is off. A guidance with a scale of its own adds it:
            ``off = {**Guidance.off, "own_scale": 0.0}``.
    """

    shelf: ClassVar[str] = "guidance"
    kind: ClassVar[str] = "guidance"
    name: ClassVar[str]
    paper: ClassVar[str]
    cost: ClassVar[str]
    off: ClassVar[Mapping[str, float]] = {"guidance_scale": 1.0, "negative_scale": 0.0, "auto_scale": 1.0}

    def begin(self, surroundings: Surroundings) -> State:
        """The state before the first step. Most guidances need none."""
        return State()

    @abstractmethod
    def branches(self, negatives: int) -> tuple[str, ...]:
        """Every branch that any step may ask for with these settings, in the order asked.

        A bridge prepares all their conditions and networks before the first evaluation, and refuses there what it lacks. A
        step may ask for fewer branches; any other is refused.

        Args:
            negatives: the number of negative prompts, at least 0.

        Raises:
            InvalidSetting: the settings do not fit that number; names the setting and the number.
        """

    @abstractmethod
    def __call__(self, step: Step, state: State) -> Guided:
        """Guide one step; asks the step only for the branches that it needs."""

    @classmethod
    @abstractmethod
    def laws(cls) -> tuple[Law, ...]:
        """The claims of this guidance, as data."""

    def fitted(self, known: Circumstances) -> Self:
        """The same guidance with open settings (None) of its parts set to what fits the run."""
        parts = {name: getattr(self, name) for name in self.parameters()}
        fitting = {name: part.fitted(known) for name, part in parts.items() if isinstance(part, Guidance | Evidence)}
        return self.changed(**fitting) if fitting else self

    def needs_noise_level(self) -> bool:
        """Whether these settings ask a step for its noise level or the next one, for a denoised image, or for ``step.at``.

        Schedulers that do not give it are then refused before the first evaluation.
        """
        return False

    def has_no_step(self, levels: Sequence[float], steps: Sequence[int] | None = None) -> str | None:
        """Why the guidance acts at no step of a schedule with these settings; None if it acts at one.

        Args:
            levels: sigma / alpha at the beginning of every step; NaN if unknown.
            steps: indices of the steps that a guidance around this one leaves to it; None for all.
        """
        return None

    def redrawing(self) -> Redrawing | None:
        """How a door draws finished images again; None if once is enough."""
        return None

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write ``guider_config.json`` into a folder, as diffusers does for its guiders."""
        path = Path(folder) / CONFIG_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_config(), indent=2) + "\n")
        return path

    @staticmethod
    def from_pretrained(folder: str | Path) -> "Guidance":
        """Read what :meth:`save_pretrained` of a guidance or of our guider wrote.

        Raises:
            InvalidSetting: the file is damaged.
            UnknownName: an unknown guidance or parameter.
        """
        config = read_object(Path(folder) / CONFIG_NAME, "the settings of a guidance")
        own = any(config.get("_class_name") == member.__name__ for member in Guidance.known().values())
        return Guidance.from_config(config if own else config.get("guidance", config))


class Wrapper(Guidance):
    """A guidance around another: set-up questions are passed on to ``inner``."""

    inner: Guidance

    def begin(self, surroundings: Surroundings) -> State:
        return self.inner.begin(surroundings)

    def branches(self, negatives: int) -> tuple[str, ...]:
        return self.inner.branches(negatives)

    def needs_noise_level(self) -> bool:
        return self.inner.needs_noise_level()

    def has_no_step(self, levels: Sequence[float], steps: Sequence[int] | None = None) -> str | None:
        return self.inner.has_no_step(levels, steps)

    def redrawing(self) -> Redrawing | None:
        return self.inner.redrawing()


def check_outermost(guidance: Guidance) -> None:
    """Refuse to wrap a guidance whose evidence flags images, or gives them up: it needs every step to itself.

    Raises:
        InvalidSetting: it is such a one; names the setting.
    """
    redrawing = guidance.redrawing()
    if redrawing is not None and (redrawing.by_evidence or redrawing.abandons):
        name = "evidence" if redrawing.by_evidence else "abandon"
        raise InvalidSetting(
            "inner", guidance.name, f"one that draws again without {name!r}, or a guidance that does not draw again",
            f"put {guidance.name} outermost, around this guidance: with {name!r} it follows every step, and images that it "
            "gave up have no prediction",
        )  # fmt: skip


def joined(*groups: Sequence[str]) -> tuple[str, ...]:
    """All branches of the groups in order, each once.

    >>> joined(("empty", "positive"), ("positive", "weak:positive"))
    ('empty', 'positive', 'weak:positive')
    """
    return tuple(dict.fromkeys(name for group in groups for name in group))


def declared(guidance: Guidance, negatives: int) -> tuple[Branch, ...]:
    """The branches of :meth:`Guidance.branches`, parsed.

    Raises:
        InvalidSetting: as there; or it returned something else than a tuple of names of branches.
    """
    names = guidance.branches(negatives)
    if not isinstance(names, tuple):
        example = "a tuple, such as ('empty', 'positive')"
        raise InvalidSetting(f"what branches() of {guidance.name} returns", names, example)
    return tuple(Branch.parse(name, f"a branch that {guidance.name} declares") for name in names)


def conditions_of(guidance: Guidance, negatives: int) -> tuple[str, ...]:
    """The conditions other than "positive" that a step may ask for, of any network."""
    conditions = dict.fromkeys(branch.condition for branch in declared(guidance, negatives))
    return tuple(condition for condition in conditions if condition != "positive")


def networks_of(guidance: Guidance, negatives: int) -> tuple[str, ...]:
    """Names of the networks other than the main one that a step may ask for."""
    networks = dict.fromkeys(branch.network for branch in declared(guidance, negatives))
    return tuple(network for network in networks if network != MAIN)


def negative_has_no_effect(guidance: Guidance, negatives: int = 1) -> str | None:
    """Why negative prompts (at least 1) change nothing with these settings; None if they change something."""
    if _looks_at_negatives(guidance, negatives):
        return None
    scales = list(_scales(guidance))
    for several in (chosen for size in (1, 2) for chosen in combinations(scales, size)):
        if _looks_at_negatives(reduce(_at_default, several, guidance), negatives):
            return " and ".join(f"{'.'.join(path)} is {_number(reduce(getattr, path, guidance))}" for path in several)
    return f"{guidance.name} does not look at negative prompts"


def _looks_at_negatives(guidance: Guidance, negatives: int) -> bool:
    if guidance.redrawing() is not None:
        return True
    try:
        kinds = {kind_and_index(condition)[0] for condition in conditions_of(guidance, negatives)}
    except InvalidSetting:  # it wants another number of them
        return True
    return not kinds.isdisjoint({"negative", "conjunction"})


def _number(value: Any) -> str:
    return f"{value:g}" if is_number(value) else f"{value}"


def _scales(guidance: Guidance, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of the scales that are not at their defaults, in inner guidances too: ``("inner", "negative_scale")``."""
    for name, parameter in guidance.parameters().items():
        value = getattr(guidance, name)
        if isinstance(value, Guidance):
            yield from _scales(value, (*path, name))
        elif name in guidance.off and value != parameter.default:
            yield (*path, name)


def _at_default(guidance: Guidance, path: tuple[str, ...]) -> Guidance:
    name, *inside = path
    value = _at_default(getattr(guidance, name), tuple(inside)) if inside else guidance.parameters()[name].default
    return guidance.changed(**{name: value})


def guidances() -> dict[str, type[Guidance]]:
    """All guidances, by their name on the command line."""
    return Guidance.known()


def find_guidance(name: str) -> type[Guidance]:
    """By command-line name or class name.

    Raises:
        UnknownName: there is no such guidance; the message names the nearest.
    """
    return find("guidance", Guidance, name)


def switched_off(guidance: Guidance) -> Guidance:
    """The same guidance with every scale off, inside wrappers too: the plain conditional prediction."""
    off: dict[str, Any] = {name: value for name, value in guidance.off.items() if name in guidance.parameters()}
    for name in guidance.parameters():
        inside = getattr(guidance, name)
        if isinstance(inside, Guidance):
            off[name] = switched_off(inside)
    return guidance.changed(**off)
