"""Anybody's folders of images as the rows of a table: what they are called, and which images belong together."""

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import FolderConflict, InvalidSetting, SteerclearWarning, in_words_of
from .again import read_results
from .folders import RUN_FILE
from .methods import FOLDER_NAME
from .reading import candidates
from .results import RESULTS_FILE

METHODS_FOLDER = "images"
"""In the folder of a comparison: a folder of images for each of its methods."""
UNGUIDED = "unguided"
NAMED = 4
"""Most folders that an error names."""


@dataclass(frozen=True)
class ImageFolder:
    """A folder of images.

    Attributes:
        name: unique key.
        label: for people: as much of its path as tells it from the others.
        path: where it is.
        files: its images, or what is called so, in the order of their names.
    """

    name: str
    label: str
    path: Path
    files: tuple[Path, ...]


def image_folders(given: Sequence[Path]) -> list[ImageFolder]:
    """The folders that are measured. The folder of a comparison stands for those of all its methods.

    Raises:
        InvalidSetting: there is none, one does not exist or cannot be read, or there is no image in it.

    Warns:
        SteerclearWarning: one is given twice.
    """
    if not given:
        raise InvalidSetting("the folders", "none", "at least one folder of images")
    paths = [path for one in given for path in _expanded(one)]
    once = list({path.resolve(): path for path in reversed(paths)}.values())[::-1]
    twice = [str(path) for path in once if Counter(one.resolve() for one in paths)[path.resolve()] > 1]
    if twice:
        warnings.warn(f"{', '.join(twice)} is given more than once and measured once", SteerclearWarning, stacklevel=3)
    labels = _labels(once)
    names = _names(labels)
    return [ImageFolder(name, label, path, _files(path)) for name, label, path in zip(names, labels, once, strict=True)]


def reference_folder(given: Path) -> ImageFolder:
    """The folder of true images; of a comparison that of its unguided images.

    Raises:
        InvalidSetting: see :func:`image_folders`; or a comparison has no unguided images.
    """
    path = given
    if _is_comparison(given):
        path = given / METHODS_FOLDER / UNGUIDED
        if not path.is_dir():
            allowed = "a folder of images, or of a comparison with the method unguided"
            raise InvalidSetting(in_words_of("reference", "--reference"), str(given), allowed)
    _refuse_no_folder(path, in_words_of("reference", "--reference"))
    return ImageFolder("reference", str(given), path, _files(path))


def named_by_seed(path: Path) -> bool:
    """Whether the numbers of a folder's files are seeds: steerclear made them. Numbers of anybody else's are names."""
    return (path / RUN_FILE).is_file() or (path.parent.name == METHODS_FOLDER and _is_comparison(path.parent.parent))


def refuse_inside(outdir: Path, inputs: Sequence[Path]) -> None:
    """Raise :class:`FolderConflict` if results would be written into a folder that is measured."""
    place = outdir.resolve()
    for path in (one.resolve() for one in inputs):
        if place == path or path in place.parents:
            raise FolderConflict(
                f"the results would be written into {str(outdir)!r}, inside the measured folder {str(path)!r}; give another "
                f"{in_words_of('folder', '--outdir')}."
            )


def pair_names(folders: Sequence[Sequence[Path]]) -> list[list[str]]:
    """What each file is called among those it belongs with: its stem, where no other file of its folder has it.

    Whole numbers are written without zeros in front, so that 7.png and 00007.jpg belong together.

    >>> pair_names([[Path("a/0.png"), Path("a/1.png")], [Path("b/00.jpg"), Path("b/1.gif"), Path("b/1.png")]])
    [['0', '1'], ['0', '1.gif', '1.png']]
    """
    found = []
    for paths in folders:
        stems = [_stem(path) for path in paths]
        often = Counter(stems)
        found.append([stem if often[stem] == 1 else path.name for stem, path in zip(stems, paths, strict=True)])
    return found


def _stem(path: Path) -> str:
    return str(int(path.stem)) if re.fullmatch(r"[0-9]{1,18}", path.stem) else path.stem


def _expanded(given: Path) -> list[Path]:
    _refuse_no_folder(given, "the folder")
    if not _is_comparison(given):
        return [given]
    found = [path for path in sorted((given / METHODS_FOLDER).iterdir()) if path.is_dir()]
    order = _order(given)
    return sorted(found, key=lambda path: order.get(path.name, len(order)))


def _is_comparison(given: Path) -> bool:
    """Whether a folder is that of a comparison, whose images are in folders of their own."""
    return (given / RESULTS_FILE).is_file() and (given / METHODS_FOLDER).is_dir()


def _order(given: Path) -> dict[str, int]:
    """Method -> its row, as the results have it; empty if they are damaged."""
    try:
        return {method.name: row for row, method in enumerate(read_results(given).methods)}
    except InvalidSetting:
        return {}


def _refuse_no_folder(path: Path, what: str) -> None:
    if not path.exists():
        raise InvalidSetting(what, str(path), "a folder of images", "there is no such folder")
    if not path.is_dir():
        raise InvalidSetting(what, str(path), "a folder of images", "it is a file")


def _files(path: Path) -> tuple[Path, ...]:
    try:
        files = tuple(candidates(path))
    except OSError as error:
        raise InvalidSetting("the folder", str(path), "one that can be read", error.strerror or str(error)) from error
    if files:
        return files
    inside = sorted(one.name for one in path.iterdir() if one.is_dir() and not one.name.startswith("."))
    more = f" and {len(inside) - NAMED} more" * (len(inside) > NAMED)
    remedy = f"folders inside are not entered; give them: {', '.join(inside[:NAMED])}{more}" if inside else ""
    raise InvalidSetting("the folder", str(path), "one with images", remedy or "there is no image in it")


def _labels(paths: Sequence[Path]) -> list[str]:
    """The last parts of each path, as many as tell it from the others.

    >>> _labels([Path("/x/run/a"), Path("/y/run/a"), Path("/x/b")])
    ['x/run/a', 'y/run/a', 'b']
    """
    parts = [path.resolve().parts for path in paths]

    def told(mine: tuple[str, ...]) -> str:
        others = [other for other in parts if other != mine]
        for length in range(1, len(mine)):
            if all(other[-length:] != mine[-length:] for other in others):
                return "/".join(mine[-length:])
        return "/".join(mine)

    return [told(mine) for mine in parts]


def _names(labels: Sequence[str]) -> list[str]:
    """Unique keys of letters and digits."""
    plain = [re.sub(r"[^\w.+-]+", "-", label, flags=re.ASCII).strip("-.")[:60] for label in labels]
    often = Counter(name.casefold() for name in plain)
    return [
        name if FOLDER_NAME.fullmatch(name) and often[name.casefold()] == 1 else f"folder-{place}"
        for place, name in enumerate(plain, 1)
    ]
