"""The main job: one question, several ways of saying "no", the same seeds; what each removed and what else it changed."""

import math
import platform
import shlex
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .. import __version__
from ..bridges.diffusers.asking import takes_classes
from ..bridges.effects import of_latents, of_repeated
from ..core.errors import InvalidSetting, SteerclearWarning, UnsupportedModel, in_words_of, keeping
from ..core.laboratory import UNSURE, Column, Measurement
from ..core.saving import stays_if_unwritable
from ..core.seeds import checked_seeds
from ..core.settings import callback, finite, folder_path, whole
from ..laboratories.portrait_classifier import CLASSIFIER
from ..laboratories.portraits import FEWEST_FOR_FRECHET, PortraitLaboratory
from ..metrics.estimates import INTERVAL_NEEDS
from ..models.loading import Model
from ..models.samplers import scheduler_text
from ..testbeds.portraits import SIZE
from .folders import run_folder
from .gallery import Picture, check_places, write_text
from .generate import check_model, check_recipe, generate, warn_of_idle_weak
from .measure import circumstances, pixel_change, pixels
from .methods import TAKE_SCALE, Method, chosen_methods, standard_methods, unmeasured
from .recipe import HALVES, MOST_STEPS, NOT_ASKED, SMALLEST, Recipe, checked_prompt, decoded, format_seeds
from .results import ImageResult, MethodResult, Results

RESULTS_FILE = "results.json"
LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "scipy")
MOVED = Column(
    name="moved", label="moved", percent=True,
    meaning="mean absolute difference of the pixels to the first method's image of the same seed",
)  # fmt: skip
COST = Column(name="evaluations", label="network calls", meaning="network evaluations per image")

UNSURE_NAMED = 6
"""Images that a note names."""

Started = Callable[[Method, int, int], None]
"""Called as each method begins, with its place and how many there are."""


@dataclass(frozen=True)
class Question:
    """What is compared.

    Attributes:
        prompt: what the image shall show.
        negative_prompts: what it shall not.
        seeds: one per image, the same for every method.
        num_inference_steps: of every method.
        guidance_scale: of classifier-free guidance and of the negative prompt.
        auto_scale: of autoguidance.
        methods: names; None for all standard ones.
        height, width: of every image, in pixels; None for the model's own.
    """

    prompt: str
    negative_prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    num_inference_steps: int = 30
    guidance_scale: float = 3.0
    auto_scale: float = 2.0
    methods: tuple[str, ...] | None = None
    height: int | None = None
    width: int | None = None

    def checked(self) -> "Question":
        """The same question with plain values.

        Raises:
            InvalidSetting, PromptError: a value of another kind, or out of range.
        """
        prompt = checked_prompt("prompt", self.prompt)
        if not isinstance(self.negative_prompts, (tuple, list)):
            remedy = "one alone has a comma behind it, as ('hat',)"
            raise InvalidSetting("negative_prompts", self.negative_prompts, "a tuple of texts", remedy)
        scales: dict[str, Any] = {name: finite(name, getattr(self, name)) for name in TAKE_SCALE}
        return replace(
            self, prompt=prompt, seeds=checked_seeds(self.seeds), methods=_checked_names(self.methods),
            negative_prompts=tuple(checked_prompt("negative prompt", text) for text in self.negative_prompts),
            **scales, **_checked_numbers(self.num_inference_steps, self.height, self.width),
        )  # fmt: skip


def _checked_numbers(num_inference_steps: object, height: object, width: object) -> dict[str, Any]:
    """Steps and sizes as plain numbers, by their names."""
    sizes = {"height": height, "width": width}
    return {
        "num_inference_steps": whole("num_inference_steps", num_inference_steps, low=1, high=MOST_STEPS),
        **{name: None if size is None else whole(name, size, low=SMALLEST) for name, size in sizes.items()},
    }


def _checked_names(methods: object) -> tuple[str, ...] | None:
    if methods is None:
        return None
    if not isinstance(methods, (tuple, list)) or not all(isinstance(name, str) for name in methods):
        raise InvalidSetting("methods", methods, "a tuple of names, or None for the standard ones")
    if not methods:
        raise InvalidSetting("methods", methods, "at least one name, or None for the standard ones")
    return tuple(methods)


