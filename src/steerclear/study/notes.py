"""What a reader of a comparison should know, in sentences; and the command line that repeats it."""

import math
import shlex
from collections.abc import Sequence

from ..bridges.effects import of_latents
from ..core.guidance import negative_has_no_effect
from ..core.laboratory import UNSURE
from ..models.loading import Model
from ..networks.shared.naming import WEAK, to_give
from .measure import Judging
from .methods import Method, unmeasured
from .recipe import HALVES, decoded
from .results import MethodResult

UNSURE_NAMED = 6
"""Images that a note names."""

PUBLISHED = 1000
"""Images per method of a published figure, at least."""


def notes(
    model: Model, methods: Sequence[Method], left_out: Sequence[Method], judging: Judging, images: int
) -> list[str]:
    """What holds for all methods.

    Args:
        model: what made the images.
        methods: that were compared.
        left_out: those that were not, because the model lacks a network.
        judging: who looked at the images.
        images: per method.
    """
    scheduler = model.pipe.scheduler
    found = [f"{sentence}." for sentence in of_latents(scheduler)]
    found += dict.fromkeys(note for method in methods for note in unmeasured(scheduler, method.guidance))
    if judging.refusal is not None:
        found.append(judging.refusal)
    if judging.judge is not None:
        found += judging.judge.notes(images)
    if left_out:
        give = to_give(WEAK, "load_model")
        found.append(f"Autoguidance is left out: there is no weak network. Give one with {give}.")
    if images < PUBLISHED:
        found.append(
            f"{images} images per method: read the intervals. A published figure needs at least {PUBLISHED:,}."
        )
    return found


def method_warnings(method: Method, levels: Sequence[float | None]) -> list[str]:
    """What of this method has no effect, and why.

    Args:
        method: the method.
        levels: sigma / alpha of every step, as :class:`~steerclear.study.gallery.Picture` has them.
    """
    negatives = len(method.negative_prompts)
    idle_negative = negative_has_no_effect(method.guidance, negatives) if negatives else None
    idle = method.guidance.has_no_step([math.inf if level is None else level for level in levels])
    reasons = (("the negative prompt", idle_negative), ("the guidance", idle))
    return [f"{what} has no effect: {reason}" for what, reason in reasons if reason]


def unsure_notes(methods: Sequence[MethodResult]) -> list[str]:
    """Which images the judge is unsure of; nothing where it is sure of all."""
    low, high = UNSURE
    images = [(method.label, image) for method in methods for image in method.images]
    found = []
    for name in dict.fromkeys(name for _, image in images for name in image.probability):
        open_ones = [
            f"{label} seed {image.seed}" for label, image in images if low <= image.probability.get(name, 0.0) <= high
        ]
        if open_ones:
            more = f" and {len(open_ones) - UNSURE_NAMED} more" * (len(open_ones) > UNSURE_NAMED)
            found.append(
                f"The classifier is unsure of {name!r} ({100 * low:.0f} to {100 * high:.0f} %) in {len(open_ones)} of {len(images)} "
                f"images: {', '.join(open_ones[:UNSURE_NAMED])}{more}. They count as what is likelier; look at them."
            )
    return found


def repeat_command(arguments: Sequence[str]) -> str:
    """The command line, quoted for a shell.

    >>> repeat_command(["compare", "a man", "--seeds", "0-3"])
    "steerclear compare 'a man' --seeds 0-3"
    """
    readable = [HALVES.sub("?", decoded(argument, errors="replace")) for argument in arguments]  # it is stored in UTF-8
    return shlex.join(["steerclear", *readable])
