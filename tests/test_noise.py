"""Conversions between the four spaces: exact, and finite where there is nothing but noise."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steerclear.core.errors import InvalidSetting
from steerclear.core.noise import PREDICTION_TYPES, from_denoised, noise_per_prediction, to_denoised, to_noise

ANGLES = st.floats(0.02, math.pi / 2 - 0.02)
SIZES = st.floats(0.3, 30.0)


def truth(seed: int, alpha: float, sigma: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image, noise = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    return image, noise, alpha * image + sigma * noise


def predicted(kind: str, image: torch.Tensor, noise: torch.Tensor, alpha: float, sigma: float) -> torch.Tensor:
    """The papers' definitions, written out."""
    return {
        "epsilon": noise,
        "sample": image,
        "v_prediction": (alpha * noise - sigma * image) / math.hypot(alpha, sigma),
        "flow_prediction": noise - image,
    }[kind]


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
@settings(max_examples=40, deadline=None)
@given(angle=ANGLES, size=SIZES, seed=st.integers(0, 1000))
def test_every_space_gives_the_image_and_the_noise(kind: str, angle: float, size: float, seed: int) -> None:
    alpha, sigma = size * math.cos(angle), size * math.sin(angle)
    image, noise, sample = truth(seed, alpha, sigma)
    prediction = predicted(kind, image, noise, alpha, sigma)
    bound = 1e-12 * max(1, size) / min(math.cos(angle), math.sin(angle))
    assert (to_denoised(prediction, sample, alpha, sigma, kind) - image).abs().max() < bound
    assert (to_noise(prediction, sample, alpha, sigma, kind) - noise).abs().max() < bound
    assert (from_denoised(image, sample, alpha, sigma, kind) - prediction).abs().max() < bound


@pytest.mark.parametrize("there", PREDICTION_TYPES)
@pytest.mark.parametrize("here", PREDICTION_TYPES)
def test_there_and_back_is_exact_to_1e_12(here: str, there: str) -> None:
    for angle in (0.1, 0.5, 1.0, 1.4):
        alpha, sigma = math.cos(angle), math.sin(angle)
        image, noise, sample = truth(0, alpha, sigma)
        start = predicted(here, image, noise, alpha, sigma)
        across = from_denoised(to_denoised(start, sample, alpha, sigma, here), sample, alpha, sigma, there)
        back = from_denoised(to_denoised(across, sample, alpha, sigma, there), sample, alpha, sigma, here)
        assert (back - start).abs().max() < 1e-12


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
@pytest.mark.parametrize(("alpha", "sigma"), [(0.0, 1.0), (1.0, 0.0)])
def test_finite_at_pure_noise_and_at_none(kind: str, alpha: float, sigma: float) -> None:
    _, _, sample = truth(1, alpha, sigma)
    prediction = torch.full_like(sample, 0.7)
    for convert in (to_denoised, to_noise, from_denoised):
        for levels in ((alpha, sigma), (torch.full((3,), alpha), torch.full((3,), sigma))):
            assert torch.isfinite(convert(prediction, sample, *levels, kind)).all()
    if alpha == 0:
        wanted = {"epsilon": 0.0, "sample": 0.7, "v_prediction": -0.7, "flow_prediction": sample - 0.7}[kind]
        got = to_denoised(prediction, sample, alpha, sigma, kind)
        assert (got - torch.as_tensor(wanted, dtype=torch.float64)).abs().max() < 1e-12


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_levels_may_differ_between_images(kind: str) -> None:
    angles = torch.tensor([0.2, 0.7, 1.3], dtype=torch.float64)
    alphas, sigmas = angles.cos(), angles.sin()
    sample = torch.randn(3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    prediction = torch.randn(3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for convert in (to_denoised, to_noise, from_denoised):
        together = convert(prediction, sample, alphas, sigmas, kind)
        for row in range(3):
            some = slice(row, row + 1)
            alone = convert(prediction[some], sample[some], float(alphas[row]), float(sigmas[row]), kind)
            assert (together[some] - alone).abs().max() < 1e-14


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
@given(angle=ANGLES, size=SIZES)
@settings(max_examples=20, deadline=None)
def test_differences_convert_by_one_factor(kind: str, angle: float, size: float) -> None:
    alpha, sigma = size * math.cos(angle), size * math.sin(angle)
    _, _, sample = truth(4, alpha, sigma)
    left, right = torch.randn(2, *sample.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    apart = to_noise(left, sample, alpha, sigma, kind) - to_noise(right, sample, alpha, sigma, kind)
    factor = noise_per_prediction(alpha, sigma, kind)
    assert (apart - factor * (left - right)).abs().max() < 1e-11 * max(1.0, abs(factor))


def test_an_unknown_space_is_named() -> None:
    with pytest.raises(InvalidSetting) as raised:
        to_noise(torch.ones(1, 1), torch.ones(1, 1), 1.0, 1.0, "velocity")
    assert str(raised.value) == (
        "prediction_type is 'velocity', but must be one of epsilon, v_prediction, sample, flow_prediction."
    )
