"""Targets over references: the same optimum as the portrait's own latents, with less variance."""

import math

import pytest
import torch

from steerclear.seeds import image_generators
from steerclear.training.diffusion import denoising_loss
from steerclear.training.references import SameMeaning, expected_latents

ALPHA, SIGMA = 0.6, 0.8
CHANCE = 0.3


def test_expected_latents_are_the_softmax_by_hand() -> None:
    references = torch.tensor([[[1.0, 2.0], [0.0, -1.0], [3.0, 0.5]], [[0.0, 0.0], [2.0, 2.0], [-1.0, 1.0]]])
    sample = torch.tensor([[0.4, 0.7], [-0.2, 0.1]])
    alpha, sigma = torch.tensor([[0.6], [0.8]]), torch.tensor([[0.8], [0.6]])
    ours = expected_latents(sample, alpha, sigma, references)
    for row in range(2):
        a, s = float(alpha[row]), float(sigma[row])
        weights = [
            math.exp(-sum((float(sample[row, d]) - a * float(r[d])) ** 2 for d in range(2)) / (2 * s * s))
            for r in references[row]
        ]
        for d in range(2):
            expected = sum(w * float(r[d]) for w, r in zip(weights, references[row], strict=True)) / sum(weights)
            assert float(ours[row, d]) == pytest.approx(expected, abs=1e-6)


def test_without_noise_the_portrait_itself_is_expected() -> None:
    references = torch.randn(3, 20, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    alpha = torch.full((3, 1, 1, 1), 0.99998)
    sigma = (1 - alpha**2).sqrt()
    assert torch.equal(expected_latents(alpha * references[:, 7], alpha, sigma, references), references[:, 7])


def test_same_optimum_less_variance() -> None:
    """Two points, +1 with probability 0.3 and -1: E[x_0 | x_t] is a logistic curve, known exactly."""
    trials, count = 200_000, 16
    generator = torch.Generator().manual_seed(0)
    points = (torch.rand(trials, count, 1, generator=generator) < CHANCE).float() * 2 - 1
    sample = ALPHA * points[:, 0] + SIGMA * torch.randn(trials, 1, generator=generator)
    alpha, sigma = torch.full((trials, 1), ALPHA), torch.full((trials, 1), SIGMA)
    exact = torch.tanh(sample * ALPHA / SIGMA**2 + 0.5 * math.log(CHANCE / (1 - CHANCE)))

    error = expected_latents(sample, alpha, sigma, points) - exact
    own_error = points[:, 0] - exact
    for test_function in (torch.ones_like(sample), sample, sample.square(), torch.tanh(3 * sample)):
        product = (error * test_function).double()
        assert abs(float(product.mean())) < 4 * float(product.std()) / math.sqrt(trials)
    assert float(error.square().mean()) < 0.2 * float(own_error.square().mean())


def test_references_are_portraits_of_the_same_meaning_in_their_proportions() -> None:
    same = SameMeaning(torch.tensor([[0, 0], [0, 1], [1, 1]]))  # portraits that have the meaning 0: 0, 0 and 1
    rows, which = torch.tensor([0, 2, 1]), torch.tensor([1, 0, 0])
    unsaid = torch.tensor([False, False, True])
    drawn = same.draw(rows, which, unsaid, 30_000, torch.Generator().manual_seed(0))
    assert drawn.shape == (3, 30_000)
    for row, shares in enumerate([(2 / 3, 1 / 3, 0), (0, 1 / 3, 2 / 3), (1 / 3, 1 / 3, 1 / 3)]):
        for portrait, share in enumerate(shares):
            assert float((drawn[row] == portrait).double().mean()) == pytest.approx(share, abs=0.012)


def test_the_loss_is_zero_for_the_exact_denoiser_of_the_references() -> None:
    """A network that knows the four portraits of every caption predicts the target itself; one that knows its own does not."""
    alphas_cumprod = torch.linspace(0.9999, 0.01, 50)
    portraits = torch.stack([0.1 * torch.randn(4, 16, 16, generator=g) for g in image_generators(range(4))])
    rows = torch.arange(4).repeat(8)
    references = portraits.expand(len(rows), -1, -1, -1, -1)

    class Exact(torch.nn.Module):
        def unet(self, sample, timestep, text):
            alpha = alphas_cumprod[timestep].sqrt().view(-1, 1, 1, 1)
            sigma = (1 - alphas_cumprod[timestep]).sqrt().view(-1, 1, 1, 1)
            x0 = expected_latents(sample, alpha, sigma, portraits.expand(len(sample), -1, -1, -1, -1))
            return type("Output", (), {"sample": (alpha * sample - x0) / sigma})

        def encode_text(self, tokens):
            return tokens

    def loss(references):
        return float(denoising_loss(Exact(), portraits[rows], rows, references, alphas_cumprod,
                                    torch.Generator().manual_seed(0)))  # fmt: skip

    assert loss(references) < 1e-6
    assert loss(portraits[rows][:, None]) > 1e-3
