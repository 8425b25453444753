"""With the exact posterior, dynamic negative guidance reaches p(x | not c) within the sampling floor."""

from statistics import mean, median
from typing import Any

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from steerclear.core.guidance import Guidance
from steerclear.core.sampling import sample
from steerclear.evidence.constant import ConstantEvidence
from steerclear.evidence.oracle import OracleEvidence
from steerclear.evidence.transition import TransitionEvidence
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.guidance.negative_prompt import NegativePromptGuidance
from steerclear.guidance.unguided import Unguided
from steerclear.metrics.energy import energy_distance
from steerclear.testbeds.mixture import MixtureDenoiser
from steerclear.testbeds.spiral import Spiral

WORLD = Spiral().world


def distances(guidance: Guidance | None, steps: int, count: int, repeats: int, scheduler: Any = None) -> list[float]:
    """Energy distances to exact target samples, of guided samples, or of other exact ones for the floor (None)."""
    found = []
    for repeat in range(repeats):
        exact = WORLD.target.sample(range(10**7 + repeat * count, 10**7 + (repeat + 1) * count))
        seeds = range(3 * 10**8 + repeat * count, 3 * 10**8 + (repeat + 1) * count)
        if guidance is None:
            ours = WORLD.target.sample(seeds)
        else:
            ours = sample(
                MixtureDenoiser(WORLD), guidance, scheduler, seeds, (2,), num_inference_steps=steps,
                negatives=0 if isinstance(guidance, Unguided) else 1, dtype=torch.float64,
            ).samples  # fmt: skip
        found.append(energy_distance(ours, exact, unbiased=False))
    return found


def dynamic(evidence: Any) -> DynamicNegativeGuidance:
    return DynamicNegativeGuidance(1.0, evidence=evidence)


def test_the_oracle_reaches_the_target_on_a_deterministic_sampler() -> None:
    scheduler = DPMSolverMultistepScheduler(use_karras_sigmas=True)
    floor = median(distances(None, 0, 1000, 7))
    oracle = median(distances(dynamic(OracleEvidence(WORLD.log_odds)), 60, 1000, 7, scheduler))
    others = [Unguided(), NegativePromptGuidance(2.0), dynamic(ConstantEvidence(0.3))]
    assert oracle <= 1.5 * floor
    for other in others:
        assert median(distances(other, 60, 1000, 3, scheduler)) > 5 * floor


@pytest.mark.slow
def test_the_oracle_reaches_the_target_on_a_stochastic_sampler() -> None:
    scheduler = DPMSolverMultistepScheduler(use_karras_sigmas=True, algorithm_type="sde-dpmsolver++")
    floor = distances(None, 0, 2000, 8)
    oracle = distances(dynamic(OracleEvidence(WORLD.log_odds)), 600, 2000, 8, scheduler)
    tracked = distances(dynamic(TransitionEvidence(WORLD.prior)), 600, 2000, 8, scheduler)
    constant = distances(dynamic(ConstantEvidence(0.3)), 600, 2000, 2, scheduler)
    print({name: mean(found) / mean(floor) for name, found in
           {"oracle": oracle, "tracked": tracked, "constant": constant}.items()})  # fmt: skip
    assert median(oracle) <= 1.5 * median(floor)
    assert median(tracked) <= 2.5 * median(floor)
    assert median(constant) > 20 * median(floor)
