"""What a guidance's docstring says, as data: for ``steerclear guidance show``, the report and the generated docs.

A docstring is a summary sentence, an "Equation:" or "Equations ...:" block, prose, and an "Args:" block; so its
equation and its meaning are written once, beside the code.
"""

import dataclasses
import inspect
import re
import textwrap
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
        default: as a person writes it; "" when there is none and it must be given.
        meaning: from the docstring; "" when it says nothing.
    """

    name: str
    default: str
    meaning: str


@dataclass(frozen=True)
class GuidanceDoc:
    """What a guidance (or an evidence) says about itself.

    Attributes:
        name: on the command line.
        summary: its first sentence.
        equation: its lines, without their common indentation; "" when there is none.
        parameters: in the order in which they are defined.
        paper: title, authors, year, arXiv number; "" when it names none.
        cost: network evaluations a step, in words; "" when it says nothing.
    """

    name: str
    summary: str
    equation: str
    parameters: tuple[Parameter, ...]
    paper: str
    cost: str


def documentation(cls: type[Configurable]) -> GuidanceDoc:
    """Read the docstring and the class attributes of a guidance or an evidence.

    Args:
        cls: the class, a frozen dataclass.

    >>> from steerclear.core.guidance import find_guidance
    >>> documentation(find_guidance("cfg")).equation
    'D = D_empty + w (D_prompt - D_empty)'
    """
    text = inspect.cleandoc(cls.__doc__ or "")
    meanings = _meanings(_block(text, r"Args:"))
    parameters = tuple(
        Parameter(field.name, _default(field), _unmarked(meanings.get(field.name, "")))
        for field in cls.parameters().values()
        if field.init
    )
    summary = _unmarked(" ".join(text.split("\n\n")[0].split()))
    paper, cost = getattr(cls, "paper", ""), getattr(cls, "cost", "")
    return GuidanceDoc(cls.name, summary, _block(text, r"Equations?\b[^:]*:"), parameters, paper, cost)


def documented_class(config: Mapping[str, Any]) -> type[Configurable] | None:
    """The class that plain values name by ``_class_name``; None when it is not installed here."""
    classes = (*Guidance.known().values(), *Evidence.known().values())
    return next((member for member in classes if member.__name__ == config.get("_class_name")), None)


def _block(text: str, head: str) -> str:
    """The indented lines below a head at the margin, without their common indentation."""
    found = re.search(rf"^{head}[ ]*\n", text, re.MULTILINE)
    if found is None:
        return ""
    lines = []
    for line in text[found.end() :].splitlines():
        if line.strip() and not line.startswith(" "):
            break
        lines.append(line)
    return textwrap.dedent("\n".join(lines)).strip("\n").rstrip()


def _unmarked(text: str) -> str:
    """Without the markup of docstrings.

    >>> _unmarked("as for :class:`~steerclear.Guidance`; ``inner`` is")
    'as for Guidance; inner is'
    """
    return re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", text).replace("`", "")


def _meanings(block: str) -> dict[str, str]:
    """Parameter -> meaning, from an Args block; ``start, stop: ...`` is told of both."""
    meanings: dict[str, str] = {}
    names: list[str] = []
    for line in block.splitlines():
        found = re.match(r"(\w+(?:, \w+)*): (.*)", line)
        if found:
            names = found[1].split(", ")
            meanings |= dict.fromkeys(names, found[2].strip())
        else:
            meanings |= {name: f"{meanings[name]} {line.strip()}".strip() for name in names}
    return meanings


def _default(field: dataclasses.Field) -> str:
    if field.default is not dataclasses.MISSING:
        return plain(field.default)
    return "" if field.default_factory is dataclasses.MISSING else plain(field.default_factory())


def plain(value: Any) -> str:
    """A setting's value as a person writes it, and can type it back: nested guidances by their name and settings.

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
