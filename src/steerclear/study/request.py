"""What ``steerclear generate`` and ``compare`` are asked for, from options as people type them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..bridges.diffusers.asking import takes_classes
from ..core.errors import PromptError, typed
from ..core.guidance import Guidance
from ..core.parsing import split_methods
from ..models.loading import Model
from .again import Before, model_asked
from .commands import changed_guidance
from .folders import default_folder, refuse_early
from .guidance_settings import build_guidance, first_that_takes
from .methods import WITH_NEGATIVE, WITHOUT_NEGATIVE, Method, unmeasured
from .recipe import parse_seeds
from .run import asked_of, question_of
from .study import Study, checked_negatives, comparison

COMPARED: Mapping[str, Any] = {
    "seeds": "0-63", "guidance_scale": 3.0, "auto_scale": 2.0, "methods": None, "judge": None,
}  # fmt: skip
QUICK: Mapping[str, Any] = {"seeds": "0-15", "num_inference_steps": 15}
"""Defaults of ``compare`` where they are not those of ``generate``, and of its ``--quick``."""

DEFAULTS: Mapping[str, Any] = {
    "model": "portraits", "config": None, "networks": None, "loras": (), "scheduler": None, "dtype": "float32",
    "negative_prompts": (), "num_inference_steps": 30, "height": None, "width": None, "seeds": "0-7",
}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """One run of ``generate``, as far as it is known before a model is loaded.

    Attributes:
        study: of one method.
        guidance_scale, assignments: as they were given.
        by_default: whether the guidance was chosen because there are negative prompts.
        other_prompts: whether the guidance is an image's, and the prompts are not.
    """

    study: Study
    guidance_scale: float | None
    assignments: tuple[str, ...]
    by_default: bool
    other_prompts: bool

    @property
    def guidance(self) -> Guidance:
        return self.study.methods[0].guidance

    def folder(self, given: Path | None) -> Path:
        """Where the images go.

        Raises:
            FolderConflict: the folder holds something else.
        """
        asked = question_of(self.study, "generate")
        chosen = asked | self.study.model.identity() | {"guidance": self.guidance.to_config()}
        return _claimable(given, "generate", self.study, chosen, asked)

    def for_model(self, model: Model) -> "Request":
        """The same for a loaded model: where classes stand for prompts, the default is another guidance."""
        if not self.by_default or not takes_classes(model.pipe):
            return self
        guidance = build_guidance(WITH_NEGATIVE[-1], self.guidance_scale, self.assignments)
        method = replace(self.study.methods[0], name=guidance.name, label=guidance.name, guidance=guidance)
        return replace(self, study=replace(self.study, methods=(method,)))

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


def request(
    options: Mapping[str, Any], guidance: str | None, guidance_scale: float | None, assignments: Sequence[str],
    before: Before | None = None, *, device: str = "cpu", offload: str = "none",
) -> Request:  # fmt: skip
    """What is asked for, from options as people type them.

    Args:
        options: by the names of :data:`DEFAULTS`, and the prompt; None for what was not given.
        guidance: its name; None for that of the image before, or else the default.
        guidance_scale: None for the guidance's own.
        assignments: ``key=value`` of the guidance.
        before: an image whose settings stand for what was not given.
        device, offload: where the networks run, and where they wait.

    Raises:
        PromptError, InvalidSetting, UnknownName: a value that cannot be used.
    """
    base = before or Before(Path(), {})
    asked = {**DEFAULTS, **base.with_options(options)}
    prompt, negatives = _prompt(asked, "--from"), checked_negatives(tuple(asked["negative_prompts"]))
    if guidance is None and base.guidance is not None:
        built = changed_guidance(base.guidance, guidance_scale, assignments)
    else:
        names = (guidance,) if guidance else WITH_NEGATIVE if negatives else (WITHOUT_NEGATIVE,)
        built = first_that_takes(names, guidance_scale, assignments)
    study = Study(
        prompt, negatives, (Method(built.name, built.name, prompt, negatives, built),), _seeds(asked["seeds"]),
        asked["num_inference_steps"], asked["height"], asked["width"], model=model_asked(asked, device, offload),
    )  # fmt: skip
    prompts = {"prompt": study.prompt, "negative_prompts": negatives}
    other_prompts = base.guidance is not None and any(base.asked[name] != text for name, text in prompts.items())
    by_default = guidance is None and before is None and bool(negatives)
    return Request(study, guidance_scale, tuple(assignments), by_default, other_prompts)


def asked_to_compare(
    options: Mapping[str, Any], before: Before | None = None, *, quick: bool = False, folder: Path | None = None,
    device: str = "cpu", offload: str = "none",
) -> tuple[Study, Path]:  # fmt: skip
    """What ``compare`` is asked, and where it goes.

    Args:
        options: by the names of :data:`DEFAULTS` and :data:`COMPARED`, and the prompt; None for what was not given.
        before: a run whose question is asked again where an option is not given.
        quick: fewer seeds and steps, where they are not given.
        folder: as it was given; None for one that is named after the question.
        device, offload: where the networks run, and where they wait.

    Raises:
        PromptError, InvalidSetting, UnknownName: a value that cannot be used.
        FolderConflict: the folder holds something else.
    """
    quickly = {name: value for name, value in QUICK.items() if quick and options.get(name) is None}
    base = before or Before(Path(), {})
    asked = {**DEFAULTS, **COMPARED, **base.with_options({**options, **quickly})}
    methods = asked["methods"]
    study = comparison(
        _prompt(asked, "--recipe"), tuple(asked["negative_prompts"]), _seeds(asked["seeds"]), asked["num_inference_steps"],
        asked["guidance_scale"], asked["auto_scale"], split_methods(methods) if isinstance(methods, str) else methods,
        asked["height"], asked["width"], judge=asked["judge"], model=model_asked(asked, device, offload),
    )  # fmt: skip
    scales = {name: asked[name] for name in ("guidance_scale", "auto_scale")}
    chosen = question_of(study) | scales | study.model.identity()
    return study, _claimable(folder, "compare", study, chosen, asked_of(study))


def _claimable(given: Path | None, command: str, study: Study, chosen: dict[str, Any], asked: dict[str, Any]) -> Path:
    """The folder of a run, refused early if it holds another."""
    folder = given or default_folder(command, [study.prompt, *study.negative_prompts], chosen)
    refuse_early(folder, asked)
    return folder


def _prompt(asked: Mapping[str, Any], option: str) -> str:
    if asked.get("prompt") is None:
        raise PromptError(f"there is no prompt; say in a few words what the image should show, or give {option}.")
    return asked["prompt"]


def _seeds(seeds: str | tuple[int, ...]) -> tuple[int, ...]:
    return parse_seeds(seeds) if isinstance(seeds, str) else seeds
