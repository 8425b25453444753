"""Draws the two schematics of the docs: python tests/schematics.py docs/images [COUNT].

COUNT images of each panel of the sampling space (default 300); batches are kept in out/schematics, so it can be stopped and run again.
"""

import sys
from pathlib import Path

from steerclear.study.sampling_space import sampling_space
from steerclear.study.two_places import two_places
from steerclear.telling.figures.base import save
from steerclear.telling.figures.schematic_sampler import draw_sampler
from steerclear.telling.figures.schematic_space import draw_space

KEPT = Path("out/schematics")


def main(folder: Path, count: int) -> None:
    save(draw_sampler(two_places()), folder / "schematic-sampler.png")
    space = sampling_space(KEPT, count=count, on_progress=lambda *done: print(*done, flush=True))
    save(draw_space(space), folder / "schematic-space.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 300)
