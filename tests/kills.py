"""A run that ends in the middle: what stops it, and where.

As a program, ``python kills.py KIND COUNT ARGUMENTS...`` runs the command line with these arguments and stops itself with
SIGKILL at the given event.
"""

import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

KINDS = ("forward", "half", "rename")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def at(kind: str, count: int, act: Callable[[], object] = die) -> Iterator[None]:
    """Call ``act`` at one event of the block.

    Args:
        kind: "forward", before a forward of the denoiser; "half", when half of a PNG is written; "rename", when a PNG is
            written and not yet in its place.
        count: which of these events, from 1.
        act: what stops the run.
    """
    import pytest
    from diffusers import UNet2DConditionModel
    from PIL import Image

    seen = 0

    def due() -> bool:
        nonlocal seen
        seen += 1
        return seen == count

    forward, save, rename = UNet2DConditionModel.forward, Image.Image.save, Path.replace

    @functools.wraps(forward)  # steering reads its signature
    def counted_forward(*arguments: Any, **named: Any) -> Any:
        if due():
            act()
        return forward(*arguments, **named)

    def half_save(image: Image.Image, to: Any, *arguments: Any, **named: Any) -> None:
        save(image, to, *arguments, **named)
        if isinstance(to, Path) and due():
            with to.open("r+b") as file:
                file.truncate(to.stat().st_size // 2)
            act()

    def counted_rename(path: Path, to: Any) -> Path:
        if str(to).endswith(".png") and due():
            act()
        return rename(path, to)

    with pytest.MonkeyPatch.context() as patch:
        if kind == "forward":
            patch.setattr(UNet2DConditionModel, "forward", counted_forward)
        elif kind == "half":
            patch.setattr(Image.Image, "save", half_save)
        else:
            patch.setattr(Path, "replace", counted_rename)
        yield


if __name__ == "__main__":
    from steerclear.cli.app import main

    with at(sys.argv[1], int(sys.argv[2])):
        sys.exit(main(sys.argv[3:]))
