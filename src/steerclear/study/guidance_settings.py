"""A guidance from what people type: a name, a scale, key=value pairs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import InvalidSetting, SteerclearError
from ..core.evidence import Evidence
from ..core.guidance import Guidance, find_guidance
from ..core.parsing import name_and_settings, parse_part
from ..guidance.classifier_free import ClassifierFreeGuidance
from ..guidance.redraw import Redraw
from ..guidance.unguided import Unguided


def build_guidance(name: str, guidance_scale: float | None = None, assignments: Sequence[str] = ()) -> Guidance:
    """Build a guidance from its name and settings; name, assignments and errors as :func:`~steerclear.core.parsing.parse_part`.

    A ``guidance_scale`` of None leaves it to the name and the assignments. That of a guidance which draws again is that of
    the one that draws, by default classifier-free guidance.

    >>> build_guidance("cfg", 5.0).guidance_scale
    5.0
    >>> build_guidance("interval", None, ["inner=negative", "inner.guidance_scale=4", "stop=0.5"]).inner.guidance_scale
    4.0
    >>> build_guidance("redraw", 5.0).guidance
    ClassifierFreeGuidance(guidance_scale=5.0, guidance_rescale=0.0)
    """
    if guidance_scale is not None and find_guidance(name_and_settings(name, "guidance")[0]) is Redraw:
        return parse_part(name, Guidance, [*_scale_inside(name, guidance_scale, assignments), *assignments])
    return parse_part(name, Guidance, with_scale(guidance_scale, assignments))


def _scale_inside(name: str, guidance_scale: float, assignments: Sequence[str]) -> list[str]:
    """The scale of what draws images again; at scale 1 nothing guides it, unless it is named."""
    in_name = Unguided.name in name or not isinstance(parse_part(name, Guidance).guidance, Unguided)
    named = in_name or "guidance" in _keys(assignments)
    if guidance_scale == 1 and not named:
        return []
    drawn = [] if named else [f"guidance={ClassifierFreeGuidance.name}"]
    return [*drawn, f"guidance.guidance_scale={json.dumps(guidance_scale)}"]


def _keys(assignments: Sequence[str]) -> set[str]:
    """The settings that are typed, by the first part of their keys: ``evidence.prior=0.3`` is of ``evidence``."""
    return {assignment.partition("=")[0].strip().partition(".")[0] for assignment in assignments}


def with_flagger(guidance: Redraw, assignments: Sequence[str]) -> Redraw:
    """Without the judge that a recipe filled in where an evidence is now given to flag, and the other way around."""
    given = _keys(assignments)
    if "evidence" in given and "judge" not in given:
        return guidance.changed(judge=None)
    return guidance.changed(evidence=None) if "judge" in given and "evidence" not in given else guidance


def with_scale(guidance_scale: float | None, assignments: Sequence[str]) -> list[str]:
    """The assignments, with the guidance scale as the first where it is given."""
    return [*([] if guidance_scale is None else [f"guidance_scale={json.dumps(guidance_scale)}"]), *assignments]


@dataclass(frozen=True)
class Again:
    """How images are drawn again, as people type it; None for what was not given.

    Attributes:
        redraw: whether they are.
        from_step, from_sigma, tries: see :class:`~steerclear.guidance.redraw.Redraw`.
        abandon: the name of an evidence, with settings.
    """

    redraw: bool = False
    from_step: int | None = None
    from_sigma: float | None = None
    tries: int | None = None
    abandon: str | None = None

    def __post_init__(self) -> None:
        idle = [f"--{name.replace('_', '-')}" for name in self._given()]
        if idle and not self.redraw:
            raise InvalidSetting(idle[0], getattr(self, next(iter(self._given()))), "given together with --redraw")
        if self.from_step is not None and self.from_sigma is not None:
            raise InvalidSetting(
                "--from-step", self.from_step, "left out where --from-sigma is given", "give one of the two"
            )

    def _given(self) -> dict[str, Any]:
        names = ("from_step", "from_sigma", "tries", "abandon")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def around(self, guidance: Guidance) -> Guidance:
        """The guidance, or one that draws its images again; one that does so already has what is given changed.

        Raises:
            UnknownName, InvalidSetting: an unknown evidence, or a value out of range.
        """
        if not self.redraw:
            return guidance
        given = self._given()
        if self.abandon is not None:
            given["abandon"] = parse_part(self.abandon, Evidence)
        if isinstance(guidance, Redraw):
            begins = ("from_step", "from_sigma")
            before = dict.fromkeys(begins) if given.keys() & {*begins} else {}  # the other one is not meant then
            return guidance.changed(**{**before, **given})
        return Redraw(guidance, **given)


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
