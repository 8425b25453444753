"""A guidance from what people type: a name, a scale, key=value pairs."""

import json
from collections.abc import Sequence

from ..core.errors import SteerclearError
from ..core.guidance import Guidance
from ..core.parsing import parse_part


def build_guidance(name: str, guidance_scale: float | None = None, assignments: Sequence[str] = ()) -> Guidance:
    """Build a guidance from its name and settings; name, assignments and errors as :func:`~steerclear.core.parsing.parse_part`.

    A ``guidance_scale`` of None leaves it to the name and the assignments.

    >>> build_guidance("cfg", 5.0).guidance_scale
    5.0
    >>> build_guidance("interval", None, ["inner=negative", "inner.guidance_scale=4", "stop=0.5"]).inner.guidance_scale
    4.0
    """
    return parse_part(name, Guidance, with_scale(guidance_scale, assignments))


def with_scale(guidance_scale: float | None, assignments: Sequence[str]) -> list[str]:
    """The assignments, with the guidance scale as the first where it is given."""
    return [*([] if guidance_scale is None else [f"guidance_scale={json.dumps(guidance_scale)}"]), *assignments]


def first_that_takes(names: Sequence[str], guidance_scale: float | None, assignments: Sequence[str]) -> Guidance:
    """The first of these guidances that accepts the settings; if none does, the first one's error is raised.

    >>> first_that_takes(["dynamic-negative", "negative"], None, ["guidance_rescale=0.5"]).name
    'negative'
    """
    refusals = []
    for name in names:
        try:
            return build_guidance(name, guidance_scale, assignments)
        except SteerclearError as refusal:
            refusals.append(refusal)
    raise refusals[0]
