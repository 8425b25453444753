"""Run a study in a folder: make the missing images, measure all of them, write ``results.json``."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..bridges.diffusers.asking import names_classes, takes_classes
from ..bridges.effects import of_repeated
from ..core.calibration import DECIDE
from ..core.errors import InvalidSetting, PromptError, SteerclearWarning, UnsupportedModel, in_words_of, keeping
from ..core.features import Features
from ..core.guidance import networks_of
from ..core.laboratory import Asked, Laboratory
from ..core.saving import stays_if_unwritable
from ..core.schedulers import is_stochastic
from ..core.settings import Configurable, callback, folder_path, whole
from ..guidance.classifier_free import ClassifierFreeGuidance
from ..models.defaults import defaults_of
from ..models.loading import Model
from ..models.samplers import scheduler_text
from .calibrations import GivenCalibration, loaded, of_negatives, warn_of_calibrations
from .findings import results_of
from .flagging import can_flag, can_look, with_flagging
from .folders import run_folder
from .gallery import Picture, check_places, write_text
from .generate import check_model, check_recipe, check_texts, generate, warn_of_idle_networks
from .judging import Panel, panel
from .measure import circumstances
from .methods import Method, left_off, tuned_notes
from .notes import idle_guidance, no_network, nobody_flags, nobody_looks
from .recipe import NOT_ASKED, Recipe, checked_prompt
from .results import RESULTS_FILE, Results
from .study import STUDY_FILE, Study, checked_numbers
from .truth import REFERENCE, redrawn_by, reference_seeds, without_truth

Started = Callable[[Method, int, int], None]
"""Called when a method begins: the method, its index, the number of methods."""


def run(
    study: Study, folder: Path | str, *, model: Model | None = None, judge: Laboratory | None = None,
    batch_size: int = 16, command: str = "", on_method: Started | None = None,
    on_progress: Callable[[int, int], None] | None = None, calibrations: Sequence[GivenCalibration] = (),
    second_judge: Laboratory | None = None, features: Features | None = None,
) -> Results:  # fmt: skip
    """Make the missing images, measure all of them, write ``study.json`` and ``results.json``.

    Images of a truth that is redrawn are made last, in ``reference/<method>/<seed>.png``. A folder with other seeds or methods of the same question is extended; ``results.json`` describes this call only.

    Args:
        study: the question.
        folder: images go to ``images/<method>/<seed>.png`` in it.
        model: the study's model, already loaded; None loads it.
        judge: a laboratory in place of the study's judge, such as one of your own.
        batch_size: images per forward pass.
        command: command that repeats this run, for the report.
        on_method, on_progress: called when a method begins; after each step with (image-steps done, in all).
        calibrations: the study's, read already; others are read from their files.
        second_judge, features: in place of the study's, as ``judge``.

    Raises:
        PromptError: an overlong prompt.
        FolderConflict: the folder holds another run, or another process is using it.
        UnsupportedModel: the model takes classes for prompts, or is refused by the named judge or by
            :func:`~steerclear.study.generate.check_recipe`; or the truth that is asked for cannot be had.
        NotFiniteError: a network returned NaN; finished images are kept.
    """
    if not isinstance(study, Study):
        raise InvalidSetting("study", study, "a Study")
    folder = folder_path("folder", folder)
    whole("batch_size", batch_size, low=1)
    callback("on_method", on_method)
    callback("on_progress", on_progress)
    model = study.model.load() if model is None else model
    check_model(model)
    lookers = who_looks(study, model, judge, second_judge, features)
    methods = [method for method in study.methods if left_out(model, method, study) is None]
    calibrations = loaded(study.calibrations, calibrations)
    recipes = _checked_recipes(model, study, methods, calibrations)
    places = {f"images/{name}": recipe for name, recipe in recipes.items()}
    for images in places:  # all of them, before the first image is made
        check_places(folder / images, study.seeds)
    reference = _checked_reference(model, study, lookers, folder)
    made: dict[str, list[Picture]] = {}
    with run_folder(folder, identity(model, study), option(), recipes=places), keeping(lambda: made):
        for method, pictures in make(
            model, methods, recipes, study.seeds, folder, batch_size, on_method, on_progress, calibrations
        ):  # fmt: skip
            made[method.name] = pictures
        if reference is not None:
            lookers = _with_truth(model, study, lookers, reference, folder, batch_size, on_method, on_progress)
        results = results_of(
            model, study, recipes, made, lookers, folder, settings_of(model), _of_methods(model, study, methods), command
        )  # fmt: skip
        for name, text in ((STUDY_FILE, study.to_json()), (RESULTS_FILE, results.model_dump_json(indent=1) + "\n")):
            with stays_if_unwritable(folder / name):
                write_text(folder / name, text)
    return results


def _of_methods(model: Model, study: Study, methods: Sequence[Method]) -> list[str]:
    """Why methods of a study are left out, and which have settings of the model's own, in sentences."""
    why_not = {left_out(model, method, study): None for method in study.methods if method not in methods}
    return [*(said for said in why_not if said), *tuned_notes(methods, defaults_of(model.name))]


