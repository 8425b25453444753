"""What ``steerclear train portraits`` does: checks, trains, packs."""

from pathlib import Path

from ..errors import FolderConflict, UnknownName
from ..gallery import claim_folder
from .loop import Report
from .pack import pack
from .portraits import Workshop
from .presets import PRESETS


def train_portraits(
    preset: str, folder: Path, outdir: Path, *, seed: int, device: str, resume: bool, report: Report
) -> None:
    """Train everything and write the pipeline.

    Args:
        preset: "cpu" or "gpu".
        folder: checkpoints, drawn portraits, latents.
        outdir: the finished pipeline, in diffusers' layout.
        seed: all randomness follows from it.
        device: "cpu" or "cuda".
        resume: go on in a folder that holds a stopped run.
        report: called after every step.

    Raises:
        UnknownName: no such preset.
        FolderConflict: the folder holds a run and ``resume`` is not given, or one of other settings; or ``outdir`` is not
            empty.
        TrainingDiverged: a loss is not finite.
    """
    if preset not in PRESETS:
        raise UnknownName("preset", preset, PRESETS)
    if (folder / "run.json").exists() and not resume:
        raise FolderConflict(
            f"{str(folder)!r} holds a training run; add --resume to go on with it, or give another --folder."
        )
    if outdir.exists() and (not outdir.is_dir() or any(outdir.iterdir())):
        raise FolderConflict(
            f"{str(outdir)!r} is not an empty folder; give another --outdir for the finished pipeline."
        )
    claim_folder(folder, {"command": "train portraits", "preset": repr(PRESETS[preset]), "seed": seed})
    pack(Workshop(folder, PRESETS[preset], seed, device, report), outdir)
