"""Safe Latent Diffusion, against diffusers' own pipeline and against its equations written out."""

import math

import pytest
import torch
from diffusers.pipelines.deprecated.stable_diffusion_safe.pipeline_stable_diffusion_safe import (
    StableDiffusionPipelineSafe,
)
from torch import Tensor

import laws
from steerclear.core.denoiser import Point
from steerclear.core.errors import InvalidSetting
from steerclear.core.evidence import Surroundings
from steerclear.core.guidance import negative_has_no_effect
from steerclear.core.noise import PREDICTION_TYPES, noise_per_prediction
from steerclear.core.records import Step
from steerclear.guidance.safe_latent import SafeLatentGuidance

SHAPE = (3, 2, 4, 4)
PRESETS = {
    "weak": {"safety_scale": 200.0, "threshold": 0.0, "warmup_steps": 15, "momentum_scale": 0.0, "momentum_beta": 0.0},
    "medium": {
        "safety_scale": 1000.0,
        "threshold": 0.01,
        "warmup_steps": 10,
        "momentum_scale": 0.3,
        "momentum_beta": 0.4,
    },
    "strong": {
        "safety_scale": 2000.0,
        "threshold": 0.025,
        "warmup_steps": 7,
        "momentum_scale": 0.5,
        "momentum_beta": 0.7,
    },
    "max": {"safety_scale": 5000.0, "threshold": 1.0, "warmup_steps": 0, "momentum_scale": 0.5, "momentum_beta": 0.7},
}


def drawn(count: int, seed: int = 0, *, spread: float = 0.01) -> list[list[Tensor]]:
    """Predictions (empty, positive, negatives ...) of 20 steps; close to each other, so that mu lies between 0 and 1 too."""
    generator = torch.Generator().manual_seed(seed)
    return [
        [spread * torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in range(count)] for _ in range(20)
    ]


def step_of(predictions: list[Tensor], index: int, kind: str = "epsilon", *, substep: bool = False) -> Step:
    names = ("empty", "positive", "negative", "negative_2")
    known = dict(zip(names, predictions, strict=False))
    at = Point(torch.zeros(SHAPE, dtype=torch.float64), 0.8, 0.6, 500, index, 20, substep)
    return Step(at, kind, len(predictions) - 2, lambda asked, rows: [known[name] for name in asked])


def along(guidance: SafeLatentGuidance, steps: list[list[Tensor]], kind: str = "epsilon") -> Tensor:
    state, found = guidance.begin(Surroundings(len(steps[0][0]), len(steps[0]) - 2)), []
    for index, predictions in enumerate(steps):
        guided = guidance(step_of(predictions, index, kind), state)
        state = guided.state
        found.append(guided.prediction)
    return torch.stack(found)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_presets_are_diffusers_own_pipeline(preset: str) -> None:
    own, momentum, expected = PRESETS[preset], None, []
    steps = drawn(3)
    for index, (empty, positive, negative) in enumerate(steps):
        guidance, momentum = StableDiffusionPipelineSafe.perform_safety_guidance(
            None, True, momentum, positive - empty, [positive, empty, negative], index, own["safety_scale"],
            own["warmup_steps"], own["threshold"], own["momentum_scale"], own["momentum_beta"],
        )  # fmt: skip
        expected.append(empty + 7.5 * guidance)
    found = along(SafeLatentGuidance(7.5, **own), steps)
    assert laws.largest(found - torch.stack(expected)) < 1e-14
    plain = along(SafeLatentGuidance(7.5, safety_scale=0.0), steps)
    changed = (found - plain).abs().flatten(1).amax(1) > 1e-6
    assert changed.tolist() == [index >= own["warmup_steps"] for index in range(20)]