def images_of(
    study: Study, folder: Path | str, *, model: Model | None = None, batch_size: int = 16, on_method: Started | None = None,
    on_progress: Callable[[int, int], None] | None = None, calibrations: Sequence[GivenCalibration] = (),
) -> tuple[Recipe, list[Picture]]:  # fmt: skip
    """The images of a study of one method, directly in the folder and not judged; existing ones are kept.

    Arguments and errors as for :func:`run`; InvalidSetting also for a study of several methods.

    Returns:
        The recipe, and the images in the order of the seeds.
    """
    if len(study.methods) != 1:
        raise InvalidSetting("methods", [method.name for method in study.methods], "exactly one")
    folder, model = folder_path("folder", folder), study.model.load() if model is None else model
    calibrations = loaded(study.calibrations, calibrations)
    recipe = _checked_recipes(model, study, study.methods, calibrations)[study.methods[0].name]
    with run_folder(folder, {"command": "generate"} | recipe.asked(), option(), recipes={"": recipe}):
        if on_method is not None:
            on_method(study.methods[0], 0, 1)
        return recipe, generate(
            model, recipe, study.seeds, folder, batch_size=batch_size, on_progress=on_progress, calibrations=calibrations
        )  # fmt: skip


def option() -> str:
    """What gives a run's folder, for errors."""
    return in_words_of("folder", "--outdir")


def make(
    model: Model, methods: Sequence[Method], recipes: Mapping[str, Recipe], seeds: Sequence[int], folder: Path,
    batch_size: int, on_method: Started | None, on_progress: Callable[[int, int], None] | None,
    calibrations: Sequence[GivenCalibration] = (),
) -> Iterator[tuple[Method, list[Picture]]]:  # fmt: skip
    """Make each method's images in ``images/<method>`` of the folder; existing ones are kept.

    ``recipes`` are by the method's name; other arguments as for :func:`run`.
    """
    for place, method in enumerate(methods):
        if on_method is not None:
            on_method(method, place, len(methods))
        images = folder / "images" / method.name
        recipe = recipes[method.name]
        yield method, generate(
            model, recipe, seeds, images, batch_size=batch_size, on_progress=on_progress, calibrations=calibrations
        )  # fmt: skip


def _checked_recipes(
    model: Model, study: Study, methods: Sequence[Method], calibrations: Sequence[GivenCalibration]
) -> dict[str, Recipe]:
    """The recipe of each method by its name; refused if the model cannot make it."""
    size = study.num_inference_steps, study.height, study.width
    recipes = {method.name: recipe_of(model, method, *size, calibrations) for method in methods}
    for recipe in recipes.values():
        check_recipe(model, recipe, calibrations)
    warn_of_idle_networks(model, list(recipes.values()))
    used = []
    for method in methods if calibrations else ():
        recipe = recipes[method.name]
        known = {name: getattr(recipe, name) for name in DECIDE if name != "model" and hasattr(recipe, name)}
        used.append((method.guidance, method.negative_prompts, known, recipe.calibrations))
    warn_of_calibrations(used, calibrations)
    return recipes


