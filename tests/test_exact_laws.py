"""Laws of guidance on exact worlds: martingale, floor, and no effect at scale 0."""

from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler
from torch import Tensor

from steerclear.benchmark.mixture_cells import WORLDS, Cell, denoiser_of, measure, scheduler_of
from steerclear.core.evidence import Push, Surroundings
from steerclear.core.guidance import Guidance
from steerclear.core.laws import Law
from steerclear.core.records import Guided, State, Step
from steerclear.core.sampling import sample
from steerclear.evidence.constant import ConstantEvidence
from steerclear.evidence.oracle import OracleEvidence
from steerclear.evidence.published import PublishedEvidence
from steerclear.evidence.transition import TransitionEvidence
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.guidance.unguided import Unguided
from steerclear.metrics.sliced_wasserstein import sliced_wasserstein
from steerclear.testbeds.mixture import MixtureTestbed
from steerclear.testbeds.scattered import Scattered
from steerclear.testbeds.spiral import Spiral


@dataclass(frozen=True)
class Watching(Guidance):
    """The prompt's own prediction, while a tracking evidence looks on with weight 0: the ratio of concept to prompt."""

    evidence: TransitionEvidence = field(default_factory=lambda: TransitionEvidence(0.5, stop_below=0.0))

    name: ClassVar[str] = "watching"
    paper: ClassVar[str] = "a test's own"
    cost: ClassVar[str] = "2 evaluations per step"

    def branches(self, negatives: int) -> tuple[str, ...]:
        return "positive", "conjunction"

    def begin(self, surroundings: Surroundings) -> State:
        return self.evidence.begin(surroundings)

    def __call__(self, step: Step, state: State) -> Guided:
        positive, concept = step.predict("positive", "conjunction")
        belief = self.evidence.update(step, positive, concept, state)
        nothing = torch.zeros(step.batch_size, dtype=torch.float64)
        after = self.evidence.remember(step, Push(positive, concept, positive, nothing), belief.state)
        return Guided(positive, after, {"log_odds": belief.log_odds})

    @classmethod
    def laws(cls) -> tuple[Law, ...]:
        return ()


@pytest.mark.slow
@pytest.mark.parametrize("testbed", [Spiral(), Scattered(16)], ids=["2", "16"])
@pytest.mark.parametrize(
    "scheduler",
    [
        EulerAncestralDiscreteScheduler(timestep_spacing="linspace"),
        DPMSolverMultistepScheduler(use_karras_sigmas=True, algorithm_type="sde-dpmsolver++", solver_order=1),
    ],
    ids=["euler ancestral", "sde-dpm-solver"],
)
def test_the_tracked_ratio_is_a_martingale_on_unguided_stochastic_paths(testbed: MixtureTestbed, scheduler) -> None:
    """E[exp(L - L_0)] = 1 at every level: the mean over 10,000 paths is within 5 %, along diffusers' own samplers.

    In fewer steps the ratios have so heavy a tail that 10,000 paths do not show their mean. 3,000 paths of our own sampler are
    in ``test_transition.py``, and not slow.
    """
    made = sample(
        testbed.denoiser(), Watching(), scheduler, range(10_000), testbed.shape, num_inference_steps=100, negatives=1,
        dtype=torch.float64,
    )  # fmt: skip
    log_odds = made.trace.table("log_odds").double()
    ratio = (log_odds - log_odds[0]).exp()
    assert float((ratio.mean(1) - 1).abs().max()) < 0.05, ratio.mean(1)
    assert float(ratio[-1].std()) > 0.8  # it did decide


@pytest.mark.parametrize(
    "cell", [Cell("2", "tracking"), Cell("16", "tracking", sampler="sde", error=0.1)], ids=["2m", "sde"]
)
def test_scale_0_is_the_unguided_sampler_bit_for_bit(cell: Cell) -> None:
    testbed = WORLDS[cell.world]

    def made(guidance: Guidance) -> Tensor:
        return sample(denoiser_of(cell), guidance, scheduler_of(cell), range(20), testbed.shape, num_inference_steps=8,
                      negatives=1).samples  # fmt: skip

    plain = made(Unguided())
    evidences = TransitionEvidence(0.3), PublishedEvidence(0.3), OracleEvidence(testbed.log_odds), ConstantEvidence()
    for evidence in evidences:
        assert torch.equal(made(DynamicNegativeGuidance(1.0, negative_scale=0.0, evidence=evidence)), plain)
        assert not torch.equal(made(DynamicNegativeGuidance(1.0, evidence=evidence)), plain)


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("sampler", ["2m", "sde"])
def test_the_oracle_reaches_the_floor(world: str, sampler: str) -> None:
    """In 120 steps its distance to exact draws is one that exact draws have among themselves (20 pairs of sets)."""
    testbed, count = WORLDS[world], 2000
    sets = [
        testbed.draws(range(first, first + count), without_concept=True)
        for first in range(10**6, 10**6 + 21 * count, count)
    ]
    floor = torch.tensor([sliced_wasserstein(one, sets[-1]) for one in sets[:-1]])
    cell = Cell(world, "oracle", sampler=sampler, steps=120)  # type: ignore[arg-type]
    evidence = OracleEvidence(testbed.log_odds)
    made = sample(denoiser_of(cell), DynamicNegativeGuidance(1.0, evidence=evidence), scheduler_of(cell), range(count),
                  testbed.shape, num_inference_steps=120, negatives=1, dtype=torch.float64).samples  # fmt: skip
    distance = sliced_wasserstein(made, sets[-1])
    assert distance <= float(floor.mean() + 3 * floor.std()), (distance, floor)
    left = testbed.world.concept_rate(made), testbed.world.concept_rate(sets[-1])
    assert abs(left[0] - left[1]) < 0.006, left


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
def test_tracking_is_near_the_oracle_and_far_from_the_negative_prompt(world: str) -> None:
    """At strength 1 in 30 SDE steps: nine tenths are removed, at a seventh of the negative prompt's distance at weight 1."""
    found = {
        name: measure(Cell(world, name, sampler="sde", images=2400)) for name in ("tracking", "oracle", "negative")
    }  # type: ignore[arg-type]
    assert 1 - found["tracking"].rate.value / WORLDS[world].prior > 0.9
    assert found["tracking"].distance.value < found["negative"].distance.value / 7
    assert found["tracking"].distance.value < 1.5 * found["oracle"].distance.value
    assert found["tracking"].escaped == 0
