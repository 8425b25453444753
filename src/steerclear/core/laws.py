"""Claims about a guidance that a test can measure, as data; ``tests/test_laws.py`` measures every one."""

from dataclasses import dataclass

from .settings import Configurable, default_of


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
        """What is claimed of the example, in words: the first line of the class's docstring."""
        first = (type(self).__doc__ or type(self).__name__).splitlines()[0].rstrip(".")
        return first[:1].lower() + first[1:]


def _named(part: object) -> str:
    """A part by its name and the settings that differ from the defaults; any other value as Python writes it.

    >>> from steerclear.guidance.classifier_free import ClassifierFreeGuidance
    >>> _named(ClassifierFreeGuidance()), _named(ClassifierFreeGuidance(1.5))
    ('cfg', 'cfg(guidance_scale=1.5)')
    """
    if not isinstance(part, Configurable):
        return f"{part:g}" if isinstance(part, float) else repr(part)
    changed = _changed(part)
    return f"{part.name}({changed})" if changed else part.name


def _changed(part: Configurable) -> str:
    values = {name: (getattr(part, name), default_of(field)) for name, field in part.parameters().items()}
    return ", ".join(f"{name}={_named(value)}" for name, (value, default) in values.items() if value != default)


@dataclass(frozen=True)
class Identity(Law):
    """The prediction is the plain conditional one, bit for bit.

    Attributes:
        branch: another branch, where the prediction is that one.
    """

    branch: str = "positive"

    def claim(self) -> str:
        return super().claim() if self.branch == "positive" else f"the prediction is {self.branch}, bit for bit"


@dataclass(frozen=True)
class Linear(Law):
    """The prediction is the sum of weight x branch, to 1e-10 in float64."""

    weights: tuple[tuple[str, float], ...]

    def claim(self) -> str:
        terms = " ".join(f"{'-' if weight < 0 else '+'} {abs(weight):g} {branch}" for branch, weight in self.weights)
        return f"the prediction is {terms.removeprefix('+ ')}, to 1e-10"


@dataclass(frozen=True)
class Equals(Law):
    """The guidance equals another one, to 1e-10 in float64, along a whole trajectory."""

    other: Configurable

    def claim(self) -> str:
        return f"the same as {_named(self.other)}, to 1e-10 along a whole trajectory"


@dataclass(frozen=True)
class PredictionTypeInvariant(Law):
    """The denoised image is the same for networks that predict noise, v, the image or the flow."""


@dataclass(frozen=True)
class NoPushWhenAbsent(Law):
    """Where the negative's prediction is the prompt's, the result is as if there were no negative."""


@dataclass(frozen=True)
class Runs(Law):
    """A step evaluates exactly these branches, in this order.

    Attributes:
        branches: None for all that the example declares (:meth:`~steerclear.core.guidance.Guidance.branches`).
    """

    branches: tuple[str, ...] | None = None

    def claim(self) -> str:
        if self.branches is None:
            return "a step evaluates exactly the branches that these settings declare, in that order"
        return f"a step evaluates {', '.join(self.branches)}, in this order, and nothing else"