def _checked_reference(model: Model, study: Study, lookers: Panel, folder: Path) -> Recipe | None:
    """The recipe of the images of a redrawn truth; refused if the model cannot make it. None without one."""
    if lookers.reference is None:
        return None
    recipe = recipe_of(model, lookers.reference, study.num_inference_steps, study.height, study.width)
    check_recipe(model, recipe)
    check_places(reference_folder(folder, lookers), reference_seeds(study.seeds, lookers.reference_images))
    return recipe


def _with_truth(
    model: Model, study: Study, lookers: Panel, recipe: Recipe, folder: Path, batch_size: int, on_method: Started | None,
    on_progress: Callable[[int, int], None] | None,
) -> Panel:  # fmt: skip
    """Those who look, with the truth of images that this recipe makes; existing ones are kept."""
    if on_method is not None and lookers.reference is not None:
        on_method(replace(lookers.reference, label=REFERENCE), len(study.methods), len(study.methods) + 1)
    seeds = reference_seeds(study.seeds, lookers.reference_images)
    images = reference_folder(folder, lookers)
    drawn = generate(model, recipe, seeds, images, batch_size=batch_size, on_progress=on_progress)
    return redrawn_by(lookers, drawn, study)


def reference_folder(folder: Path, lookers: Panel) -> Path:
    """Where the images of a redrawn truth are."""
    assert lookers.reference is not None  # asked for by those who draw one
    return folder / "reference" / lookers.reference.name


def who_looks(
    study: Study, model: Model, judge: Laboratory | None = None, second: Laboratory | None = None,
    features: Features | None = None,
) -> Panel:  # fmt: skip
    """Who looks at the images of a study, as :func:`~steerclear.study.judging.panel`, for a model that takes prompts.

    Raises:
        UnsupportedModel: the model takes classes for prompts; or see there.
    """
    for message in of_repeated(study.negative_prompts):
        warnings.warn(message, SteerclearWarning, stacklevel=3)
    if takes_classes(model.pipe):
        raise UnsupportedModel(
            f"the model {model.name!r} is a {type(model.pipe).__name__}, which takes classes, but compare needs a model that "
            f"takes prompts; make its images with steerclear generate"
        )
    lookers = panel(study, model, judge, second, features)
    return without_truth(lookers) if lookers.truth == "none" else lookers


def _networks(method: Method) -> set[str]:
    return {*networks_of(method.guidance, len(method.negative_prompts))}


def left_out(model: Model, method: Method, study: Study) -> str | None:
    """Why a standard method is left out, in a sentence; None for one that is not, or that was asked for."""
    if method.optional and (lacking := lacks(model, method, study)) is not None:
        return lacking
    if method.optional and (off := left_off(method, defaults_of(model.name))) is not None:
        return off
    by_default = any(one.optional for one in study.methods)
    if not by_default or not names_classes(model.pipe):
        return None
    try:
        check_texts(model.pipe, method.prompt, method.negative_prompts, method.guidance)
        why = idle_guidance(model, method) if isinstance(method.guidance, ClassifierFreeGuidance) else None
    except PromptError as error:
        why = str(error)
    return None if why is None else f"{method.label[0].upper()}{method.label[1:]} is left out: {why}."


def lacks(model: Model, method: Method, study: Study) -> str | None:
    """What a model lacks for a method of a study, in a sentence: a network, or who sees its images; None if nothing."""
    if not _networks(method) <= model.networks.keys():
        return no_network()
    asked = Asked(method.prompt, method.negative_prompts, study.height, study.width)
    if not can_flag(model, method.guidance, asked):
        return nobody_flags()
    return None if can_look(model, method.guidance, asked) else nobody_looks()


