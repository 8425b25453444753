"""Digests of weights, written beside them, by which damaged files are noticed."""

import hashlib
from pathlib import Path

from .errors import UnsupportedModel

WEIGHTS = ".safetensors"
SUMS = "SHA256SUMS"
"""The file with the digests of a folder's weights; each shipped model has one."""


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sums(folder: Path) -> None:
    """Write the digests of a folder's weights next to them, in the format of ``sha256sum --check``."""
    lines = [f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in sorted(folder.rglob(f"*{WEIGHTS}"))]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8", newline="\n")


def check_sums(what: str, folder: Path, within: Path | None = None) -> None:
    """Compare a folder's weights with the digests that :func:`write_sums` wrote, if there are any.

    Args:
        what: whose weights they are, for the error.
        folder: the folder that holds the weights and their digests.
        within: the subfolder to check; None for the whole folder.

    Raises:
        UnsupportedModel: a weights file differs from the one that was written.
    """
    if not (folder / SUMS).is_file():
        return
    for line in (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        path = folder / name
        if path.is_relative_to(within or folder) and path.is_file() and sha256(path) != digest:
            raise UnsupportedModel(
                f"{what} is damaged: {name} in {folder} does not match its digest in {SUMS}. Copy or install it again, "
                f"or remove {SUMS} if you changed the weights on purpose."
            )
