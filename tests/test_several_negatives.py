"""Several negatives: each posterior is as exact as it would be with its negative alone."""

import math

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from steerclear.core.denoiser import Branch, Point, numbered
from steerclear.core.evidence import Push, Surroundings
from steerclear.core.records import State, Step
from steerclear.core.sampling import sample
from steerclear.evidence.transition import TransitionEvidence
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.testbeds.mixture import Mixture, MixtureDenoiser, MixtureWorld
from steerclear.testbeds.scattered import Scattered

DIMENSION, STEPS, IMAGES = 16, 400, 200
FULL = Scattered(DIMENSION).world.full
CONCEPTS = ((1, 5), (2, 6, 9), (0,))
"""Which components of the mixture are each concept: apart, as "mustache" and "hat" are."""


def world(components: tuple[int, ...]) -> MixtureWorld:
    membership = torch.zeros(len(FULL.log_weights))
    membership[list(components)] = 1
    return MixtureWorld(FULL, membership)


WORLDS = [world(components) for components in CONCEPTS]


def mean_errors(count: int) -> list[float]:
    """Mean |p - exact| of each negative's posterior, over all images and steps of a stochastic sampler."""
    points: list[Point] = []

    class Watched(MixtureDenoiser):
        def predict(self, point: Point, branches: tuple[Branch, ...], rows: Tensor | None) -> list[Tensor]:
            points.append(point)
            return super().predict(point, branches, rows)

    concepts: tuple[Mixture, ...] = tuple(one.concept for one in WORLDS[:count])
    priors = tuple(one.prior for one in WORLDS[:count])
    guidance = DynamicNegativeGuidance(1.0, evidence=TransitionEvidence(priors, stop_below=0.0))
    scheduler = DPMSolverMultistepScheduler(
        use_karras_sigmas=True, algorithm_type="sde-dpmsolver++", solver_order=1
    )  # fmt: skip
    sampled = sample(
        Watched(WORLDS[0], conjunctions=concepts), guidance, scheduler, range(IMAGES), (DIMENSION,),
        num_inference_steps=STEPS, negatives=count, dtype=torch.float64,
    )  # fmt: skip
    errors = []
    for index, one in enumerate(WORLDS[:count]):
        exact = torch.stack([one.log_odds(at.sample, at.alpha, at.sigma).sigmoid() for at in points])
        errors.append(float((sampled.trace.table(numbered("posterior", index)) - exact).abs().mean()))
    return errors


@pytest.mark.parametrize("count", [1, 2, 3])
def test_each_posterior_is_the_exact_one_whatever_the_others_push(count: int) -> None:
    errors = mean_errors(count)
    assert max(errors) < 0.0055, errors


def test_an_evidence_is_told_of_its_own_push_alone() -> None:
    told: list[tuple[str, Push]] = []

    class Listening(TransitionEvidence):
        def remember(self, step: Step, push: Push, state: State) -> State:
            told.append((str(self.prior), push))
            return super().remember(step, push, state)

    network = MixtureDenoiser(WORLDS[0], conjunctions=tuple(one.concept for one in WORLDS[:2]))
    at = Point(torch.randn(3, DIMENSION, generator=torch.Generator().manual_seed(1), dtype=torch.float64),
               math.cos(0.8), math.sin(0.8), 500, 0, 8)  # fmt: skip
    names = ("positive", "conjunction", "conjunction_2")
    positive, first, second = network.predict(at, tuple(map(Branch.parse, names)), None)
    known = dict(zip(names, (positive, first, second), strict=True))
    guidance = DynamicNegativeGuidance(1.0, negative_scale=(2.0, 0.5), evidence=Listening((0.3, 0.2)))
    guidance(
        Step(at, "epsilon", 2, lambda asked, rows: [known[name] for name in asked]), guidance.begin(Surroundings(3, 2))
    )
    for (prior, push), scale, concept in zip(told, (2.0, 0.5), (first, second), strict=True):
        assert prior == {2.0: "0.3", 0.5: "0.2"}[scale]
        assert torch.allclose(push.guided, positive - scale * push.weight[:, None] * (concept - positive))
