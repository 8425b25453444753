"""Calibrations given to a run: read from their files, one for each negative prompt, and where they do not belong."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.calibration import Calibration
from ..core.errors import InvalidSetting, in_words_of, shown
from ..core.evidence import Evidence
from ..core.guidance import Guidance
from ..core.settings import folder_path
from .negatives import Negatives

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
            other = one.differences(here)
            if other:
                said = f"{of} was measured elsewhere, so its numbers may be wrong here: {'; '.join(other)}"
                yield f"{said}; measure it for this run with steerclear calibrate"


def of_call(
    guidance: Guidance, given: Sequence[Calibration], negatives: Sequence[str | None], scheduler: Any,
    arguments: Mapping[str, Any],
) -> Iterator[str]:  # fmt: skip
    """:func:`of_calibrations`, of one call of a pipeline: of its prompt, its steps and its scheduler's class."""
    run = {"num_inference_steps": arguments["num_inference_steps"]} if "num_inference_steps" in arguments else {}
    if isinstance(arguments.get("prompt"), str):
        run["prompt"] = arguments["prompt"].strip()
    kind, used = type(scheduler).__name__, matched(given, negatives)
    for one in given:
        same = one.about.scheduler.partition("(")[0] == kind
        here = run | {"scheduler": one.about.scheduler if same else kind}
        left = [own if own is one else None for own in used]
        yield from of_calibrations(guidance, [one], left, negatives, here)


def texts_of(negatives: Negatives) -> tuple[str | None, ...]:
    """The text of each negative prompt; None where it is not known, or differs between the prompts of a call."""
    return tuple(text if isinstance(text, str) else None for text in negatives.texts) or (None,) * len(negatives)
