"""What ``steerclear generate`` and ``compare`` are asked for, from options as people type them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..bridges.diffusers.asking import takes_classes
from ..core.errors import PromptError, typed
from ..core.guidance import Guidance
from ..models.loading import Model, asked_to_load
from .again import Before, loading_of
from .commands import changed_guidance
from .compare import Question, asked_of, check_question, recipe_of
from .folders import default_folder, refuse_early
from .generate import check_recipe, warn_of_idle_weak
from .guidance_settings import build_guidance, first_that_takes
from .methods import WITH_NEGATIVE, WITHOUT_NEGATIVE, Method, unmeasured
from .recipe import Recipe, checked_prompt, parse_seeds

COMPARED: Mapping[str, Any] = {"seeds": "0-63", "guidance_scale": 3.0, "auto_scale": 2.0, "methods": None}
QUICK: Mapping[str, Any] = {"seeds": "0-15", "num_inference_steps": 15}
"""Defaults of ``compare`` where they are not those of ``generate``, and of its ``--quick``."""

DEFAULTS: Mapping[str, Any] = {
    "model": "portraits", "config": None, "weak": None, "loras": (), "scheduler": None, "dtype": "float32",
    "negative_prompts": (), "num_inference_steps": 30, "height": None, "width": None, "seeds": "0-7",
}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """One run, as far as it is known before a model is loaded.

    Attributes:
        prompt, negative_prompts, num_inference_steps, height, width: of every image.
        guidance: how.
        seeds: one per image.
        loading: arguments of :func:`~steerclear.models.loading.load_model`.
        guidance_scale, assignments: as they were given.
        by_default: whether the guidance was chosen because there are negative prompts.
        other_prompts: whether the guidance is an image's, and the prompts are not.
    """

    prompt: str
    negative_prompts: tuple[str, ...]
    num_inference_steps: int
    height: int | None
    width: int | None
    guidance: Guidance
    seeds: tuple[int, ...]
    loading: Mapping[str, Any]
    guidance_scale: float | None
    assignments: tuple[str, ...]
    by_default: bool
    other_prompts: bool

    def asked(self) -> dict[str, Any]:
        """What two runs in one folder must share, as far as it can be told without a model."""
        return {
            "command": "generate", "prompt": self.prompt, "negative_prompts": list(self.negative_prompts),
            "num_inference_steps": self.num_inference_steps, "height": self.height, "width": self.width,
        }  # fmt: skip

    def folder(self, given: Path | None) -> Path:
        """Where the images go; refused early if they cannot.

        Raises:
            FolderConflict: the folder holds something else.
        """
        chosen = self.asked() | asked_to_load(**self.loading) | {"guidance": self.guidance.to_config()}
        folder = given or default_folder("generate", [self.prompt, *self.negative_prompts], chosen)
        refuse_early(folder, self.asked())
        return folder

    def for_model(self, model: Model) -> "Request":
        """The same for a loaded model: where classes stand for prompts, the default is another guidance."""
        if not self.by_default or not takes_classes(model.pipe):
            return self
        return replace(self, guidance=build_guidance(WITH_NEGATIVE[-1], self.guidance_scale, self.assignments))

    def notes(self, model: Model) -> list[str]:
        """What the user should know before the images are made."""
        said = [
            f"guidance: {self.guidance.name}, which uses the negative prompt; --guidance takes another."
        ] * self.by_default
        priors = [prior for part in self.guidance.parts() if (prior := getattr(part, "prior", None)) is not None]
        if self.other_prompts and priors:
            said.append(
                f"note: the guidance keeps its prior of {typed(priors[0])}, which was for other prompts; --set "
                f"evidence.prior=none takes the model's own for these."
            )
        return said + [f"note: {note}" for note in unmeasured(model.pipe.scheduler, self.guidance)]

    def recipe(self, model: Model) -> Recipe:
        """How the images are made; refused before anything is made if they cannot be.

        Raises:
            SteerclearError: see :func:`~steerclear.study.generate.check_recipe`.

        Warns:
            SteerclearWarning: a weak network that no guidance uses.
        """
        method = Method(self.guidance.name, self.guidance.name, self.prompt, self.negative_prompts, self.guidance)
        recipe = recipe_of(model, method, self.num_inference_steps, self.height, self.width)
        check_recipe(model, recipe)
        warn_of_idle_weak(model, [recipe])
        return recipe


def request(
    options: Mapping[str, Any], guidance: str | None, guidance_scale: float | None, assignments: Sequence[str],
    before: Before | None = None,
) -> Request:  # fmt: skip
    """What is asked for, from options as people type them.

    Args:
        options: by the names of :data:`DEFAULTS`, and the prompt; None for what was not given.
        guidance: its name; None for that of the image before, or else the default.
        guidance_scale: None for the guidance's own.
        assignments: ``key=value`` of the guidance.
        before: an image whose settings stand for what was not given.

    Raises:
        PromptError, InvalidSetting, UnknownName: a value that cannot be used.
    """
    base = before or Before(Path(), {})
    asked = {**DEFAULTS, **base.with_options(options)}
    prompt = _prompt(asked, "--from")
    negatives = tuple(checked_prompt("negative prompt", text) for text in asked["negative_prompts"])
    by_default = guidance is None and before is None and bool(negatives)
    if guidance is None and base.guidance is not None:
        built = changed_guidance(base.guidance, guidance_scale, assignments)
    else:
        names = (guidance,) if guidance else WITH_NEGATIVE if negatives else (WITHOUT_NEGATIVE,)
        built = first_that_takes(names, guidance_scale, assignments)
    prompts = {"prompt": prompt, "negative_prompts": negatives}
    other_prompts = base.guidance is not None and any(base.asked[name] != text for name, text in prompts.items())
    return Request(
        prompt, negatives, asked["num_inference_steps"], asked["height"], asked["width"], built, _seeds(asked["seeds"]),
        loading_of(asked), guidance_scale, tuple(assignments), by_default, other_prompts,
    )  # fmt: skip


def asked_to_compare(
    options: Mapping[str, Any], before: Before | None = None, *, quick: bool = False
) -> tuple[Question, dict[str, Any]]:
    """What ``compare`` is asked, and the arguments of :func:`~steerclear.models.loading.load_model`.

    Args:
        options: by the names of :data:`DEFAULTS` and :data:`COMPARED`, and the prompt; None for what was not given.
        before: a run whose question is asked again where an option is not given.
        quick: fewer seeds and steps, where they are not given.

    Raises:
        PromptError, InvalidSetting, UnknownName: a value that cannot be used.
    """
    quickly = {name: value for name, value in QUICK.items() if quick and options.get(name) is None}
    base = before or Before(Path(), {})
    asked = {**DEFAULTS, **COMPARED, **base.with_options({**options, **quickly})}
    methods = asked["methods"]
    question = Question(
        _prompt(asked, "--recipe"), tuple(asked["negative_prompts"]), _seeds(asked["seeds"]), asked["num_inference_steps"],
        asked["guidance_scale"], asked["auto_scale"],
        tuple(name.strip() for name in methods.split(",")) if isinstance(methods, str) else methods,
        asked["height"], asked["width"],
    )  # fmt: skip
    return check_question(question), loading_of(asked)


def folder_of_comparison(question: Question, loading: Mapping[str, Any], given: Path | None) -> Path:
    """Where a comparison goes; refused early if it cannot.

    Raises:
        FolderConflict: the folder holds something else.
    """
    asked = asked_of(question)
    chosen = asked | asked_to_load(**loading)
    folder = given or default_folder("compare", [question.prompt, *question.negative_prompts], chosen)
    refuse_early(folder, asked)
    return folder


def _prompt(asked: Mapping[str, Any], option: str) -> str:
    if asked.get("prompt") is None:
        raise PromptError(f"there is no prompt; say in a few words what the image should show, or give {option}.")
    return checked_prompt("prompt", asked["prompt"])


def _seeds(seeds: str | tuple[int, ...]) -> tuple[int, ...]:
    return parse_seeds(seeds) if isinstance(seeds, str) else seeds
