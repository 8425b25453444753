"""A guidance from what people type: a name, a scale, key=value pairs."""

import json
from collections.abc import Sequence

from ..core.errors import SteerclearError
from ..core.guidance import Guidance
from ..core.parsing import parse_part


def build_guidance(name: str, guidance_scale: float | None = None, assignments: Sequence[str] = ()) -> Guidance:
    """Build a guidance from its name and settings.

    Args:
        name: of the guidance, or name and settings as :func:`~steerclear.core.parsing.parse_part` takes them.
        guidance_scale: None for the guidance's own default.
        assignments: ``key=value``, as for :func:`~steerclear.core.parsing.parse_part`.

    Raises:
        UnknownName: an unknown guidance or parameter; the message names the nearest.
        InvalidSetting: an assignment without ``=``, a setting given twice, a value of another type or out of range, or too
            many parts inside one another.

    >>> build_guidance("cfg", 5.0).guidance_scale
    5.0
    >>> build_guidance("interval", None, ["inner=negative", "inner.guidance_scale=4", "stop=0.5"]).inner.guidance_scale
    4.0
    """
    scale = [] if guidance_scale is None else [f"guidance_scale={json.dumps(guidance_scale)}"]
    return parse_part(name, Guidance, [*scale, *assignments])


def first_that_takes(names: Sequence[str], guidance_scale: float | None, assignments: Sequence[str]) -> Guidance:
    """The first of these guidances that takes the settings, built; if none does, the first one's refusal is raised.

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
