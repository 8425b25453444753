"""The exact world is exact: against autograd, against draws, against Bayes by brute force."""

import math

import pytest
import torch
from torch import Tensor

from steerclear.core.denoiser import Branch, Point
from steerclear.core.noise import PREDICTION_TYPES, to_denoised, to_noise
from steerclear.testbeds.mixture import Mixture, MixtureDenoiser, MixtureWorld
from steerclear.testbeds.scattered import Scattered
from steerclear.testbeds.spiral import Spiral

LEVELS = [(1.0, 0.0), (0.8, 0.6), (0.1, 0.995), (0.0, 1.0), (1.0, 20.0), (0.3, 0.7)]
WORLDS = {"full": Spiral().world, "isotropic": Scattered(5).world}
SOFT = MixtureWorld(Spiral().world.full, torch.linspace(0, 0.9, 10))


@pytest.fixture(params=WORLDS)
def world(request) -> MixtureWorld:
    return WORLDS[request.param]


def noisy(world: MixtureWorld, alpha: float, sigma: float, count: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    clean = world.full.sample(range(count))
    return alpha * clean + sigma * torch.randn(clean.shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
def test_the_score_is_the_gradient_of_the_log_density(world: MixtureWorld, alpha: float, sigma: float) -> None:
    x = noisy(world, alpha, sigma).requires_grad_()
    (gradient,) = torch.autograd.grad(world.full.log_density(x, alpha, sigma).sum(), x)
    score = world.full.score(x, alpha, sigma)
    assert torch.allclose(score, gradient, rtol=1e-10, atol=1e-10)


def test_the_density_is_that_of_torch(world: MixtureWorld) -> None:
    mixture, (alpha, sigma) = world.full, (0.8, 0.6)
    x, terms = noisy(world, alpha, sigma), []
    eye = torch.eye(mixture.dimension, dtype=torch.float64)
    for k, weight in enumerate(mixture.log_weights):
        axes = eye if mixture.axes is None else mixture.axes[k]
        covariance = alpha**2 * axes @ torch.diag(mixture.variances[k]) @ axes.mT + sigma**2 * eye
        normal = torch.distributions.MultivariateNormal(alpha * mixture.means[k], covariance)
        terms.append(weight + normal.log_prob(x))
    assert torch.allclose(mixture.log_density(x, alpha, sigma), torch.stack(terms).logsumexp(0), rtol=1e-12)


@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
def test_the_denoised_image_is_tweedies(world: MixtureWorld, alpha: float, sigma: float) -> None:
    x = noisy(world, alpha, sigma)
    denoised, noise = world.full.denoised_and_noise(x, alpha, sigma)
    assert torch.isfinite(denoised).all()
    assert torch.isfinite(noise).all()
    assert torch.allclose(noise, -sigma * world.full.score(x, alpha, sigma), atol=1e-12)
    assert torch.allclose(alpha * denoised + sigma * noise, x, atol=1e-12)
    if alpha == 0:
        assert torch.allclose(denoised, world.full.moments()[0].expand_as(denoised), atol=1e-12)


def test_the_denoised_image_is_the_mean_of_weighted_draws(world: MixtureWorld) -> None:
    alpha, sigma = 0.5, 0.8
    x, draws = noisy(world, alpha, sigma, 3), world.full.sample(range(1000, 9000))
    for row, expected in zip(x, world.full.denoised(x, alpha, sigma), strict=True):
        weights = (-((row - alpha * draws) ** 2).sum(1) / (2 * sigma**2)).softmax(0)
        mean = weights @ draws
        error = ((weights**2) @ (draws - mean) ** 2).sqrt()
        assert ((mean - expected).abs() < 4.5 * error).all()


@pytest.mark.parametrize("world_", [*WORLDS.values(), SOFT], ids=["full", "isotropic", "soft"])
@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
def test_the_posterior_is_bayes(world_: MixtureWorld, alpha: float, sigma: float) -> None:
    x = noisy(world_, alpha, sigma)
    inside = world_.concept.log_density(x, alpha, sigma) + math.log(world_.prior)
    outside = world_.target.log_density(x, alpha, sigma) + math.log1p(-world_.prior)
    odds = world_.log_odds(x, alpha, sigma)
    assert odds.dtype == torch.float64
    assert odds.shape == (len(x),)
    assert torch.allclose(odds, inside - outside, rtol=1e-9, atol=1e-9)
    assert torch.allclose(torch.logaddexp(inside, outside), world_.full.log_density(x, alpha, sigma), rtol=1e-10)
    if alpha == 0:
        assert torch.allclose(odds.sigmoid(), torch.tensor(world_.prior, dtype=torch.float64))


def test_the_guided_score_of_the_theory_is_that_of_the_target() -> None:
    """s_p - w (s_c - s_p) with w the odds is the score of p(x | not c)."""
    for alpha, sigma in ((0.8, 0.6), (0.3, 0.95)):
        x = noisy(SOFT, alpha, sigma)
        p, c = SOFT.full.score(x, alpha, sigma), SOFT.concept.score(x, alpha, sigma)
        odds = SOFT.log_odds(x, alpha, sigma).exp()[:, None]
        assert torch.allclose(p - odds * (c - p), SOFT.target.score(x, alpha, sigma), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("which", ["full", "concept", "target"])
def test_draws_have_the_moments_of_the_mixture(world: MixtureWorld, which: str) -> None:
    mixture = getattr(world, which)
    draws, (mean, covariance) = mixture.sample(range(6000)), mixture.moments()
    error = (covariance.diagonal() / len(draws)).sqrt()
    assert ((draws.mean(0) - mean).abs() < 4.5 * error).all()
    products = torch.einsum("nd,ne->nde", draws - mean, draws - mean)
    assert ((products.mean(0) - covariance).abs() < 4.5 * products.std(0) / len(draws) ** 0.5).all()


def test_draw_k_depends_on_seed_k_alone(world: MixtureWorld) -> None:
    together = world.full.sample([5, 2, 9])
    assert torch.equal(together[1:2], world.full.sample([2]))
    assert torch.equal(together.flip(0), world.full.sample([9, 2, 5]))


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
@pytest.mark.parametrize(("alpha", "sigma"), [(0.8, 0.6), (0.3, 0.7), (1.0, 5.0)])
def test_every_space_says_the_same(world: MixtureWorld, kind: str, alpha: float, sigma: float) -> None:
    x, network = noisy(world, alpha, sigma), MixtureDenoiser(world, kind)
    (prediction,) = network.predict(Point(x, alpha, sigma, 0, 0, 1), (Branch.parse("positive"),), None)
    denoised, noise = world.full.denoised_and_noise(x, alpha, sigma)
    assert torch.allclose(to_denoised(prediction, x, alpha, sigma, kind), denoised, atol=1e-10)
    assert torch.allclose(to_noise(prediction, x, alpha, sigma, kind), noise, atol=1e-10)


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_image_k_of_a_batch_is_image_k_alone(world: MixtureWorld, kind: str) -> None:
    """Also with a level for each image, with rows, and at both ends of the noise."""
    alpha = torch.tensor([0.0, 0.6, 1.0, 0.3], dtype=torch.float64)
    sigma = torch.tensor([1.0, 0.8, 0.0, 0.9], dtype=torch.float64)
    x, network = noisy(world, 1.0, 1.0, 4), MixtureDenoiser(world, kind)
    branches = tuple(Branch.parse(name) for name in ("positive", "empty", "negative", "conjunction", "weak:positive"))
    together = network.predict(Point(x, alpha, sigma, 0, 0, 1), branches, None)
    rows = torch.tensor([3, 1])
    some = network.predict(Point(x, alpha, sigma, 0, 0, 1), branches, rows)
    for k in range(4):
        level = (float(alpha[k]), float(sigma[k]))
        alone = network.predict(Point(x[k : k + 1], *level, 0, 0, 1), branches, None)
        for one, other in zip(together, alone, strict=True):
            assert torch.isfinite(one).all()
            assert torch.allclose(one[k], other[0], rtol=1e-12, atol=1e-12)
    for one, other in zip(together, some, strict=True):
        assert torch.allclose(one[rows], other, rtol=1e-12, atol=1e-12)


def test_images_may_have_any_shape_and_precision() -> None:
    world = Scattered(12).world
    x = noisy(world, 0.8, 0.6)
    point = Point(x.float().reshape(-1, 3, 2, 2), 0.8, 0.6, 0, 0, 1)
    (prediction,) = MixtureDenoiser(world).predict(point, (Branch.parse("positive"),), None)
    assert prediction.shape == (6, 3, 2, 2)
    assert prediction.dtype == torch.float32
    assert torch.allclose(prediction.flatten(1).double(), world.full.denoised_and_noise(x, 0.8, 0.6)[1], atol=1e-5)


def test_branches_show_what_they_say() -> None:
    world = Spiral().world
    other = Mixture.isotropic([1.0], torch.tensor([[3.0, 3.0]]), 1.0)
    plain, foreign = MixtureDenoiser(world), MixtureDenoiser(world, negatives=(other, world.concept))
    assert plain.mixture(Branch.parse("negative")) is world.concept is plain.mixture(Branch.parse("conjunction"))
    assert foreign.mixture(Branch.parse("negative")) is other
    assert foreign.mixture(Branch.parse("negative_2")) is foreign.mixture(Branch.parse("conjunction")) is world.concept
    weak = plain.mixture(Branch.parse("weak:positive"))
    assert torch.equal(weak.variances, 2 * world.full.variances)
    with pytest.raises(ValueError, match="condition is 'negative_2', but must be one of 1 negatives of this world"):
        plain.mixture(Branch.parse("negative_2"))
    with pytest.raises(ValueError, match="network is 'other', but must be one of main, weak"):
        plain.mixture(Branch.parse("other:positive"))


def test_any_named_network_has_its_own_width() -> None:
    world = Spiral().world
    network = MixtureDenoiser(world, networks={"weak": 2.0, "perturbed": 3.0})
    perturbed = network.mixture(Branch.parse("perturbed:negative"))
    assert torch.equal(perturbed.variances, 3 * world.concept.variances)
    assert torch.equal(perturbed.means, world.concept.means)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: MixtureWorld(WORLDS["full"].full, torch.ones(10)),
            "membership is .* but must be one number from 0 to 1",
        ),
        (lambda: MixtureWorld(WORLDS["full"].full, torch.zeros(10)), "not all 0 and not all 1"),
        (lambda: MixtureWorld(WORLDS["full"].full, torch.ones(3)), "one number from 0 to 1 per component"),
        (lambda: Mixture.isotropic([1.0, -1.0], torch.zeros(2, 2), 1.0), "weights is .* but must be above 0"),
        (lambda: Mixture.isotropic([1.0], torch.zeros(1, 2), 0.0), "deviation is 0.0, but must be above 0"),
        (lambda: Mixture.full([1.0], torch.zeros(1, 2), -torch.eye(2)[None]), "must be positive definite"),
        (lambda: MixtureDenoiser(WORLDS["full"], "noise"), "prediction_type is 'noise', but must be one of epsilon"),
    ],
)
def test_what_is_no_world(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
