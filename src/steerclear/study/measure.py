"""The judge of a study's images, what is known before a run, and statistics that need no judge."""

from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass
from functools import cached_property
from typing import get_origin

import numpy as np
import torch
from torch import Tensor

from ..core.calibration import Calibration
from ..core.errors import UnknownName, UnsupportedModel
from ..core.evidence import Circumstances
from ..core.laboratory import Asked, Column, Judge, Judged, Laboratory, Measurement, Seen
from ..core.parsing import is_part, name_and_settings, names_function, parse_part
from ..core.settings import default_of
from ..metrics.estimates import mean_estimate
from .gallery import Picture

NO_JUDGE = "none"
"""The name that asks for no judge."""
FUNCTIONS, FUNCTION_FORM = "callable", "package.module:function"
"""The laboratory of a function, which is named by the function alone; the form of that name."""

MOVED = Column(
    name="moved", label="moved", percent=True, role="score", better="lower",
    meaning="mean absolute difference of the pixels to the first method's image of the same seed",
)  # fmt: skip
COST = Column(
    name="evaluations", label="network calls", role="cost", better="lower", meaning="network evaluations per image"
)
UNKNOWN = (
    "only how far the pixels moved and what it cost is measured, not whether the concept is gone or what else changed. "
    "Look at the images."
)


@dataclass(frozen=True)
class Judging:
    """The judge of the images.

    Attributes:
        laboratory, judge: None without one.
        refusal: why there is none, in a sentence; None with one.
    """

    laboratory: Laboratory | None
    judge: Judge | None
    refusal: str | None = None


def find_judge(wanted: str | Laboratory | None, model: Judged, asked: Asked) -> Judging:
    """The judge asked for.

    Args:
        wanted: a laboratory, or its name; "none"; or None for the first on the shelf that can judge these images.
        model, asked: the model and the question.

    Raises:
        UnknownName: no such laboratory.
        UnsupportedModel: the named laboratory cannot judge these images, or its files are damaged.
    """
    if wanted == NO_JUDGE:
        return Judging(None, None, f"No judge was asked for, so {UNKNOWN}")
    if wanted is None:
        refusals = []
        for laboratory in _ready():
            refusal = laboratory.refuses(model, asked)
            if refusal is None:
                return Judging(laboratory, laboratory.judge(model, asked))
            refusals.append(f"{laboratory.name}: {refusal}")
        return Judging(None, None, f"No laboratory judges these images ({'; '.join(refusals)}), so {UNKNOWN}")
    laboratory = named_judge(wanted) if isinstance(wanted, str) else wanted
    refusal = laboratory.refuses(model, asked)
    if refusal is not None:
        what = f"the laboratory {laboratory.name} cannot judge images of the model {model.name!r}"
        raise UnsupportedModel(f"{what}: {refusal}")
    return Judging(laboratory, laboratory.judge(model, asked))


def named_judge(text: str) -> Laboratory:
    """The laboratory of a name with settings; ``package.module:function`` is a function of one's own.

    Raises:
        UnknownName, InvalidSetting: see :func:`~steerclear.core.parsing.parse_part`; what only Python can give is not offered.
    """
    if not is_part(text, Laboratory):
        if names_function(text):
            return parse_part(f"{FUNCTIONS}:{text}", Laboratory)
        typable = [
            name
            for name, kind in Laboratory.known().items()
            if not any(get_origin(one) is Callable for one in kind.types().values())
        ]
        raise UnknownName("laboratory", name_and_settings(text, "judge")[0], [*typable, NO_JUDGE, FUNCTION_FORM])
    return parse_part(text, Laboratory)


class DefaultJudge(Judge):
    """The judge that an evidence may look through, made at first use.

    It is that of the first laboratory that can judge the images, with its second classifier if it has one
    (:meth:`~steerclear.core.laboratory.Laboratory.second`), not the one that a study names: measuring images must not change
    them, and who acts on images should not be who measures them.
    """

    def __init__(self, laboratory: Laboratory, model: Judged, asked: Asked) -> None:
        self._laboratory, self._model, self._asked = laboratory, model, asked

    @cached_property
    def _judge(self) -> Judge:
        return self._laboratory.judge(self._model, self._asked)

    def columns(self) -> list[Column]:
        return self._judge.columns()

    def see(self, images: Tensor) -> Seen:
        return self._judge.see(images)

    def measure(self, seen: Seen) -> dict[str, Measurement]:
        return self._judge.measure(seen)


def default_judge(model: Judged, asked: Asked) -> Judge | None:
    """See :class:`DefaultJudge`; None if no laboratory can judge these images."""
    laboratory = acting_laboratory(model, asked)
    return None if laboratory is None else DefaultJudge(laboratory, model, asked)


def acting_laboratory(model: Judged, asked: Asked) -> Laboratory | None:
    """Who says what images show where that changes them: the second of the first laboratory that can judge them.

    It is the first one itself if its second refuses them, and None if no laboratory can judge them.
    """
    fitting = (laboratory for laboratory in _ready() if laboratory.refuses(model, asked) is None)
    return next((seconding(laboratory, model, asked) for laboratory in fitting), None)


def seconding(laboratory: Laboratory, model: Judged, asked: Asked) -> Laboratory:
    """The second of a laboratory that can judge these images; the laboratory itself if its second refuses them."""
    second = laboratory.second()
    return second if second.refuses(model, asked) is None else laboratory


def _ready() -> list[Laboratory]:
    """The laboratories on the shelf that may judge unasked and whose settings all have defaults, in its order."""
    fields = {kind: kind.parameters().values() for kind in Laboratory.known().values() if kind.by_default}
    return [kind() for kind, own in fields.items() if not any(default_of(one) is MISSING for one in own)]


def circumstances(
    model: Judged, prompt: str, negatives: Sequence[str], calibrations: tuple[Calibration | None, ...] = ()
) -> Circumstances:
    """What is known before a run: the share of images that show each negative, if a laboratory knows it; calibrations."""
    priors = [_prior(model, prompt, negative) for negative in negatives]
    if all(prior is None for prior in priors):
        return Circumstances(calibrations=calibrations)
    known = tuple(0.5 if prior is None else prior for prior in priors)
    return Circumstances(prior=known[0] if len(known) == 1 else known, calibrations=calibrations)


def _prior(model: Judged, prompt: str, negative: str) -> float | None:
    priors = (laboratory.prior(model, prompt, negative) for laboratory in _ready())
    return next((prior for prior in priors if prior is not None), None)


def pixels(pictures: Sequence[Picture]) -> Tensor:
    """uint8, ``[n, 3, height, width]``."""
    return torch.stack([torch.from_numpy(np.array(picture.open())).permute(2, 0, 1) for picture in pictures])


def pixel_change(images: Tensor, reference: Tensor) -> Measurement:
    """Mean absolute pixel difference to other images of the same seeds, in [0, 1], with Student's interval."""
    each = (images.double() - reference.double()).abs().flatten(1).mean(1) / 255
    return mean_estimate(each).measured("jackknife")
