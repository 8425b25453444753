"""What ``steerclear generate`` and ``compare`` are asked for, from options as people type them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..bridges.diffusers.asking import takes_classes
from ..core.errors import InvalidSetting, PromptError, typed
from ..core.guidance import Guidance
from ..core.parsing import WHOLE_NUMBER, changed_by, split_methods
from ..guidance.redraw import Redraw
from ..models.loading import Model
from .again import Before
from .calibrations import CalibrationSource, as_given
from .folders import default_folder, refuse_early
from .guidance_settings import Again, build_guidance, first_that_takes, with_flagger, with_scale
from .judging import watched_words
from .methods import SCALES, WITH_NEGATIVE, WITHOUT_NEGATIVE, Method, unmeasured
from .recipe import parse_seeds
from .run import asked_of, question_of
from .space import Space, parse_varied
from .study import LOOKING, SHIPPED, ModelAsked, Study, checked_negatives, comparison
from .tuning import (
    FINAL_SEEDS,
    TRIALS,
    Tuning,
    limits_of,
    method_text,
    search_seeds,
    split_networks,
    wanted,
)  # fmt: skip

DEFAULTS: Mapping[str, Any] = {
    "model": SHIPPED, "config": None, "networks": None, "loras": (), "scheduler": None, "dtype": "float32",
    "negative_prompts": (), "calibrations": (), "num_inference_steps": 30, "height": None, "width": None, "seeds": "0-7",
}  # fmt: skip
COMPARED: Mapping[str, Any] = {"seeds": "0-63", "methods": None, "judge": None, **LOOKING, **SCALES}
TUNED: Mapping[str, Any] = {
    "guidance": None, "settings": (), "vary": (), "minimise": None, "maximise": None, "subject_to": (), "images": None,
    "trials": TRIALS, "final_seeds": FINAL_SEEDS,
}  # fmt: skip
QUICK: Mapping[str, Any] = {"seeds": "0-15", "num_inference_steps": 15}
"""Defaults: of ``generate``; of ``compare`` where they differ; of what only ``tune`` has; and of ``compare --quick``."""

LONGEST_NUMBER = 20
"""Characters of a number that is read; Python refuses those of thousands."""


@dataclass(frozen=True)
class Request:
    """One run of ``generate``, as far as it is known before the model is loaded.

    Attributes:
        study: its question, with one method.
        guidance_scale, assignments: as given.
        by_default: the guidance was chosen because there are negative prompts.
        other_prompts: the guidance is that of an image with other prompts.
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
        """The folder of the images.

        Raises:
            FolderConflict: the folder holds something else.
        """
        asked = question_of(self.study, "generate")
        chosen = asked | self.study.model.identity() | {"guidance": self.guidance.to_config()}
        return _claimable(given, "generate", self.study, chosen, asked)

    def for_model(self, model: Model) -> "Request":
        """The request for a loaded model: one that takes classes for prompts has another default guidance."""
        if not self.by_default or not takes_classes(model.pipe):
            return self
        guidance = build_guidance(WITH_NEGATIVE[-1], self.guidance_scale, self.assignments)
        method = replace(self.study.methods[0], name=guidance.name, label=guidance.name, guidance=guidance)
        return replace(self, study=replace(self.study, methods=(method,)))

    def notes(self, model: Model) -> list[str]:
        """What the user should know before the images are made."""
        said = []
        if self.by_default:
            said.append(f"guidance: {self.guidance.name}, which uses the negative prompt; --guidance takes another.")
        priors = [prior for part in self.guidance.parts() if (prior := getattr(part, "prior", None)) is not None]
        if self.other_prompts and priors:
            said.append(
                f"note: the guidance keeps its prior of {typed(priors[0])}, which was for other prompts; --set "
                f"evidence.prior=none takes the model's own for these."
            )
        return said + [f"note: {note}" for note in unmeasured(model.pipe.scheduler, self.guidance)]


