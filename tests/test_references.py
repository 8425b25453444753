"""Targets over references: the same optimum as the portrait's own latents, with less variance."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from steerclear.core.seeds import image_generators
from steerclear.testbeds.portraits import attribute_rates, sample
from steerclear.training import data, portraits
from steerclear.training.diffusion import EMPTY_PROMPT, TextToLatents, denoising_loss
from steerclear.training.loop import Schedule
from steerclear.training.metric import error_metric
from steerclear.training.portraits import Workshop
from steerclear.training.presets import PRESETS
from steerclear.training.references import REFERENCES, Families, expected_latents

ALPHA, SIGMA = 0.6, 0.8
CHANCE, SIBLING_CHANCE = 0.3, 0.8


def test_expected_latents_are_the_softmax_by_hand() -> None:
    references = torch.tensor([[[1.0, 2.0], [0.0, -1.0], [3.0, 0.5]], [[0.0, 0.0], [2.0, 2.0], [-1.0, 1.0]]])
    chances = [[0.5, 0.2, 0.3], [0.1, 0.0, 0.9]]
    sample = torch.tensor([[0.4, 0.7], [-0.2, 0.1]])
    alpha, sigma = torch.tensor([[0.6], [0.8]]), torch.tensor([[0.8], [0.6]])
    ours = expected_latents(sample, alpha, sigma, references, torch.tensor(chances).log())
    for row in range(2):
        a, s = float(alpha[row]), float(sigma[row])
        weights = [
            chance * math.exp(-sum((float(sample[row, d]) - a * float(r[d])) ** 2 for d in range(2)) / (2 * s * s))
            for chance, r in zip(chances[row], references[row], strict=True)
        ]
        for d in range(2):
            expected = sum(w * float(r[d]) for w, r in zip(weights, references[row], strict=True)) / sum(weights)
            assert float(ours[row, d]) == pytest.approx(expected, abs=1e-6)


def test_without_noise_the_portrait_itself_is_expected() -> None:
    references = torch.randn(3, 20, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    alpha = torch.full((3, 1, 1, 1), 0.99998)
    sigma = (1 - alpha**2).sqrt()
    expected = expected_latents(alpha * references[:, 7], alpha, sigma, references, torch.zeros(3, 20))
    assert torch.equal(expected, references[:, 7])


def test_same_optimum_less_variance() -> None:
    """Families of a point and its opposite in the first place; the second is +1 with probability 0.3.

    The sign of the first is + with probability 0.8, and known for a family; so E[x_0 | x_t] is a logistic curve in each
    place, known exactly.
    """
    trials, count = 100_000, 8
    generator = torch.Generator().manual_seed(0)
    second = (torch.rand(trials, count, generator=generator) < CHANCE).float() * 2 - 1
    first = (torch.rand(trials, count, generator=generator) < SIBLING_CHANCE).float() * 2 - 1
    own = torch.stack([first, second], dim=2)
    members = torch.stack([own, own * torch.tensor([-1.0, 1.0])], dim=2)  # [trials, count, 2 members, 2 places]
    likely = torch.where(first > 0, SIBLING_CHANCE, 1 - SIBLING_CHANCE)
    log_weight = torch.stack([likely, 1 - likely], dim=2).log()
    sample = ALPHA * own[:, 0] + SIGMA * torch.randn(trials, 2, generator=generator)
    alpha, sigma = torch.full((trials, 1), ALPHA), torch.full((trials, 1), SIGMA)
    prior = torch.tensor([math.log(SIBLING_CHANCE / (1 - SIBLING_CHANCE)), math.log(CHANCE / (1 - CHANCE))])
    exact = torch.tanh(sample * ALPHA / SIGMA**2 + 0.5 * prior)

    error = expected_latents(sample, alpha, sigma, members.flatten(1, 2), log_weight.flatten(1)) - exact
    own_error = own[:, 0] - exact
    assert float(error[:, 0].abs().max()) < 1e-5  # what the siblings differ in is known, with its probability
    for test_function in (torch.ones_like(sample), sample, sample.flip(1), sample.square(), torch.tanh(3 * sample)):
        product = (error * test_function)[:, 1].double()
        assert abs(float(product.mean())) < 4 * float(product.std()) / math.sqrt(trials)
    assert float(error[:, 1].square().mean()) < 0.3 * float(own_error[:, 1].square().mean())


def three_families() -> Families:
    """Portraits 0, 1 and 2, whose siblings are 10 more; the captions of two meanings, each with a weight of its own."""
    members = torch.stack([torch.arange(3.0), torch.arange(3.0) + 10], dim=1)[:, :, None]
    told = torch.tensor([[0.9, 0.6], [0.5, 0.2], [0.3, 0.7]])  # of the portrait itself, by caption
    unsaid = torch.tensor([0.8, 0.4, 0.1])
    weights = torch.tensor([[1.0, 1.0], [2.0, 0.5], [0.0, 1.5]])
    return Families(
        members, torch.tensor([[0, 0], [0, 1], [1, 1]]), weights,
        *(torch.stack([p, 1 - p], -1).log() for p in (told, unsaid)),
    )  # fmt: skip


# by what is said, 0, 1 or nothing: how often each portrait comes, with the chance of its own that it brings
DRAWN = [{(0, 0.9): 1 / 4, (0, 0.6): 1 / 4, (1, 0.5): 1 / 2}, {(1, 0.2): 1 / 4, (2, 0.3): 0.0, (2, 0.7): 3 / 4},
         {(0, 0.8): 1 / 3, (1, 0.4): 1 / 3, (2, 0.1): 1 / 3}]  # fmt: skip
SILENT = torch.tensor([False, False, True])


def test_references_are_families_of_the_same_meaning_in_their_proportions() -> None:
    own, latents, log_weight = three_families().draw(
        torch.tensor([0, 1, 0]), SILENT, 30_000, torch.Generator().manual_seed(0)
    )
    assert latents.shape == (3, 60_000, 1)
    latents, weight = latents.view(3, 30_000, 2), log_weight.view(3, 30_000, 2).exp()
    assert torch.equal(latents[..., 1], latents[..., 0] + 10)
    assert bool(((own == latents[:, 0, 0, None]) | (own == latents[:, 0, 1, None])).all())
    assert torch.allclose(weight.sum(2), torch.ones(()))
    for row, shares in enumerate(DRAWN):
        for (portrait, chance), share in shares.items():
            drawn = (latents[row, :, 0] == portrait) & ((weight[row, :, 0] - chance).abs() < 1e-6)
            assert float(drawn.double().mean()) == pytest.approx(share, abs=0.012)


def test_the_portrait_itself_is_drawn_from_its_family() -> None:
    trials = 30_000
    for row, shares in enumerate(DRAWN):
        meanings, silent = torch.full((trials,), row % 2), SILENT[row].expand(trials)
        own, families, _ = three_families().draw(meanings, silent, 2, torch.Generator().manual_seed(row))
        assert torch.equal(own.flatten() % 10, families[:, 0, 0])
        for portrait in range(3):
            itself = sum(share * chance for (number, chance), share in shares.items() if number == portrait)
            sibling = sum(share * (1 - chance) for (number, chance), share in shares.items() if number == portrait)
            assert float((own == portrait).double().mean()) == pytest.approx(itself, abs=0.012)
            assert float((own == portrait + 10).double().mean()) == pytest.approx(sibling, abs=0.012)


def test_the_loss_is_zero_for_the_exact_denoiser_of_the_references() -> None:
    """A network that knows the four portraits of every caption predicts the target itself; one that knows its own does not."""
    alphas_cumprod = torch.linspace(0.9999, 0.01, 50)
    latents = torch.stack([0.1 * torch.randn(4, 16, 16, generator=g) for g in image_generators(range(4))])
    rows = torch.arange(4).repeat(8)
    references, even = latents.expand(len(rows), -1, -1, -1, -1), torch.zeros(len(rows), 4)

    class Exact(torch.nn.Module):
        def unet(self, sample, timestep, text):
            alpha = alphas_cumprod[timestep].sqrt().view(-1, 1, 1, 1)
            sigma = (1 - alphas_cumprod[timestep]).sqrt().view(-1, 1, 1, 1)
            x0 = expected_latents(sample, alpha, sigma, references, even)
            return type("Output", (), {"sample": (alpha * sample - x0) / sigma})

        def encode_text(self, tokens):
            return tokens

    def loss(references, log_weight):
        return float(denoising_loss(Exact(), latents[rows], rows, references, log_weight, torch.eye(1024) / 1024,
                                    alphas_cumprod, torch.Generator().manual_seed(0)))  # fmt: skip

    assert loss(references, even) < 1e-6
    assert loss(latents[rows][:, None], even[:, :1]) > 1e-3


def test_an_error_counts_more_along_what_siblings_differ_in() -> None:
    """Two attributes in space: one along the first place (twice) and the second, one along (3, 4) in the last two."""
    apart = torch.tensor([[2.0, 0, 0, 0], [-5.0, 0, 0, 0], [0, 7.0, 0, 0], [0, 0, 3.0, 4.0]])
    metric = error_metric(apart.view(4, 2, 2), torch.tensor([2, 2, 2, 7]))
    subspace = torch.diag(torch.tensor([2 / 3, 1 / 3, 0, 0]))
    subspace[2:, 2:] = torch.tensor([[0.36, 0.48], [0.48, 0.64]])
    along = (2 / 3 + 2 / 3 + 1 / 3 + 1) / 4
    assert torch.allclose(metric, (torch.eye(4) + 64 * subspace / along) / 4)
    direction = torch.nn.functional.normalize(apart, dim=1)
    counted = ((direction @ metric) * direction).sum(1)
    assert float(counted.mean()) == pytest.approx(65 / 4)
    assert float(torch.linalg.eigvalsh(metric).min()) == pytest.approx(1 / 4)  # so that there is one best prediction


def test_the_loss_of_taking_a_portrait_for_its_sibling() -> None:
    """At sigma / alpha = 2, where the level counts 1.25, and with what siblings differ in counting 65 times."""
    alphas_cumprod = torch.full((10,), 0.2)
    portrait, sibling = (0.1 * torch.randn(4, 16, 16, generator=g) for g in image_generators(range(2)))
    members = torch.stack([portrait, sibling]).expand(8, -1, -1, -1, -1)
    certain = torch.tensor([0.0, -math.inf]).expand(8, 2)
    metric = error_metric((portrait - sibling)[None], torch.tensor([0]))

    class Mistaken(torch.nn.Module):
        def unet(self, sample, timestep, text):
            return type("Output", (), {"sample": (math.sqrt(0.2) * sample - sibling) / math.sqrt(0.8)})

        def encode_text(self, tokens):
            return tokens

    latents, generator = portrait.expand(8, -1, -1, -1), torch.Generator().manual_seed(0)
    loss = denoising_loss(Mistaken(), latents, torch.zeros(8), members, certain, metric, alphas_cumprod, generator)
    length = float((portrait - sibling).square().sum()) / 0.8
    assert float(loss) == pytest.approx(1.25 * 65 / 1024 * length, rel=1e-4)


def turns(attributes: dict[str, Tensor]) -> Tensor:
    """The place, among all attributes, of the one that the sibling of each seed's portrait has the other way."""
    names, of_all = list(attributes), ("smile", "glasses", "hat")
    own = [of_all + (("mustache", "beard") if man else ()) for man in attributes["man"].tolist()]
    return torch.tensor([names.index(some[seed % len(some)]) for seed, some in enumerate(own)])


