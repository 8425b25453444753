"""What a tuning may vary: settings of a guidance and of networks, each within a range or among choices."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from ..core.errors import GivenTwice, InvalidSetting, UnknownName, typed
from ..core.guidance import Guidance, networks_of
from ..core.parsing import NUMBER, WHOLE_NUMBER, part_text, split_settings
from ..core.settings import Configurable, part_type
from ..guidance.interval import IntervalGuidance
from .methods import Method, chosen_methods, standard_methods

INTERVAL = ("start", "stop")
"""Settings that put the guidance into an interval where it has none of this name."""

FORM = "key=low:high, key=low:high:log or key=one|other, like auto_scale=1:3"
DIGITS = 4
"""Significant digits of a number that is tried: more would not be seen in any measurement."""

HOLE = re.compile(r"\{(\w+)\}")
"""In a network's source, the place of what is varied under this name."""


@dataclass(frozen=True)
class Span:
    """A setting that takes any number of a range.

    Attributes:
        key: of the setting.
        low, high: the ends, low < high, both included.
        log: whether equal ratios count as equal steps; then low > 0.
        whole: whether it takes whole numbers alone.
    """

    key: str
    low: float
    high: float
    log: bool = False
    whole: bool = False

    def at(self, share: float) -> str:
        """The value at a share of the range, in [0, 1], as typed."""
        low, high = (math.log(end) if self.log else end for end in (self.low, self.high))
        value = low + share * (high - low)
        return self.text(math.exp(value) if self.log else value)

    def text(self, value: float) -> str:
        """A value as typed: with :data:`DIGITS` digits, within the range."""
        if self.whole:
            return str(min(max(round(value), round(self.low)), round(self.high)))
        return typed(min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high))

    def number(self, text: str) -> float | None:
        """The number of a typed value, if it is one of the range; None otherwise."""
        value = float(text) if NUMBER.fullmatch(text.strip()) else math.nan
        return value if self.low <= value <= self.high else None

    @property
    def written(self) -> str:
        """In one form for all ways to type it."""
        return f"{self.key}={typed(self.low)}:{typed(self.high)}{':log' if self.log else ''}"


@dataclass(frozen=True)
class Choices:
    """A setting that takes one of several values.

    Attributes:
        key: of the setting.
        texts: the values as typed, at least two, all different.
    """

    key: str
    texts: tuple[str, ...]

    def at(self, share: float) -> str:
        """The value at a share of the list, in [0, 1]."""
        return self.texts[min(int(share * len(self.texts)), len(self.texts) - 1)]

    @property
    def written(self) -> str:
        """In one form for all ways to type it."""
        return f"{self.key}={'|'.join(self.texts)}"


Varied = Span | Choices


def parse_varied(texts: Sequence[str]) -> tuple[Varied, ...]:
    """What is to be varied, from texts such as "auto_scale=1:3, start=0:0.6" and "weak=noised:0.1|noised:0.2".

    Raises:
        InvalidSetting: nothing is varied, a text of another form, or a range without an inside.
        GivenTwice: a key that is varied twice.

    >>> [one.written for one in parse_varied(["auto_scale=1:3, noise=0.01:1:log", "weak=dropout:0.1|noised:0.2"])]
    ['auto_scale=1:3', 'noise=0.01:1:log', 'weak=dropout:0.1|noised:0.2']
    """
    found: dict[str, Varied] = {}
    for pair in (pair for text in texts for pair in split_settings(text)):
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or not key or not value:
            raise InvalidSetting("vary", pair, FORM)
        if key in found:
            raise GivenTwice(f"the varied {key}", found[key].written.partition("=")[2], value)
        found[key] = _one(key, value)
    if not found:
        raise InvalidSetting("vary", ", ".join(texts), FORM)
    return tuple(found.values())


