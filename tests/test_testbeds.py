"""The laws of every testbed on the shelf: draws per seed, the prior, the posterior mean, and the posterior as a martingale."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from skeleton_testbed import TwoPoints
from steerclear.core.denoiser import Branch, Point
from steerclear.core.errors import InvalidSetting
from steerclear.core.noise import PREDICTION_TYPES, to_denoised
from steerclear.core.testbed import Testbed
from steerclear.testbeds.scattered import Scattered

DRAWS = range(4000, 8000)
STANDARD_ERRORS = 4.0
LEVELS = [(0.9, math.sqrt(1 - 0.81)), (1.0, 1.5), (0.4, 0.6)]


@pytest.fixture(scope="module", params=[*Testbed.known().values(), TwoPoints], ids=lambda cls: cls.name)
def testbed(request) -> Testbed:
    return request.param()


def near(values: Tensor, expected: float) -> None:
    """The mean of independent values, within what chance allows."""
    error = float(values.std() / math.sqrt(len(values)))
    assert abs(float(values.mean()) - expected) <= STANDARD_ERRORS * max(error, 1e-12)


def noisy(testbed: Testbed, alpha: float, sigma: float) -> tuple[Tensor, Tensor]:
    clean = testbed.draws(DRAWS)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return clean, alpha * clean + sigma * noise


def test_the_shelf() -> None:
    found = {name: entry.__name__ for name, entry in Testbed.known().items()}
    assert found.items() >= {"scattered": "Scattered", "spiral": "Spiral"}.items()


def test_draw_k_depends_on_seed_k_alone(testbed: Testbed) -> None:
    for without in (False, True):
        several = testbed.draws([5, 3, 9], without_concept=without)
        assert several.shape == (3, *testbed.shape)
        assert torch.equal(several[1:2], testbed.draws([3], without_concept=without))


def test_the_share_of_the_concept_is_the_prior(testbed: Testbed) -> None:
    assert 0 < testbed.prior < 1
    near(testbed.log_odds(testbed.draws(DRAWS), 1.0, 0.0).sigmoid(), testbed.prior)


def test_draws_without_the_concept_are_of_the_target(testbed: Testbed) -> None:
    """The odds are pi / (1 - pi) times p(x_t | c) / p(x_t | not c), and the mean of that ratio over p(x_t | not c) is 1."""
    clean = testbed.draws(DRAWS, without_concept=True)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    odds = testbed.log_odds(clean + 4 * noise, 1.0, 4.0).exp()
    near(odds, testbed.prior / (1 - testbed.prior))


@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
def test_the_posterior_is_a_martingale(testbed: Testbed, alpha: float, sigma: float) -> None:
    near(testbed.log_odds(noisy(testbed, alpha, sigma)[1], alpha, sigma).sigmoid(), testbed.prior)


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
def test_the_prediction_is_the_posterior_mean(testbed: Testbed, alpha: float, sigma: float, kind: str) -> None:
    clean, sample = noisy(testbed, alpha, sigma)
    network = testbed.denoiser(kind)
    assert network.exact
    (prediction,) = network.predict(Point(sample, alpha, sigma, 500, 0, 1), (Branch.parse("positive"),), None)
    denoised = to_denoised(prediction, sample, alpha, sigma, network.prediction_type)
    near(((clean - denoised) * denoised).flatten(1).sum(1), 0.0)
    near((clean - denoised).flatten(1).sum(1), 0.0)


def test_a_prediction_type_that_does_not_exist(testbed: Testbed) -> None:
    with pytest.raises(InvalidSetting, match="prediction_type is 'noise'"):
        testbed.denoiser("noise")


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"dimension": 0}, "dimension is 0"), ({"components": 1}, "components is 1"), ({"seed": -1}, "seed is -1")],
)
def test_settings_of_scattered_are_checked(settings: dict, message: str) -> None:
    with pytest.raises(InvalidSetting, match=message):
        Scattered(**settings)


def test_a_new_testbed_is_one_file(announce: Callable[[str, str, str], None]) -> None:
    announce("testbeds", "two-points", "skeleton_testbed")
    assert Testbed.known()["two-points"] is TwoPoints
