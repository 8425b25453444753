"""A run's folder: named after the question, locked by one process at a time, claimed with the run's settings."""

import errno
import hashlib
import json
import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..core.errors import FolderConflict, SteerclearWarning
from ..core.saving import UNWRITABLE, clear_partials, is_partial
from ..core.values import parse_object
from .gallery import read_settings, write_text
from .recipe import Recipe

RUN_FILE = "run.json"
LOCK = ".lock"
IMAGES = ("*.png", "images/*/*.png")
"""Patterns of a run's images, relative to its folder."""
NO_LOCKS = ("ENOLCK", "ENOSYS", "ENOTSUP", "EOPNOTSUPP")  # not every system has all of them
UNLOCKABLE = UNWRITABLE | {getattr(errno, name) for name in NO_LOCKS if hasattr(errno, name)}
"""Error codes of a disk where files cannot be locked: read-only, or without locks."""
LONGEST_SLUG = 48
HASH_LENGTH = 8


def default_folder(command: str, texts: Sequence[str], asked: Mapping[str, Any]) -> Path:
    """The default folder of a run: one per question.

    Args:
        command: "compare" or "generate".
        texts: the prompt and the negative prompts, shown in the folder's name.
        asked: all other settings that make it a different run, as plain values.

    >>> default_folder("compare", ["a man", "hat"], {"steps": 30}).as_posix()
    'out/compare/a-man-without-hat-f6741bb2'
    """
    plain = unicodedata.normalize("NFKD", " without ".join(texts)).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain)[:LONGEST_SLUG].strip("-")
    asked_json = json.dumps([command, *texts, asked], sort_keys=True)
    digest = hashlib.sha256(asked_json.encode()).hexdigest()[:HASH_LENGTH]
    return Path("out", command, f"{slug}-{digest}" if slug else digest)


@contextmanager
def run_folder(
    folder: Path, settings: Mapping[str, Any], option: str = "--outdir", recipes: Mapping[str, Recipe] | None = None
) -> Iterator[None]:
    """Lock the folder, claim it for this run and remove partial files of killed processes, for the duration of a block.

    A run without a result gives the folder back. Arguments as for :func:`claim_folder`.

    Raises:
        FolderConflict: another process is using the folder; or see :func:`claim_folder`.
    """
    with working_folder(folder, option):
        claim_folder(folder, settings, option, recipes)
        clear_partials(folder)
        try:
            yield
        finally:
            _give_back(folder)


@contextmanager
def working_folder(folder: Path, option: str = "--outdir") -> Iterator[None]:
    """Lock the folder for the duration of a block.

    Args:
        folder: created if missing, and removed again if it stays empty.
        option: the command-line option that sets the folder, for the errors.

    Raises:
        FolderConflict: another process is using the folder, or it is a file.
    """
    _refuse_file(folder, option)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with only_process(folder, option):
            yield
    finally:
        with suppress(OSError):  # a folder that is not empty stays
            for path in made:
                path.rmdir()


@contextmanager
def only_process(folder: Path, option: str = "--outdir") -> Iterator[None]:
    """Lock an existing folder for the duration of a block; the lock ends with its process.

    On a disk without locks nothing is locked, so that several processes can share a read-only disk.

    Raises:
        FolderConflict: another process holds the lock.
    """
    lock = FileLock(folder / LOCK, timeout=0)
    with ExitStack() as held:
        try:
            lock.acquire()
            held.callback(_release, lock, folder / LOCK)
        except Timeout:
            raise FolderConflict(
                f"another process is using the folder {str(folder)!r}. Wait until it ends, or give another {option}."
            ) from None
        except OSError as error:
            if error.errno not in UNLOCKABLE:
                raise
        yield


def _release(lock: FileLock, path: Path) -> None:
    # removed while locked, so that nobody locks a file that is gone; Windows removes it on release
    with suppress(OSError):
        path.unlink()
    lock.release()


def refuse_early(folder: Path, known: Mapping[str, Any], option: str = "--outdir") -> None:
    """Check, before the model is loaded, that this run can claim the folder. Changes nothing.

    Args:
        folder, option: see :func:`claim_folder`.
        known: those of its settings that are already known.

    Raises:
        FolderConflict: see :func:`run_folder`.
    """
    _refuse_file(folder, option)
    if not folder.exists():
        return
    with only_process(folder, option):
        before = _read_run(folder)
        if before is not None:
            _refuse_other(folder, before, known, known.keys(), option)
        elif not (folder / RUN_FILE).exists() and not any(map(any, map(folder.glob, IMAGES))):
            _refuse_strangers(folder, option)


