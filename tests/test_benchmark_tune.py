"""The benchmark of tuning: a grid and a search in an exact world, kept, and compared on held-out seeds."""

import json
from pathlib import Path

import pytest
import torch

from steerclear.benchmark import tune as benchmark
from steerclear.benchmark.tune import HELD_OUT, QUESTIONS, TOO_WIDE, WEAK, Sampled, Tune, sampled
from steerclear.core.denoiser import Branch
from steerclear.core.guidance import Guidance
from steerclear.core.parsing import parse_part
from steerclear.guidance.unguided import Unguided
from steerclear.metrics.sliced_wasserstein import sliced_wasserstein
from steerclear.testbeds.mixture import MixtureDenoiser

SMALL = Tune(samples=100, held_out=100, side=4, sets=1)


def test_the_main_networks_fault_is_that_its_parts_are_too_wide() -> None:
    question = QUESTIONS[0]
    denoiser, true = question.denoiser(), question.target()
    assert isinstance(denoiser, MixtureDenoiser)
    main, weak = (denoiser.mixture(Branch(network, "positive")) for network in ("main", "weak"))
    assert torch.allclose(main.variances, TOO_WIDE * true.variances)
    assert torch.allclose(weak.variances, WEAK * TOO_WIDE * true.variances)
    assert torch.equal(main.means, true.means)


def test_a_scale_of_1_is_no_guidance() -> None:
    question = QUESTIONS[0]
    text = question.guidance({"auto_scale": "1", "stop": "0.5"})
    guided, plain = (sampled(question, one, 0, 40) for one in (parse_part(text, Guidance), Unguided()))
    assert torch.equal(guided.samples, plain.samples)
    assert guided.farther_than(plain).value == 0


def test_how_much_farther_is_the_difference_of_the_distances() -> None:
    draw = torch.Generator().manual_seed(0)
    truth, near, far = (torch.randn(200, 2, generator=draw, dtype=torch.float64) * scale for scale in (1, 1.05, 1.5))
    one, other = Sampled(far, truth), Sampled(near, truth)
    found = one.farther_than(other)
    assert found.value == pytest.approx(sliced_wasserstein(far, truth) - sliced_wasserstein(near, truth))
    assert found.low is not None
    assert 0 < found.low < found.value


def test_the_benchmark_is_kept_and_says_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = SMALL.run(tmp_path)
    names = [claim.claim for claim in first.claims]
    assert [name.partition(",")[0] for name in names] == [
        "autoguidance",
        "negative prompt",
        "negative prompt",
        "samples of a search",
    ]
    assert first.claims[-1].value == 4 / 16
    kept = json.loads((tmp_path / "tune" / "autoguidance-0-100.json").read_text())
    assert 16 <= len(kept) <= 20  # at a scale of 1 the grid has four intervals, each its own setting
    assert (tmp_path / "tune.png").is_file()
    asked: list[int] = []
    own = benchmark.sampled
    monkeypatch.setattr(benchmark, "sampled", lambda *given: asked.append(given[2]) or own(*given))
    assert SMALL.run(tmp_path).claims == first.claims
    assert set(asked) == {HELD_OUT}
