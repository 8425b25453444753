"""Make the images of one recipe, many seeds in batches; existing images are kept."""

import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from ..bridges.diffusers.asking import call_arguments, check_asking, check_prompt, negative_arguments, takes_classes
from ..bridges.diffusers.evaluation import Run
from ..bridges.diffusers.steer import steer
from ..bridges.networks import check_given
from ..core.denoiser import kind_and_index
from ..core.engine import check_noise_level
from ..core.errors import InvalidSetting, NotFiniteError, SteerclearWarning, in_words_of, keeping, lacks_memory
from ..core.guidance import Guidance, conditions_of, networks_of
from ..core.laboratory import Asked
from ..core.prompts import conjunction
from ..core.schedulers import check_steps
from ..core.seeds import checked_seeds, image_generators
from ..core.settings import callback, folder_path, whole
from ..models.configs import failures_of_libraries
from ..models.files import WEAK_FOLDER
from ..models.loading import Model
from ..networks.shared.naming import WEAK, called
from .calibrations import GivenCalibration, to_steer
from .gallery import Picture, missing_seeds, picture_path, write_picture
from .measure import default_judge
from .recipe import Recipe

OnProgress = Callable[[int, int], None]
"""Called with (image-steps done, image-steps in all)."""

TRACE_DIGITS = 6
SAVES_MEMORY = ("offload='model' or dtype='float16'", "--offload model or --dtype float16")
"""In Python, and on the command line."""


def generate(
    model: Model, recipe: Recipe, seeds: Sequence[int], folder: Path | str, *, batch_size: int = 16,
    on_progress: OnProgress | None = None, calibrations: Sequence[GivenCalibration] = (),
) -> list[Picture]:  # fmt: skip
    """The images of a recipe, in the order of the seeds.

    Args:
        model: the model that the recipe names.
        recipe: everything except the seeds.
        seeds: one per image, all different; image k depends only on seed k, up to rounding in batches of another size.
        folder: folder of the PNGs; those that this recipe made are kept.
        batch_size: images per forward pass, see :func:`batches_of`.
        on_progress: see :data:`OnProgress`.
        calibrations: those that the recipe names, read already; others are read from their files.

    Raises:
        SteerclearError: see :func:`check_recipe` and :func:`~steerclear.bridges.diffusers.steer.steer`.
        NotFiniteError: a network returned NaN; images of earlier batches are kept.
        InvalidSetting: an argument of the wrong type, or a batch does not fit into the device's memory (earlier ones are kept).
        FolderConflict: a folder is in the place of an image.
        OSError: an image could not be written; earlier ones are kept.

    Warns:
        SteerclearWarning: an existing image is damaged, or of another seed or recipe; it is made again.
    """
    check_model(model)
    if not isinstance(recipe, Recipe):
        raise InvalidSetting("recipe", recipe, "a Recipe")
    seeds, folder = checked_seeds(seeds, some=False), folder_path("folder", folder)
    batch_size = whole("batch_size", batch_size, low=1)
    callback("on_progress", on_progress)
    check_recipe(model, recipe, calibrations)
    there, missing = missing_seeds(folder, seeds, recipe)
    pictures = {picture.seed: picture for picture in there}
    if missing:
        batches = [batch for batch in batches_of(seeds, batch_size) if not pictures.keys() >= set(batch)]
        with keeping(lambda: pictures):
            report = on_progress or (lambda done, total: None)
            _make(model, recipe, batches, folder, pictures, report, calibrations)
    return [pictures[seed] for seed in seeds]


def check_model(model: object) -> None:
    """Raise :class:`InvalidSetting` if this is not a loaded model."""
    if not isinstance(model, Model):
        raise InvalidSetting("model", model, "a Model", "load one with load_model")


def batches_of(seeds: Sequence[int], batch_size: int) -> list[list[int]]:
    """The seeds of each forward pass, whichever images exist: in a batch of another size an image's last bits may differ.

    Sorted, so that a longer list begins with the full batches of a shorter one.

    >>> batches_of([5, 1, 0, 9], 2)
    [[0, 1], [5, 9]]
    """
    ordered = sorted(seeds)
    return [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]


@failures_of_libraries()
def check_recipe(model: Model, recipe: Recipe, calibrations: Sequence[GivenCalibration] = ()) -> None:
    """Check that the model can make this recipe.

    Raises:
        UnsupportedModel: the scheduler draws noise that cannot be per image, or does not report the noise level to a
            guidance that needs it; or the guidance uses a network that is missing, or that cannot run beside the
            pipeline's own where that is placed.
        PromptError: a prompt is longer than the text encoder reads.
        InvalidSetting, UnknownName: a size or class that the pipeline lacks, or a number of steps its scheduler cannot make.
    """
    pipe = model.pipe
    guidance, negatives = recipe.built_guidance(), len(recipe.negative_prompts)
    check_asking(pipe, recipe.height, recipe.width)
    check_noise_level(guidance, pipe.scheduler)
    check_steps(pipe.scheduler, recipe.num_inference_steps)
    check_texts(pipe, recipe.prompt, recipe.negative_prompts, guidance)
    check_given(guidance, negatives, model.networks, "load_model")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SteerclearWarning)  # repeated when the images are made
        with _steered(model, recipe, calibrations):
            pass


