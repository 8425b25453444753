"""What was asked before, read back from what a run left: an image, ``results.json``, or the folder of a comparison."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import ValidationError

from ..core.errors import InvalidSetting, SteerclearError, SteerclearWarning, shown
from ..core.guidance import Guidance
from ..models.files import WEAK_FOLDER
from ..models.loading import Model
from .commands import lora_texts
from .gallery import UNREADABLE, read_settings
from .methods import TAKE_SCALE
from .recipe import Recipe, parse_seeds
from .results import Results

RESULTS_FILE = "results.json"
LOADING = ("model", "config", "weak", "loras", "scheduler", "dtype")
"""What a model is loaded with, by the names of :class:`~steerclear.study.recipe.Recipe`."""


@dataclass(frozen=True)
class Before:
    """What was asked.

    Attributes:
        path: where that is said.
        asked: option -> value, by the names of :class:`~steerclear.study.compare.Question`, and of :data:`LOADING`.
        guidance: of an image; None for a comparison.
        digests: what the files of the model, the weak network and the LoRAs were.
    """

    path: Path
    asked: Mapping[str, Any]
    guidance: Guidance | None = None
    digests: Mapping[str, Any] = field(default_factory=dict)

    def with_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What is asked now: options that are given (not None) in place of those before."""
        return {**self.asked, **{name: value for name, value in options.items() if value is not None}}

    def warn_of_other_files(self, model: Model, options: Mapping[str, Any]) -> None:
        """Warn of files that are not what they were, as far as nobody asks for other ones.

        Args:
            model: as it was loaded now.
            options: see :meth:`with_options`.

        Warns:
            SteerclearWarning: the images will differ from those before.
        """
        weak = model.weak_digest if self.digests.get("weak") else None
        now = {"model": model.digest, "weak": weak, "loras": tuple(lora.digest for lora in model.loras)}
        for name, digest in self.digests.items():
            if options.get(name) is None and now[name] != digest:
                what = {"model": "model", "weak": "weak network", "loras": "LoRAs"}[name]
                warnings.warn(
                    f"the {what} of {self.path} had other files than now ({shown(digest)} there, {shown(now[name])} now), so "
                    f"the images will differ from those before",
                    SteerclearWarning,
                    stacklevel=2,
                )


def loading_of(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of :func:`~steerclear.models.loading.load_model` among what is asked."""
    return {"name" if name == "model" else name: asked[name] for name in LOADING}


def read_image(path: Path) -> Before:
    """What an image was made with.

    Raises:
        InvalidSetting: no image that steerclear made, or one that was changed since.
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
    asked = {name: getattr(recipe, name) for name in (*LOADING, "prompt", "negative_prompts", "num_inference_steps", "height", "width")}  # fmt: skip
    digests = {"model": recipe.model_digest, "weak": recipe.weak_digest, "loras": _digests(recipe.loras)}
    return Before(path, _typed(asked) | {"seeds": (said["seed"],)}, guidance, digests)


def read_run(path: Path) -> Before:
    """What a comparison was asked: from ``results.json``, the folder that holds it, or one of its images.

    Raises:
        InvalidSetting: there is nothing like that, or it is damaged.
    """
    if path.suffix.lower() == ".png":
        return read_image(path)
    results = read_results(path)
    asked = {name: getattr(results, name) for name in (*LOADING, "num_inference_steps", "height", "width")}
    asked |= {
        "prompt": results.prompt, "negative_prompts": tuple(results.negative_prompts), "seeds": parse_seeds(results.seeds),
        "methods": tuple(method.name for method in results.methods), **_scales(results),
    }  # fmt: skip
    digests = {"model": results.model_digest, "weak": results.weak_digest, "loras": _digests(results.loras)}
    return Before(path, _typed(asked), None, digests)


def read_results(path: Path) -> Results:
    """``results.json``, or that of a folder.

    Raises:
        InvalidSetting: there is none, or it is damaged or of another version.
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
    """Refuse results whose images are elsewhere or cannot be read.

    Args:
        results: of ``results.json``.
        folder: where that lies; the images' paths are relative to it and stay inside.

    Raises:
        InvalidSetting: an image that is missing, damaged or outside of the folder.
    """
    for image in (image for method in results.methods for image in method.images):
        path = folder / image.file
        if Path(image.file).is_absolute() or ".." in Path(image.file).parts:
            raise InvalidSetting("an image of results.json", image.file, "a file in its folder")
        try:
            with Image.open(path) as opened:
                opened.load()
        except UNREADABLE as error:
            remedy = "run the same comparison in this folder to make it again"
            raise InvalidSetting("an image of results.json", image.file, "there and a whole image", remedy) from error


def _typed(asked: dict[str, Any]) -> dict[str, Any]:
    """As people type it: the model's own weak network goes without saying, LoRAs are texts."""
    weak = None if asked["weak"] == WEAK_FOLDER else asked["weak"]
    return asked | {"weak": weak, "loras": lora_texts(asked["loras"])}


def _digests(loras: Any) -> tuple[str, ...]:
    return tuple(lora.digest for lora in loras)


def _scales(results: Results) -> dict[str, float]:
    """The scales of the question, from the methods that have them."""
    return {
        scale: method.guidance[scale]
        for method in results.methods
        for scale, takers in TAKE_SCALE.items()
        if method.name in takers and scale in method.guidance
    }
