"""One cell of the fractal world's benchmark: points of one guidance, and what the truth says of them, kept in a file."""

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from .. import __version__
from ..core.denoiser import Denoiser
from ..core.guidance import Guidance
from ..core.sampling import sample
from ..core.shapes import Float
from ..guidance.auto import AutoGuidance
from ..guidance.classifier_free import ClassifierFreeGuidance
from ..guidance.interval import IntervalGuidance
from ..guidance.unguided import Unguided
from ..metrics.estimates import distances
from ..networks.shared.averages import average_of, snapshots_in
from ..study.gallery import write_text
from ..testbeds.fractal import NO_CLASS, Fractal, tally
from ..testbeds.mixture import MixtureDenoiser, MixtureWorld
from ..training.points import COURSES, PointNetwork, PointsDenoiser

WORLD = Fractal()
SNAPSHOTS: dict[str, tuple[float, float]] = {"half": (0.5, 0.25), "quarter": (0.25, 0.2)}
"""Weak networks that are averages of the good one's own training: share of its steps, relative standard deviation."""
WEAK = (*SNAPSHOTS, *(name for name in COURSES if name != "main"))
LOWEST, HIGHEST, EXPONENT = 0.002, 5.0, 7
"""The noise levels sigma / alpha of the sampler, and the exponent of their spacing: those of Karras et al. (2024)."""
STEPS = 32
AT_ONCE = 2048
GROUPS, COMPARED = 12, 3000
"""Groups of points that the jackknife leaves out, and points of each class that the energy distance compares."""
TRUTH_SEED = 1_600_000_000

Method = Literal["exact draws", "unguided", "auto", "cfg"]


@dataclass(frozen=True)
class Cell:
    """What is sampled; the recipe of its figures.

    Attributes:
        method: "exact draws" are perfect samples, the floor.
        weak: the weak network of autoguidance, of :data:`WEAK`.
        scale: of the guidance.
        stop: sigma / alpha from which on it is off.
        whole: whether no class is asked for; otherwise half of the points are of each class.
        exact: whether the exact denoiser takes the place of the networks.
        first, images: the seeds.
    """

    method: Method
    weak: str = ""
    scale: float = 1.0
    stop: float = math.inf
    whole: bool = False
    exact: bool = False
    first: int = 10_000
    images: int = 20_000

    def digest(self) -> str:
        """What makes two cells the same, in 16 letters."""
        recipe = asdict(self) | {
            "version": __version__,
            "network": COURSES["main"].digest,
            "weak of": self._weak_recipe(),
        }
        return sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]

    def _weak_recipe(self) -> object:
        return COURSES[self.weak].digest if self.weak in COURSES else SNAPSHOTS.get(self.weak)

    @property
    def labels(self) -> tuple[int, ...]:
        return (NO_CLASS,) if self.whole else (0, 1)

    @property
    def seeds(self) -> list[range]:
        """Of each label."""
        each = self.images // len(self.labels)
        return [
            range(self.first + each * number, self.first + each * (number + 1)) for number in range(len(self.labels))
        ]


class Found(BaseModel):
    """The figures of a cell.

    Attributes:
        tallies: of each label, points outside of the contour, and those inside it at each branch.
        energy: squared energy distance to as many exact draws, the mean of the labels'.
        left_out: the same without each group of points.
        calls: network evaluations per point.
    """

    model_config = ConfigDict(frozen=True)

    tallies: list[list[int]]
    energy: float
    left_out: list[float]
    calls: float


def found(cell: Cell, folder: Path) -> Found:
    """A cell's figures, from ``cells/<digest>.json`` in the folder or measured and written there."""
    path = folder / "cells" / f"{cell.digest()}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):  # missing or damaged
        return Found.model_validate(json.loads(path.read_text(encoding="utf-8"))["found"])
    measured = measure(cell, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"cell": asdict(cell), "found": measured.model_dump()}, indent=1) + "\n")
    return measured


def measure(cell: Cell, folder: Path) -> Found:
    """Sample a cell and measure it."""
    tallies, energies, calls = [], [], 0.0
    for label, seeds in zip(cell.labels, cell.seeds, strict=True):
        made, used = samples(cell, label, seeds, folder)
        generator = torch.Generator().manual_seed(TRUTH_SEED + label)
        compared = min(COMPARED, len(made)) // GROUPS * GROUPS
        energies.append(energy_left_out(made[:compared], WORLD.of(label).drawn(compared, generator)))
        tallies.append(tally(made, WORLD, label).tolist())
        calls += used / cell.images
    energy, *left_out = torch.stack(energies).mean(0).tolist()
    return Found(tallies=tallies, energy=energy, left_out=left_out, calls=calls)