def test_a_workshop_measures_errors_by_its_own_siblings(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path, replace(PRESETS["cpu"], images=40), 0, "cpu", lambda progress: None)
    attributes = sample(range(40))
    latents = torch.randn(40, 2, 3, generator=torch.Generator().manual_seed(0))
    said, told = torch.zeros(40, 1, dtype=torch.long), torch.zeros(40, 1, 2)
    vars(workshop).update(
        drawn={f"attributes.{name}": column for name, column in attributes.items()},
        families=Families(latents, said, said.float(), told, told[:, 0]),
    )
    assert torch.equal(workshop.metric, error_metric(latents[:, 0] - latents[:, 1], turns(attributes)))


def test_siblings_differ_in_one_attribute_that_their_sex_can_have() -> None:
    seeds = range(600)
    attributes = sample(seeds)
    flipped = data.sibling(seeds, attributes)
    different = torch.stack([attributes[name] != flipped[name] for name in attributes], dim=1)
    assert torch.equal(different.sum(1), torch.ones(600, dtype=torch.long))
    assert torch.equal(data.differing(attributes, flipped), turns(attributes))
    men = attributes["man"] == 1
    for sex, names in ((men, ("smile", "glasses", "hat", "mustache", "beard")), (~men, ("smile", "glasses", "hat"))):
        for name in names:
            share = (attributes[name] != flipped[name])[sex].double().mean()
            assert float(share) == pytest.approx(1 / len(names), abs=0.07)


