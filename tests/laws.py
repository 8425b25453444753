"""How each law of a guidance is measured, on an exact world. One function a law; each raises AssertionError.

The tests call them for every guidance on the shelf, and for guidances that are broken on purpose.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from steerclear.core import laws as claims
from steerclear.core.denoiser import Branch, Denoiser, Point
from steerclear.core.engine import GuidedDenoiser
from steerclear.core.errors import InvalidSetting
from steerclear.core.evidence import Surroundings
from steerclear.core.guidance import Guidance
from steerclear.core.noise import PREDICTION_TYPES, to_denoised
from steerclear.core.records import Trace
from steerclear.testbeds.mixture import Mixture, MixtureDenoiser
from steerclear.testbeds.scattered import Scattered

WORLD = Scattered(8).world
SEEDS = (3, 1, 4, 15, 9)
EXACT = 1e-10
STEPS = 8


@dataclass(frozen=True, eq=False)
class Absent:
    """A world in which the negative is the prompt itself: there is nothing to push away from."""

    inner: MixtureDenoiser

    @property
    def prediction_type(self) -> str:
        return self.inner.prediction_type

    def predict(self, point: Point, branches: tuple[Branch, ...], rows: Tensor | None) -> list[Tensor]:
        same = {"negative": "positive", "conjunction": "positive"}
        asked = tuple(Branch(branch.network, same.get(branch.condition, branch.condition)) for branch in branches)
        return self.inner.predict(point, asked, rows)


@dataclass(frozen=True, eq=False)
class Told:
    """A network that knows the level of points that do not say it, as one that is told a timestep does."""

    inner: MixtureDenoiser

    @property
    def prediction_type(self) -> str:
        return self.inner.prediction_type

    def predict(self, at: Point, branches: tuple[Branch, ...], rows: Tensor | None) -> list[Tensor]:
        known = point(index=at.index)
        return self.inner.predict(replace(at, alpha=known.alpha, sigma=known.sigma), branches, rows)


def untold(index: int) -> Point:
    """A point of a scheduler that does not say its noise level."""
    unknown = dict.fromkeys(("alpha", "sigma", "next_alpha", "next_sigma"), math.nan)
    return replace(point(index=index), **unknown, levels=None)


class EveryNetwork(dict[str, float]):
    """A factor for any name that a guidance may ask for, so that a new one is held to the laws as it is."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> float:
        return 1.5 + 0.125 * len(name)


def denoiser(prediction_type: str = "epsilon") -> MixtureDenoiser:
    """The negatives are mixtures of their own, so that no two branches agree."""
    elsewhere = torch.stack([WORLD.full.means[0] * 1.5, -WORLD.full.means[1]])
    negatives = tuple(Mixture.isotropic([1.0, 2.0], means, 0.7) for means in (elsewhere, -0.5 * elsewhere))
    conjunctions = (WORLD.concept, Mixture.isotropic([1.0], WORLD.concept.means[:1], 0.5))
    return MixtureDenoiser(
        WORLD, prediction_type, negatives=negatives, conjunctions=conjunctions, networks=EveryNetwork(weak=2.0)
    )


def negatives_of(*guidances: Guidance) -> int:
    """How many negative prompts the guidances take: one, unless a setting has two entries."""
    try:
        for guidance in guidances:
            guidance.branches(1)
    except InvalidSetting:
        return 2
    return 1


def point(angle: float = 0.8, index: int = 0) -> Point:
    generator = torch.Generator().manual_seed(11)
    sample = torch.randn(len(SEEDS), WORLD.full.dimension, generator=generator, dtype=torch.float64)
    return Point(sample, *level(math.tan(angle)), index, STEPS, False, *level(math.tan(angle) / 2)[:2], level)


def level(noise_to_signal: float) -> tuple[float, float, int]:
    """alpha, sigma and a timestep, which exact worlds do not look at."""
    return math.cos(math.atan(noise_to_signal)), math.sin(math.atan(noise_to_signal)), 500


def guided(guidance: Guidance, at: Point, network: Denoiser) -> tuple[Tensor, Trace]:
    run = GuidedDenoiser(network, guidance, Surroundings(len(at.sample), negatives_of(guidance)))
    return run.predict(at), run.trace


def branch(name: str, at: Point, network: Denoiser) -> Tensor:
    return network.predict(at, (Branch.parse(name),), None)[0]


