"""What works on which family: every cell of the table in docs/steer-your-pipeline.md is tried on a tiny pipeline.

``python tests/features.py docs/steer-your-pipeline.md`` writes the table; ``tests/test_features.py`` holds the page to it.
"""

import inspect
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import steerclear
import tiny
from steerclear.bridges.families import family_of
from steerclear.core.errors import SteerclearWarning

SCALE, STEPS = 3.0, 2
BEGIN, END = "<!-- features: begin -->\n", "<!-- features: end -->\n"
TITLES = {name: kind.title for name, kind in tiny.FAMILIES.items()}
ABSENT = "–"


class Absent(Exception):
    """diffusers has no such pipeline, or its call no such argument."""


@dataclass(frozen=True)
class Feature:
    """One row.

    Args:
        title: of the row, as a reader sees it.
        cell: family -> what the cell says; raises :class:`Absent` where there is nothing to try.
    """

    title: str
    cell: Callable[[str], str]


def call(pipe: Any, name: str, variant: str = "", **arguments: Any) -> Tensor:
    """Final latents (pixels of a DiT, which gives nothing else) of one call, one generator an image."""
    given = {**tiny.call_arguments(name, variant), "num_inference_steps": STEPS, **arguments}
    if name not in tiny.WITH_TEXT:
        return torch.tensor(pipe(class_labels=[3, 5], generator=torch.manual_seed(0), output_type="np", **given).images)
    images = given.get("num_images_per_prompt", 1) * (2 if isinstance(given.get("prompt"), list) else 1)
    given.setdefault("prompt", "a man")
    torch.manual_seed(0)  # SD 3 encodes a ControlNet's picture with the global generator
    return pipe(generator=tiny.generators(*range(images)), output_type="latent", **given).images


def own_guidance(pipe: Any, name: str, prompts: int = 1) -> dict[str, Any]:
    """Arguments of a call with classifier-free guidance of the pipeline's own; none where it has none."""
    argument = tiny.FAMILIES[name].scale
    if argument not in inspect.signature(pipe.__call__).parameters:
        return {}
    return {argument: SCALE} if argument == "guidance_scale" else {argument: SCALE, "negative_prompt": [""] * prompts}


def steered(pipe: Any, guidance: Any, **settings: Any) -> Any:
    """``steer``, without what it rightly says of these calls."""
    warnings.simplefilter("ignore", SteerclearWarning)
    return steerclear.steer(pipe, guidance, **settings)


def negatives(name: str, count: int = 1) -> dict[str, Any]:
    return (
        {"negative_class_labels": [7, 5][:count]}
        if name not in tiny.WITH_TEXT
        else {"negative_prompt": ["hat", "beard"][:count]}
    )


def verdict(ours: Tensor, theirs: Tensor) -> str:
    return "equal" if torch.equal(ours, theirs) else f"differs by {float((ours - theirs).abs().max()):.1e}"


def equal_to_own(name: str, variant: str = "", **arguments: Any) -> str:
    if variant and variant not in tiny.FAMILIES[name].variants:
        raise Absent
    pipe = tiny.family(name, variant)
    prompts = len(arguments["prompt"]) if isinstance(arguments.get("prompt"), list) else 1
    own = own_guidance(pipe, name, prompts)
    theirs = call(pipe, name, variant, **own, **arguments)
    guidance = steerclear.ClassifierFreeGuidance(SCALE) if own else steerclear.Unguided()
    with warnings.catch_warnings(), steered(pipe, guidance):
        ours = call(pipe, name, variant, **own, **arguments)
    return verdict(ours, theirs) + ("" if own else ", unguided")


def rescale(name: str) -> str:
    if "guidance_rescale" not in inspect.signature(tiny.family(name).__call__).parameters:
        raise Absent
    return equal_to_own(name, guidance_rescale=0.7)


def several(name: str) -> str:
    if not tiny.FAMILIES[name].batch:
        raise Absent
    return equal_to_own(name, prompt=["a man", "a cat"], num_images_per_prompt=2)


def embeddings(name: str) -> str:
    """The prompt as embeddings gives what it gives as text."""
    if name not in tiny.WITH_TEXT:
        raise Absent
    pipe = tiny.family(name)
    with torch.no_grad():
        given = _embedded(pipe, name)
    with warnings.catch_warnings(), steered(pipe, steerclear.ClassifierFreeGuidance(SCALE)):
        own = own_guidance(pipe, name)
        theirs = call(pipe, name, **own)
        ours = call(pipe, name, prompt=None, **own, **given)
    return verdict(ours, theirs)


def _embedded(pipe: Any, name: str) -> dict[str, Tensor]:
    length = {"max_sequence_length": 32} if name in ("sd3", "flux", "flux-distilled") else {}
    if name == "sd":
        return {"prompt_embeds": pipe.encode_prompt("a man", "cpu", 1, False)[0]}
    if name in ("sdxl", "sd3"):
        extra = {} if name == "sdxl" else {"prompt_2": None, "prompt_3": None, **length}
        prompt, _, pooled, _ = pipe.encode_prompt("a man", do_classifier_free_guidance=False, **extra)
        return {"prompt_embeds": prompt, "pooled_prompt_embeds": pooled}
    if name.startswith("flux"):
        prompt, pooled, _ = pipe.encode_prompt("a man", None, **length)
        return {"prompt_embeds": prompt, "pooled_prompt_embeds": pooled}
    encoded = pipe.encode_prompt("a man", do_classifier_free_guidance=False)
    return {text.ready_made: encoded[text.positive] for text in family_of(pipe).texts}


