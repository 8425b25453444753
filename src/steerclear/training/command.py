"""What ``steerclear train portraits`` does: checks, trains, packs."""

import hashlib
from pathlib import Path

from ..core.errors import FolderConflict, InvalidSetting, UnknownName, UnsupportedModel, keeping
from ..models import shipped
from ..models.files import check_sums, folder_digest
from ..models.placement import usable
from ..study.folders import holds_run, run_folder
from .loop import Report, computes_in_bfloat16
from .pack import is_unpacked, pack
from .portraits import KEPT_PARTS, LEARNING_PARTS, Workshop
from .presets import PRESETS

PACKAGE = Path(__file__).parent.parent
PROGRAM = ("core/seeds.py", "laboratories/portrait_classifier.py", "testbeds/portraits/*.py", "training/*.py")
"""The files that a training follows from."""


def train_portraits(
    preset: str,
    folder: Path,
    outdir: Path,
    *,
    seed: int,
    device: str,
    resume: bool,
    report: Report,
    start_from: str | None = None,
) -> None:
    """Train everything and write the pipeline.

    Args:
        preset: "cpu", "cpu-further", "cpu-weak" or "gpu".
        folder: checkpoints, drawn portraits, latents.
        outdir: the finished pipeline, in diffusers' layout.
        seed: all randomness follows from it. To learn on, take another than the pipeline was made with, whose draws would
            come again.
        device: "cpu" or "cuda".
        resume: go on in a folder that holds a stopped run.
        report: called after every step of what learns, and after every part of what is prepared.
        start_from: a shipped model's name or the folder of a finished pipeline, to learn on from: its autoencoder,
            tokenizer and classifier are kept, its denoiser and text encoder learn on (with "cpu-weak" they are kept too),
            the weak network is made anew.

    Raises:
        UnknownName: no such preset.
        InvalidSetting: a device that torch cannot use here; or a preset for learning on, and nothing to start from.
        UnsupportedModel: the pipeline to start from lacks parts.
        FolderConflict: the folder holds a run and ``resume`` is not given, or one of other settings or another arithmetic;
            or ``outdir`` is not empty, or the folder lies in it.
        OSError: something cannot be written.
        TrainingDiverged: a loss is not finite.
    """
    _check_preset(preset, learns_on=start_from is not None)
    arithmetic = "bfloat16" if computes_in_bfloat16(usable(device).type) else "float32"
    _check_folders(folder, outdir, resume=resume)
    start = None if start_from is None else _finished_pipeline(start_from)
    claimed = {
        "command": "train portraits", "preset": repr(PRESETS[preset]), "seed": seed, "arithmetic": arithmetic,
        "program": _program(),
    }  # fmt: skip
    if start is not None:
        claimed["start_from"] = folder_digest(start)
    with run_folder(folder, claimed, "--folder"), keeping(lambda: holds_run(folder)):
        pack(Workshop(folder, PRESETS[preset], seed, device, report, start), outdir)


def _check_preset(preset: str, *, learns_on: bool) -> None:
    if preset not in PRESETS:
        raise UnknownName("preset", preset, PRESETS)
    if PRESETS[preset].learns_on and not learns_on:
        from_nothing = " or ".join(name for name, known in PRESETS.items() if not known.learns_on)
        raise InvalidSetting(
            "preset", preset, f"{from_nothing} to begin with nothing",
            "it learns on from a finished pipeline; add --start-from portraits",
        )  # fmt: skip


def _check_folders(folder: Path, outdir: Path, *, resume: bool) -> None:
    """Refuse folders in which something would be lost."""
    if holds_run(folder) and not resume:
        raise FolderConflict(
            f"{str(folder)!r} holds a training run; add --resume to go on with it, or give another --folder."
        )
    if outdir.exists() and (not outdir.is_dir() or not all(map(is_unpacked, outdir.iterdir()))):
        raise FolderConflict(
            f"{str(outdir)!r} is not an empty folder; give another --outdir for the finished pipeline."
        )
    if folder.resolve().is_relative_to(outdir.resolve()):
        raise FolderConflict(
            f"{str(folder)!r} lies in {str(outdir.resolve())!r}, which the finished pipeline fills alone; give another --folder."
        )


def _program() -> str:
    """A digest of the code that decides what is drawn, told and learnt: a run goes on under the same code or not at all."""
    sources = [path for place in PROGRAM for path in sorted(PACKAGE.glob(place))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]


def _finished_pipeline(name: str) -> Path:
    folder = shipped().get(name, Path(name))
    missing = [part for part in KEPT_PARTS + LEARNING_PARTS if not (folder / part).exists()]
    if missing:
        raise UnsupportedModel(
            f"training cannot start from {name!r}, which lacks {', '.join(missing)}; give {' or '.join(shipped())}, or a "
            f"folder that `steerclear train portraits` wrote."
        )
    check_sums(f"the pipeline {name!r}", folder)
    return folder