def energy_left_out(first: Float[Tensor, "n 2"], second: Float[Tensor, "n 2"]) -> Float[Tensor, " values"]:
    """The squared energy distance, and what it is without each group of both sets, ``[1 + GROUPS]``.

    The U-statistic of :func:`~steerclear.metrics.energy.energy_distance`, from sums over pairs of groups.
    """
    size = len(first) // GROUPS

    def blocks(one: Tensor, other: Tensor) -> Tensor:
        return torch.stack([
            torch.stack([distances(rows, columns).sum() for columns in other.split(size)]) for rows in one.split(size)
        ])  # fmt: skip

    across, within = blocks(first, second), blocks(first, first) + blocks(second, second)

    def distance(kept: Tensor) -> Tensor:
        count = size * int(kept.sum())
        both = kept[:, None] & kept[None]
        return 2 * across[both].sum() / count**2 - within[both].sum() / (count * (count - 1))

    every = torch.ones(GROUPS, dtype=torch.bool)
    return torch.stack([distance(every), *(distance(torch.arange(GROUPS) != one) for one in range(GROUPS))])


def samples(cell: Cell, label: int, seeds: range, folder: Path) -> tuple[Tensor, float]:
    """Points of a label, ``[len(seeds), 2]``, float64, and the network evaluations of all."""
    if cell.method == "exact draws":
        return WORLD.of(label).sample(seeds), 0.0
    denoiser, made, calls = denoiser_of(cell, label, folder), [], 0.0
    for some in _chunks(seeds):
        run = sample(
            denoiser, guidance_of(cell), scheduler(), some, WORLD.shape, num_inference_steps=STEPS,
            dtype=torch.float64 if cell.exact else torch.float32,
        )  # fmt: skip
        made.append(run.samples.double())
        calls += float(run.trace.evaluations.sum())
    return torch.cat(made), calls


def _chunks(seeds: range) -> Iterator[range]:
    for begin in range(0, len(seeds), AT_ONCE):
        yield seeds[begin : begin + AT_ONCE]


def guidance_of(cell: Cell) -> Guidance:
    """The method with its scale."""
    if cell.method == "unguided":
        return Unguided()
    guidance: Guidance = AutoGuidance(cell.scale) if cell.method == "auto" else ClassifierFreeGuidance(cell.scale)
    return guidance if math.isinf(cell.stop) else IntervalGuidance(guidance, 0.0, cell.stop, "sigma")


def denoiser_of(cell: Cell, label: int, folder: Path) -> Denoiser:
    """The networks, or the exact denoiser of a class whose empty prompt is the whole."""
    if not cell.exact:
        weak = {"weak": network(cell.weak, folder)} if cell.weak else {}
        return PointsDenoiser(network("main", folder), weak, label)
    mixture = WORLD.of(label)
    concept = torch.arange(len(mixture.means)) == 0  # a world needs one; no guidance here asks for it
    return MixtureDenoiser(MixtureWorld(mixture, concept.double()), empty=WORLD.world.full)


@cache
def network(name: str, folder: Path) -> PointNetwork:
    """A network by name, trained or made from snapshots in the folder."""
    course = COURSES["main"]
    if name not in SNAPSHOTS:
        return COURSES[name].trained(name, folder)
    course.trained("main", folder)
    share, width = SNAPSHOTS[name]
    model = course.built()
    kept = snapshots_in(folder / "snapshots" / course.stage("main"))
    model.load_state_dict(average_of(kept, int(share * course.schedule.steps), width))
    return model.eval()


def scheduler() -> Any:
    """Heun's method (deterministic, of order 2) on the noise levels of :data:`LOWEST` to :data:`HIGHEST`."""
    from diffusers import HeunDiscreteScheduler

    low, high = LOWEST ** (1 / EXPONENT), HIGHEST ** (1 / EXPONENT)
    levels = (low + torch.linspace(0, 1, 1000, dtype=torch.float64) * (high - low)) ** EXPONENT
    kept = torch.cat([torch.ones(1, dtype=torch.float64), 1 / (1 + levels**2)])
    betas = (1 - kept[1:] / kept[:-1]).tolist()
    return HeunDiscreteScheduler(trained_betas=betas, use_karras_sigmas=True)