def branches(name: str, guidance: Any, expected: int, **settings: Any) -> str:
    """How many evaluations per step were asked for and run."""
    pipe = tiny.family(name)
    with warnings.catch_warnings(), steered(pipe, guidance, **settings) as run:
        call(pipe, name)
    counted = float(run.evaluations[0]) / STEPS
    return f"{counted:g} per step" if counted == expected else f"{counted:g} per step and not {expected}"


def weak(name: str) -> str:
    guidance = steerclear.AutoGuidance(2.0)
    return branches(name, guidance, 2, weak=steerclear.NoisedWeights(strength=0.1))


def conjunction(name: str) -> str:
    if name not in tiny.READING:
        raise Absent
    guidance = steerclear.DynamicNegativeGuidance(guidance_scale=SCALE, concept="conjunction")
    return branches(name, guidance, 3, **negatives(name))


def split(name: str) -> str:
    """One image and branch at a time gives what all at once give, but for the last bits of joined batches."""
    pipe, made = tiny.family(name), []
    several = {"num_images_per_prompt": 2} if tiny.FAMILIES[name].batch else {}
    guidance = steerclear.NegativePromptGuidance(SCALE, negative_scale=1.0)
    for max_batch in (None, 1):
        with (
            warnings.catch_warnings(),
            steered(pipe, guidance, max_batch=max_batch, **negatives(name)),
            largest_batch(tiny.network_of(pipe)) as batch,
        ):
            made.append(call(pipe, name, **several))
        if (batch[0] == 1) != (max_batch == 1):
            return f"{batch[0]} at once under max_batch={max_batch}"
    distance = float((made[0] - made[1]).abs().max())
    return "to 1e-4" if distance <= 1e-4 else f"differs by {distance:.1e}"


@contextmanager
def largest_batch(network: torch.nn.Module) -> Iterator[list[int]]:
    """The largest batch that the network's first layer sees within the block."""
    seen = [0]
    layer = next(module for module in network.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear))
    hook = layer.register_forward_pre_hook(lambda module, args: seen.__setitem__(0, max(seen[0], len(args[0]))))
    try:
        yield seen
    finally:
        hook.remove()


def alone(name: str) -> str:
    """Image k of a batch is image k alone."""
    if not tiny.FAMILIES[name].batch:
        raise Absent
    pipe = tiny.family(name)
    guidance = steerclear.NegativePromptGuidance(SCALE, negative_scale=1.0)
    given = {**tiny.call_arguments(name), "num_inference_steps": STEPS, "output_type": "latent"}
    with warnings.catch_warnings(), steered(pipe, guidance, **negatives(name)):
        together = pipe("a man", num_images_per_prompt=3, generator=tiny.generators(0, 1, 2), **given).images
        single = pipe("a man", generator=tiny.generators(2), **given).images
    distance = float((together[2:] - single).abs().max())
    return "to 1e-4" if distance <= 1e-4 else f"differs by {distance:.1e}"


def _variant(title: str, variant: str) -> Feature:
    return Feature(f"{title}, against the pipeline's own", lambda name: equal_to_own(name, variant))


FEATURES = (
    Feature("classifier-free guidance, against the pipeline's own", equal_to_own),
    _variant("image to image", "img2img"),
    _variant("inpainting", "inpaint"),
    _variant("inpainting with a network made for it", "inpaint-wide"),
    _variant("ControlNet", "controlnet"),
    _variant("several ControlNets", "controlnet-multi"),
    _variant("ControlNet, image to image", "controlnet-img2img"),
    _variant("ControlNet, inpainting", "controlnet-inpaint"),
    Feature("`guidance_rescale` of the call, against the pipeline's own", rescale),
    Feature("two prompts, two images each, against the pipeline's own", several),
    Feature("the prompt as embeddings, against the prompt as text", embeddings),
    Feature("a negative with a scale of its own: evaluations",
            lambda name: branches(name, steerclear.NegativePromptGuidance(SCALE, negative_scale=1.0), 3, **negatives(name))),
    Feature("two negatives, a scale each: evaluations",
            lambda name: branches(name, steerclear.NegativePromptGuidance(SCALE, negative_scale=(1.0, 0.5)), 4,
                                  **negatives(name, 2))),
    Feature("prompt and negative together: evaluations", conjunction),
    Feature("a weak network: evaluations", weak),
    Feature("`max_batch=1` against all branches at once", split),
    Feature("image 2 of a batch of 3 against image 2 alone", alone),
)  # fmt: skip


@cache
def cell(title: str, name: str) -> str:
    """What one cell says."""
    feature = next(feature for feature in FEATURES if feature.title == title)
    try:
        with torch.no_grad() if name not in tiny.WITH_TEXT else nullcontext():
            return feature.cell(name)
    except Absent:
        return ABSENT


def table() -> str:
    """The whole table, Markdown."""
    lines = ["| | " + " | ".join(TITLES.values()) + " |", "| --- " * (1 + len(TITLES)) + "|"]
    lines += [f"| {row.title} | " + " | ".join(cell(row.title, name) for name in TITLES) + " |" for row in FEATURES]
    return "\n".join(lines) + "\n"


def written_into(page: str) -> str:
    """The page with the table of now."""
    head, rest = page.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}{table()}{END}{tail}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(written_into(path.read_text()))