def test_what_a_family_tells_is_the_exact_truth_of_its_caption() -> None:
    """With a mustache and no word of a smile, every family of two that differ in it smiles with the truth's 0.459."""
    seeds = range(400)
    attributes = sample(seeds, man=1, mustache=1)
    captions = [["portrait photo of a man with a mustache", "photo of a man"] for _ in seeds]
    meanings = data.numbered_meanings(captions)
    flipped = {**attributes, "smile": 1 - attributes["smile"]}
    weight = data.log_probability_told((attributes, flipped), captions, meanings).exp()
    smiling = torch.where(attributes["smile"][:, None] == 1, weight[..., 0], weight[..., 1])
    for place, prompt in enumerate(captions[0]):
        assert torch.allclose(smiling[:, place], torch.tensor(attribute_rates(prompt)["smile"]).float())
    shaved = data.sibling(range(3, 5 * 400, 5), attributes)  # the seeds whose turn is the mustache
    told = data.log_probability_told((attributes, shaved), captions, meanings).exp()
    assert told[:, 0].tolist() == [[1.0, 0.0]] * 400  # the caption says that it is there
    unsaid = data.log_probability_unsaid((attributes, shaved)).exp()
    bearded = attributes["beard"] == 1
    assert torch.allclose(unsaid[bearded, 0], torch.tensor(0.5 / (0.5 + 0.15)))  # a beard is likelier below a mustache
    assert torch.allclose(unsaid[~bearded, 0], torch.tensor(0.5 / (0.5 + 0.85)))