def request(
    options: Mapping[str, Any], guidance: str | None, guidance_scale: float | None, assignments: Sequence[str],
    before: Before | None = None, *, again: Again | None = None, device: str = "cpu", offload: str = "none",
) -> Request:  # fmt: skip
    """What ``generate`` is asked for.

    Args:
        options: the prompt, and names of :data:`DEFAULTS`; None, or missing, for what was not given.
        guidance: its name; None for that of the image ``before``, or the default.
        guidance_scale: None for the guidance's own.
        assignments: ``key=value`` of the guidance.
        before: an image that supplies what was not given.
        again: how images are drawn again; None for not at all, unless ``guidance`` or ``before`` does.
        device, offload: where the networks run, and where idle ones wait.

    Raises:
        PromptError, InvalidSetting, UnknownName: a value that cannot be used.
    """
    again = again or Again()
    asked = _asked(DEFAULTS, before, options)
    prompt, negatives = _prompt(asked, "--from"), checked_negatives(tuple(asked["negative_prompts"]))
    earlier = before.guidance if before and guidance is None else None
    if earlier is not None:
        built = _changed(earlier, guidance_scale, assignments)
    elif again.redraw and guidance is None:
        built = _to_draw_again(guidance_scale, assignments)
    else:
        names = (guidance,) if guidance else WITH_NEGATIVE if negatives else (WITHOUT_NEGATIVE,)
        built = first_that_takes(names, guidance_scale, assignments)
    built = again.around(built)
    study = Study(
        prompt, negatives, (Method(built.name, built.name, prompt, negatives, built),), _seeds(asked), asked["num_inference_steps"],
        asked["height"], asked["width"], model=_model(asked, device, offload), calibrations=_calibrations(asked),
    )  # fmt: skip
    by_default = guidance is None and before is None and bool(negatives) and not again.redraw
    said = {"prompt": study.prompt, "negative_prompts": negatives}
    other = before is not None and before.guidance is not None and not said.items() <= before.asked.items()
    return Request(study, guidance_scale, tuple(assignments), by_default, other)


def _to_draw_again(guidance_scale: float | None, assignments: Sequence[str]) -> Guidance:
    """What draws images that are drawn again, where no guidance is named: classifier-free guidance, at scale 1 none."""
    scale = SCALES["guidance_scale"] if guidance_scale is None else guidance_scale
    if scale == 1 and not assignments:
        return build_guidance("unguided")
    return build_guidance(WITHOUT_NEGATIVE, scale, assignments)


def _changed(earlier: Guidance, guidance_scale: float | None, assignments: Sequence[str]) -> Guidance:
    """The guidance of an image, with what is given now; the scale of one that draws again is that of what draws."""
    if isinstance(earlier, Redraw):
        earlier = with_flagger(earlier, assignments)
    if isinstance(earlier, Redraw) and guidance_scale is not None:
        inner = changed_by(earlier.guidance, "", with_scale(guidance_scale, ()))
        return changed_by(earlier.changed(guidance=inner), "", assignments)
    return changed_by(earlier, "", with_scale(guidance_scale, assignments))


def asked_to_compare(
    options: Mapping[str, Any], before: Before | None = None, *, quick: bool = False, folder: Path | None = None,
    device: str = "cpu", offload: str = "none",
) -> tuple[Study, Path]:  # fmt: skip
    """What ``compare`` is asked for, and the folder of its results.

    Args:
        options: as for :func:`request`, and names of :data:`COMPARED`.
        before: a run that supplies what was not given.
        quick: fewer seeds and steps, where they are not given.
        folder: None for one named after the question.
        device, offload: see :func:`request`.

    Raises:
        PromptError, InvalidSetting, UnknownName: a value that cannot be used.
        FolderConflict: the folder holds something else.
    """
    asked = _asked({**DEFAULTS, **COMPARED}, before, options, QUICK if quick else {})
    methods, scales = asked["methods"], {name: asked[name] for name in SCALES}
    study = comparison(
        _prompt(asked, "--recipe"), tuple(asked["negative_prompts"]), _seeds(asked), asked["num_inference_steps"], **scales,
        methods=split_methods(methods) if isinstance(methods, str) else methods, height=asked["height"],
        width=asked["width"], judge=asked["judge"], model=_model(asked, device, offload), calibrations=_calibrations(asked),
        **_looking(asked),
    )  # fmt: skip
    chosen = question_of(study) | scales | study.model.identity()
    return study, _claimable(folder, "compare", study, chosen, asked_of(study))