def check_texts(pipe: Any, prompt: str, negatives: Sequence[str], guidance: Guidance) -> None:
    """Refuse a prompt, a negative prompt, or both together where the guidance asks for that, that the pipeline cannot read.

    Raises:
        PromptError, UnknownName, InvalidSetting: see :func:`~steerclear.bridges.diffusers.asking.check_prompt`.
    """
    check_prompt(pipe, "prompt", prompt)
    kinds = {kind_and_index(condition)[0] for condition in conditions_of(guidance, len(negatives))}
    for negative in negatives:
        check_prompt(pipe, "negative prompt", negative)
        if "conjunction" in kinds and not takes_classes(pipe):
            check_prompt(pipe, "prompt together with the negative prompt", conjunction(prompt, negative))


def warn_of_idle_networks(model: Model, recipes: Sequence[Recipe]) -> None:
    """Warn of given networks that no recipe uses; the model's own weak one may be unused.

    Warns:
        SteerclearWarning: for each such network.
    """
    for name, found in model.networks.items():
        if found.source.source != WEAK_FOLDER and all(name not in recipe.networks for recipe in recipes):
            warnings.warn(
                f"{called(name)} {found.source.source!r} has no effect: no guidance of this run asks for it; leave it out, or "
                f"take a guidance that does{', such as autoguidance' if name == WEAK else ''}",
                SteerclearWarning, stacklevel=2,
            )  # fmt: skip


def _steered(
    model: Model, recipe: Recipe, calibrations: Sequence[GivenCalibration] = ()
) -> AbstractContextManager[Run]:
    guidance = recipe.built_guidance()
    networks = {name: model.networks[name].network for name in networks_of(guidance, len(recipe.negative_prompts))}
    judge = default_judge(model, Asked(recipe.prompt, recipe.negative_prompts, recipe.height, recipe.width))
    negatives = negative_arguments(model.pipe, recipe.negative_prompts)
    folder = model.folder if model.folder and model.folder.is_dir() else None
    measured = to_steer(recipe.calibrations, calibrations)
    return steer(
        model.pipe, guidance, networks=networks, judge=judge, files=folder, calibration=measured, **negatives
    )  # fmt: skip


@failures_of_libraries()
def _make(
    model: Model, recipe: Recipe, batches: Sequence[Sequence[int]], folder: Path, pictures: dict[int, Picture],
    on_progress: OnProgress, calibrations: Sequence[GivenCalibration] = (),
) -> None:  # fmt: skip
    """Make these batches, write the images that ``pictures`` lacks, and add them to it."""
    done, total = 0, sum(map(len, batches)) * recipe.num_inference_steps
    # one block for all batches, so that a network made from the pipeline's own is made once
    with _steered(model, recipe, calibrations) as run:
        for number, batch in enumerate(batches):
            before = sum(map(len, batches[:number])) * recipe.num_inference_steps

            def after_step(
                size: int = len(batch), until: int = before + len(batch) * recipe.num_inference_steps
            ) -> None:
                nonlocal done
                done = min(done + size, until, total)  # further draws are not foreseen
                on_progress(done, total)

            arguments = call_arguments(
                model.pipe, recipe.prompt, image_generators(batch), num_inference_steps=recipe.num_inference_steps,
                height=recipe.height, width=recipe.width, on_step=after_step,
            )  # fmt: skip
            try:
                output = model.pipe(**arguments)
            except (RuntimeError, MemoryError) as error:
                if not lacks_memory(error):
                    raise
                raise InvalidSetting(
                    in_words_of("batch_size", "--batch-size"), len(batch), f"small enough for the memory of {model.device}",
                    f"lower it, or the size of the images, or load with {in_words_of(*SAVES_MEMORY)}",
                ) from error  # fmt: skip
            for row, (seed, decoded) in enumerate(zip(batch, output.images, strict=True)):
                if seed in pictures:
                    continue
                if not np.isfinite(decoded).all():
                    raise NotFiniteError(
                        "the image that the autoencoder decoded", f"for seed {seed}",
                        "Try float32 instead of a half precision; if it is float32, the autoencoder's weights are damaged.",
                    )  # fmt: skip
                image = model.pipe.numpy_to_pil(decoded)[0]
                picture = _picture(seed, picture_path(folder, seed), run, row)
                write_picture(image, recipe, picture)
                pictures[seed] = picture


def _picture(seed: int, path: Path, run: Run, row: int) -> Picture:
    trace = run.trace

    def plain(values: list[float]) -> list[float | None]:
        return [None if not math.isfinite(value) else float(f"{value:.{TRACE_DIGITS}g}") for value in values]

    return Picture(
        seed, path, {name: plain(trace.table(name)[:, row].tolist()) for name in trace.names}, plain(trace.levels),
        [list(names) for names in trace.branches], float(trace.evaluations[row]),
        1 if run.draws is None else int(run.draws[row]), run.flagged is not None and bool(run.flagged[row]),
    )  # fmt: skip