def trajectory(
    guidance: Guidance, network: Denoiser, seeds: tuple[int, ...] = SEEDS, negatives: int | None = None
) -> tuple[Tensor, Trace]:
    """Every point of a stochastic trajectory, ``[steps, batch, dimension]``: one seed's start and noise are its own."""
    scheduler = DPMSolverMultistepScheduler(
        algorithm_type="sde-dpmsolver++", prediction_type=network.prediction_type, beta_schedule="squaredcos_cap_v2",
        lambda_min_clipped=-3.0, timestep_spacing="trailing",
    )  # fmt: skip
    from steerclear.core import sampling

    visited: list[Tensor] = []

    class Watched:
        prediction_type = network.prediction_type

        def predict(self, at: Point, branches: tuple[Branch, ...], rows: Tensor | None) -> list[Tensor]:
            if not at.elsewhere and (not visited or visited[-1] is not at.sample):
                visited.append(at.sample)
            return network.predict(at, branches, rows)

    result = sampling.sample(
        Watched(),
        guidance,
        scheduler,
        seeds,
        (WORLD.full.dimension,),
        num_inference_steps=STEPS,
        negatives=negatives_of(guidance) if negatives is None else negatives,
        dtype=torch.float64,
    )
    return torch.stack([*visited, result.samples]), result.trace


def largest(difference: Tensor) -> float:
    return float(difference.abs().max())


def check_identity(law: claims.Identity) -> None:
    for kind in PREDICTION_TYPES:
        at, network = point(), denoiser(kind)
        assert torch.equal(guided(law.example, at, network)[0], branch(law.branch, at, network))


def check_linear(law: claims.Linear) -> None:
    for kind in PREDICTION_TYPES:
        at, network = point(), denoiser(kind)
        expected = sum(weight * branch(name, at, network) for name, weight in law.weights)
        assert largest(guided(law.example, at, network)[0] - expected) < EXACT


def check_equals(law: claims.Equals) -> None:
    network = denoiser("v_prediction")
    negatives = negatives_of(law.example, law.other)
    ours, theirs = (trajectory(guidance, network, negatives=negatives)[0] for guidance in (law.example, law.other))
    assert largest(ours - theirs) < EXACT


def check_prediction_type(law: claims.PredictionTypeInvariant) -> None:
    at = point()
    images = [
        to_denoised(guided(law.example, at, denoiser(kind))[0], at.sample, at.alpha, at.sigma, kind)
        for kind in PREDICTION_TYPES
    ]
    for image in images[1:]:
        assert largest(image - images[0]) < EXACT * max(1.0, largest(images[0]))


def check_no_push(law: claims.NoPushWhenAbsent) -> None:
    at, network = point(), Absent(denoiser())
    expected = branch("positive", at, network)
    assert largest(guided(law.example, at, network)[0] - expected) < EXACT


def check_runs(law: claims.Runs) -> None:
    trace = guided(law.example, point(), denoiser())[1]
    claimed = law.example.branches(negatives_of(law.example)) if law.branches is None else law.branches
    assert trace.branches == [claimed]
    assert trace.evaluations.tolist() == [len(claimed)] * len(SEEDS)


def check_declared(guidance: Guidance) -> set[str]:
    """What ran along a trajectory is among what was declared, in that order; gives back what was declared and never ran."""
    declared = guidance.branches(negatives_of(guidance))
    _, trace = trajectory(guidance, denoiser())
    for branches in trace.branches:
        # "positive@0.5" ran at another point, in an order of its own
        here = [name for name in branches if "@" not in name]
        assert here == [name for name in declared if name in here]
    return set(declared).difference(name.partition("@")[0] for branches in trace.branches for name in branches)


def check_per_image(guidance: Guidance) -> None:
    """Image k of a batch is image k alone, in any order, along a whole trajectory; and so is its trace."""
    network = denoiser("v_prediction")
    together, trace = trajectory(guidance, network)
    for row, seed in enumerate(SEEDS):
        alone, own = trajectory(guidance, network, (seed,))
        assert largest(together[:, row] - alone[:, 0]) < 1e-9 * max(1.0, largest(alone))
        for name in trace.names:
            assert torch.allclose(
                trace.table(name)[:, row], own.table(name)[:, 0], rtol=1e-5, atol=1e-7, equal_nan=True
            )


def check_no_hidden_state(guidance: Guidance) -> None:
    """The same trajectory twice with one object."""
    network = denoiser()
    assert torch.equal(trajectory(guidance, network)[0], trajectory(guidance, network)[0])


CHECKS: dict[type[claims.Law], Any] = {
    claims.Identity: check_identity,
    claims.Linear: check_linear,
    claims.Equals: check_equals,
    claims.PredictionTypeInvariant: check_prediction_type,
    claims.NoPushWhenAbsent: check_no_push,
    claims.Runs: check_runs,
}
