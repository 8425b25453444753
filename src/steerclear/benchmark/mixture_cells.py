"""One cell of the benchmark of exact worlds: samples of one method in one world, and how far they are from the truth."""

import json
from collections.abc import Iterator
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
from ..evidence.oracle import OracleEvidence
from ..evidence.published import PublishedEvidence
from ..evidence.transition import TransitionEvidence
from ..evidence.volume import calibrate_volume
from ..guidance.dynamic_negative import DynamicNegativeGuidance
from ..guidance.negative_prompt import NegativePromptGuidance
from ..guidance.redraw import Redraw
from ..guidance.unguided import Unguided
from ..metrics.sliced_wasserstein import left_out_distances, sliced_wasserstein
from ..study.gallery import write_text
from ..testbeds.mixture import Mixture, MixtureDenoiser, MixtureTestbed
from ..testbeds.perturbed import PerturbedDenoiser
from ..testbeds.scattered import Scattered
from ..testbeds.spiral import Spiral, spiral_component

WORLDS: dict[str, MixtureTestbed] = {"2": Spiral(), "16": Scattered(16), "64": Scattered(64)}
"""By their dimension."""

OMEGA = {"2m": 1.75, "sde": 1.0}
"""How much of the volume term each sampler takes. In the limit of many steps it is 1 and 0; these were chosen at 30 steps, on
other seeds than the benchmark's (docs/exact-worlds.md)."""

UNKNOWN_PRIOR = 0.5
"""What the tracking is told of an unrelated concept, whose true prior is 0."""

OWN_SHARE = 0.2
"""Size of each branch's own error, as a share of the one that all branches have."""

SETS, PER_SET = 3, 4
"""Sets of seeds, and groups of each that the jackknife leaves out."""

CHUNK = 32_768
"""Numbers at once, at most 2,048 samples: many more do not fit into a processor's cache."""

CALIBRATION = range(3_000_000_000, 3_000_000_256)
TRUTH, SECOND_TRUTH = 1_000_000_000, 2_000_000_000
"""Seeds of the table of the volume term, and the first ones of exact draws: of those that samples are compared with, and of
those that stand in for samples to give the floor."""

ESCAPED = 10.0
"""A sample has escaped if it is more than sqrt(dimension) and this many standard deviations from every component."""

Method = Literal["unguided", "negative", "published", "tracking", "oracle", "redraw", "rewound", "exact draws"]


@dataclass(frozen=True)
class Cell:
    """What is sampled; the recipe of its figures.

    Attributes:
        world: a key of :data:`WORLDS`.
        method: "redraw" draws again from the start, "rewound" as Redraw does by default; "exact draws" are perfect samples,
            the floor.
        strength: the weight of the negative prompt, the negative_scale of the others.
        sampler: DPM-Solver++(2M), SDE-DPM-Solver++ of order 2, or DDPM's ancestral sampler.
        steps: of the sampler.
        error: the perturbation's size as a share of the score; 0 for exact scores.
        related: whether the concept is a part of what the prompt shows; otherwise its prior is 0.
        first, images: the seeds, split into three sets.
        omega: of the tracking; None takes :data:`OMEGA`.
    """

    world: str
    method: Method
    strength: float = 1.0
    sampler: Literal["2m", "sde", "ddpm"] = "2m"
    steps: int = 30
    error: float = 0.0
    related: bool = True
    first: int = 10_000
    images: int = 7200
    omega: float | None = None

    @property
    def name(self) -> str:
        """For progress bars."""
        scores = f"error {self.error:g}" if self.error else "exact scores"
        return f"{self.world} dimensions, {scores}, {self.sampler}: {self.method}"

    def digest(self) -> str:
        """What makes two cells the same, in 16 letters."""
        recipe = asdict(self) | {
            "version": __version__,
            "omega": OMEGA.get(self.sampler) if self.omega is None else self.omega,
        }
        return sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


