"""Read back what an earlier run was asked for, from an image or from the folder of a comparison."""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..core.errors import InvalidSetting, SteerclearError, SteerclearWarning, shown
from ..core.guidance import Guidance
from ..guidance.unguided import Unguided
from ..models.given import IN_MEMORY
from ..models.loading import Model
from ..models.networks import NetworkSource
from ..networks.shared.naming import called
from .commands import given_networks, lora_texts
from .gallery import read_settings
from .methods import SCALES, TAKE_SCALE, method_texts, standard_methods
from .reading import Unreadable, read_pixels
from .recipe import Recipe, parse_seeds
from .results import RESULTS_FILE, Results
from .study import LOOKING, STUDY_FILE, Study

LOADING = ("model", "config", "networks", "loras", "scheduler", "dtype")
MEASURED = "calibrations"
"""Fields of :class:`~steerclear.study.recipe.Recipe` that say how the model is loaded."""


@dataclass(frozen=True)
class Before:
    """What an earlier run was asked for.

    Attributes:
        path: the image or comparison.
        asked: option -> value, by the names of :func:`~steerclear.study.study.comparison` and of :data:`LOADING`.
        guidance: of an image; None for a comparison.
        digests: of the files of the model, its networks and its LoRAs.
    """

    path: Path
    asked: Mapping[str, Any]
    guidance: Guidance | None = None
    digests: Mapping[str, Any] = field(default_factory=dict)

    def warn_of_other_files(self, model: Model, options: Mapping[str, Any]) -> None:
        """Warn of files that changed since, so that the images will differ.

        Args:
            model: as loaded now.
            options: given now (not None): what they name may differ.

        Warns:
            SteerclearWarning: for each changed file.
        """
        now = _digests(model.digest, {name: one.source for name, one in model.networks.items()}, model.loras)
        for name, digest in self.digests.items():
            if name in ("model", "loras"):
                given, what = options.get(name), f"the {name.replace('loras', 'LoRAs')}"
            else:  # a network; another model may have another one of its own
                given, what = name in (options.get("networks") or {}) or options.get("model"), called(name)
            if not given and now.get(name) != digest:
                if name == "model" and IN_MEMORY in str(digest):
                    said = "was given in Python, so nothing says whether it had the same weights as the files now"
                else:
                    said = (
                        f"had other files than now ({shown(digest)} there, {shown(now.get(name))} now), so the images will "
                        f"differ from those before"
                    )
                warnings.warn(f"{what} of {self.path} {said}", SteerclearWarning, stacklevel=2)


def read_image(path: Path) -> Before:
    """What an image was made with.

    Raises:
        InvalidSetting: steerclear did not make the image, or it was changed since.
    """
    allowed = "an image that steerclear made, unchanged"
    said = read_settings(path)
    if said is None:
        remedy = "there is no such file" if not path.is_file() else "editing or re-saving an image removes its settings"
        raise InvalidSetting("the image", str(path), allowed, remedy)
    try:
        recipe = Recipe.model_validate(said["recipe"])
        guidance = recipe.built_guidance()
    except (KeyError, ValidationError, SteerclearError) as error:
        reason = str(error).splitlines()[0].rstrip(".:")
        raise InvalidSetting("the image", str(path), f"{allowed}, by this version", reason) from error
    asked = {name: getattr(recipe, name) for name in (*LOADING, MEASURED, "prompt", "negative_prompts", "num_inference_steps", "height", "width")}  # fmt: skip
    digests = _digests(recipe.model_digest, recipe.networks, recipe.loras)
    return Before(path, _typed(asked) | {"seeds": (said["seed"],)}, guidance, digests)


def read_run(path: Path) -> Before:
    """What a comparison was asked for, from its folder or a file in it (``results.json``, ``study.json``, an image).

    Raises:
        InvalidSetting: the file is missing or damaged.
    """
    if path.suffix.lower() == ".png":
        return read_image(path)
    folder = path if path.is_dir() else path.parent
    file = folder / STUDY_FILE
    if path in (folder, file) and file.is_file() and not (folder / RESULTS_FILE).is_file():
        return Before(path, _of_study(file))  # nothing is made yet
    results = read_results(folder if path == file else path)
    if results.model_digest is None:
        remedy = "there, folders of images were measured; measure them again"
        raise InvalidSetting("the comparison", str(path), "one of a model's images", remedy)
    asked = _of_study(file) if file.is_file() else _of_results(results)
    return Before(path, asked, None, _digests(results.model_digest, results.networks, results.loras))


