"""Who flags the images of a recipe that are to be drawn again: written into the recipe, so that it says who did."""

from collections.abc import Iterator
from typing import Any

from ..core.errors import InvalidSetting, PromptError, SteerclearError, UnsupportedModel, in_words_of
from ..core.evidence import Evidence
from ..core.guidance import Guidance
from ..core.laboratory import Asked, Judged, Laboratory
from ..core.prompts import concepts_named
from ..guidance.redraw import Redraw
from .measure import acting_laboratory


def redraws(guidance: Guidance) -> list[Redraw]:
    """The parts of a guidance that draw images again."""
    return [part for part in guidance.parts() if isinstance(part, Redraw) and part.redrawing() is not None]


def can_flag(model: Judged, guidance: Guidance, asked: Asked) -> bool:
    """Whether somebody who sees each of the concepts flags the images of a guidance, or none are to be flagged."""
    return not any(map(_is_open, redraws(guidance))) or _sees_all(model, asked)


def can_look(model: Judged, guidance: Guidance, asked: Asked) -> bool:
    """Whether a judge sees each of the concepts for the evidences of a guidance that look, or none of them looks."""
    if not any(isinstance(part, Evidence) and part.needs_judge for part in guidance.parts()):
        return True
    return _sees_all(model, asked)


def _sees_all(model: Judged, asked: Asked) -> bool:
    """Whether the judge that acts on images sees each of the concepts."""
    laboratory = acting_laboratory(model, asked)
    if laboratory is None:
        return False
    known = [column.name for column in laboratory.judge(model, asked).columns() if column.role == "concept"]
    return all(concepts_named((negative,), known) for negative in asked.negative_prompts)


def with_flagging(model: Judged, guidance: Guidance, asked: Asked) -> Guidance:
    """The guidance, with who flags its images where that was left open.

    Raises:
        UnsupportedModel: no laboratory can judge these images, or the one that is named cannot.
        PromptError: there is no negative prompt to look for.
        InvalidSetting: a laboratory that a recipe cannot name.
    """
    parts = redraws(guidance)
    if not parts:
        return guidance
    if not asked.negative_prompts:
        raise PromptError(
            "redraw draws images again that show what a negative prompt names, and there is none; give "
            + in_words_of("negative_prompt", "--negative-prompt")
        )
    if any(map(_is_open, parts)):
        laboratory = acting_laboratory(model, asked)
        if laboratory is None:
            raise UnsupportedModel(
                f"no laboratory judges the images of the model {model.name!r}, so nobody says which are to be drawn again; give "
                f"an evidence that flags them, {in_words_of('Redraw(..., evidence=...)', '--guidance redraw --set evidence=NAME')}, "
                f"or a laboratory, {in_words_of('Redraw(..., judge=...)', '--set judge=NAME')}"
            )
        guidance = _flagged_by(guidance, laboratory)
    for laboratory in (part.judge for part in redraws(guidance) if part.judge is not None):
        _check(model, laboratory, asked)
    return guidance


def _is_open(part: Redraw) -> bool:
    return part.judge is None and part.evidence is None


def _flagged_by(guidance: Guidance, laboratory: Laboratory) -> Guidance:
    inside: dict[str, Any] = {name: _flagged_by(part, laboratory) for name, part in _guidances_in(guidance)}
    if isinstance(guidance, Redraw) and _is_open(guidance):
        inside["judge"] = laboratory
    return guidance.changed(**inside) if inside else guidance


def _guidances_in(guidance: Guidance) -> Iterator[tuple[str, Guidance]]:
    for name in guidance.parameters():
        part = getattr(guidance, name)
        if isinstance(part, Guidance):
            yield name, part


def _check(model: Judged, laboratory: Laboratory, asked: Asked) -> None:
    try:
        again = Laboratory.from_config(laboratory.to_config())
    except SteerclearError:
        again = None
    if again != laboratory:
        raise InvalidSetting(
            "judge", laboratory.name, "a laboratory of plain values where images are kept with their recipe",
            "a function cannot be written into it; make it a laboratory of your own, or take steerclear.steer",
        )  # fmt: skip
    refusal = laboratory.refuses(model, asked)
    if refusal is not None:
        what = f"the laboratory {laboratory.name}, which should flag the images, cannot judge those of {model.name!r}"
        raise UnsupportedModel(f"{what}: {refusal}")