class Figure(BaseModel):
    """A number of a cell.

    Attributes:
        value: from all samples.
        sets: from each set of seeds alone.
        left_out: from all samples but one group, for each group; what an interval needs.
    """

    model_config = ConfigDict(frozen=True)

    value: float
    sets: list[float]
    left_out: list[float]

    def tensor(self) -> Tensor:
        """Value, sets and left-out values in one row, float64."""
        return torch.tensor([self.value, *self.sets, *self.left_out], dtype=torch.float64)


class Found(BaseModel):
    """The figures of a cell.

    Attributes:
        rate: of the concept, the mean of p(c | x).
        balance: total variation between the shares of the kept components and their true shares.
        distance: sliced Wasserstein distance to as many exact draws of the target.
        calls: network evaluations per sample.
        escaped: samples far from every component.
    """

    model_config = ConfigDict(frozen=True)

    rate: Figure
    balance: Figure
    distance: Figure
    calls: float
    escaped: int


def found(cell: Cell, folder: Path) -> Found:
    """A cell's figures, from ``cells/<digest>.json`` in the folder or measured and written there."""
    path = folder / "cells" / f"{cell.digest()}.json"
    if path.is_file():
        return Found.model_validate(json.loads(path.read_text())["found"])
    measured = measure(cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"cell": asdict(cell), "found": measured.model_dump()}, indent=1) + "\n")
    return measured


def measure(cell: Cell) -> Found:
    """Sample a cell and measure it."""
    made, calls = _samples(cell)
    world, groups = WORLDS[cell.world].world, _groups(cell.images)
    truth = _draws(cell.world, cell.related, TRUTH, cell.images)
    target = (world.target if cell.related else world.full).log_weights.exp()
    sets = groups // PER_SET

    def figure(of: Any) -> Figure:
        every = [torch.ones_like(groups).bool(), *(sets == one for one in range(SETS))]
        whole, *alone = [of(kept) for kept in every]
        return Figure(value=whole, sets=alone, left_out=[of(groups != one) for one in range(SETS * PER_SET)])

    def balance(kept: Tensor) -> float:
        shares = (
            world.balance(made[kept]) if cell.related else world.full.log_joint(made[kept], 1.0, 0.0).softmax(1).mean(0)
        )
        return float((shares - target).abs().sum() / 2)

    distance = Figure(
        value=sliced_wasserstein(made, truth),
        sets=[sliced_wasserstein(made[sets == one], truth[sets == one]) for one in range(SETS)],
        left_out=left_out_distances(made, truth, groups).tolist(),
    )
    farthest = world.full.dimension**0.5 + ESCAPED
    return Found(
        rate=figure(lambda kept: world.concept_rate(made[kept])), balance=figure(balance), distance=distance, calls=calls,
        escaped=int((world.full.deviations(made) > farthest).sum()),
    )  # fmt: skip