def test_a_denoiser_is_taught_by_portraits_of_the_same_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Portraits are numbers here: what each row was told, and which portraits it was compared with."""
    schedule = Schedule(1, 64, 1e-3)
    workshop = Workshop(tmp_path, replace(PRESETS["cpu"], images=20, captions_each=2), 0, "cpu", lambda progress: None)
    captions = [
        ["a man", "photo of a man"] if k < 10 else ["portrait of a man", "a man with glasses"] for k in range(20)
    ]
    said = {"a man": 1, "photo of a man": 2, "portrait of a man": 3, "a man with glasses": 4}
    attributes = sample(range(20), man=1, glasses=1)
    vars(workshop).update(  # in the place of what would be drawn and encoded
        captions=captions,
        tokens=torch.tensor([[[said[text]] for text in row] for row in captions]),
        latents=torch.arange(20.0).view(20, 1, 1, 1),
        drawn={f"attributes.{name}": column for name, column in attributes.items()},
    )
    save_file({"latents": 100 + torch.arange(20.0).view(20, 1, 1, 1)}, tmp_path / "siblings.safetensors")
    monkeypatch.setattr(Workshop, "_tokens", lambda self, texts: torch.zeros(len(texts), 1, dtype=torch.long))
    given: list[tuple[Tensor, ...]] = []

    def loss(
        model: object, latents: Tensor, tokens: Tensor, references: Tensor, log_weight: Tensor, *rest: object
    ) -> None:
        given.append((latents.flatten().long(), tokens.flatten(), references.flatten(1).long(), log_weight.exp()))

    def steps(
        stage: str, model: object, loss_of: Callable[[int, torch.Generator], None], *rest: object, **more: object
    ) -> None:
        for step in range(50):
            loss_of(step, torch.Generator().manual_seed(step))

    monkeypatch.setattr(portraits.diffusion, "denoising_loss", loss)
    monkeypatch.setattr(portraits, "train", steps)
    never_called = cast(TextToLatents, torch.nn.Identity())
    workshop._train_denoiser("denoiser", never_called, schedule)

    own, told, references, weight = (torch.cat(parts) for parts in zip(*given, strict=True))
    assert references.shape == weight.shape == (50 * 64, 2 * REFERENCES)
    families, siblings = references[:, ::2], references[:, 1::2]
    assert torch.equal(families[:, 0], own % 100)
    assert torch.equal(siblings, families + 100)
    # of portraits below 10, which have two of three captions "a man"
    shares = {0: 0.5, 1: 2 / 3, 2: 2 / 3, 3: 2 / 3, 4: 0.0}
    for token, share in shares.items():
        rows = told == token
        assert float((families[rows] < 10).double().mean()) == pytest.approx(share, abs=0.02)
    assert float((told == 0).double().mean()) == pytest.approx(EMPTY_PROMPT, abs=0.02)
    assert bool((own[told == 4] % 100 >= 10).all())
    bare = (torch.arange(20) % 5 == 1)[families]  # whose siblings have no glasses
    assert bool((weight[:, ::2][bare & (told == 4)[:, None]] == 1).all())
    assert torch.allclose(weight[:, ::2][bare & (told != 4)[:, None]], torch.tensor(0.3))
