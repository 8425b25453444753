"""Settings of a steered call that have no effect or a surprising one: one sentence each, with reason and remedy."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..core.errors import in_words_of, shown
from ..core.guidance import Guidance, negative_has_no_effect, networks_of
from ..core.schedulers import altered_denoised
from .families import Family, is_distilled
from .negatives import EMBEDDED, Negatives
from .surroundings import has_latents

NEGATIVE_SIZES = (
    "negative_original_size",
    "negative_crops_coords_top_left",
    "negative_target_size",
    "negative_aesthetic_score",
)
"""Arguments of SDXL's calls that its network is told for the unconditional part."""


def of_negatives(guidance: Guidance, negatives: Negatives) -> Iterator[str]:
    """A negative that the guidance does not look at, or that is given twice."""
    reason = negative_has_no_effect(guidance, len(negatives)) if len(negatives) else None
    if reason is not None:
        yield f"the negative prompt has no effect: {reason}"
    else:
        yield from of_repeated(negatives.texts or negatives.labels)


def of_repeated(negatives: Sequence[Any]) -> Iterator[str]:
    """A negative that is given more than once.

    >>> list(of_repeated(("hat", "beard"))), len(list(of_repeated(("hat", " hat"))))
    ([], 1)
    """
    same = Counter(" ".join(one.split()) if isinstance(one, str) else one for one in negatives if one is not EMBEDDED)
    for negative, times in same.items():
        if times > 1:
            yield (
                f"the negative prompt {shown(negative)} is given {times} times, and each adds its own push, so the push "
                f"away from it is too strong; give it once"
            )


def of_call(
    pipe: Any, family: Family, guidance: Guidance, negatives: Negatives, given: Mapping[str, Any]
) -> Iterator[str]:
    """What is known when the pipeline is called.

    Args:
        pipe, family: the pipeline.
        guidance: replaces the pipeline's own.
        negatives: of the block or the call.
        given: the arguments of the call that were not left at their defaults.
    """
    if negatives.from_call:
        yield from of_negatives(guidance, negatives)
    if not len(negatives) and negative_has_no_effect(guidance) is None:
        setting = "negative_prompt" if family.class_labels is None else "negative_class_labels"
        yield (
            f"the guidance {_innermost(guidance).name} has no negative to push away from, so that part of it has no effect; give "
            f"{in_words_of(f'steer(..., {setting}=...)', '--negative-prompt')}"
        )
    if has_latents(pipe):
        yield from of_latents(pipe.scheduler)
    yield from _scales(family, getattr(pipe, family.network), guidance, len(negatives), given)
    if (scale_of(guidance) != 1 or len(negatives)) and given.get("guidance_scale", 2.0) <= 1:
        yield from _sizes_left_out(pipe, given)
    if given.get("guidance_rescale") and rescale_of(guidance):
        yield (
            f"guidance_rescale is set twice: {given['guidance_rescale']} in the pipeline's call and "
            f"{rescale_of(guidance)} on the guidance {guidance.name}, and both are applied in turn; set one"
        )
    if given.get("skip_guidance_layers") is not None:
        yield (
            f"skip_guidance_layers={given['skip_guidance_layers']} of the pipeline's call has no effect under steer, "
            f"though it costs nothing either: the guidance {guidance.name} takes its place; for a push away from a "
            f"network with layers left out use AutoGuidance and steer(..., weak=...)"
        )
    if given.get("prompt_embeds") is not None and not negatives.from_call and scale_of(guidance) != 1:
        yield (
            "prompt_embeds are given without negative_prompt_embeds, so the empty prompt is encoded by the pipeline; if "
            "your embeddings were made in another way, give negative_prompt_embeds made in the same way"
        )


def of_latents(scheduler: Any) -> Iterator[str]:
    """A scheduler that treats latents as if they were pixels."""
    reason = altered_denoised(scheduler)
    if reason is not None:
        yield (
            f"{reason}, and the samples of this model are latents, whose range is wider: its images are spoiled, and so is "
            f"what a dynamic guidance tracks; make the scheduler again with these set to False, as "
            f"from_config(scheduler.config, clip_sample=False)"
        )


def scale_of(guidance: Guidance) -> float:
    """The classifier-free scale of a guidance, or of the one that it wraps; 1 where there is none."""
    return getattr(_innermost(guidance), "guidance_scale", 1.0)


def _innermost(guidance: Guidance) -> Guidance:
    inner = getattr(guidance, "inner", None)
    return guidance if inner is None else _innermost(inner)


def rescale_of(guidance: Guidance) -> float:
    """The rescale of a guidance, or of the one that it wraps; 0 where there is none."""
    inner = getattr(guidance, "inner", None)
    return getattr(guidance, "guidance_rescale", 0.0) or (0.0 if inner is None else rescale_of(inner))


def _sizes_left_out(pipe: Any, given: Mapping[str, Any]) -> Iterator[str]:
    """Sizes for the unconditional part of SDXL, which exists only under the pipeline's own guidance."""
    own = [name for name in NEGATIVE_SIZES if given.get(name) is not None]
    if getattr(pipe.config, "requires_aesthetics_score", False) and "negative_aesthetic_score" not in own:
        own.append("negative_aesthetic_score")
    if own:
        yield (
            f"{', '.join(own)} of the pipeline's call has no effect at guidance_scale={given['guidance_scale']}: the "
            f"branches without the prompt then have the prompt's own; leave guidance_scale out of the call"
        )


def _scales(
    family: Family, network: Any, guidance: Guidance, negatives: int, given: Mapping[str, Any]
) -> Iterator[str]:
    own, distilled = scale_of(guidance), is_distilled(network)
    if family.scale in given and given[family.scale] != own and not (distilled and family.scale == "guidance_scale"):
        has_scale = hasattr(_innermost(guidance), "guidance_scale")
        its = f"has {own}; set it there" if has_scale else "takes its place, and has no guidance_scale"
        yield (
            f"{family.scale}={given[family.scale]} of the pipeline's call has no effect under steer: the guidance "
            f"{guidance.name} {its}"
        )
    if family.scale != "guidance_scale" and "guidance_scale" in given and not distilled:
        yield (
            f"guidance_scale={given['guidance_scale']} of the pipeline's call has no effect, with steer or without: "
            f"this network takes no scale as input, as distilled ones do; set it on the guidance"
        )
    if distilled and (own != 1 or networks_of(guidance, negatives)):
        yield (
            f"this network is distilled: it takes the guidance_scale of the pipeline's call as input and answers as if "
            f"already guided, and {guidance.name} acts on top of that, at the cost of further evaluations; "
            f"{in_words_of('set one of the two scales to 1', 'take --guidance-scale 1')}, unless both are meant"
        )