def _groups(images: int) -> Tensor:
    """The group of each sample, 0 ... SETS * PER_SET - 1, ``[images]``; groups of a set follow one another."""
    return torch.arange(SETS * PER_SET).repeat_interleave(images // (SETS * PER_SET))


@cache
def _draws(world: str, related: bool, first: int, images: int) -> Tensor:
    testbed = WORLDS[world]
    return testbed.draws(range(first, first + images), without_concept=related)


def _samples(cell: Cell) -> tuple[Tensor, float]:
    """The samples, ``[images, dimension]``, float64, and the network evaluations of each."""
    if cell.method == "exact draws":
        return _draws(cell.world, cell.related, SECOND_TRUTH, cell.images), 0.0
    guidance, made, calls = guidance_of(cell), [], 0.0
    for seeds in _chunks(cell):
        run = sample(
            denoiser_of(cell), guidance, scheduler_of(cell), seeds, WORLDS[cell.world].shape,
            num_inference_steps=cell.steps, negatives=1, dtype=torch.float64,
        )  # fmt: skip
        made.append(run.samples)
        calls += float(run.trace.evaluations.sum())
    return torch.cat(made), calls / cell.images


def _chunks(cell: Cell) -> Iterator[range]:
    end, size = cell.first + cell.images, min(2048, CHUNK // WORLDS[cell.world].world.full.dimension)
    for begin in range(cell.first, end, size):
        yield range(begin, min(begin + size, end))


def denoiser_of(cell: Cell) -> Denoiser:
    """The world as a network; its empty prompt shows what the prompt shows, so that a negative prompt is a constant weight."""
    world = WORLDS[cell.world].world
    concept = world.concept if cell.related else _unrelated(cell.world)
    exact = MixtureDenoiser(world, empty=world.full, negatives=(concept,), conjunctions=(concept,))
    return PerturbedDenoiser(exact, cell.error, OWN_SHARE * cell.error) if cell.error else exact


def _unrelated(world: str) -> Mixture:
    """A concept of the same kind that the prompt never shows: more than 6 standard deviations from all that it does."""
    testbed = WORLDS[world]
    if isinstance(testbed, Scattered):
        return Scattered(testbed.dimension, testbed.components, testbed.seed + 1).world.concept
    means, covariances = spiral_component(torch.tensor([13.0, 16.0, 19.0], dtype=torch.float64))  # the spiral goes on
    return Mixture.full(torch.ones(3), means, covariances)


def scheduler_of(cell: Cell) -> Any:
    """diffusers' scheduler with the noise levels of Stable Diffusion, spaced as by Karras et al. (2022) if in few steps."""
    from diffusers import DDPMScheduler, DPMSolverMultistepScheduler

    levels: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    if cell.sampler == "ddpm":
        return DDPMScheduler(**levels, clip_sample=False)
    kind = "sde-dpmsolver++" if cell.sampler == "sde" else "dpmsolver++"
    return DPMSolverMultistepScheduler(**levels, algorithm_type=kind, use_karras_sigmas=True)


def guidance_of(cell: Cell) -> Guidance:
    """The method with its strength."""
    if cell.method == "unguided":
        return Unguided()
    if cell.method == "negative":
        return NegativePromptGuidance(1 + cell.strength)
    testbed = WORLDS[cell.world]
    if cell.method in ("redraw", "rewound"):
        return Redraw(evidence=OracleEvidence(testbed.log_odds), from_step=0 if cell.method == "redraw" else None)
    prior = testbed.prior if cell.related else UNKNOWN_PRIOR
    if cell.method == "oracle":
        return DynamicNegativeGuidance(1.0, negative_scale=cell.strength, evidence=OracleEvidence(testbed.log_odds))
    if cell.method == "published":
        return DynamicNegativeGuidance(1.0, negative_scale=cell.strength, evidence=PublishedEvidence(prior))
    omega = OMEGA[cell.sampler] if cell.omega is None else cell.omega
    table = _volume(cell.world, cell.error, cell.related)
    evidence = TransitionEvidence(prior, stop_below=0.0, volume=table, omega=omega)
    return DynamicNegativeGuidance(1.0, negative_scale=cell.strength, evidence=evidence)


@cache
def _volume(world: str, error: float, related: bool) -> tuple[tuple[float, float], ...]:
    """The table of the volume term, measured at the levels of 30 steps on the network that is then guided."""
    cell = Cell(world, "tracking", error=error, related=related)
    scheduler, prior = scheduler_of(cell), WORLDS[world].prior if related else UNKNOWN_PRIOR
    scheduler.set_timesteps(cell.steps)
    levels = [(1 / (1 + s**2) ** 0.5, s / (1 + s**2) ** 0.5, 0) for s in scheduler.sigmas[:-1].tolist()]
    return calibrate_volume(denoiser_of(cell), levels, CALIBRATION, WORLDS[world].shape, prior=prior)