def holds_run(folder: Path) -> bool:
    """Whether a run's folder holds any result: a file other than its claim, its lock or a partial file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return any(not any(map(_is_sign, (path, *path.relative_to(folder).parents))) for path in files)


def claim_folder(
    folder: Path, settings: Mapping[str, Any], option: str = "--outdir", recipes: Mapping[str, Recipe] | None = None
) -> None:
    """Claim the folder for this run, or confirm that it belongs to it.

    A damaged or missing ``run.json`` is written again if the images in the folder belong to this run.

    Args:
        folder: created if missing.
        settings: written to ``run.json``; must equal those of a run with results that is already there. Settings with a
            dot in their name belong to a method, and must be equal if both runs have the method.
        option: the command-line option that sets the folder, for the errors.
        recipes: folder of images, relative to ``folder`` -> their recipe.

    Raises:
        FolderConflict: the folder holds another run (says what differs), or files that steerclear did not write.

    Warns:
        SteerclearWarning: ``run.json`` is written again.
    """
    _refuse_file(folder, option)
    path = folder / RUN_FILE
    before = _read_run(folder)
    if before is not None:
        _refuse_other(folder, before, settings, before.keys() | settings.keys(), option)
        if holds_run(folder):
            settings = {**before, **settings}  # with the methods that are there
        if before == settings:
            return
    elif path.exists() and not holds_run(folder):
        pass  # damaged, of a run without results
    elif _images_agree(folder, recipes or {}):
        what = "is damaged" if path.exists() else "is missing"
        warnings.warn(
            f"{path} {what}; it is written again, because the images in the folder belong to this run",
            SteerclearWarning, stacklevel=3,
        )  # fmt: skip
    elif path.exists():
        raise FolderConflict(
            f"{path} is damaged, and the images in the folder do not belong to this run. Give another {option}, or remove "
            f"the folder."
        )
    else:
        _refuse_strangers(folder, option)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(settings, indent=2) + "\n")


def _read_run(folder: Path) -> dict[str, Any] | None:
    """The content of ``run.json``; None if it is missing or damaged."""
    try:
        return parse_object((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _refuse_file(folder: Path, option: str) -> None:
    if folder.exists() and not folder.is_dir():
        raise FolderConflict(f"{str(folder)!r} is a file, not a folder; give another {option}.")


def _refuse_other(
    folder: Path, before: Mapping[str, Any], settings: Mapping[str, Any], names: Iterable[str], option: str
) -> None:
    other = [name for name in sorted(names) if before.get(name) != settings.get(name)]
    of_methods = [name for name in other if "." in name and name in before.keys() & settings.keys()]
    different = [name for name in other if "." not in name] or of_methods
    different.sort(key=lambda name: name != "command")  # another command has other settings anyway
    if different and holds_run(folder):
        there, now = (_dotted({name: run.get(name) for name in different}) for run in (before, settings))
        inside = [name for name in {**there, **now} if there.get(name) != now.get(name)]
        shown = "; ".join(f"{name}: {there.get(name)!r} there, {now.get(name)!r} now" for name in inside[:4])
        raise FolderConflict(
            f"the folder {str(folder)!r} holds another run ({shown}). Give another {option}, or remove the folder."
        )


def _dotted(settings: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Nested settings by dotted key.

    >>> _dotted({"steps": 3, "guidance": {"guidance_scale": 5.0}})
    {'steps': 3, 'guidance.guidance_scale': 5.0}
    """
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        inside = isinstance(value, Mapping)
        flat |= _dotted(value, f"{where}{name}.") if inside else {f"{where}{name}": value}
    return flat


def _refuse_strangers(folder: Path, option: str) -> None:
    if folder.exists() and any(not _is_sign(path) for path in folder.iterdir()):
        raise FolderConflict(
            f"the folder {str(folder)!r} is not empty and does not hold a run of steerclear; give another {option}."
        )


def _is_sign(path: Path) -> bool:
    """Whether a run writes this file before it has a result."""
    return path.name in (RUN_FILE, LOCK) or is_partial(path)


def _images_agree(folder: Path, recipes: Mapping[str, Recipe]) -> bool:
    """Whether there are readable images, and all of them were made with their folder's recipe."""
    agree = [
        said["digest"] == recipe.digest()
        for place, recipe in recipes.items()
        for path in sorted((folder / place).glob("*.png"))
        if (said := read_settings(path)) is not None
    ]
    return bool(agree) and all(agree)


def _give_back(folder: Path) -> None:
    """Remove the claim of a run that ends without a result, and the empty folders in it."""
    if not holds_run(folder):
        with suppress(OSError):  # a claim that stays does no harm
            (folder / RUN_FILE).unlink(missing_ok=True)
            for path in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
                path.rmdir()
