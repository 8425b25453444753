"""Make images: one recipe, many seeds, in batches; finds what is there and makes only what is missing."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .bridges.asking import OnStep, call_arguments, check_asking
from .bridges.loading import Model
from .bridges.steer import steer
from .gallery import Picture, missing_seeds, picture_path, write_picture
from .prompts import check_length, conjunction
from .recipe import Recipe
from .records import Trace
from .seeds import image_generators

OnProgress = Callable[[int, int], None]
"""Called with (image-steps done, image-steps in all)."""

TRACE_DIGITS = 6


def generate(
    model: Model,
    recipe: Recipe,
    seeds: Sequence[int],
    folder: Path,
    *,
    batch_size: int = 16,
    on_progress: OnProgress | None = None,
) -> list[Picture]:
    """The images of a recipe, in the order of the seeds.

    Args:
        model: the pipeline that the recipe names.
        recipe: everything but the seeds.
        seeds: one an image; image k depends on its own alone.
        folder: where the PNGs are. One that is there and was made by this recipe is not made again.
        batch_size: images in one forward.
        on_progress: see :data:`OnProgress`.

    Raises:
        UnsupportedModel: the scheduler draws noise that cannot be an image's own.
        PromptError: a prompt is longer than the text encoder reads.
        NotFiniteError: a network gave NaN; the images of earlier batches are kept.
        OSError: an image could not be written; those before it are kept.
    """
    check_asking(model.pipe)
    check_prompts(model.pipe, recipe)
    there, missing = missing_seeds(folder, seeds, recipe)
    pictures = {picture.seed: picture for picture in there}
    done, steps = 0, recipe.num_inference_steps
    for start in range(0, len(missing), batch_size):
        batch = missing[start : start + batch_size]

        def after_step(size: int = len(batch)) -> None:
            nonlocal done
            done += size
            if on_progress is not None:
                on_progress(min(done, len(missing) * steps), len(missing) * steps)

        images, trace = _run(model, recipe, batch, after_step)
        for row, (seed, image) in enumerate(zip(batch, images, strict=True)):
            picture = _picture(seed, picture_path(folder, seed), trace, row)
            write_picture(image, recipe, picture)
            pictures[seed] = picture
    return [pictures[seed] for seed in seeds]


def check_prompts(pipe: Any, recipe: Recipe) -> None:
    """Raises :class:`PromptError` for a prompt that the text encoder cannot read whole."""
    if getattr(pipe, "tokenizer", None) is None:
        return
    check_length(pipe.tokenizer, "prompt", recipe.prompt)
    for negative in recipe.negative_prompts:
        check_length(pipe.tokenizer, "negative prompt", negative)
        if _asks_for_conjunctions(recipe.guidance):
            both = conjunction(recipe.prompt, negative)
            check_length(pipe.tokenizer, "prompt together with the negative prompt", both)


def _asks_for_conjunctions(config: dict[str, Any]) -> bool:
    parts = [value for value in config.values() if isinstance(value, dict)]
    return config.get("concept") == "conjunction" or any(map(_asks_for_conjunctions, parts))


def _run(model: Model, recipe: Recipe, seeds: list[int], after_step: OnStep) -> tuple[list[Any], Trace]:
    guidance = recipe.built_guidance()
    weak = model.weak if guidance.needs_weak() else None
    arguments = call_arguments(
        model.pipe, recipe.prompt, image_generators(seeds), num_inference_steps=recipe.num_inference_steps,
        height=recipe.height, width=recipe.width, on_step=after_step,
    )  # fmt: skip
    with steer(model.pipe, guidance, negative_prompt=list(recipe.negative_prompts) or None, weak=weak) as run:
        output = model.pipe(**arguments)
    return output.images, run.trace


def _picture(seed: int, path: Path, trace: Trace, row: int) -> Picture:
    def plain(values: list[float]) -> list[float | None]:
        return [None if not math.isfinite(value) else float(f"{value:.{TRACE_DIGITS}g}") for value in values]

    return Picture(
        seed,
        path,
        {name: plain(trace.table(name)[:, row].tolist()) for name in trace.names()},
        plain(trace.levels()),
        [list(names) for names in trace.branches],
        float(trace.evaluations[row]),
    )