def _of_results(results: Results) -> dict[str, Any]:
    """What was asked for, as far as the results say."""
    asked = {name: getattr(results, name) for name in (*LOADING, MEASURED, "num_inference_steps", "height", "width")}
    methods = [(method.name, method.guidance) for method in results.methods]
    return _typed(asked) | {
        "prompt": results.prompt, "negative_prompts": tuple(results.negative_prompts), "seeds": parse_seeds(results.seeds or ""),
        "methods": tuple(method.name for method in results.methods), **_scales(methods),
    }  # fmt: skip


def _of_study(file: Path) -> dict[str, Any]:
    """What a study asks for.

    Raises:
        InvalidSetting: the file is damaged.
    """
    try:
        study = Study.from_json(file.read_bytes())
        scales = _scales([(method.name, method.guidance.to_config()) for method in study.methods])
        standard = standard_methods(study.prompt, study.negative_prompts, **(SCALES | scales))
        methods = method_texts(study.methods, standard)
    except SteerclearError as error:
        allowed = f"one with a whole {STUDY_FILE} of this version"
        raise InvalidSetting("the comparison", str(file), allowed, str(error).rstrip(".")) from error
    same = (
        MEASURED,
        "prompt",
        "negative_prompts",
        "seeds",
        "num_inference_steps",
        "height",
        "width",
        "judge",
        *LOOKING,
    )
    asked = {name: getattr(study, name) for name in same} | {name: getattr(study.model, name) for name in LOADING[1:]}
    return asked | {"model": study.model.name, "networks": dict(study.model.networks), "methods": methods, **scales}


def read_results(path: Path) -> Results:
    """Read ``results.json``, given the file or its folder.

    Raises:
        InvalidSetting: it is missing, damaged or of another version.
    """
    file = path / RESULTS_FILE if path.is_dir() else path
    allowed = f"the folder of a comparison, or its {RESULTS_FILE}"
    if not file.is_file():
        raise InvalidSetting("the comparison", str(path), allowed, f"there is no file {file}")
    try:
        return Results.model_validate_json(file.read_bytes())
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(map(str, wrong["loc"]))
        reason = f"{file} is damaged or of another version: {f'{where}: ' if where else ''}{wrong['msg']}"
        raise InvalidSetting("the comparison", str(path), allowed, reason) from error


def check_images(results: Results, folder: Path) -> None:
    """Check the images that ``results.json`` names, by paths relative to its folder.

    Raises:
        InvalidSetting: an image is missing, damaged or, unless folders were measured, outside the folder.
    """
    for image in (image for method in results.methods for image in method.images):
        path = folder / image.file
        outside = Path(image.file).is_absolute() or ".." in Path(image.file).parts
        if outside and not results.folders:  # which are where they were measured
            raise InvalidSetting("an image of results.json", image.file, "a file in its folder")
        try:
            read_pixels(path)
        except Unreadable as error:
            again = "run the same comparison in this folder to make it again"
            remedy = f"{error}; measure the folders again" if results.folders else again
            raise InvalidSetting(
                "an image of results.json", image.file, "an image that exists and is undamaged", remedy
            ) from error


def _typed(asked: dict[str, Any]) -> dict[str, Any]:
    """Networks and LoRAs as people type them."""
    return asked | {"networks": given_networks(asked["networks"]), "loras": lora_texts(asked["loras"])}


def _digests(model: str, networks: Mapping[str, NetworkSource], loras: Any) -> dict[str, Any]:
    found = {name: one.digest for name, one in networks.items()}
    return {"model": model, **found, "loras": tuple(lora.digest for lora in loras)}


def _scales(methods: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, float]:
    """The scales of the question, as the methods (name and guidance) that take them have them."""
    return {
        scale: own[scale]
        for name, guidance in methods
        for own in (guidance, _drawing(name, guidance))
        for scale, takers in TAKE_SCALE.items()
        if scale in own and any(_is_plain(name, taker, scale) for taker in takers)
    }


def _drawing(name: str, guidance: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of what draws the images of a method that draws again; the standard one has no guidance at scale 1."""
    inside = guidance.get("guidance") or {}
    by_name = f"guidance-{Unguided.name}" in name  # somebody asked for none, whatever the scale
    return {"guidance_scale": 1.0} if inside.get("_class_name") == Unguided.__name__ and not by_name else inside


def _is_plain(name: str, taker: str, scale: str) -> bool:
    """Whether a method is this standard one, with other settings than this scale or none."""
    return name == taker or (name.startswith(f"{taker}-") and scale not in name)
