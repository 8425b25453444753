"""The samples of a cell in files of their own, part by part, and what was measured of them."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..core.saving import save_whole
from .weak_world import Cell, Samples, Weak, WeaknessWorld

PART = 250
"""Samples of a file."""
APART = 1_000_000
"""Seeds from one set to the next."""
DIGEST = 16


@dataclass
class Shelf:
    """What the folder has of a world's cells.

    Args:
        world: draws and measures.
        folder: of the cells.
        mains, weak: how the networks are made, by name.
        count: samples of a cell in each set.
    """

    world: WeaknessWorld
    folder: Path
    mains: dict[str, str]
    weak: dict[str, Weak]
    count: int
    _figures: dict[tuple[Cell, int], dict[str, float]] = field(default_factory=dict)
    _made: dict[tuple[str, str | None], str] = field(default_factory=dict)

    def made_with(self, cell: Cell) -> str:
        """A digest of all that determines its samples, beside their seeds."""
        weak, key = self._weak(cell), (cell.main, cell.weak)
        if key not in self._made:
            self._made[key] = self.world.made_with(self.mains[cell.main], weak)
        said = json.dumps([self._made[key], cell.condition, cell.guidance().to_config()])
        return hashlib.sha256(said.encode()).hexdigest()[:DIGEST]

    def _weak(self, cell: Cell) -> Weak | None:
        return None if cell.weak is None else self.weak[cell.weak]

    def missing(self, cell: Cell, number: int) -> int:
        """How many samples of a set are not there."""
        return sum(len(seeds) for seeds in self._parts(number) if self._load(cell, seeds) is None)

    def draw(self, cell: Cell, number: int, on_samples: Callable[[int], None]) -> None:
        """Draw what is missing of a set; each part is written when it is done."""
        for seeds in self._parts(number):
            if self._load(cell, seeds) is not None:
                continue
            drawn = self.world.draw(cell, self.mains[cell.main], self._weak(cell), seeds, on_samples)
            tensors = {name: value.contiguous() for name, value in drawn.items()}
            path, about = self._path(cell, seeds), {"made_with": self.made_with(cell)}
            path.parent.mkdir(parents=True, exist_ok=True)
            save_whole(path, lambda to, tensors=tensors, about=about: save_file(tensors, to, about))  # type: ignore[misc]

    def samples(self, cell: Cell, number: int) -> Samples | None:
        """Those of a set; None if some are not there."""
        parts = [self._load(cell, seeds) for seeds in self._parts(number)]
        found = [part for part in parts if part is not None]
        if len(found) < len(parts):
            return None
        return {name: torch.cat([part[name] for part in found]) for name in found[0]}

    def figures(self, cell: Cell, number: int) -> dict[str, float] | None:
        """What is measured of a set, and its mean evaluations per sample; None if samples are not there."""
        key = cell, number
        if key not in self._figures:
            path, about = self.folder / cell.folder / f"set-{number}-of-{self.count}.json", self.made_with(cell)
            found = _read(path, about)
            if found is None:
                samples = self.samples(cell, number)
                if samples is None:
                    return None
                found = self.world.measure(cell.condition, samples)
                found["evaluations"] = float(samples["evaluations"].double().mean())
                text = json.dumps({"made_with": about, "figures": found})
                save_whole(path, lambda to: to.write_text(text, encoding="utf-8"))
            self._figures[key] = found
        return self._figures[key]

    def _parts(self, number: int) -> list[range]:
        first = APART * number
        return [range(first + at, first + min(at + PART, self.count)) for at in range(0, self.count, PART)]

    def _path(self, cell: Cell, seeds: range) -> Path:
        return self.folder / cell.folder / f"{seeds[0]:08d}.safetensors"

    def _load(self, cell: Cell, seeds: range) -> Samples | None:
        """The first samples of a part; None if it is missing, damaged, too short, or was made with something else."""
        try:
            with safe_open(self._path(cell, seeds), "pt") as file:
                if (file.metadata() or {}).get("made_with") != self.made_with(cell):
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is not a dict
        except (OSError, SafetensorError):
            return None
        if len(tensors["evaluations"]) < len(seeds):
            return None
        return {name: value[: len(seeds)] for name, value in tensors.items()}


def _read(path: Path, made_with: str) -> dict[str, float] | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return dict(kept["figures"]) if kept["made_with"] == made_with else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
