"""Claims about a guidance that a test can measure, as data; ``tests/test_laws.py`` measures every one."""

import dataclasses
from dataclasses import dataclass

from .settings import Configurable


@dataclass(frozen=True)
class Law:
    """A claim about a guidance that a test can measure. ``str`` says it in words.

    Attributes:
        example: the guidance, with the settings for which the claim is made.
    """

    example: Configurable

    def __str__(self) -> str:
        return f"{_changed(self.example) or 'By default'}: {self.claim()}."

    def claim(self) -> str:
        """What is claimed of the example, in words."""
        return type(self).__name__


def _named(part: object) -> str:
    """A part by its name and the settings that differ from the defaults; another value as it is written.

    >>> from steerclear.guidance.classifier_free import ClassifierFreeGuidance
    >>> _named(ClassifierFreeGuidance()), _named(ClassifierFreeGuidance(1.5))
    ('cfg', 'cfg(guidance_scale=1.5)')
    """
    if not isinstance(part, Configurable):
        return f"{part:g}" if isinstance(part, float) else repr(part)
    changed = _changed(part)
    return f"{part.name}({changed})" if changed else part.name


def _changed(part: Configurable) -> str:
    defaults = {
        name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        for name, field in part.parameters().items()
    }
    values = {name: getattr(part, name) for name in defaults}
    return ", ".join(f"{name}={_named(value)}" for name, value in values.items() if value != defaults[name])


@dataclass(frozen=True)
class Identity(Law):
    """With these settings the guided prediction is the plain conditional one, bit for bit."""

    def claim(self) -> str:
        return "the prediction is the plain conditional one, bit for bit"


@dataclass(frozen=True)
class Linear(Law):
    """The guided prediction is sum of weight x branch, to 1e-10 in float64."""

    weights: tuple[tuple[str, float], ...]

    def claim(self) -> str:
        terms = " ".join(f"{'-' if weight < 0 else '+'} {abs(weight):g} {branch}" for branch, weight in self.weights)
        return f"the prediction is {terms.removeprefix('+ ')}, to 1e-10"


@dataclass(frozen=True)
class Equals(Law):
    """With these settings the guidance is another one, to 1e-10 in float64, along a whole trajectory."""

    other: Configurable

    def claim(self) -> str:
        return f"the same as {_named(self.other)}, to 1e-10 along a whole trajectory"


@dataclass(frozen=True)
class PredictionTypeInvariant(Law):
    """The guided denoised image is the same for networks that predict noise, v, the image or the flow."""

    def claim(self) -> str:
        return "the denoised image is the same for networks that predict noise, v, the image or the flow"


@dataclass(frozen=True)
class NoPushWhenAbsent(Law):
    """Where the negative's prediction equals the prompt's, the guidance is as if there were no negative."""

    def claim(self) -> str:
        return "where the negative's prediction is the prompt's, the result is as if there were no negative"


@dataclass(frozen=True)
class Runs(Law):
    """Just these branches run at a step, in this order.

    Attributes:
        branches: None for all that the example declares (:meth:`~steerclear.core.guidance.Guidance.branches`).
    """

    branches: tuple[str, ...] | None = None

    def claim(self) -> str:
        if self.branches is None:
            return "a step evaluates just the branches that these settings declare, in that order"
        return f"a step evaluates {', '.join(self.branches)}, in this order, and nothing else"
