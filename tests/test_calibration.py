"""Weights that make a finite number of portraits show what their captions mean."""

import pytest
import torch

from steerclear.testbeds.portraits import attribute_rates, indicators, sample
from steerclear.training import data
from steerclear.training.calibration import FEWEST, RIDGE, calibrated, caption_weights

HAT = "a woman wearing a red hat"


@pytest.mark.parametrize("truth", [[0.4, 0.55, 0.5, 0.5, 0.62], [0.99, 0.5, 0.5, 0.5, 0.01]])
def test_the_weights_solve_the_equations_of_entropy_balancing(truth: list[float]) -> None:
    generator = torch.Generator().manual_seed(0)
    shown = torch.rand(300, 5, generator=generator, dtype=torch.float64)
    asked = torch.tensor(truth, dtype=torch.float64)
    weights = calibrated(shown, asked)
    design = torch.cat([shown, torch.ones(300, 1, dtype=torch.float64)], dim=1)
    tilt = torch.linalg.lstsq(design, weights.log()[:, None]).solution.squeeze(1)
    assert torch.allclose(design @ tilt, weights.log(), atol=1e-9)  # log-linear in what is shown
    assert torch.allclose(weights @ shown / 300 + RIDGE / 300 * tilt[:5], asked, atol=1e-7)
    assert float(weights.mean()) == pytest.approx(1)


def test_what_hardly_any_portrait_shows_is_not_asked_of_the_few() -> None:
    """Two of a thousand where nine tenths should: no weights can do it evenly, and the ridge keeps them finite."""
    shown = torch.zeros(1000, 1)
    shown[:2] = 1
    weights = calibrated(shown, torch.tensor([0.9]))
    assert torch.equal(weights[2:], weights[2].expand(998))
    tilt = float((weights[0] / weights[2]).log())
    assert float(weights[:2].sum()) / 1000 + RIDGE / 1000 * tilt == pytest.approx(0.9, abs=1e-7)


def test_a_few_portraits_show_the_exact_truth_of_their_caption() -> None:
    """Nine hundred women in red hats, whose glasses and hair are off by chance, and more so by what was left out."""
    women = sample(range(1000), man=0, hat=1, hat_color=0)
    kept = torch.arange(1000)[(women["glasses"] == 1) | (torch.arange(1000) % 3 > 0)]
    women = {name: column[kept] for name, column in women.items()}
    captions = [[HAT] for _ in kept]
    meanings = data.numbered_meanings(captions)
    own = [women, {**women, "smile": 1 - women["smile"]}]
    told = data.log_probability_told(own, captions, meanings)
    weights = caption_weights(own, captions, meanings, told)
    shares = told[:, 0].exp().double() * weights[:, :1] / weights[:, 0].sum()
    columns = [indicators(attributes) for attributes in own]
    truth = attribute_rates(HAT)
    shown = {
        name: float(sum(shares[:, k] @ column[name].double() for k, column in enumerate(columns))) for name in truth
    }
    plain = float(women["glasses"].double().mean())
    assert plain > truth["glasses"] + 0.08
    assert shown == pytest.approx(truth, abs=0.011)  # the ridge leaves a tenth of what was off
    assert float(weights[:, 0].mean()) == pytest.approx(1)


def test_too_few_captions_all_count_the_same() -> None:
    women = sample(range(FEWEST - 1), man=0, hat=1, hat_color=0)
    captions = [[HAT] for _ in range(FEWEST - 1)]
    meanings = data.numbered_meanings(captions)
    told = data.log_probability_told([women], captions, meanings)
    assert caption_weights([women], captions, meanings, told).tolist() == [[1.0]] * (FEWEST - 1)
