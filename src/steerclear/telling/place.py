"""The folder of a run in Python: given, or temporary and removed with the result."""

import shutil
import tempfile
import weakref
from pathlib import Path

from ..core.errors import FolderConflict
from ..core.settings import folder_path, read_object
from ..study.folders import LOCK, RUN_FILE, run_folder


class Place:
    """A run's folder.

    Args:
        folder: its path; None for a temporary one, removed with this object.
    """

    def __init__(self, folder: Path | str | None) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="steerclear-")) if folder is None else folder_path("folder", folder)
        if folder is None:
            weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def copied(self, folder: Path | str) -> Path:
        """Copy the run into another folder, which may hold part of the same run; returns that folder.

        Raises:
            FolderConflict: the folder holds something else, or is inside that of the run.
        """
        target = folder_path("folder", folder)
        if self.path.resolve() in target.resolve().parents:
            raise FolderConflict(
                f"{str(target)!r} is inside the folder that would be copied into it; give another folder."
            )
        if target.resolve() != self.path.resolve():
            settings = read_object(self.path / RUN_FILE, "the settings of a run")
            with run_folder(target, settings, "folder"):
                shutil.copytree(self.path, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(LOCK))
        return target
