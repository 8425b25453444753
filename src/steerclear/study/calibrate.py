"""Measure a concept under a prompt once: what ``steerclear calibrate`` does."""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import __version__
from ..bridges.diffusers.asking import takes_classes
from ..core.calibration import About, Calibration, Observed
from ..core.errors import InvalidSetting, UnsupportedModel, in_words_of, shown
from ..core.evidence import Evidence
from ..core.laboratory import Asked, Judge, Laboratory
from ..core.logistic import auc
from ..core.parsing import part_text
from ..core.schedulers import sampler_kind
from ..core.settings import default_of, folder_path, part_type, whole
from ..core.values import parse_object
from ..guidance.unguided import Unguided
from ..models.loading import Model
from .folders import default_folder, refuse_early, run_folder
from .gallery import Picture, write_text
from .generate import OnProgress, check_model, check_recipe
from .measure import find_judge, pixels, seconding
from .methods import Method
from .observing import IMAGES, Sight, Watched, observe, runnable
from .recipe import Recipe, checked_prompt
from .run import option, recipe_of

FEWEST = 8
"""Fewest images that show the concept, and that do not."""
FIRST_SEED = 1_000_000
"""Of the default seeds: others than those of the images that are made with the calibration."""
SUFFIX = ".safetensors"


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A calibration, and how well each evidence tells the images apart.

    Attributes:
        calibration: what was measured.
        levels: sigma / alpha at each step; infinite at pure noise.
        areas: area under the curve of each evidence at each step, against the finished image; NaN where it says nothing.
            Where something is fitted to the images, it is cross-validated.
        evaluations: further network evaluations per image, by evidence.
        left_out: of evidences that cannot run here, why.
        path: of the file.
    """

    calibration: Calibration
    levels: tuple[float, ...]
    areas: Mapping[str, tuple[float, ...]]
    evaluations: Mapping[str, float]
    left_out: Mapping[str, str]
    path: Path

    def to_json(self) -> str:
        """The content of the JSON file beside the calibration; null for numbers that are not finite."""

        def plain(values: Sequence[float]) -> list[float | None]:
            return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]

        said = {
            "about": asdict(self.calibration.about), "digest": self.calibration.digest(), "prior": self.calibration.prior,
            "levels": plain(self.levels), "auc": {name: plain(values) for name, values in self.areas.items()},
            "evaluations": dict(self.evaluations), "left_out": dict(self.left_out),
        }  # fmt: skip
        return json.dumps(said, indent=1) + "\n"


def output_path(output: Path | str) -> Path:
    """The path of a calibration file, which is written anew, and so is the table beside it.

    Raises:
        InvalidSetting: another suffix, or a folder; there is something else, or nothing can be written there.
    """
    path, name = folder_path("output", output), in_words_of("output", "--output")
    if path.suffix != SUFFIX or path.is_dir():
        raise InvalidSetting(name, str(path), f"the path of a file *{SUFFIX}")
    other = "a path where there is nothing else", "give another one, or move what is there"
    if path.exists():
        try:
            Calibration.load(path)
        except InvalidSetting as error:
            raise InvalidSetting(name, str(path), *other) from error
    table = path.with_suffix(".json")
    if table.exists() and not _is_table(table):
        raise InvalidSetting(name, str(path), other[0], f"the table would replace {table.name}; {other[1]}")
    parent = next(one for one in path.absolute().parents if one.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InvalidSetting(name, str(path), "in a folder that can be written", f"{str(parent)!r} cannot")
    return path


def _is_table(path: Path) -> bool:
    """Whether a file is a table of an earlier calibration."""
    try:
        return {"about", "digest", "prior", "auc"} <= parse_object(path.read_text()).keys()
    except (OSError, ValueError):
        return False


def calibration_folder(
    given: Path | None, prompt: str, negative_prompt: str, model: Mapping[str, Any], steps: int,
    height: int | None = None, width: int | None = None,
) -> Path:  # fmt: skip
    """The folder of the images: given, or named after what is measured.

    Raises:
        FolderConflict: it holds something else.
    """
    asked = {"command": "calibrate", "prompt": prompt, "negative_prompt": negative_prompt, "num_inference_steps": steps}
    folder = given or default_folder(
        "calibrate", [prompt, negative_prompt], {**asked, **model, "height": height, "width": width}
    )
    refuse_early(folder, asked)
    return folder


def calibrate(
    model: Model, prompt: str, negative_prompt: str, folder: Path | str, output: Path | str, *, seeds: Sequence[int],
    num_inference_steps: int = 30, height: int | None = None, width: int | None = None,
    judge: str | Laboratory | None = None, batch_size: int = 16, on_progress: OnProgress | None = None,
) -> Calibrated:  # fmt: skip
    """Make unguided images, watch them, have them judged, and keep what every evidence learns from it.

    What is in the folder already is kept, and the result is then the same bit for bit.

    Args:
        model: makes the images.
        prompt, negative_prompt: the prompt, and the concept.
        folder: of the images and of what was seen.
        output: the calibration file; a table of areas under the curve is written beside it as JSON.
        seeds: one per image.
        num_inference_steps, height, width: of every image.
        judge: says which finished images show the concept; None for the second laboratory of the first that can.
        batch_size: images per forward pass.
        on_progress: see :data:`~steerclear.study.generate.OnProgress`.

    Raises:
        InvalidSetting: fewer than 8 images show the concept, or do not; the images are kept. A value out of range.
        UnsupportedModel: no judge knows the concept, or the model takes classes for prompts.
        PromptError: an empty or overlong prompt.
        FolderConflict: the folder holds something else.
    """
    check_model(model)
    path, folder = output_path(output), folder_path("folder", folder)
    whole("batch_size", batch_size, low=1)
    prompt, negative = checked_prompt("prompt", prompt), checked_prompt("negative prompt", negative_prompt)
    if takes_classes(model.pipe):
        raise UnsupportedModel(
            f"the model {model.name!r} takes classes for prompts, and a calibration needs the prompt together with the "
            f"negative prompt; give a model that takes texts"
        )
    laboratory, judging, concepts = _judge(judge, model, Asked(prompt, (negative,), height, width))
    plain = Method("unguided", "unguided", prompt, (), Unguided())
    recipe = recipe_of(model, plain, num_inference_steps, height, width)
    check_recipe(model, recipe)
    check_recipe(model, recipe.model_copy(update={"prompt": negative}))
    every = Watched(recipe, negative, learning())
    claimed = {"command": "calibrate", "negative_prompt": negative} | recipe.asked()
    with run_folder(folder, claimed, option(), recipes={IMAGES.as_posix(): recipe}):
        able, left_out = runnable(model, every)
        watched = Watched(recipe, negative, able)
        sights, pictures = observe(model, watched, seeds, folder, batch_size=batch_size, on_progress=on_progress)
        labels = labelled(judging, concepts, pictures)
        _check_enough(negative, labels)
        about = _about(model, recipe, negative, labels, laboratory)
        found = _calibrated(about, observed_of(sights, labels, every.evidences), sights, left_out, path)
        found.calibration.save(path)
        write_text(path.with_suffix(".json"), found.to_json())
    return found


def _calibrated(
    about: About, observed: Observed, sights: Sequence[Sight], left_out: Mapping[str, str], path: Path
) -> Calibrated:
    """What every evidence keeps of what was observed."""
    kept = {name: kind().calibrated(observed) for name, kind in _learning().items()}
    tensors = {f"{name}.{what}": value for name, own in kept.items() for what, value in own.items()}
    watched = sights[0].evaluations
    return Calibrated(
        Calibration(about, observed.prior, tensors), tuple(observed.levels.tolist()), areas(observed, kept, watched),
        {name: sum(one.evaluations[name] for one in sights) / len(sights) for name in watched},
        {name: why for name, why in left_out.items() if not kept[name]}, path,
    )  # fmt: skip


def _learning() -> dict[str, type[Evidence]]:
    """The evidences on the shelf that a calibration keeps something of."""
    return {name: kind for name, kind in single().items() if kind.calibrated is not Evidence.calibrated}


def single() -> dict[str, type[Evidence]]:
    """The evidences on the shelf, by name, whose settings all have defaults and that have no other ones inside."""
    return {
        name: kind
        for name, kind in Evidence.known().items()
        if not any(default_of(one) is MISSING for one in kind.parameters().values())
        and not any(part_type(one) for one in kind.types().values())
    }


def learning() -> dict[str, Evidence]:
    """Those evidences as they are watched, by name."""
    return {name: kind().uncalibrated() for name, kind in _learning().items()}


def _judge(wanted: str | Laboratory | None, model: Model, asked: Asked) -> tuple[Laboratory, Judge, tuple[str, ...]]:
    """Who says which images show the concept, and the columns that the concept names."""
    found = find_judge(wanted, model, asked)
    if found.laboratory is None:
        give = in_words_of("judge=", "--judge")
        raise UnsupportedModel(f"a calibration needs a judge. {found.refusal} Give one with {give}.")
    laboratory = found.laboratory if wanted is not None else seconding(found.laboratory, model, asked)
    judge = laboratory.judge(model, asked)
    concepts = tuple(column.name for column in judge.columns() if column.role == "concept")
    if not concepts:
        raise UnsupportedModel(
            f"the laboratory {laboratory.name} does not know what {shown(asked.negative_prompts[0])} names, so nothing says "
            f"which images show it; give another {in_words_of('judge', '--judge')}, or another negative prompt"
        )
    return laboratory, judge, concepts


def labelled(judge: Judge, concepts: Sequence[str], pictures: Sequence[Picture]) -> Tensor:
    """Whether each image shows any of the concepts, ``[n]``, bool."""
    seen = judge.see(pixels(pictures)).shown
    return torch.stack([seen[name] > 0 for name in concepts]).any(0)


def observed_of(sights: Sequence[Sight], labels: Tensor, names: Iterable[str]) -> Observed:
    """Sights of several images, put together. The prior is (k + 1/2) / (n + 1) for k of n images.

    Args:
        sights: at least one.
        labels: whether each image shows the concept, ``[n]``.
        names: of the evidences; those that did not watch have NaN.
    """
    nothing = torch.full_like(sights[0].levels, math.nan)
    log_odds = {name: torch.stack([one.log_odds.get(name, nothing) for one in sights]) for name in names}
    prior = (float(labels.sum()) + 0.5) / (len(labels) + 1)
    denoised = torch.stack([one.denoised for one in sights])
    return Observed(sights[0].levels, denoised, log_odds, labels, prior)


def _check_enough(negative: str, labels: Tensor) -> None:
    count, shows = len(labels), int(labels.sum())
    fewest = min(shows, count - shows)
    if fewest >= FEWEST:
        return
    kind = "show" if shows <= count - shows else "do not show"
    needed = math.ceil(FEWEST * (count + 1) / (fewest + 0.5) * 1.25)
    images, again = in_words_of("images", "--images"), in_words_of("Redraw()", "--redraw")
    rare = f", or draw again what shows it ({again}), which needs no calibration" if kind == "show" else ""
    raise InvalidSetting(
        images, count, f"so many that at least {FEWEST} show {shown(negative)} and {FEWEST} do not",
        f"only {fewest} {kind} it; about {needed} images would do{rare}. These are kept",
    )  # fmt: skip


def _about(model: Model, recipe: Recipe, negative: str, labels: Tensor, laboratory: Laboratory) -> About:
    return About(
        model.name, model.digest, recipe.prompt, negative, recipe.scheduler, recipe.num_inference_steps, len(labels),
        int(labels.sum()), _named(laboratory), __version__, height=recipe.height, width=recipe.width,
        sampler=sampler_kind(model.pipe.scheduler),
    )  # fmt: skip


def _named(laboratory: Laboratory) -> str:
    """As people type it; the name alone where a setting can only be given in Python."""
    functions = any(callable(getattr(laboratory, name)) for name in laboratory.parameters())
    return laboratory.name if functions else part_text(laboratory)


def areas(
    observed: Observed, kept: Mapping[str, Mapping[str, Tensor]], watched: Iterable[str]
) -> dict[str, tuple[float, ...]]:
    """The area under the curve of each evidence at each level; of one that keeps its own ("auc"), that one."""
    found = {
        name: tuple(_area(observed.log_odds[name][:, index], observed.shown) for index in range(len(observed.levels)))
        for name in watched
    }
    for name, own in kept.items():
        if {"auc", "levels"} <= own.keys():
            at = dict(zip(own["levels"].double().tolist(), own["auc"].double().tolist(), strict=True))
            found[name] = tuple(at.get(level, math.nan) for level in observed.levels.double().tolist())
    return found


def _area(log_odds: Tensor, shows: Tensor) -> float:
    known = log_odds.isfinite()
    return auc(log_odds[known], shows[known]) if known.any() else math.nan
