"""Images in a folder: each a PNG that carries its own settings and trace, written whole or not at all."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin
from pydantic import BaseModel, ConfigDict, Field, model_validator

from .errors import FolderConflict
from .recipe import Recipe
from .saving import PARTIAL, save_whole
from .values import parse_object

SETTINGS_KEY = "steerclear"
RUN_FILE = "run.json"
UNREADABLE = (OSError, KeyError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises for bad files, and the reading of what they say."""


class Said(BaseModel):
    """The types of what a PNG says of itself, as far as it is read again; see :class:`Picture`."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    digest: str
    seed: int
    trace: dict[str, list[float | None]]
    levels: list[float | None]
    branches: list[list[str]]
    evaluations: float = Field(ge=0)

    @model_validator(mode="after")
    def _a_row_per_step(self) -> "Said":
        if {len(self.branches), *map(len, self.trace.values())} != {len(self.levels)}:
            raise ValueError("the trace, the levels and the branches have different numbers of steps")
        return self


@dataclass(frozen=True)
class Picture:
    """One finished image.

    Attributes:
        seed: its seed.
        path: where it is.
        trace: name -> the guidance's number at every step (None at steps that did not show it).
        levels: sigma / alpha at every step (None at pure noise, where it is infinite, and where it is unknown).
        branches: which branches ran at every step.
        evaluations: network evaluations that it took.
    """

    seed: int
    path: Path
    trace: dict[str, list[float | None]]
    levels: list[float | None]
    branches: list[list[str]]
    evaluations: float

    def open(self) -> Image.Image:
        with Image.open(self.path) as image:
            return image.convert("RGB")


def picture_path(folder: Path, seed: int) -> Path:
    return folder / f"{seed:05d}.png"


def write_picture(image: Image.Image, recipe: Recipe, picture: Picture) -> None:
    """Save an image with all that made it; the file appears complete or not at all."""
    settings = {
        "recipe": recipe.model_dump(mode="json"), "digest": recipe.digest(), "seed": picture.seed,
        "trace": picture.trace, "levels": picture.levels, "branches": picture.branches,
        "evaluations": picture.evaluations,
    }  # fmt: skip
    info = PngImagePlugin.PngInfo()
    info.add_text(SETTINGS_KEY, json.dumps(settings))
    picture.path.parent.mkdir(parents=True, exist_ok=True)
    save_whole(picture.path, lambda to: image.save(to, format="PNG", pnginfo=info))


def read_settings(path: Path) -> dict[str, Any] | None:
    """What a PNG says of itself; None when it is no image of ours, or damaged."""
    try:
        with Image.open(path) as image:
            image.load()
            settings = parse_object(image.info[SETTINGS_KEY])
        Said.model_validate(settings)
    except UNREADABLE:
        return None
    return settings


def find_picture(folder: Path, seed: int, recipe: Recipe) -> Picture | None:
    """The image of this seed if it is there and was made by this recipe."""
    path = picture_path(folder, seed)
    settings = read_settings(path) if path.exists() else None
    if settings is None or settings.get("digest") != recipe.digest() or settings.get("seed") != seed:
        return None
    return Picture(
        seed, path, settings["trace"], settings["levels"], settings["branches"], settings["evaluations"]
    )  # fmt: skip


def claim_folder(folder: Path, settings: dict[str, Any], option: str = "--outdir") -> None:
    """Make the folder this run's own, or find that it is.

    Args:
        folder: created when missing.
        settings: what a run must have in common with what is there; written to ``run.json``.
        option: of the command that chose the folder, for the errors.

    Raises:
        FolderConflict: the folder holds another run (says what differs), or files that are not ours.
    """
    path = folder / RUN_FILE
    if path.exists():
        try:
            before = parse_object(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise FolderConflict(
                f"{path} is damaged ({error}); give another {option}, or remove the folder."
            ) from error
        different = sorted(key for key in before.keys() | settings.keys() if before.get(key) != settings.get(key))
        if different:
            shown = "; ".join(f"{key}: {before.get(key)!r} there, {settings.get(key)!r} now" for key in different[:4])
            raise FolderConflict(
                f"the folder {str(folder)!r} holds another run ({shown}). Give another {option}, or remove the folder."
            )
        return
    if folder.exists() and not folder.is_dir():
        raise FolderConflict(f"{str(folder)!r} is a file, not a folder; give another {option}.")
    cut_off = path.with_name(RUN_FILE + PARTIAL)  # the claim of a run that was killed while it wrote it
    if folder.exists() and any(found != cut_off for found in folder.iterdir()):
        raise FolderConflict(
            f"the folder {str(folder)!r} is not empty and holds no run of steerclear; give another {option}."
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(settings, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    save_whole(path, lambda to: to.write_bytes(content))


def missing_seeds(folder: Path, seeds: Sequence[int], recipe: Recipe) -> tuple[list[Picture], list[int]]:
    """The images that are there, and the seeds of those that are not."""
    found = {seed: find_picture(folder, seed, recipe) for seed in seeds}
    return [picture for picture in found.values() if picture], [seed for seed, picture in found.items() if not picture]