def compare(
    model: Model,
    question: Question,
    folder: Path | str,
    *,
    batch_size: int = 16,
    command: str = "",
    on_method: Started | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Results:
    """Make the images that are missing, measure all of them, write ``results.json``.

    A folder that holds the images of other seeds or other methods of the same question is extended; ``results.json`` is
    about the seeds and methods of this call.

    Args:
        model: the pipeline.
        question: what is compared.
        folder: the run's own; images go to ``images/<method>/<seed>.png``.
        batch_size: images in one forward.
        command: what repeats this run, for the report.
        on_method, on_progress: called as methods begin and as steps are made.

    Raises:
        PromptError: an empty or overlong prompt.
        FolderConflict: the folder holds another run, or another process is at work in it.
        UnknownName, InvalidSetting: see :func:`check_question`.
        UnsupportedModel: a model that takes classes for prompts, or that :func:`~steerclear.study.generate.check_recipe` refuses.
        NotFiniteError: a network gave NaN; what is done is kept.
    """
    check_model(model)
    folder = folder_path("folder", folder)
    whole("batch_size", batch_size, low=1)
    callback("on_method", on_method)
    callback("on_progress", on_progress)
    question = check_question(question)
    prompt, negatives = question.prompt, question.negative_prompts
    for message in of_repeated(negatives):
        warnings.warn(message, SteerclearWarning, stacklevel=2)
    if takes_classes(model.pipe):
        raise UnsupportedModel(
            f"the model {model.name!r} is a {type(model.pipe).__name__}, which takes classes, and what is compared are ways "
            f"of saying no in words; make its images with steerclear generate"
        )
    laboratory = _laboratory(model, question, prompt, negatives)
    standard = standard_methods(
        prompt, negatives, guidance_scale=question.guidance_scale, auto_scale=question.auto_scale
    )
    methods = chosen_methods(question.methods, standard, prompt, negatives)
    if question.methods is None and model.weak is None:
        methods = [method for method in methods if not method.guidance.needs_weak()]
    recipes = {
        method.name: recipe_of(model, method, question.num_inference_steps, question.height, question.width)
        for method in methods
    }
    for recipe in recipes.values():
        check_recipe(model, recipe)
    warn_of_idle_weak(model, list(recipes.values()))
    _warn_of_idle_scales(question, methods)
    places = {f"images/{name}": recipe for name, recipe in recipes.items()}
    made: dict[str, list[Picture]] = {}
    for images in places:  # of the last method too, before the first is made
        check_places(folder / images, question.seeds)
    settings = _identity(model, question)
    with run_folder(folder, settings, recipes=places), keeping(lambda: made):
        for place, method in enumerate(methods):
            if on_method is not None:
                on_method(method, place, len(methods))
            made[method.name] = generate(
                model, recipes[method.name], question.seeds, folder / "images" / method.name,
                batch_size=batch_size, on_progress=on_progress,
            )  # fmt: skip
        results = _results(model, question, prompt, negatives, methods, recipes, made, laboratory, folder, command)
        with stays_if_unwritable(folder / RESULTS_FILE):
            write_text(folder / RESULTS_FILE, results.model_dump_json(indent=1) + "\n")
    return results


def check_question(question: Question) -> Question:
    """Refuse what needs no model to be refused; returns the same question with plain values.

    Raises:
        PromptError: an empty prompt.
        InvalidSetting: a value of another kind, or out of range.
        UnknownName: an unknown method.
    """
    if not isinstance(question, Question):
        raise InvalidSetting("question", question, "a Question")
    question = question.checked()
    standard = standard_methods(
        question.prompt, question.negative_prompts, guidance_scale=question.guidance_scale,
        auto_scale=question.auto_scale,
    )  # fmt: skip
    chosen_methods(question.methods, standard, question.prompt, question.negative_prompts)
    return question


def recipe_of(
    model: Model, method: Method, num_inference_steps: int, height: int | None = None, width: int | None = None
) -> Recipe:
    """Everything that decides how this method's images look; what its guidance left open is settled here.

    Raises:
        PromptError: an empty prompt, or no text.
        InvalidSetting: steps or a size of another kind, or out of range.
    """
    check_model(model)
    numbers = _checked_numbers(num_inference_steps, height, width)
    checked_prompt("prompt", method.prompt)
    for negative in method.negative_prompts:
        checked_prompt("negative prompt", negative)
    weak = method.guidance.needs_weak()
    guidance = method.guidance.fitted(circumstances(model, method.prompt, method.negative_prompts))
    return Recipe(
        **_settings(model), prompt=method.prompt, negative_prompts=method.negative_prompts,
        guidance=guidance.to_config(), weak=model.weak_name if weak else None,
        weak_digest=model.weak_digest if weak else None, **numbers,
    )  # fmt: skip


def _settings(model: Model) -> dict[str, Any]:
    """What a recipe and the results say of the model, in the same words."""
    return {
        "model": model.name, "model_digest": model.digest, "config": model.config, "loras": model.loras,
        "scheduler": scheduler_text(model.pipe.scheduler, model.folder), "dtype": str(model.pipe.dtype).removeprefix("torch."),
        "device": model.device, "offload": model.offload,
    }  # fmt: skip


def asked_of(question: Question) -> dict[str, Any]:
    """What two runs in one folder must share, as far as it can be told without a model. Seeds and methods are not of it:
    the images of each method are its own, and results.json speaks of those that were asked for last."""
    return {
        "command": "compare", "prompt": question.prompt, "negative_prompts": list(question.negative_prompts),
        "num_inference_steps": question.num_inference_steps, "height": question.height, "width": question.width,
        "guidance_scale": question.guidance_scale, "auto_scale": question.auto_scale,
    }  # fmt: skip


def _identity(model: Model, question: Question) -> dict[str, Any]:
    """What two runs in one folder must share."""
    of_model = {name: value for name, value in _settings(model).items() if name not in NOT_ASKED}
    return of_model | asked_of(question) | {
        "loras": [asdict(lora) for lora in model.loras], "weak": model.weak_name, "weak_digest": model.weak_digest,
    }  # fmt: skip


def _warn_of_idle_scales(question: Question, methods: Sequence[Method]) -> None:
    """Warn of a scale that was asked for and that none of the methods has."""
    for name, takers in TAKE_SCALE.items():
        asked = getattr(question, name)
        if asked != getattr(Question, name) and not any(method.name in takers for method in methods):
            warnings.warn(
                f"{name}={asked:g} has no effect: none of the methods {', '.join(method.name for method in methods)} takes it; "
                f"leave it out, or add one of {', '.join(takers)}",
                SteerclearWarning,
                stacklevel=3,
            )  # fmt: skip


def _laboratory(model: Model, question: Question, prompt: str, negatives: tuple[str, ...]) -> PortraitLaboratory | None:
    """What measures the images; None for a model without a classifier, or for images of a size that it does not see.

    Raises:
        UnsupportedModel: a classifier that cannot be read; said before an image is made.
    """
    if not (model.folder / CLASSIFIER).is_file() or not _portrait_sized(question):
        return None
    laboratory = PortraitLaboratory(model.folder, prompt, ", ".join(negatives) or None)
    _ = laboratory.classifier
    return laboratory


def _portrait_sized(question: Question) -> bool:
    return {question.height, question.width} <= {None, SIZE}


def _results(
    model: Model, question: Question, prompt: str, negatives: tuple[str, ...], methods: Sequence[Method],
    recipes: dict[str, Recipe], made: dict[str, list[Picture]], laboratory: PortraitLaboratory | None,
    folder: Path, command: str,
) -> Results:  # fmt: skip
    first = pixels(made[methods[0].name])
    rows = []
    for method in methods:
        pictures = made[method.name]
        images = pixels(pictures)
        seen = None if laboratory is None else laboratory.see(images)
        measurements = {} if laboratory is None or seen is None else laboratory.measure(seen)
        measurements["moved"] = pixel_change(images, first)
        cost = sum(picture.evaluations for picture in pictures) / len(pictures)
        measurements["evaluations"] = Measurement(value=cost, better="lower")
        shown = {} if laboratory is None or seen is None else laboratory.shown(seen)
        sure = {} if laboratory is None or seen is None else laboratory.sure(seen)
        rows.append(MethodResult(
            name=method.name, label=method.label, prompt=method.prompt, negative_prompts=list(method.negative_prompts),
            guidance=recipes[method.name].guidance, recipe_digest=recipes[method.name].digest(), evaluations=cost,
            noise_levels=pictures[0].levels, branches=pictures[0].branches, measurements=measurements,
            images=[
                ImageResult(
                    seed=picture.seed, file=picture.path.relative_to(folder).as_posix(),
                    shown={name: int(values[row]) for name, values in shown.items()},
                    probability={name: round(float(values[row]), 4) for name, values in sure.items()},
                    trace=picture.trace,
                )
                for row, picture in enumerate(pictures)
            ],
            warnings=method_warnings(method, pictures[0].levels),
        ))  # fmt: skip
    columns = ([] if laboratory is None else laboratory.columns()) + [MOVED, COST]
    return Results(
        steerclear_version=__version__, versions={name: version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        command=command, prompt=prompt, negative_prompts=list(negatives), **_settings(model), weak=model.weak_name,
        weak_digest=model.weak_digest, num_inference_steps=question.num_inference_steps, height=question.height,
        width=question.width, seeds=format_seeds(question.seeds),
        columns=[column for column in columns if any(column.name in row.measurements for row in rows)],
        target=None if laboratory is None else laboratory.target, notes=[*_notes(model, methods, laboratory, question), *unsure_notes(rows)],
        methods=rows,
    )  # fmt: skip


def method_warnings(method: Method, levels: Sequence[float | None]) -> list[str]:
    """What of this method has no effect, and why.

    Args:
        method: the method.
        levels: sigma / alpha of every step, as :class:`~steerclear.study.gallery.Picture` has them.
    """
    idle_negative = method.guidance.negative_has_no_effect() if method.negative_prompts else None
    idle = method.guidance.has_no_step([math.inf if level is None else level for level in levels])
    reasons = (("the negative prompt", idle_negative), ("the guidance", idle))
    return [f"{what} has no effect: {reason}" for what, reason in reasons if reason]


def unsure_notes(methods: Sequence[MethodResult]) -> list[str]:
    """Which images the classifier is unsure of; nothing where it is sure of all."""
    low, high = UNSURE
    images = [(method.label, image) for method in methods for image in method.images]
    notes = []
    for name in dict.fromkeys(name for _, image in images for name in image.probability):
        found = [f"{label} seed {image.seed}" for label, image in images if low <= image.probability[name] <= high]
        if found:
            more = f" and {len(found) - UNSURE_NAMED} more" * (len(found) > UNSURE_NAMED)
            notes.append(
                f"The classifier is unsure of {name!r} ({100 * low:.0f} to {100 * high:.0f} %) in {len(found)} of {len(images)} "
                f"images: {', '.join(found[:UNSURE_NAMED])}{more}. They count as what is likelier; look at them."
            )
    return notes


def _notes(
    model: Model, methods: Sequence[Method], laboratory: PortraitLaboratory | None, question: Question
) -> list[str]:
    scheduler = model.pipe.scheduler
    notes = [f"{sentence}." for sentence in of_latents(scheduler)]
    notes += dict.fromkeys(note for method in methods for note in unmeasured(scheduler, method.guidance))
    if laboratory is None and (model.folder / CLASSIFIER).is_file():
        notes.append(
            f"The classifier of this model sees images of {SIZE} x {SIZE} alone, so nothing says whether the concept is gone or "
            f"what else changed: only how far the pixels moved and what it cost. Leave out "
            f"{in_words_of('height and width', '--height and --width')} to measure."
        )  # fmt: skip
    elif laboratory is None:
        notes.append(
            "This model ships no attribute classifier and its truth is not known, so nothing says whether the concept is "
            "gone or what else changed: only how far the pixels moved and what it cost. Look at the images."
        )
    else:
        notes.extend(laboratory.notes)
    if question.methods is None and model.weak is None:
        give = in_words_of("load_model(..., weak=...)", "--weak")
        notes.append(f"Autoguidance is left out: there is no weak network. Give one with {give}.")
    if laboratory is not None and len(question.seeds) < FEWEST_FOR_FRECHET:
        notes.append(f"The Fréchet distance is left out: it needs at least {FEWEST_FOR_FRECHET} images.")
    if laboratory is not None and len(question.seeds) < INTERVAL_NEEDS:
        notes.append(
            f"Fewer than {INTERVAL_NEEDS} images say nothing of their spread: only rates, precision and recall have intervals."
        )
    if len(question.seeds) < 1000:
        notes.append(
            f"{len(question.seeds)} images per method: read the intervals. A published figure needs at least 1,000."
        )
    return notes


def repeat_command(arguments: Sequence[str]) -> str:
    """The command line, quoted for a shell.

    >>> repeat_command(["compare", "a man", "--seeds", "0-3"])
    "steerclear compare 'a man' --seeds 0-3"
    """
    readable = [HALVES.sub("?", decoded(argument, errors="replace")) for argument in arguments]  # it is stored in UTF-8
    return shlex.join(["steerclear", *readable])