def _one(key: str, value: str) -> Varied:
    if "|" in value:
        texts = tuple(text.strip() for text in value.split("|"))
        if not all(texts):
            raise InvalidSetting(f"the choices of {key}", value, "values with | between them, none empty")
        again = next((text for place, text in enumerate(texts) if text in texts[:place]), None)
        if again is not None:
            raise GivenTwice(f"the choice {again!r} of {key}")
        return Choices(key, texts)
    ends = [part.strip() for part in value.split(":")]
    log = len(ends) == 3 and ends[2] == "log"
    if (len(ends) != 2 and not log) or not all(NUMBER.fullmatch(end) for end in ends[:2]):
        raise InvalidSetting(f"the range of {key}", value, f"two numbers, or choices: {FORM}")
    low, high = map(float, ends[:2])
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InvalidSetting(f"the range of {key}", value, "two finite numbers, the lower one first")
    if log and low <= 0:
        raise InvalidSetting(f"the range of {key}", value, "above 0 where equal ratios count as equal steps")
    return Span(key, low, high, log, all(WHOLE_NUMBER.fullmatch(end) for end in ends[:2]))


@dataclass(frozen=True)
class Space:
    """What a tuning tries: a method with some of its settings varied, and networks.

    Attributes:
        prompt, negatives: the question.
        method: the method without what is varied, as people type it: its defaults.
        varied: the settings, by the place where they belong: see :meth:`of`.
        sources: name -> source of further networks, with ``{key}`` where one is varied.
        in_networks: keys that belong to a network's source, or are a network's name.
        in_interval: whether the guidance is put into an interval.
        scales: the default scales of the standard methods.
    """

    prompt: str
    negatives: tuple[str, ...]
    method: str
    varied: tuple[Varied, ...]
    sources: tuple[tuple[str, str], ...]
    in_networks: frozenset[str]
    in_interval: bool
    scales: tuple[tuple[str, float], ...]

    @classmethod
    def of(
        cls, prompt: str, negatives: Sequence[str], method: str, varied: Sequence[Varied],
        sources: Mapping[str, str], scales: Mapping[str, float],
    ) -> "Space":  # fmt: skip
        """The space of what is asked for, with every end of a range and every choice tried once.

        Args:
            prompt, negatives: the question.
            method: of :func:`~steerclear.study.methods.chosen_methods`.
            varied: what is varied. A key is a setting of the guidance, such as "auto_scale" or "evidence.prior"; ``start`` or
                ``stop`` of an interval around it; a network's name; or a name that stands as ``{key}`` in a network's source.
            sources: of further networks by name.
            scales: the default scales of the standard methods.

        Raises:
            UnknownName: a key that is none of these, or an unknown method.
            InvalidSetting: a value that the guidance refuses, or a place in a source that nothing fills.
        """
        negatives = tuple(negatives)
        (plain,) = chosen_methods((method,), standard_methods(prompt, negatives, **scales), prompt, negatives)
        holes = {hole for source in sources.values() for hole in HOLE.findall(source)}
        keys = {one.key for one in varied}
        if holes - keys:
            raise InvalidSetting("network", "{" + min(holes - keys) + "}", "a name that --vary has", "add it there")
        own = {*networks_of(plain.guidance, len(plain.negative_prompts))}
        around = any(key in INTERVAL and key not in plain.guidance.parameters() for key in keys - holes)
        space = cls(
            prompt, negatives, method, tuple(_typed(one, plain.guidance) if one.key not in holes | own else one for one in varied),
            tuple(sources.items()), frozenset(keys & (holes | own | sources.keys())), around, tuple(scales.items()),
        )  # fmt: skip
        space._check(plain)
        return space

    def _check(self, plain: Method) -> None:
        """Try the ends of each range and each choice, with the defaults of all else."""
        for one in self.varied:
            if one.key in self.in_networks:
                if isinstance(one, Span) and one.key not in self.holes:
                    raise InvalidSetting(
                        f"the network {one.key}", one.written, "choices of sources, with | between them"
                    )
                continue
            for text in one.texts if isinstance(one, Choices) else (one.at(0), one.at(1)):
                self.text({one.key: text})
                self.method_of({one.key: text})
        if self.in_interval and plain.prompt != self.prompt:
            raise InvalidSetting("guidance", self.method, "one with the prompt itself inside an interval")

    def text(self, values: Mapping[str, str]) -> str:
        """The method with these values, as ``--methods`` takes it; values of networks are passed over."""
        own = {key: text for key, text in values.items() if key not in self.in_networks}
        if not self.in_interval:
            return _with(self.method, own)
        inner = self.named(_with(self.method, {key: text for key, text in own.items() if key not in INTERVAL}))
        around = [f"{key}={own[key]}" for key in INTERVAL if key in own]
        return f"{IntervalGuidance.name}:{', '.join([f'inner={part_text(inner.guidance, inside=True)}', *around])}"

    def method_of(self, values: Mapping[str, str]) -> Method:
        """The method with these values.

        Raises:
            InvalidSetting: the guidance refuses them, such as an interval that ends before it begins.
        """
        return self.named(self.text(values))

    def named(self, text: str) -> Method:
        """A method of this question by its text."""
        standard = standard_methods(self.prompt, self.negatives, **dict(self.scales))
        return chosen_methods((text,), standard, self.prompt, self.negatives)[0]

    @property
    def plain(self) -> Method:
        """The method with its defaults."""
        return self.named(self.method)

    def networks_of(self, values: Mapping[str, str]) -> dict[str, str]:
        """Name -> source of every network with these values."""
        filled = {name: HOLE.sub(lambda hole: values[hole[1]], source) for name, source in self.sources}
        return filled | {key: values[key] for key in sorted(self.in_networks - self.holes) if key in values}

    @property
    def holes(self) -> set[str]:
        """The names that stand in sources of networks."""
        return {hole for _, source in self.sources for hole in HOLE.findall(source)}

    def defaults(self) -> dict[str, str] | None:
        """The values that leave the method at its defaults; None where one is not within its range, or names a network."""
        found, guidance = {}, self.plain.guidance
        for one in self.varied:
            text = None if one.key in self.in_networks else _default_text(guidance, one.key)
            if text is None or (one.number(text) is None if isinstance(one, Span) else text not in one.texts):
                return None
            found[one.key] = text
        return found

    @property
    def written(self) -> str:
        """What is varied, in one form for all ways to type it."""
        return ", ".join(one.written for one in self.varied)


