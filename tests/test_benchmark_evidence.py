"""The benchmark of evidences: its statistics against answers known beforehand, and a small run of it."""

import json
import math
from pathlib import Path

import pytest
import torch

from steerclear.benchmark.claims import Benchmark
from steerclear.benchmark.evidence import (
    EvidenceQuality,
    area_measured,
    calibration_error,
    nearest,
    reliability_bins,
    watchable,
)
from steerclear.core.logistic import auc
from steerclear.telling.figures.areas import draw_areas

pytestmark = pytest.mark.usefixtures("few_references", "loaded_once")


def test_the_area_has_an_interval_that_covers_the_truth() -> None:
    """Two normal scores one standard deviation apart: the area is Phi(1 / sqrt 2) = 0.760."""
    covered = 0
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        shown = torch.rand(150, generator=generator) < 0.4
        scores = torch.randn(150, generator=generator, dtype=torch.float64) + shown
        found = area_measured(scores, shown)
        assert found.value == auc(scores, shown)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.7602 <= found.high
    assert covered >= 35  # 38 of 40 expected


def test_ties_count_half_and_order_is_all_that_counts() -> None:
    shown = torch.tensor([True, False, True, False, False])
    assert area_measured(torch.zeros(5), shown).value == 0.5
    scores = torch.tensor([0.3, 0.1, 0.2, 0.25, -9.0])
    assert area_measured(scores, shown).value == pytest.approx(5 / 6)
    assert area_measured(scores.exp() * 7, shown).value == pytest.approx(5 / 6)


def test_the_calibration_error_is_that_of_its_bins() -> None:
    """Four images at 0.9 of which one shows it, six at 0.25 of which two do: (4 * 0.65 + 6 * 1/12) / 10."""
    probability = torch.tensor([0.9] * 4 + [0.25] * 6, dtype=torch.float64)
    shown = torch.tensor([True] + [False] * 3 + [True, True] + [False] * 4)
    found = calibration_error(probability, shown)
    assert found.value == pytest.approx((4 * 0.65 + 6 * (1 / 3 - 0.25)) / 10)
    assert reliability_bins(probability, shown) == [
        {"predicted": 0.25, "observed": 0.3333, "images": 6},
        {"predicted": 0.9, "observed": 0.25, "images": 4},
    ]
    generator = torch.Generator().manual_seed(0)
    honest = torch.rand(20_000, generator=generator, dtype=torch.float64)
    assert calibration_error(honest, torch.rand(20_000, generator=generator) < honest).value < 0.015
    assert calibration_error(torch.ones(10).double(), torch.zeros(10) > 0).value == 1.0


def test_the_nearest_levels_are_nearest_by_ratio() -> None:
    levels = torch.tensor([torch.inf, 20.0, 12.0, 6.4, 6.2, 2.9, 1.4, 0.1, 0.0])
    assert [float(levels[index]) for index in nearest(levels)] == pytest.approx([12.0, 6.4, 6.2, 2.9, 1.4])


def test_a_small_run_measures_every_evidence_that_can_run(tmp_path: Path) -> None:
    quality = EvidenceQuality(
        seeds="0-15", calibrated_on="100-123", num_inference_steps=3, batch_size=8, samplers="dpm++ 2m"
    )
    found = quality.run(tmp_path)
    assert Benchmark.model_validate_json((tmp_path / "evidence.json").read_text()) == found
    names = {claim.claim.split(": ")[1] for claim in found.claims}
    assert {"probe", "transition", "published"} <= names <= {name for name, _ in watchable()}
    assert len(found.claims) == 11 * len(names)
    spent = {one.claim.split(": ")[1]: one.value for one in found.claims if "further network" in one.claim}
    assert (spent["probe"], spent["transition"]) == (0.0, 3.0)
    by_level = json.loads((tmp_path / "evidence-by-level.json").read_text())["dpm++ 2m"]
    for bins in by_level["probe"]["reliability"].values():
        assert sum(one["images"] for one in bins) == 16
    areas = {one.claim: one.value for one in found.claims if "area under" in one.claim}
    level, area = by_level["probe"]["auc"][-1]
    assert area == pytest.approx(areas["dpm++ 2m: probe: area under the curve at sigma 1.5"], abs=1e-4) or level < 1
    assert (tmp_path / "evidence.png").read_bytes().startswith(b"\x89PNG")
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("0*.png")}
    assert len(written) == 40
    assert quality.run(tmp_path) == found
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("0*.png")} == written


def test_the_figure_draws_what_is_known_from_high_noise_to_low() -> None:
    points = [(math.inf, 0.5), (8.0, 0.7), (2.0, math.nan), (0.5, 0.9)]
    figure = draw_areas({"one": {"probe": points, "other": [(8.0, math.nan)]}, "two": {"probe": points[:2]}})
    first, second = figure.axes
    lines = [line for line in first.get_lines() if len(line.get_xdata()) == 2 and line.get_xdata()[0] == 8.0]
    assert [list(map(float, each)) for each in lines[0].get_data()] == [[8.0, 0.5], [0.7, 0.9]]
    assert first.get_xlim()[0] > first.get_xlim()[1]
    assert second.get_ylim() == (0.4, 1.0)