def recipe_of(
    model: Model, method: Method, num_inference_steps: int, height: int | None = None, width: int | None = None,
    calibrations: Sequence[GivenCalibration] = (),
) -> Recipe:  # fmt: skip
    """The recipe of a method; settings that its guidance left open (None) are set for this model and these calibrations.

    Raises:
        PromptError: an empty prompt, or not a text.
        InvalidSetting: steps or a size of the wrong type or out of range.
        SteerclearError: nobody can flag the images, see :func:`~steerclear.study.flagging.with_flagging`.
    """
    check_model(model)
    numbers = checked_numbers(num_inference_steps, height, width)
    checked_prompt("prompt", method.prompt)
    for negative in method.negative_prompts:
        checked_prompt("negative prompt", negative)
    asked = _networks(method)
    own = of_negatives(method.guidance, method.negative_prompts, calibrations)
    measured = tuple(None if one is None else one.calibration for one in own)
    known = circumstances(model, method.prompt, method.negative_prompts, measured)
    guidance = method.guidance.fitted(replace(known, stochastic=is_stochastic(model.pipe.scheduler)))
    guidance = with_flagging(model, guidance, Asked(method.prompt, tuple(method.negative_prompts), height, width))
    return Recipe(
        **settings_of(model), prompt=method.prompt, negative_prompts=method.negative_prompts, guidance=guidance.to_config(),
        networks={name: found.source for name, found in model.networks.items() if name in asked}, **numbers,
        calibrations=tuple(one.source for one in own if one is not None),
    )  # fmt: skip


def settings_of(model: Model) -> dict[str, Any]:
    """The model's fields of a recipe and of the results."""
    return {
        "model": model.name, "model_digest": model.digest, "config": model.config, "loras": model.loras,
        "scheduler": scheduler_text(model.pipe.scheduler, model.folder), "dtype": str(model.pipe.dtype).removeprefix("torch."),
        "device": model.device, "offload": model.offload,
    }  # fmt: skip


def question_of(study: Study, command: str = "compare") -> dict[str, Any]:
    """What two runs in one folder must share, except model and methods. Seeds may differ: results.json describes those
    asked for last."""
    return {
        "command": command, "prompt": study.prompt, "negative_prompts": list(study.negative_prompts),
        "num_inference_steps": study.num_inference_steps, "height": study.height, "width": study.width,
        **({"calibrations": [one.digest for one in study.calibrations]} if study.calibrations else {}),
    }  # fmt: skip


def asked_of(study: Study) -> dict[str, Any]:
    """The question, and the settings of its methods, with a dot in their names: two runs that both have a method must
    share them."""
    asked = question_of(study)
    for method in study.methods:
        said = {"prompt": method.prompt, "negative_prompts": list(method.negative_prompts)}
        asked |= {f"{method.name}.{key}": value for key, value in (said | _flat(method.guidance)).items()}
    return asked


def _flat(part: Configurable, where: str = "") -> dict[str, Any]:
    """Settings by dotted key, as "inner.guidance_scale"."""
    flat: dict[str, Any] = {f"{where}guidance": type(part).__name__}
    for name, value in part.to_config().items():
        inside = getattr(part, name, None)
        if isinstance(inside, Configurable):
            flat |= _flat(inside, f"{where}{name}.")
        elif name != "_class_name":
            flat[f"{where}{name}"] = value
    return flat


def identity(model: Model, study: Study) -> dict[str, Any]:
    """All that two runs in one folder must share, see :func:`asked_of`; a network only if both have one of its name."""
    of_model = {name: value for name, value in settings_of(model).items() if name not in NOT_ASKED}
    return of_model | asked_of(study) | {
        "loras": [asdict(lora) for lora in model.loras],
        **{f"networks.{name}": asdict(found.source) for name, found in model.networks.items()},
    }  # fmt: skip