def test_every_number_by_the_equations() -> None:
    """Two negatives, one number at a time, in Python's own arithmetic."""
    w, s, threshold, delay, scale, beta = 2.0, 60.0, 0.004, 3, 0.4, 0.6
    steps = drawn(4, 1)
    found = along(
        SafeLatentGuidance(
            w, safety_scale=s, threshold=threshold, warmup_steps=delay, momentum_scale=scale, momentum_beta=beta
        ),
        steps,
    )
    kinds = set()
    for place in [(0, 0, 0, 0), (1, 1, 2, 3), (2, 0, 3, 1), (2, 1, 1, 1)]:
        momenta = [0.0, 0.0]
        for index, predictions in enumerate(steps):
            empty, positive, *negatives = (float(one[place]) for one in predictions)
            total = 0.0
            for number, negative in enumerate(negatives):
                mu = min(1.0, s * abs(positive - negative)) if positive - negative < threshold else 0.0
                kinds.add(0 if mu == 0 else 1 if mu == 1 else 0.5)
                push = mu * (negative - empty) + scale * momenta[number]
                momenta[number] = beta * momenta[number] + (1 - beta) * push
                total += push if index >= delay else 0.0
            assert math.isclose(float(found[(index, *place)]), empty + w * (positive - empty - total), abs_tol=1e-15)
    assert kinds == {0, 0.5, 1}


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_the_whole_path_is_the_same_in_every_prediction_type(kind: str) -> None:
    """The predictions of one world, given in each space: the push, and its momentum, are of the noise."""
    guidance = SafeLatentGuidance(3.0, warmup_steps=2, momentum_scale=0.5, momentum_beta=0.7)
    steps = drawn(3, 2)
    factor = float(noise_per_prediction(0.8, 0.6, kind))
    own = [[noise / factor for noise in predictions] for predictions in steps]
    assert laws.largest(along(guidance, own, kind) * factor - along(guidance, steps)) < 1e-14


def test_the_momentum_is_that_of_points_that_are_kept() -> None:
    guidance = SafeLatentGuidance(3.0, warmup_steps=0)
    first, second, third = drawn(3, 3)[:3]
    start = guidance.begin(Surroundings(3, 1))
    kept = guidance(step_of(first, 0), start).state
    assert guidance(step_of(second, 0, substep=True), kept).state is kept
    after = guidance(step_of(third, 1), kept).prediction
    assert torch.equal(after, along(guidance, [first, third])[1])


def test_the_trace_says_how_much_is_pushed() -> None:
    guidance = SafeLatentGuidance(2.0, safety_scale=1e15, threshold=0.0, warmup_steps=1, momentum_scale=0.0)
    steps = drawn(3, 4)
    before, after = (guidance(step_of(steps[0], index), guidance.begin(Surroundings(3, 1))) for index in (0, 1))
    _, positive, negative = steps[0]
    assert before.info["weight"].tolist() == before.info["push_norm"].tolist() == [0.0, 0.0, 0.0]
    assert torch.equal(after.info["weight"], (positive < negative).double().flatten(1).mean(1))
    pushed = (after.prediction - before.prediction).flatten(1).norm(dim=1)
    torch.testing.assert_close(after.info["push_norm"], pushed, rtol=1e-12, atol=0)


def test_at_pure_noise_there_is_no_push() -> None:
    """There a network that predicts v says nothing of the noise, and no momentum can be turned into a prediction."""
    guidance = SafeLatentGuidance(3.0, warmup_steps=0)
    (empty, positive, negative), *_ = drawn(3)
    known = {"empty": empty, "positive": positive, "negative": negative}
    at = Point(torch.zeros(SHAPE, dtype=torch.float64), 0.0, 1.0, 999, 0, 20)
    step = Step(at, "v_prediction", 1, lambda asked, rows: [known[name] for name in asked])
    found = guidance(step, guidance.begin(Surroundings(3, 1)))
    assert torch.equal(found.prediction, empty + 3.0 * (positive - empty))


def test_a_warm_up_that_is_too_long_is_said() -> None:
    levels = [10.0, 5.0, 1.0]
    said = SafeLatentGuidance().has_no_step(levels)
    assert said == "warmup_steps=10 leaves none of the 3 steps to the push away from the negative; set it lower"
    assert SafeLatentGuidance(warmup_steps=2).has_no_step(levels) is None
    assert SafeLatentGuidance(warmup_steps=2).has_no_step(levels, [0, 1]) is not None
    assert SafeLatentGuidance(safety_scale=0.0).has_no_step(levels) is None
    assert negative_has_no_effect(SafeLatentGuidance(safety_scale=0.0)) == "safety_scale is 0"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"safety_scale": -1.0}, "safety_scale is -1.0, but must be a finite number of at least 0."),
        ({"threshold": math.inf}, "threshold is inf, but must be a finite number."),
        ({"warmup_steps": -1}, "warmup_steps is -1, but must be a whole number of at least 0."),
        ({"warmup_steps": 1.5}, "warmup_steps is 1.5, but must be a whole number of at least 0."),
        ({"momentum_scale": 1.5}, "momentum_scale is 1.5, but must be a finite number from 0 to 1."),
        ({"momentum_beta": 1.0}, "momentum_beta is 1.0, but must be below 1; at 1 the momentum stays 0."),
    ],
)
def test_what_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        SafeLatentGuidance(**settings)
    assert str(caught.value) == message
