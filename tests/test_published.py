"""The published posterior is the authors' release, written out here from its formulas, along whole trajectories."""

import math
from dataclasses import replace

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from steerclear.core.denoiser import Branch, Point
from steerclear.core.errors import InvalidSetting
from steerclear.core.records import Trace
from steerclear.core.sampling import sample
from steerclear.evidence.published import PublishedEvidence
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.testbeds.mixture import MixtureDenoiser
from steerclear.testbeds.scattered import Scattered

WORLD = Scattered(6).world
STEPS, IMAGES = 60, 5


def visited(guidance: DynamicNegativeGuidance) -> tuple[list[Tensor], list[Tensor], Trace, DDPMScheduler]:
    """Every point of a DDPM trajectory with fixed_large noise, as the release samples, and what the scheduler was given."""
    points: list[Tensor] = []
    given: list[Tensor] = []

    class Watched(MixtureDenoiser):
        def predict(self, point: Point, branches: tuple[Branch, ...], rows: Tensor | None) -> list[Tensor]:
            points.append(point.sample)
            return super().predict(point, branches, rows)

    class RecordingDDPM(DDPMScheduler):
        def step(self, model_output, timestep, sample, generator=None, return_dict=True):
            given.append(model_output)
            return super().step(model_output, timestep, sample, generator, return_dict)

    scheduler = RecordingDDPM(STEPS, beta_start=1e-3, beta_end=0.2, variance_type="fixed_large", clip_sample=False)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    sampled = sample(
        Watched(WORLD), guidance, scheduler, range(IMAGES), (WORLD.full.dimension,), num_inference_steps=STEPS,
        negatives=1, dtype=torch.float64,
    )  # fmt: skip
    return points, given, sampled.trace, scheduler


def released(
    points: list[Tensor], scheduler: DDPMScheduler, scale: float, settings: dict
) -> tuple[Tensor, list[Tensor]]:
    """The release's posterior and guided noise at each point, from its published update.

    p <- clamp(p exp((-T (|x - mu_c|^2 - |x - mu|^2) + offset) / (2 v)), p_min, p_max), with the ancestral means mu and
    variance v = (1 - abar_{t-1}) / (1 - abar_t) beta_t, and the guided noise e - scale p / (1 - p) (e_c - e).
    """
    p = torch.full((IMAGES,), settings["prior"], dtype=torch.float64)
    posteriors, guided = [], []
    for index, x in enumerate(points):
        t = STEPS - 1 - index
        bar = scheduler.alphas_cumprod[t]
        e = WORLD.full.denoised_and_noise(x, float(bar.sqrt()), float((1 - bar).sqrt()))[1]
        e_concept = WORLD.concept.denoised_and_noise(x, float(bar.sqrt()), float((1 - bar).sqrt()))[1]
        posteriors.append(p)
        guided.append(e - scale * (p / (1 - p))[:, None] * (e_concept - e))
        if t == 0:
            break
        before = scheduler.alphas_cumprod[t - 1]
        alpha = bar / before
        variance = (1 - before) / (1 - bar) * (1 - alpha)

        def mean(noise: Tensor, x: Tensor = x, alpha: Tensor = alpha, bar: Tensor = bar) -> Tensor:
            return (x - (1 - alpha) / (1 - bar).sqrt() * noise) / alpha.sqrt()

        reached = points[index + 1]
        apart = (reached - mean(e_concept)).square().sum(1) - (reached - mean(e)).square().sum(1)
        p = p * torch.exp((-settings["temperature"] * apart + settings["offset"]) / (2 * variance))
        p = p.clamp(settings["lowest"], settings["highest"])
    return torch.stack(posteriors), guided


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize(
    "settings",
    [{}, {"prior": 0.01, "temperature": 0.2, "offset": 2e-4, "highest": 0.8}, {"lowest": 1e-3, "highest": 0.9999}],
    ids=["defaults", "its example for CIFAR-10", "other clamps"],
)
def test_posterior_and_push_are_the_releases(scale: float, settings: dict) -> None:
    evidence = PublishedEvidence(**{"prior": 0.2} | settings)
    points, given, trace, scheduler = visited(DynamicNegativeGuidance(1.0, negative_scale=scale, evidence=evidence))
    its = {name: getattr(evidence, name) for name in ("prior", "temperature", "offset", "lowest", "highest")}
    posterior, guided = released(points, scheduler, scale, its)
    # the trace keeps float32
    assert torch.allclose(trace.table("posterior").double(), posterior, rtol=1e-6, atol=1e-9)
    assert float((torch.stack(given) - torch.stack(guided)).abs().max()) < 1e-9 * float(torch.stack(guided).abs().max())
    assert float(posterior.max() / posterior.min()) > 3  # it did move


def test_what_is_ours_is_an_option() -> None:
    """The start of the transition evidence, and the trust region that holds a push to the length of noise."""
    plain = PublishedEvidence(0.2)
    moved = [
        visited(DynamicNegativeGuidance(1.0, evidence=evidence))[2].table("posterior")[0]
        for evidence in (plain, replace(plain, start="nearer"))
    ]
    assert torch.equal(moved[0], torch.full((IMAGES,), 0.2))
    assert float((torch.logit(moved[1]) - torch.logit(moved[0])).abs().max()) > 0.01
    sure = replace(plain, prior=0.999, highest=0.9999, lowest=0.9998)
    weights = {
        region: visited(DynamicNegativeGuidance(1.0, evidence=replace(sure, trust_region=region)))[2].table("weight")
        for region in (False, True)
    }
    assert float(weights[False].max()) == pytest.approx(4999, rel=1e-3)
    assert float(weights[True].max()) <= 99


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prior": 0.0}, "prior is 0.0, but must be between 0 and 1, both excluded."),
        ({"temperature": -1.0}, "temperature is -1.0, but must be a finite number of at least 0."),
        ({"offset": math.inf}, "offset is inf, but must be a finite number."),
        ({"highest": 1.0}, "highest is 1.0, but must be between 0 and 1, both excluded."),
        ({"lowest": 0.99}, "lowest is 0.99, but must be below highest (0.99)."),
        ({"start": "later"}, "start is 'later', but must be prior or nearer."),
    ],
)
def test_what_is_no_setting(settings: dict, message: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        PublishedEvidence(**settings)
    assert str(caught.value) == message
