"""``steerclear train``: check the arguments, train, pack."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.devices import usable
from ..core.errors import FolderConflict, InvalidSetting, UnknownName, UnsupportedModel, keeping
from ..core.sums import check_sums, sha256
from ..models import shipped
from ..models.files import folder_digest
from ..study.folders import holds_run, run_folder
from ..testbeds.labelled_images import SPLITS, files_of, world_named
from . import clip, digits, second_classifier
from .loop import Report, computes_in_bfloat16
from .pack import is_unpacked, pack
from .portraits import KEPT_PARTS, LEARNING_PARTS, Workshop
from .presets import PRESETS
from .second_classifier import SecondWorkshop

PACKAGE = Path(__file__).parent.parent
SHIPPED_MODEL = "portraits"
PROGRAM = (
    "core/seeds.py", "features/portrait_classifier.py", "networks/shared/averages.py", "testbeds/portraits/*.py", "training/*.py",
)  # fmt: skip
SECOND_PROGRAM = (*PROGRAM, "laboratories/second_classifier.py")
CLIP_PROGRAM = (*PROGRAM, "laboratories/shared/*.py")
DIGITS_PROGRAM = (
    "features/label_classifier.py",
    "networks/shared/averages.py",
    "testbeds/labelled_images.py",
    "testbeds/spoiled_images.py",
    "training/*.py",
)
"""The source files that determine the result of a training: of the pipeline, of the second classifier, of the CLIP, of labelled
images."""


def train_portraits(
    preset: str, folder: Path, outdir: Path, *, seed: int, device: str, resume: bool, report: Report,
    start_from: str | None = None,
) -> None:  # fmt: skip
    """Train all networks and write the pipeline.

    Args:
        preset: "cpu", "cpu-further", "cpu-weak", "cpu-quarter" or "gpu".
        folder: folder for checkpoints, drawn portraits and latents.
        outdir: folder for the finished pipeline, in diffusers' layout.
        seed: determines all randomness. To continue training a pipeline, give a seed other than the one it was trained
            with, which would repeat the same draws.
        device: "cpu" or "cuda".
        resume: continue a stopped run in the folder.
        report: called after every training step, and after every part of a preparation.
        start_from: name of a shipped model or folder of a finished pipeline to continue training from. Its autoencoder,
            tokenizer and classifier are kept, its denoiser and text encoder are trained further (with "cpu-weak" they are
            kept too; with "cpu-quarter" the text encoder is kept and the denoiser is trained from scratch), and the weak
            network is trained from scratch.

    Raises:
        UnknownName: there is no such preset.
        InvalidSetting: torch cannot use the device; or the preset needs ``start_from``, and it is not given.
        UnsupportedModel: the pipeline to start from lacks parts.
        FolderConflict: the folder holds a run and ``resume`` is not given, or the run has other settings or another
            arithmetic; or ``outdir`` is not empty, or the folder is inside it.
        OSError: a file cannot be written.
        TrainingDiverged: a loss is not finite.
    """
    _check_preset(preset, learns_on=start_from is not None)
    arithmetic = "bfloat16" if computes_in_bfloat16(usable(device).type) else "float32"
    _check_folders(folder, outdir, "pipeline", resume=resume)
    start = None if start_from is None else _finished_pipeline(start_from)
    claimed = {
        "command": "train portraits", "preset": repr(PRESETS[preset]), "seed": seed, "arithmetic": arithmetic,
        "program": _program(PROGRAM),
    }  # fmt: skip
    if start is not None:
        claimed["start_from"] = folder_digest(start)
    with run_folder(folder, claimed, "--folder"), keeping(lambda: holds_run(folder)):
        pack(Workshop(folder, PRESETS[preset], seed, device, report, start), outdir)


@dataclass(frozen=True)
class Beside:
    """What is trained on portraits beside the shipped model, and sees them as drawn and through its autoencoder.

    Attributes:
        result: what is written, in a word.
        program: the source files that determine it.
        model: the part of the shipped model that determines it; "" for the whole.
        workshop: makes its files, from (folder, the shipped model, seed, device, report, course).
        course: portraits and schedule.
    """

    result: str
    program: tuple[str, ...]
    model: str
    workshop: Callable[..., Any]
    course: Any


BESIDE = {
    "second-classifier": Beside("classifier", SECOND_PROGRAM, "vae", SecondWorkshop, second_classifier.COURSE),
    "clip": Beside("CLIP", CLIP_PROGRAM, "", clip.ClipWorkshop, clip.COURSE),
}
"""By the names of their commands: the second classifier of portraits, and their CLIP, which begins with the shipped model's text
encoder."""


def train_beside(
    name: str, folder: Path, outdir: Path, *, seed: int, device: str, resume: bool, report: Report, course: Any = None
) -> None:
    """Train one of :data:`BESIDE`, and write its folder with its digest.

    Args:
        name: "second-classifier" or "clip".
        folder: folder for checkpoints and portraits.
        outdir: folder for the result.
        seed: determines all randomness but that of the portraits and texts, which are always the same.
        device: "cpu" or "cuda".
        resume: continue a stopped run in the folder.
        report: called after every training step, and after every part of a preparation.
        course: portraits and schedule; None for its own.

    Raises:
        InvalidSetting, UnsupportedModel, FolderConflict, OSError, TrainingDiverged: see :func:`train_portraits`.
    """
    asked = BESIDE[name]
    course = asked.course if course is None else course
    arithmetic = "bfloat16" if computes_in_bfloat16(usable(device).type) else "float32"
    _check_folders(folder, outdir, asked.result, resume=resume)
    model = _finished_pipeline(SHIPPED_MODEL)
    claimed = {
        "command": f"train {name}", "course": repr(course), "seed": seed, "arithmetic": arithmetic,
        "program": _program(asked.program), "model": folder_digest(model / asked.model),
    }  # fmt: skip
    with run_folder(folder, claimed, "--folder"), keeping(lambda: holds_run(folder)):
        asked.workshop(folder, model, seed, device, report, course).pack(outdir)


def train_digits(
    world: str, data: Path | None, preset: str, folder: Path, outdir: Path, *, seed: int, device: str, resume: bool,
    report: Report,
) -> None:  # fmt: skip
    """Train the denoiser and the classifier of labelled images, and write the pipeline.

    Args:
        world: "digits", "cifar10" or "spoiled-digits".
        data: folder of its parquet files; None loads them from the Hugging Face hub.
        preset: "cpu", "brief", "gpu", or "narrow" for a sister of the first to be its weak network.
        folder: for checkpoints.
        outdir: for the finished pipeline, in diffusers' layout.
        seed: determines all randomness.
        device: "cpu" or "cuda".
        resume: continue a stopped run in the folder.
        report: called after every training step.

    Raises:
        UnknownName: there is no such world or preset.
        MissingPackage: pyarrow, which reads parquet files, is not installed.
        InvalidSetting, FolderConflict, OSError, TrainingDiverged: see :func:`train_portraits`; InvalidSetting also for a folder
            without the data.
    """
    if preset not in digits.COURSES:
        raise UnknownName("preset", preset, digits.COURSES)
    asked, course = world_named(world), digits.COURSES[preset]
    arithmetic = "bfloat16" if computes_in_bfloat16(usable(device).type) else "float32"
    _check_folders(folder, outdir, "pipeline", resume=resume)
    files = [path for split in SPLITS for path in files_of(asked, split, data)]
    claimed = {
        "command": "train digits", "world": world, "data": [sha256(path) for path in files], "course": repr(course),
        "seed": seed, "arithmetic": arithmetic, "program": _program(DIGITS_PROGRAM),
    }  # fmt: skip
    with run_folder(folder, claimed, "--folder"), keeping(lambda: holds_run(folder)):
        digits.pack(digits.LabelledWorkshop(asked, data, folder, seed, device, report, course), outdir)


def _check_preset(preset: str, *, learns_on: bool) -> None:
    if preset not in PRESETS:
        raise UnknownName("preset", preset, PRESETS)
    if PRESETS[preset].learns_on and not learns_on:
        from_scratch = " or ".join(name for name, known in PRESETS.items() if not known.learns_on)
        raise InvalidSetting(
            "preset", preset, f"{from_scratch} to train from scratch",
            "it continues from a finished pipeline; add --start-from portraits",
        )  # fmt: skip


def _check_folders(folder: Path, outdir: Path, result: str, *, resume: bool) -> None:
    """Refuse folders whose files would be lost; ``result`` is what is written to ``outdir``."""
    if holds_run(folder) and not resume:
        raise FolderConflict(
            f"{str(folder)!r} holds a training run; add --resume to continue it, or give another --folder."
        )
    if outdir.exists() and (not outdir.is_dir() or not all(map(is_unpacked, outdir.iterdir()))):
        raise FolderConflict(
            f"{str(outdir)!r} is not an empty folder; give another --outdir for the finished {result}."
        )
    if folder.resolve().is_relative_to(outdir.resolve()):
        raise FolderConflict(
            f"{str(folder)!r} is inside {str(outdir.resolve())!r}, which must hold only the finished {result}; give another --folder."
        )


def _program(places: tuple[str, ...]) -> str:
    """A digest of the code that determines the training: a run can only be resumed with the same code."""
    sources = [path for place in places for path in sorted(PACKAGE.glob(place))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]


def _finished_pipeline(name: str) -> Path:
    folder = shipped().get(name, Path(name))
    missing = [part for part in KEPT_PARTS + LEARNING_PARTS if not (folder / part).exists()]
    if missing:
        raise UnsupportedModel(
            f"training cannot start from {name!r}, which lacks {', '.join(missing)}; give {SHIPPED_MODEL}, or a "
            f"folder that `steerclear train portraits` wrote."
        )
    check_sums(f"the pipeline {name!r}", folder)
    return folder
