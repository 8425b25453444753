"""Tracking: the increments are ratios of transition densities, and add up to the exact posterior."""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from steerclear.core.denoiser import Branch, Point
from steerclear.core.evidence import Push, Surroundings
from steerclear.core.records import Step
from steerclear.core.sampling import Sampled, sample
from steerclear.evidence.oracle import OracleEvidence
from steerclear.evidence.transition import TransitionEvidence
from steerclear.evidence.volume import calibrate_volume
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.metrics.energy import energy_distance
from steerclear.testbeds.mixture import MixtureDenoiser, MixtureWorld
from steerclear.testbeds.scattered import Scattered
from steerclear.testbeds.spiral import Spiral

WORLD = Scattered(16).world


def step(sample_: Tensor, level: float, alpha: float = 1.0, substep: bool = False) -> Step:
    """A step of a network that predicts noise, at s = level."""
    return Step(Point(sample_ * alpha, alpha, level * alpha, 0, 0, 1, substep), "epsilon", 1, lambda names, rows: [])


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


Y, PROMPT, CONCEPT, NOISE = (draw(4, 6, seed=seed) for seed in range(4))
WEIGHT = torch.tensor([0.0, 0.2, 1.0, 7.0], dtype=torch.float64)


@dataclass(frozen=True)
class Transition:
    """One step (y, s) -> (y', s') with arbitrary predictions, and what was believed before."""

    s: float = 3.0
    reached: float = 2.2
    y: Tensor = 3 * Y
    prompt: Tensor = PROMPT
    concept: Tensor = CONCEPT
    noise: Tensor = NOISE
    weight: Tensor = WEIGHT

    @property
    def variance(self) -> float:
        return self.reached**2 * (1 - self.reached**2 / self.s**2)

    def mean(self, prediction: Tensor) -> Tensor:
        return self.y - (1 - self.reached**2 / self.s**2) * self.s * prediction

    def log_normal(self, at: Tensor, prediction: Tensor) -> Tensor:
        """log N(at; m_h, v), by torch's own distribution."""
        return torch.distributions.Normal(self.mean(prediction), math.sqrt(self.variance)).log_prob(at).sum(1)

    def target(self) -> Tensor:
        return self.prompt - self.weight[:, None] * (self.concept - self.prompt)

    def change(
        self, evidence: TransitionEvidence, at: Tensor, guided: Tensor, alpha: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """The log-odds before and after, as the evidence has them."""
        here = step(self.y, self.s, alpha)
        first = evidence.update(here, self.prompt, self.concept, evidence.begin(Surroundings(4)))
        kept = evidence.remember(here, Push(self.prompt, self.concept, guided, self.weight), first.state)
        second = evidence.update(step(at, self.reached, alpha / 2), self.prompt, self.concept, kept)
        return first.log_odds, second.log_odds


MADE = Transition()


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_the_increment_is_the_ratio_of_two_gaussians(alpha: float) -> None:
    reached = MADE.mean(MADE.target()) + math.sqrt(MADE.variance) * MADE.noise
    before, after = MADE.change(TransitionEvidence(0.3), reached, MADE.target(), alpha)
    expected = MADE.log_normal(reached, MADE.concept) - MADE.log_normal(reached, MADE.target())
    assert torch.allclose(after - before, expected, rtol=1e-10)


def test_the_innovation_form_takes_the_extra_push_out() -> None:
    """Whatever was pushed beyond the target: the log-odds are those of the same noise on the target's path."""
    noise, evidence = math.sqrt(MADE.variance) * MADE.noise, TransitionEvidence(0.3)
    harder = MADE.prompt - 2.5 * MADE.weight[:, None] * (MADE.concept - MADE.prompt)
    plain = MADE.change(evidence, MADE.mean(MADE.target()) + noise, MADE.target())[1]
    pushed = MADE.change(evidence, MADE.mean(harder) + noise, harder)[1]
    without = MADE.change(replace(evidence, innovation=False), MADE.mean(harder) + noise, harder)[1]
    assert torch.allclose(pushed, plain, rtol=1e-10)
    assert (without[1:] < plain[1:]).all()


def test_temperature_and_stop() -> None:
    reached = MADE.mean(MADE.target()) + math.sqrt(MADE.variance) * MADE.noise
    before, after = MADE.change(TransitionEvidence(0.3), reached, MADE.target())
    _, cooler = MADE.change(TransitionEvidence(0.3, temperature=4.0), reached, MADE.target())
    _, stopped = MADE.change(TransitionEvidence(0.3, stop_below=2.5), reached, MADE.target())
    assert torch.allclose(cooler - before, (after - before) / 4)
    assert torch.equal(stopped, before)


def test_the_start_is_the_prior_moved_by_at_most_three() -> None:
    evidence = TransitionEvidence(0.3)
    far = evidence.update(step(MADE.y, 80.0), 10 * MADE.prompt, MADE.concept, evidence.begin(Surroundings(4)))
    assert torch.allclose(far.log_odds, torch.full((4,), math.log(0.3 / 0.7) + 3, dtype=torch.float64))
    near = evidence.update(step(MADE.y, 80.0), MADE.prompt, MADE.concept, evidence.begin(Surroundings(4))).log_odds
    expected = (MADE.prompt.square().sum(1) - MADE.concept.square().sum(1)) / 2
    assert torch.allclose(near, math.log(0.3 / 0.7) + expected.clamp(-3, 3))


def test_pure_noise_says_the_prior_and_the_next_level_is_the_start() -> None:
    evidence = TransitionEvidence(0.3)
    pure = Step(Point(MADE.y, 0.0, 1.0, 0, 0, 1), "sample", 1, lambda names, rows: [])
    belief = evidence.update(pure, MADE.prompt, MADE.concept, evidence.begin(Surroundings(4)))
    assert torch.allclose(belief.log_odds.sigmoid(), torch.tensor(0.3, dtype=torch.float64))
    kept = evidence.remember(pure, Push(MADE.prompt, MADE.concept, MADE.prompt, MADE.weight), belief.state)
    late = evidence.update(step(MADE.y, 80.0), MADE.prompt, MADE.concept, kept)
    fresh = evidence.update(step(MADE.y, 80.0), MADE.prompt, MADE.concept, evidence.begin(Surroundings(4)))
    assert torch.equal(late.log_odds, fresh.log_odds)


def test_a_substep_sees_its_own_point_and_keeps_nothing() -> None:
    evidence, here = TransitionEvidence(0.3), step(MADE.y, MADE.s)
    first = evidence.update(here, MADE.prompt, MADE.concept, evidence.begin(Surroundings(4)))
    push = Push(MADE.prompt, MADE.concept, MADE.target(), MADE.weight)
    kept = evidence.remember(here, push, first.state)
    inner_step = step(MADE.y - MADE.prompt, MADE.reached, substep=True)
    inner = evidence.update(inner_step, MADE.prompt, MADE.concept, kept)
    assert not torch.allclose(inner.log_odds, first.log_odds)
    assert evidence.remember(inner_step, push, inner.state) is kept


def test_likelihood_ratios_of_ancestral_sampling_have_mean_one() -> None:
    """Without guidance the sum of log(concept's transition / prompt's) is a martingale's: E[exp] = 1 at every level."""
    world, count = Spiral().world, 3000
    evidence, generator = TransitionEvidence(0.5), torch.Generator().manual_seed(8)
    levels = torch.logspace(2, -1, 40, dtype=torch.float64).tolist()
    y, state = draw(count, 2, seed=4) * levels[0], evidence.begin(Surroundings(count))
    nothing, start = torch.zeros(count, dtype=torch.float64), None
    for s, following in pairwise(levels):
        prompt = world.full.denoised_and_noise(y, 1.0, s)[1]
        concept = world.concept.denoised_and_noise(y, 1.0, s)[1]
        belief = evidence.update(step(y, s), prompt, concept, state)
        start = belief.log_odds if start is None else start
        ratio = (belief.log_odds - start).exp()
        assert abs(float(ratio.mean()) - 1) <= 4 * float(ratio.std()) / count**0.5
        state = evidence.remember(step(y, s), Push(prompt, concept, prompt, nothing), belief.state)
        share = (following / s) ** 2
        fresh = torch.randn(y.shape, generator=generator, dtype=torch.float64)
        y = y - (1 - share) * s * prompt + following * math.sqrt(1 - share) * fresh
    assert float(ratio.std()) > 0.5  # it did decide


def run(
    world: MixtureWorld, guidance: DynamicNegativeGuidance, steps: int, count: int, **scheduler
) -> tuple[Sampled, list]:
    points: list[Point] = []

    class Watched(MixtureDenoiser):
        def predict(self, point: Point, branches: tuple[Branch, ...], rows: Tensor | None) -> list[Tensor]:
            points.append(point)
            return super().predict(point, branches, rows)

    made = DPMSolverMultistepScheduler(use_karras_sigmas=True, **scheduler)
    shape = (world.full.dimension,)
    sampled = sample(
        Watched(world), guidance, made, range(count), shape, num_inference_steps=steps, negatives=1, dtype=torch.float64
    )
    return sampled, points


@pytest.mark.parametrize(
    ("scale", "strength", "innovation"), [(1.0, 1.0, True), (1.0, 2.0, False), (2.0, 1.0, True)],
    ids=["alone", "strength 2", "with cfg"],
)  # fmt: skip
def test_the_tracked_posterior_converges_to_the_exact_one(scale: float, strength: float, innovation: bool) -> None:
    """Wherever the guidance drives the sample, as long as the push is not taken out of the path."""
    errors = []
    for steps in (25, 200):
        evidence = TransitionEvidence(WORLD.prior, innovation=innovation)
        guidance = DynamicNegativeGuidance(scale, negative_scale=strength, evidence=evidence)
        sampled, points = run(WORLD, guidance, steps, 200, algorithm_type="sde-dpmsolver++", solver_order=1)
        exact = torch.stack([WORLD.log_odds(at.sample, at.alpha, at.sigma).sigmoid() for at in points])
        errors.append(float((sampled.trace.table("posterior") - exact).abs().mean(1).max()))
    assert errors[1] < 0.04, errors
    assert errors[1] < 0.6 * errors[0], errors


def divergence(world: MixtureWorld, y: Tensor, s: float) -> Tensor:
    """s^2 div(score_concept - score_prompt), exactly."""

    def difference(x: Tensor) -> Tensor:
        return (world.concept.score(x[None], 1.0, s) - world.full.score(x[None], 1.0, s))[0]

    return s**2 * torch.stack([torch.autograd.functional.jacobian(difference, x).trace() for x in y])


@pytest.mark.parametrize("s", [0.4, 1.0, 3.0])
def test_the_volume_term_completes_a_deterministic_step(s: float) -> None:
    """With the exact divergence the log-odds follow the guided probability flow, to the second order of the step."""
    world, size = Spiral().world, 1e-5
    y = world.full.sample(range(6)) + s * draw(6, 2, seed=5)
    reached = s * (1 - size)
    for x in y:
        x = x[None]
        prompt = world.full.denoised_and_noise(x, 1.0, s)[1]
        concept = world.concept.denoised_and_noise(x, 1.0, s)[1]
        weight = world.log_odds(x, 1.0, s).exp()
        guided = prompt - weight[:, None] * (concept - prompt)
        evidence = TransitionEvidence(0.3, volume=((s, float(divergence(world, x, s))),))
        first = evidence.update(step(x, s), prompt, concept, evidence.begin(Surroundings(1)))
        kept = evidence.remember(step(x, s), Push(prompt, concept, guided, weight), first.state)
        moved = x + (reached - s) * guided
        after = evidence.update(step(moved, reached), prompt, concept, kept)
        exact = world.log_odds(moved, 1.0, reached) - world.log_odds(x, 1.0, s)
        assert torch.allclose((after.log_odds - first.log_odds) / size, exact / size, rtol=1e-2, atol=1e-2)


def nodes(count: int) -> list[tuple[float, float, object]]:
    scheduler = DPMSolverMultistepScheduler(use_karras_sigmas=True)
    scheduler.set_timesteps(count)
    return [(1 / math.hypot(1, s), s / math.hypot(1, s), 0) for s in scheduler.sigmas[:-1].tolist()]


def test_the_measured_table_is_the_mean_of_the_exact_divergence() -> None:
    world, points = Spiral().world, []

    class Watched(MixtureDenoiser):
        def predict(self, point: Point, branches: tuple[Branch, ...], rows: Tensor | None) -> list[Tensor]:
            points.append(point)
            return super().predict(point, branches, rows)

    table = calibrate_volume(Watched(world), nodes(16), range(200), (2,), prior=world.prior)
    assert [s for s, _ in table] == sorted(s for s, _ in table)
    exact = []
    for at in points[::2]:  # every second evaluation is the probe
        y, s = at.sample.double() / at.alpha, at.sigma / at.alpha
        p = world.log_odds(y, 1.0, s).sigmoid()
        exact.append(float((p * (1 - p) * divergence(world, y, s)).sum() / (p * (1 - p)).sum()))
    ends = [exact[0], *exact, exact[-1]]
    smooth = [(ends[i] + 2 * ends[i + 1] + ends[i + 2]) / 4 for i in range(len(exact))]
    assert min(smooth) < -0.4
    for (s, beta), expected in zip(table, smooth[::-1], strict=True):
        if s < 0.25:
            continue  # hardly an image is undecided, and which ones one noisy probe cannot tell
        assert beta == pytest.approx(expected, abs=0.05 + 0.25 * abs(expected)), s


def test_the_table_repairs_a_deterministic_sampler() -> None:
    """DPM-Solver++(2M), 30 steps: most of what plain tracking leaves is removed, and the target is nearer."""
    table = calibrate_volume(MixtureDenoiser(WORLD), nodes(30), range(64), (16,), prior=WORLD.prior)
    evidences = {
        "tracked": TransitionEvidence(WORLD.prior),
        "volume": TransitionEvidence(WORLD.prior, volume=table),
        "oracle": OracleEvidence(WORLD.log_odds),
    }
    exact, rate, distance = WORLD.target.sample(range(10**6, 10**6 + 800)), {}, {}
    for name, evidence in evidences.items():
        samples = run(WORLD, DynamicNegativeGuidance(1.0, evidence=evidence), 30, 800)[0].samples
        rate[name], distance[name] = WORLD.concept_rate(samples), energy_distance(samples, exact)
    assert rate["volume"] < 0.3 * rate["tracked"], rate
    assert distance["volume"] < distance["tracked"], distance
    assert rate["oracle"] < 0.01, rate


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"volume": ((2.0, -1.0), (1.0, -1.0))}, "volume is .* but must be a table whose levels rise"),
        ({"volume": ((0.0, -1.0),)}, "volume's level is 0.0, but must be a finite number of at least 1e-12"),
        ({"volume": ((1.0, math.nan),)}, "volume's value is nan, but must be a finite number"),
        ({"omega": -1.0}, "omega is -1.0, but must be a finite number of at least 0"),
        ({"prior": 1.0}, "prior is 1.0, but must be between 0 and 1, both excluded"),
        ({"prior": math.nan}, "prior is nan, but must be between 0 and 1"),
        ({"stop_below": -1.0}, "stop_below is -1.0, but must be a finite number of at least 0"),
        ({"temperature": 0.0}, "temperature is 0.0, but must be a finite number of at least 0.001"),
    ],
)
def test_what_is_no_setting(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransitionEvidence(**settings)


def test_a_table_needs_falling_levels() -> None:
    with pytest.raises(ValueError, match=r"levels is .* but must be levels sigma / alpha that fall"):
        calibrate_volume(MixtureDenoiser(WORLD), nodes(4)[::-1], range(4), (16,), prior=0.2)


def test_the_table_is_saved_with_the_guidance(tmp_path) -> None:
    guidance = DynamicNegativeGuidance(evidence=TransitionEvidence(0.2, volume=((0.1, -0.5), (2.0, -1.0)), omega=0.5))
    guidance.save_pretrained(tmp_path)
    assert DynamicNegativeGuidance.from_pretrained(tmp_path) == guidance
