"""What a reader of a comparison should know, in sentences."""

import math
from collections.abc import Mapping, Sequence

from ..bridges.diffusers.asking import names_no_class
from ..bridges.effects import of_latents
from ..core.errors import in_words_of
from ..core.guidance import Guidance, negative_has_no_effect
from ..core.laboratory import UNSURE
from ..guidance.classifier_free import ClassifierFreeGuidance
from ..models.loading import Model
from ..networks.shared.naming import WEAK, to_give
from .flagging import redraws
from .measure import Judging
from .methods import Method, unmeasured
from .recipe import format_seeds
from .results import MethodResult

UNSURE_NAMED = 6
"""Most images that a note names."""

PUBLISHED = 1000
"""Fewest images per method of a published figure."""

BLACKENED = (
    "This pipeline has a safety checker of its own, which replaces what it flags by black images: they count as images without "
    "the concept, also in a truth by redrawing. Look for them, or leave the checker out of the pipeline (safety_checker=None)."
)


def notes(model: Model, methods: Sequence[Method], left_out: Sequence[str], judging: Judging, images: int) -> list[str]:
    """Notes on all methods.

    Args:
        model: the model that made the images.
        methods: those compared.
        left_out: why methods were left out, in sentences.
        judging: who judged the images.
        images: their number per method.
    """
    scheduler = model.pipe.scheduler
    found = [f"{sentence}." for sentence in of_latents(scheduler)]
    found += dict.fromkeys(note for method in methods for note in unmeasured(scheduler, method.guidance))
    if getattr(model.pipe, "safety_checker", None) is not None:
        found.append(BLACKENED)
    if judging.refusal is not None:
        found.append(judging.refusal)
    if judging.judge is not None:
        found += judging.judge.notes(images)
    found += left_out
    idle = {method.label: idle_guidance(model, method) for method in methods}
    found += [f"{label}: {why}." for label, why in idle.items() if why is not None]
    if images < PUBLISHED:
        found.append(
            f"{images} images per method: read the intervals. A published figure needs at least {PUBLISHED:,}."
        )
    return found


def method_warnings(method: Method, levels: Sequence[float | None]) -> list[str]:
    """Which settings of a method have no effect, and why; ``levels`` as :class:`~steerclear.study.gallery.Picture` has them."""
    negatives = len(method.negative_prompts)
    idle_negative = negative_has_no_effect(method.guidance, negatives) if negatives else None
    idle = method.guidance.has_no_step([math.inf if level is None else level for level in levels])
    reasons = (("the negative prompt", idle_negative), ("the guidance", idle))
    return [f"{what} has no effect: {reason}" for what, reason in reasons if reason]


def idle_guidance(model: Model, method: Method) -> str | None:
    """Why classifier-free guidance does nothing but cost evaluations in a method; None if it does something, or is not in it."""
    used = [part for part in method.guidance.parts() if isinstance(part, ClassifierFreeGuidance)]
    if not any(part.guidance_scale != 1 for part in used) or not names_no_class(model.pipe, method.prompt):
        return None
    return f"the prompt {method.prompt!r} names no class, so classifier-free guidance equals unguided, at twice the evaluations"


def no_network() -> str:
    """Said of a standard method that is left out."""
    return f"Autoguidance is left out: there is no weak network. Give one with {to_give(WEAK, 'load_model')}."


def nobody_flags() -> str:
    """Said of a standard method that is left out."""
    example = in_words_of('methods=["redraw:evidence=NAME"]', "--methods redraw:evidence=NAME")
    return (
        f"Drawing again is left out: no laboratory judges these images by what the negative prompts name, so nobody says which "
        f"to draw again. Give an evidence that does, as {example}."
    )


def nobody_looks() -> str:
    """Said of a standard method that is left out."""
    return "Looking is left out: no laboratory sees in these images what the negative prompts name."


def redraw_notes(methods: Sequence[MethodResult]) -> list[str]:
    """How many draws the methods made that draw images again, and which images they could not clear."""
    found = []
    for method in methods:
        draws, flagged = sum(image.draws for image in method.images), [one.seed for one in method.images if one.flagged]
        if draws == len(method.images) and not flagged:
            continue
        said = f"{method.label}: {len(method.images)} images took {draws} draws"
        if flagged:
            who = "seed" if len(flagged) == 1 else "seeds"
            said += f"; {who} {format_seeds(flagged)} could not be cleared, and the least suspicious draw is shown"
        found.append(f"{said}.")
    return found


def same_judge_notes(guidances: Mapping[str, Guidance], judging: Judging) -> list[str]:
    """That the judge of the images is the one who flagged them.

    Args:
        guidances: label of each method -> its guidance, with who flags.
        judging: who judged the images.
    """
    own = [
        label for label, guidance in guidances.items()
        if judging.laboratory is not None and any(part.judge == judging.laboratory for part in redraws(guidance))
    ]  # fmt: skip
    if not own:
        return []
    said = (
        "the judge that measures the images is the one that flagged them, so its rate says only that drawing again did"
    )
    return [f"{', '.join(own)}: {said} what it was told; let another one measure."]


def unsure_notes(methods: Sequence[MethodResult]) -> list[str]:
    """The images of which the judge is unsure."""
    low, high = UNSURE
    images = [(method.label, image) for method in methods for image in method.images]
    found = []
    for name in dict.fromkeys(name for _, image in images for name in image.probability):
        doubtful = [(label, one) for label, one in images if low <= one.probability.get(name, 0.0) <= high]
        open_ones = [f"{label} {one.called}" for label, one in doubtful]
        if open_ones:
            more = f" and {len(open_ones) - UNSURE_NAMED} more" * (len(open_ones) > UNSURE_NAMED)
            found.append(
                f"The judge is unsure of {name!r} ({100 * low:.0f} to {100 * high:.0f} %) in {len(open_ones)} of {len(images)} "
                f"images: {', '.join(open_ones[:UNSURE_NAMED])}{more}. Each counts as the likelier answer; look at them."
            )
    return found
