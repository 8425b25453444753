"""Calibrations of a study: where they came from, read again, and where they do not belong."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bridges.calibrations import Checked, as_calibrations, matched, of_calibrations, reads
from ..core.calibration import Calibration
from ..core.errors import InvalidSetting, SteerclearWarning, in_words_of, shown
from ..core.guidance import Guidance


@dataclass(frozen=True)
class CalibrationSource:
    """A calibration as a recipe names it.

    Attributes:
        name: its file as given; empty for one that was given in Python.
        digest: of what it says, see :meth:`~steerclear.core.calibration.Calibration.digest`.
    """

    name: str
    digest: str


@dataclass(frozen=True, eq=False)
class GivenCalibration:
    """A calibration, and where it came from."""

    source: CalibrationSource
    calibration: Calibration


def as_given(calibration: Any) -> tuple[GivenCalibration, ...]:
    """Calibrations as people give them: files, or read already; one, several or None.

    A :class:`CalibrationSource` of an earlier run is read from its file, which must say the same as then.

    Raises:
        InvalidSetting: another type, a file that is missing or damaged, or one that says something else than before.
    """
    several = calibration if isinstance(calibration, (list, tuple)) else () if calibration is None else (calibration,)
    return tuple(_recorded(one) if isinstance(one, CalibrationSource) else _given(one) for one in several)


def _given(one: Any) -> GivenCalibration:
    (read,) = as_calibrations([one])
    name = "" if isinstance(one, Calibration) else str(Path(one).expanduser())
    return GivenCalibration(CalibrationSource(name, read.digest()), read)


def _recorded(source: CalibrationSource) -> GivenCalibration:
    again = in_words_of("give calibration=... again", "give --calibration again")
    if not source.name:
        remedy = f"it was given in Python, and no file keeps it; {again}"
        raise InvalidSetting("the calibration of the run before", source.digest, "given", remedy)
    try:
        found = _given(source.name)
    except InvalidSetting as error:
        remedy = f"it is not there any more, or damaged; {again}"
        allowed = f"the file with the digest {source.digest}"
        raise InvalidSetting("the calibration of the run before", source.name, allowed, remedy) from error
    if found.source.digest != source.digest:
        remedy = f"it says something else now ({found.source.digest}); {again}"
        allowed = f"the file with the digest {source.digest}"
        raise InvalidSetting("the calibration of the run before", source.name, allowed, remedy)
    return found


def loaded(
    sources: Sequence[CalibrationSource], given: Sequence[GivenCalibration] = ()
) -> tuple[GivenCalibration, ...]:
    """Those of a recipe or a study, taken from what is at hand, else from their files.

    Raises:
        InvalidSetting: see :func:`as_given`.
    """
    known = {one.source.digest: one for one in given}
    return tuple(known.get(source.digest) or _recorded(source) for source in sources)


def of_negatives(
    guidance: Guidance, negatives: Sequence[str], given: Sequence[GivenCalibration]
) -> tuple[GivenCalibration | None, ...]:
    """The calibration of each negative prompt that a guidance reads, or () if it reads none."""
    read = [one for one in given if reads(guidance, one.calibration)]
    own = matched([one.calibration for one in read], negatives)
    of = {id(one.calibration): one for one in read}
    found = tuple(None if one is None else of[id(one)] for one in own)
    return found if any(found) else ()


def to_steer(sources: Sequence[CalibrationSource], given: Sequence[GivenCalibration]) -> Checked | None:
    """What :func:`~steerclear.bridges.diffusers.steer.steer` is given for a recipe; None without calibrations."""
    read = [one.calibration for one in loaded(sources, given)]
    return Checked(tuple(read)) if read else None


def warn_of_calibrations(
    used: Sequence[tuple[Guidance, Sequence[str], Mapping[str, object], Sequence[CalibrationSource]]],
    given: Sequence[GivenCalibration],
) -> None:
    """Warn of calibrations that no method reads, or that were measured elsewhere.

    Args:
        used: of each method its guidance, its negative prompts, what is known of its run (by the names of
            :class:`~steerclear.core.calibration.About`), and the calibrations of its recipe.
        given: all calibrations.

    Warns:
        SteerclearWarning: for each such calibration.
    """
    messages: dict[str, None] = {}
    for one in given:
        reading = [method for method in used if one.source in method[3]]
        if not reading:
            take = in_words_of("evidence=ProbeEvidence()", "--guidance dynamic-negative --set evidence=probe")
            text = shown(one.calibration.about.negative_prompt)
            messages[
                f"the calibration of {text} has no effect: nothing in this run reads it; take an evidence that does, such as {take}"
            ] = None
        for guidance, negatives, run, _ in reading:
            every = of_negatives(guidance, negatives, given)
            own = [each.calibration if each is one else None for each in every]
            messages |= dict.fromkeys(of_calibrations(guidance, [one.calibration], own, negatives, run))
    for message in messages:
        warnings.warn(message, SteerclearWarning, stacklevel=3)
