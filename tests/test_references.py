"""Targets over references: the same optimum as the portrait's own latents, with less variance."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from steerclear.seeds import image_generators
from steerclear.training import portraits
from steerclear.training.diffusion import EMPTY_PROMPT, denoising_loss
from steerclear.training.loop import Schedule
from steerclear.training.portraits import Workshop
from steerclear.training.presets import PRESETS
from steerclear.training.references import REFERENCES, SameMeaning, expected_latents

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
    latents = torch.stack([0.1 * torch.randn(4, 16, 16, generator=g) for g in image_generators(range(4))])
    rows = torch.arange(4).repeat(8)
    references = latents.expand(len(rows), -1, -1, -1, -1)

    class Exact(torch.nn.Module):
        def unet(self, sample, timestep, text):
            alpha = alphas_cumprod[timestep].sqrt().view(-1, 1, 1, 1)
            sigma = (1 - alphas_cumprod[timestep]).sqrt().view(-1, 1, 1, 1)
            x0 = expected_latents(sample, alpha, sigma, latents.expand(len(sample), -1, -1, -1, -1))
            return type("Output", (), {"sample": (alpha * sample - x0) / sigma})

        def encode_text(self, tokens):
            return tokens

    def loss(references):
        return float(denoising_loss(Exact(), latents[rows], rows, references, alphas_cumprod,
                                    torch.Generator().manual_seed(0)))  # fmt: skip

    assert loss(references) < 1e-6
    assert loss(latents[rows][:, None]) > 1e-3


def test_a_denoiser_is_taught_by_portraits_of_the_same_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Portraits are numbers here: what each row was told, and which portraits it was compared with."""
    schedule = Schedule(1, 64, 1e-3)
    workshop = Workshop(tmp_path, replace(PRESETS["cpu"], images=20, captions_each=2), 0, "cpu", lambda progress: None)
    captions = [
        ["a man", "photo of a man"] if k < 10 else ["portrait of a man", "a man with glasses"] for k in range(20)
    ]
    said = {"a man": 1, "photo of a man": 2, "portrait of a man": 3, "a man with glasses": 4}
    vars(workshop).update(  # in the place of what would be drawn and encoded
        captions=captions,
        tokens=torch.tensor([[[said[text]] for text in row] for row in captions]),
        latents=torch.arange(20.0).view(20, 1, 1, 1),
    )
    monkeypatch.setattr(Workshop, "_tokens", lambda self, texts: torch.zeros(len(texts), 1, dtype=torch.long))
    given: list[tuple[Tensor, Tensor, Tensor]] = []

    def loss(model: object, latents: Tensor, tokens: Tensor, references: Tensor, *rest: object) -> None:
        given.append((latents.flatten().long(), tokens.flatten(), references.flatten(1).long()))

    def steps(
        stage: str, model: object, loss_of: Callable[[int, torch.Generator], None], *rest: object, **more: object
    ) -> None:
        for step in range(50):
            loss_of(step, torch.Generator().manual_seed(step))

    monkeypatch.setattr(portraits.diffusion, "denoising_loss", loss)
    monkeypatch.setattr(portraits, "train", steps)
    workshop._train_denoiser("denoiser", torch.nn.Linear(1, 1), schedule)  # type: ignore[arg-type]  # never called

    own, told, references = (torch.cat(parts) for parts in zip(*given, strict=True))
    assert references.shape == (50 * 64, REFERENCES)
    assert torch.equal(references[:, 0], own)
    shares = {
        0: 0.5,
        1: 2 / 3,
        2: 2 / 3,
        3: 2 / 3,
        4: 0.0,
    }  # of portraits below 10, which have two of three captions "a man"
    for token, share in shares.items():
        rows = told == token
        assert float((references[rows, 1:] < 10).double().mean()) == pytest.approx(share, abs=0.02)
    assert float((told == 0).double().mean()) == pytest.approx(EMPTY_PROMPT, abs=0.02)
    captioned = {1: own < 10, 2: own < 10, 3: own >= 10, 4: own >= 10}
    assert all(bool(captioned[token][told == token].all()) for token in captioned)