def asked_to_tune(
    options: Mapping[str, Any], *, folder: Path | None = None, device: str = "cpu", offload: str = "none"
) -> tuple[Tuning, Path]:
    """What ``tune`` is asked for, and the folder of its results.

    Args:
        options: as for :func:`asked_to_compare`, and names of :data:`TUNED`.
        folder: None for one named after the question.
        device, offload: see :func:`request`.

    Raises:
        PromptError, InvalidSetting, UnknownName: a value that cannot be used.
        FolderConflict: the folder holds something else.
    """
    asked = _asked({**DEFAULTS, **COMPARED, **TUNED}, None, options)
    if asked["guidance"] is None:
        raise InvalidSetting(
            "guidance", None, "the name of what is to be tuned", "give --guidance, such as autoguidance"
        )
    direction, objective = wanted(asked["minimise"], asked["maximise"])
    method, scales = method_text(asked["guidance"], asked["settings"]), {name: asked[name] for name in SCALES}
    fixed, open_ones = split_networks(asked["networks"] or {}, asked["vary"])
    seeds = search_seeds(None if options.get("seeds") is None else _seeds(asked), asked["images"])
    if asked.get("prompt") is None:
        raise PromptError("there is no prompt; say in a few words what the images should show.")
    study = comparison(
        asked["prompt"], tuple(asked["negative_prompts"]), seeds, asked["num_inference_steps"], **scales,
        methods=[method], height=asked["height"], width=asked["width"], judge=asked["judge"],
        model=_model(asked | {"networks": fixed}, device, offload), calibrations=_calibrations(asked), **_looking(asked),
    )  # fmt: skip
    space = Space.of(study.prompt, study.negative_prompts, method, parse_varied(asked["vary"]), open_ones, scales)
    final = parse_seeds(asked["final_seeds"]) if isinstance(asked["final_seeds"], str) else tuple(asked["final_seeds"])
    tuning = Tuning(study, space, direction, objective, limits_of(asked["subject_to"]), asked["trials"], final)
    known = tuning.asked()
    return tuning, _claimable(folder, "tune", study, known | study.model.identity(), known)


def _looking(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked of those who look at the images, with words and numbers that were typed."""
    images = asked["reference_images"]
    typed_number = isinstance(images, str) and len(images) < LONGEST_NUMBER and WHOLE_NUMBER.fullmatch(images)
    number = int(images) if typed_number else images
    return {name: asked[name] for name in LOOKING} | {
        "watch": watched_words(asked["watch"]),
        "reference_images": number,
    }


def _asked(
    defaults: Mapping[str, Any], before: Before | None, options: Mapping[str, Any], quick: Mapping[str, Any] = {}
) -> dict[str, Any]:
    """All options: what is given, else what is asked by ``quick``, else what was asked before, else the default."""
    given = {name: value for name, value in options.items() if value is not None}
    if before and list(given.get("negative_prompts", ())) == [""]:  # instead of those before: none
        given["negative_prompts"] = ()
    earlier = dict(before.asked) if before else {}
    if "networks" in given:  # each by its name: those before stay
        given["networks"] = {**(earlier.get("networks") or {}), **given["networks"]}
    if "model" in given:
        earlier.pop("config", None)  # of the single file before
    return {**defaults, **earlier, **quick, **given}


def _model(asked: Mapping[str, Any], device: str, offload: str) -> ModelAsked:
    networks = tuple((asked["networks"] or {}).items())
    return ModelAsked(
        asked["model"], networks, asked["config"], tuple(asked["loras"]), asked["scheduler"], asked["dtype"], device, offload
    )  # fmt: skip


def _calibrations(asked: Mapping[str, Any]) -> tuple[CalibrationSource, ...]:
    return tuple(one.source for one in as_given(tuple(asked["calibrations"])))


def _claimable(given: Path | None, command: str, study: Study, chosen: dict[str, Any], asked: dict[str, Any]) -> Path:
    """The folder of a run, refused early if it holds another."""
    folder = given or default_folder(command, [study.prompt, *study.negative_prompts], chosen)
    refuse_early(folder, asked)
    return folder


def _prompt(asked: Mapping[str, Any], option: str) -> str:
    if asked.get("prompt") is None:
        raise PromptError(f"there is no prompt; say in a few words what the image should show, or give {option}.")
    return asked["prompt"]


def _seeds(asked: Mapping[str, Any]) -> tuple[int, ...]:
    return parse_seeds(asked["seeds"]) if isinstance(asked["seeds"], str) else asked["seeds"]
