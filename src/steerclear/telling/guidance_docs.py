"""The docstring of a shelf's entry as data, for ``steerclear guidance show``, the report and the generated docs.

A docstring has a summary sentence, an "Equation:" or "Equations:" block, prose, and an "Args:" block; griffe parses it, as
for the API pages.
"""

import dataclasses
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..core.evidence import Evidence
from ..core.guidance import Guidance
from ..core.settings import Configurable

ARXIV = re.compile(r"arXiv[ :](\d{4}\.\d{4,5})")


class Parameter(NamedTuple):
    """One setting.

    Attributes:
        name: as on the command line and in ``guider_config.json``.
        default: as people type it; "" if it must be given.
        meaning: from the docstring, or "".
    """

    name: str
    default: str
    meaning: str


@dataclass(frozen=True)
class GuidanceDoc:
    """The documentation of a guidance, an evidence, a kind of network, ...; "" for what it lacks.

    Attributes:
        name: on the command line.
        summary: the first paragraph.
        equation: its lines, without their common indentation.
        parameters: in the order of definition.
        paper: title, authors, year, arXiv number.
        cost: network evaluations per step, in words.
    """

    name: str
    summary: str
    equation: str
    parameters: tuple[Parameter, ...]
    paper: str
    cost: str


def documentation(cls: type[Configurable]) -> GuidanceDoc:
    """The documentation of a shelf's entry, from its docstring and class attributes.

    >>> from steerclear.core.guidance import find_guidance
    >>> documentation(find_guidance("cfg")).equation
    'D = D_empty + w (D_prompt - D_empty)'
    """
    from griffe import Docstring, parse_google

    sections = parse_google(Docstring(inspect.cleandoc(cls.__doc__ or "")), warnings=False)
    told = [part for section in sections if section.kind.value == "parameters" for part in section.value]
    meanings = {name: part.description for part in told for name in part.name.split(", ")}
    equations = [section.value.contents for section in sections if (section.title or "").startswith("Equation")]
    parameters = tuple(
        Parameter(field.name, _default(field), _unmarked(" ".join(meanings.get(field.name, "").split())))
        for field in cls.parameters().values()
        if field.init
    )
    summary = _unmarked(" ".join((cls.__doc__ or "").split("\n\n")[0].split()))
    paper, cost = getattr(cls, "paper", ""), getattr(cls, "cost", "")
    return GuidanceDoc(cls.name, summary, "\n".join(equations), parameters, paper, cost)


def documented_class(config: Mapping[str, Any]) -> type[Configurable] | None:
    """The class that plain values name by ``_class_name``; None if it is not installed."""
    classes = (*Guidance.known().values(), *Evidence.known().values())
    return next((member for member in classes if member.__name__ == config.get("_class_name")), None)


def _unmarked(text: str) -> str:
    """The text without the markup of docstrings.

    >>> _unmarked("as for :class:`~steerclear.Guidance`; ``inner`` is")
    'as for Guidance; inner is'
    """
    return re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", text).replace("`", "")


def _default(field: dataclasses.Field) -> str:
    if field.default is not dataclasses.MISSING:
        return plain(field.default)
    return "" if field.default_factory is dataclasses.MISSING else plain(field.default_factory())


def plain(value: Any) -> str:
    """A setting's value as people type it; nested guidances by their class name and settings.

    >>> plain(3.0), plain(None), plain("negative")
    ('3', 'none', 'negative')
    >>> plain((1.0, 0.5)), plain(((1.0, 0.0), (4.0, -2.0)))
    ('1, 0.5', '[1, 0], [4, -2]')
    >>> plain({"_class_name": "TransitionEvidence", "prior": 0.5})
    'TransitionEvidence(prior=0.5)'
    """
    if isinstance(value, Configurable):
        value = value.to_config()
    if isinstance(value, Mapping):
        inside = ", ".join(f"{name}={plain(part)}" for name, part in value.items() if name != "_class_name")
        return f"{value.get('_class_name', '')}({inside})"
    if isinstance(value, (list, tuple)):
        return ", ".join(f"[{plain(one)}]" if isinstance(one, (list, tuple)) else plain(one) for one in value) or "none"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
