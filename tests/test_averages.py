"""Averages of the weights over a training, and those that are made from kept ones."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from steerclear.core.errors import InvalidSetting
from steerclear.networks.shared.averages import PowerAverages, Snapshot, average_of, exponent_of, snapshots_in
from steerclear.training.loop import Schedule

STEPS = 1000


def walk(folder: Path, widths: tuple[float, ...]) -> tuple[list[Snapshot], dict[float, Tensor]]:
    """Snapshots of a weight that goes at random, and its averages of other widths."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.zeros(3, dtype=torch.float64)
    kept, others = PowerAverages([weight]), {width: PowerAverages([weight], (width,)) for width in widths}
    schedule = Schedule(STEPS, 1, 1.0, snapshots=32)
    for done in range(1, STEPS + 1):
        weight += 0.1 * torch.randn(3, generator=generator, dtype=torch.float64)
        for averages in (kept, *others.values()):
            averages.step(done)
        if schedule.keeps(done):
            Snapshot.write(folder / f"{done:07d}.safetensors", done, ["w"], kept)
    return snapshots_in(folder), {width: other.averages[0][0] for width, other in others.items()}


@pytest.mark.parametrize("width", [0.02, 0.05, 0.1, 0.2, 0.28])
def test_the_exponent_is_that_of_the_width(width: float) -> None:
    gamma = exponent_of(width)
    assert math.sqrt(gamma + 1) / (gamma + 2) / math.sqrt(gamma + 3) == pytest.approx(width, rel=1e-9)


def test_an_average_narrower_than_any_step_has_an_exponent() -> None:
    assert exponent_of(1e-300) == exponent_of(1e-9) == pytest.approx(1e9, rel=1e-6)


def test_a_snapshot_says_the_widths_of_its_averages(tmp_path: Path) -> None:
    averages = PowerAverages([torch.ones(1)], (0.07, 0.2, 0.25))
    Snapshot.write(tmp_path / "a.safetensors", 3, ["w"], averages)
    assert Snapshot.read(tmp_path / "a.safetensors").widths == (0.07, 0.2, 0.25)


def test_an_average_weighs_a_step_by_its_power() -> None:
    values = [torch.tensor([float(value)], dtype=torch.float64) for value in (3.0, -1.0, 4.0, 1.0)]
    weight = values[0].clone()
    averages = PowerAverages([weight], (0.2,))
    for done, value in enumerate(values, 1):
        weight.copy_(value)
        averages.step(done)
    gamma, total, norm = exponent_of(0.2), 0.0, 0.0
    # beta_t = (1 - 1/t)^(gamma + 1): step tau keeps the share (tau / t)^(gamma + 1) - ((tau - 1) / t)^(gamma + 1)
    for tau, value in enumerate(values, 1):
        share = (tau / 4) ** (gamma + 1) - ((tau - 1) / 4) ** (gamma + 1)
        total, norm = total + share * float(value), norm + share
    assert norm == pytest.approx(1)
    assert float(averages.averages[0][0]) == pytest.approx(total, rel=1e-12)


def test_other_widths_come_from_the_kept_ones(tmp_path: Path) -> None:
    snapshots, others = walk(tmp_path, (0.06, 0.08, 0.12, 0.15, 0.2))
    assert [snapshot.step for snapshot in snapshots] == [math.ceil(STEPS * part / 32) for part in range(1, 33)]
    for width, exact in others.items():
        torch.testing.assert_close(average_of(snapshots, STEPS, width)["w"], exact, atol=0.005, rtol=0)


def test_a_kept_average_is_itself(tmp_path: Path) -> None:
    snapshots, _ = walk(tmp_path, ())
    for number, width in enumerate(snapshots[7].widths):
        made = average_of(snapshots, snapshots[7].step, width)["w"]
        torch.testing.assert_close(made, snapshots[7].average(number)["w"], atol=1e-6, rtol=0)


def test_a_step_outside_and_a_width_outside_are_refused(tmp_path: Path) -> None:
    snapshots, _ = walk(tmp_path, ())
    for step in (0, 31, STEPS + 1):
        with pytest.raises(InvalidSetting, match=r"between the first and the last of the snapshots"):
            average_of(snapshots, step, 0.1)
    for width in (0.0, -0.1, 0.3, math.nan):
        with pytest.raises(InvalidSetting, match="width of an average"):
            average_of(snapshots, STEPS, width)
