"""Calibrations given to a run: read from their files, one for each negative prompt, and where they do not belong."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.calibration import Calibration
from ..core.errors import InvalidSetting, in_words_of, shown
from ..core.evidence import Evidence
from ..core.guidance import Guidance
from ..core.schedulers import own_setting, sampler_kind
from ..core.settings import folder_path
from .negatives import Negatives

COMPARING = "transition", "classifier"
"""Evidences that compare the concept's predictions with the prompt's."""

ALLOWED = "a file of steerclear calibrate, a Calibration, or a list of them with one per negative prompt"


@dataclass(frozen=True)
class Checked:
    """Calibrations of which the caller has said already where they do not belong."""

    calibrations: tuple[Calibration, ...]


def as_calibrations(given: Any) -> tuple[Calibration, ...]:
    """One or several, as files or read already.

    Raises:
        InvalidSetting: another type, or a file that is missing or damaged.
    """
    if given is None:
        return ()
    if isinstance(given, Checked):
        return given.calibrations
    several = given if isinstance(given, (list, tuple)) else (given,)
    return tuple(_read(one) for one in several)


def _read(one: Any) -> Calibration:
    if isinstance(one, Calibration):
        return one
    if not isinstance(one, (str, os.PathLike)):
        raise InvalidSetting("calibration", one, ALLOWED)
    return Calibration.load(folder_path("calibration", one))


def matched(calibrations: Sequence[Calibration], negatives: Sequence[str | None]) -> tuple[Calibration | None, ...]:
    """The calibration of each negative prompt: that of its text; of those left over, in their order.

    Args:
        calibrations: in any order.
        negatives: the negative prompts; None for one that is not known as a text.

    Returns:
        One per negative prompt, or () without calibrations.
    """
    if not calibrations:
        return ()
    found: list[Calibration | None] = [None] * len(negatives)
    left = list(calibrations)
    for index, text in enumerate(negatives):
        own = next((one for one in left if text is not None and one.about.negative_prompt == text.strip()), None)
        if own is not None:
            found[index] = own
            left.remove(own)
    for index in (index for index, one in enumerate(found) if one is None):
        found[index] = left.pop(0) if left else None
    return tuple(found)


def reads(guidance: Guidance, calibration: Calibration) -> bool:
    """Whether a guidance has an evidence that something was measured for."""
    return any(calibration.of(name) for name in may_read(guidance))


def may_read(guidance: Guidance) -> tuple[str, ...]:
    """The names of the evidences in a guidance that a calibration may keep something of."""
    parts = [part for part in guidance.parts() if isinstance(part, Evidence)]
    return tuple(part.name for part in parts if type(part).calibrated is not Evidence.calibrated)


def of_calibrations(
    guidance: Guidance, given: Sequence[Calibration], used: Sequence[Calibration | None], negatives: Sequence[str | None],
    run: Mapping[str, object],
) -> Iterator[str]:  # fmt: skip
    """Calibrations that have no effect, or were measured elsewhere: one sentence each.

    Args:
        guidance: of the run.
        given, used: all of them, and those of the negative prompts, see :func:`matched`.
        negatives: the negative prompts.
        run: what else is known of the run, by the names of :class:`~steerclear.core.calibration.About`.
    """
    for one in given:
        of = f"the calibration of {shown(one.about.negative_prompt)}"
        places = [index for index, own in enumerate(used) if own is one]
        if not places:
            yield f"{of} has no effect: there is no negative prompt for it; leave it out"
        elif not reads(guidance, one):
            take = in_words_of("evidence=ProbeEvidence()", "--guidance dynamic-negative --set evidence=probe")
            yield f"{of} has no effect: {guidance.name} has no evidence that reads it; take one that does, such as {take}"
        else:
            text = negatives[places[0]]
            here = run if text is None else {**run, "negative_prompt": text.strip()}
            elsewhere, guided = (
                one.differences(here),
                [*one.differences(_guided(guidance)), *_of_concept(guidance, one)],
            )
            if elsewhere or guided:
                said = (
                    f"{of} was measured elsewhere, so its numbers may be wrong here: {'; '.join([*elsewhere, *guided])}"
                )
                yield f"{said}; measure it for this run with steerclear calibrate" if elsewhere else said


def _guided(guidance: Guidance) -> dict[str, object]:
    """The guidance scale of a run that is not 1, if it has one."""
    scales = [getattr(part, "guidance_scale", 1) for part in guidance.parts() if isinstance(part, Guidance)]
    apart = [float(scale) for scale in scales if scale != 1]
    return {"guidance_scale": apart[0]} if apart else {}


def _of_concept(guidance: Guidance, one: Calibration) -> list[str]:
    """A clause where the concept is asked for in another way, and an evidence compares its predictions."""
    comparing = any(one.of(name) for name in may_read(guidance) if name in COMPARING)
    alone = any(getattr(part, "concept", None) == "negative" for part in guidance.parts())
    return ["its concept is the negative alone, and the calibration's the conjunction"] if comparing and alone else []


def of_call(
    guidance: Guidance, given: Sequence[Calibration], negatives: Sequence[str | None], pipe: Any,
    arguments: Mapping[str, Any],
) -> Iterator[str]:  # fmt: skip
    """:func:`of_calibrations`, of one call of a pipeline: as far as the call and the pipeline say where they are."""
    names = "num_inference_steps", "height", "width"
    run = {name: arguments[name] for name in names if name in arguments}
    run["sampler"] = sampler_kind(pipe.scheduler, arguments.get("eta"))
    prompt = arguments.get("prompt")
    prompts = [
        text.strip() for text in ([prompt] if isinstance(prompt, str) else prompt or ()) if isinstance(text, str)
    ]
    used = matched(given, negatives)
    for one in given:
        here = run | {"scheduler": _scheduler(pipe.scheduler, one.about.scheduler)}
        origin = str(getattr(pipe, "name_or_path", None) or "")
        if origin and not any(Path(name).exists() for name in (origin, one.about.model)):
            here["model"] = origin  # an id of the Hub; folders may have any name
        if prompts:
            here["prompt"] = next((text for text in prompts if text != one.about.prompt), one.about.prompt)
        left = [own if own is one else None for own in used]
        yield from of_calibrations(guidance, [one], left, negatives, here)


def _scheduler(scheduler: Any, measured: str) -> str:
    """As the calibration names it, if it is of the same class, and of the same algorithm if one is named; else in short."""
    kind, algorithm = type(scheduler).__name__, own_setting(scheduler, "algorithm_type")
    named = re.search(r"algorithm_type='?([^',)]+)", measured)
    if measured.partition("(")[0] != kind:
        return kind
    return measured if named is None or named[1] == algorithm else f"{kind}(algorithm_type={algorithm})"


def texts_of(negatives: Negatives) -> tuple[str | None, ...]:
    """The text of each negative prompt; None where it is not known, or differs between the prompts of a call."""
    return tuple(text if isinstance(text, str) else None for text in negatives.texts) or (None,) * len(negatives)