def _with(method: str, values: Mapping[str, str]) -> str:
    """A method's text with further settings."""
    pairs = ", ".join(f"{key}={text}" for key, text in values.items())
    return f"{method}{', ' if ':' in method else ':'}{pairs}" if pairs else method


def _default_text(guidance: Guidance, key: str) -> str | None:
    """A setting's default as typed; None for one that is open."""
    part: Any = guidance if key.partition(".")[0] in guidance.parameters() else IntervalGuidance()
    for name in key.split("."):
        part = getattr(part, name, None)
    return None if part is None or isinstance(part, Configurable) else typed(part)


def _typed(one: Varied, guidance: Guidance) -> Varied:
    """A varied setting by its declared type: a range is of whole numbers only where the setting takes nothing else.

    Raises:
        UnknownName: the guidance has no such setting.
    """
    first, *rest = one.key.split(".")
    part: Any = guidance
    if first in INTERVAL and first not in guidance.parameters():
        part = IntervalGuidance()
    kind: Any = None
    for place, name in enumerate([first, *rest]):
        if not isinstance(part, Configurable) or name not in part.parameters():
            known = {*part.parameters()} if isinstance(part, Configurable) else set()
            raise UnknownName("setting to vary", one.key, known | ({*INTERVAL} if place == 0 else set()))
        kind, part = part.types()[name], getattr(part, name)
    if isinstance(one, Choices):
        return one
    if part_type(kind) is not None:
        raise InvalidSetting(f"the range of {one.key}", one.written, "choices with | between them", "it is no number")
    kinds = {kind, *get_args(kind)}
    if not kinds & {int, float}:
        raise InvalidSetting(f"the range of {one.key}", one.written, "choices with | between them", "it is no number")
    return Span(one.key, one.low, one.high, one.log, int in kinds and float not in kinds)
