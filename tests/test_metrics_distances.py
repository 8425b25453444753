"""Fréchet and energy distances: closed forms, laws, and other people's implementations."""

import math

import numpy as np
import ot
import pytest
import scipy.linalg
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steerclear.core.errors import TooFewSamples, UnfitFeatures
from steerclear.metrics import energy_distance, frechet_distance, frechet_estimate, frechet_of_gaussians


def normal(rows: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def covariance(width: int, seed: int) -> torch.Tensor:
    root = normal(width, width, seed)
    return root @ root.T / width


# Fréchet


def test_frechet_closed_forms() -> None:
    # commuting covariances: |m1 - m2|^2 + sum (s1 - s2)^2
    scales, others = torch.tensor([1.0, 2.0, 5.0]).double(), torch.tensor([3.0, 0.0, 5.5]).double()
    mean = torch.tensor([1.0, -2.0, 0.5]).double()
    exact = float(mean.square().sum() + (scales - others).square().sum())
    zero = torch.zeros(3).double()
    ours = frechet_of_gaussians(mean, torch.diag(scales**2), zero, torch.diag(others**2))
    assert ours == pytest.approx(exact, rel=1e-13)
    # the same in a turned frame
    turn = torch.linalg.qr(normal(3, 3, 1)).Q
    turned = [turn @ torch.diag(s**2) @ turn.T for s in (scales, others)]
    assert frechet_of_gaussians(turn @ mean, turned[0], zero, turned[1]) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("width", [2, 16, 64])
def test_frechet_agrees_with_sqrtm_and_pot_and_torchmetrics(width: int) -> None:
    one, other, apart = covariance(width, 1), covariance(width, 2), normal(1, width, 3)[0]
    zero = torch.zeros(width).double()
    ours = frechet_of_gaussians(apart, one, zero, other)
    middle = scipy.linalg.sqrtm((one @ other).numpy()).real
    by_sqrtm = float(apart.square().sum() + one.trace() + other.trace()) - 2 * float(np.trace(middle))
    assert ours == pytest.approx(by_sqrtm, rel=1e-9)
    by_pot = ot.gaussian.bures_wasserstein_distance(apart.numpy(), zero.numpy(), one.numpy(), other.numpy())
    assert ours == pytest.approx(float(by_pot) ** 2, rel=1e-8)
    compute_fid = pytest.importorskip("torchmetrics.image.fid")._compute_fid
    assert ours == pytest.approx(float(compute_fid(apart, one, zero, other)), rel=1e-8)


def test_frechet_of_samples_is_that_of_their_moments() -> None:
    one, other = normal(40, 6, 1) @ covariance(6, 5) + 1, normal(70, 6, 2)
    by_moments = frechet_of_gaussians(one.mean(0), torch.cov(one.T), other.mean(0), torch.cov(other.T))
    # a covariance has the square of its samples' condition number, and its eigenvectors differ from machine to machine
    assert frechet_distance(one, other) == pytest.approx(by_moments, rel=1e-10)


def test_frechet_in_one_dimension() -> None:
    one, other = normal(30, 1, 1), 3 * normal(50, 1, 2) + 2
    exact = float((one.mean() - other.mean()) ** 2 + (one.std() - other.std()) ** 2)
    assert frechet_distance(one, other) == pytest.approx(exact, rel=1e-12)


def test_frechet_of_equal_sets_is_zero_even_of_deficient_rank() -> None:
    few = normal(10, 128, 1)
    assert frechet_distance(few, few) < 1e-12
    assert frechet_distance(few, few.flip(0)) < 1e-12
    # a shift is found to full precision, on features far from the origin as well
    shift = torch.zeros(128).double()
    shift[3] = 1e-3
    assert frechet_distance(few + 100, few + 100 + shift) == pytest.approx(1e-6, rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.1, 10), move=st.floats(-5, 5))
def test_frechet_laws(seed: int, scale: float, move: float) -> None:
    one, other, third = normal(30, 4, seed), 1 + 2 * normal(20, 4, seed + 1), normal(25, 4, seed + 2)
    turn = torch.linalg.qr(normal(4, 4, seed + 3)).Q
    distance = frechet_distance(one, other)
    assert frechet_distance(other, one) == pytest.approx(distance, rel=1e-9)
    moved = frechet_distance(scale * one @ turn + move, scale * other @ turn + move)
    assert moved == pytest.approx(scale**2 * distance, rel=1e-8)
    by_third = math.sqrt(frechet_distance(one, third)) + math.sqrt(frechet_distance(third, other))
    assert math.sqrt(distance) <= by_third + 1e-9


def test_the_jackknife_removes_the_bias() -> None:
    plain, corrected, covered = [], [], 0
    for run in range(40):
        one, other = normal(200, 8, 2 * run), normal(200, 8, 2 * run + 1) + 0.2  # the truth is 8 * 0.04
        plain.append(frechet_distance(one, other) - 0.32)
        estimate = frechet_estimate(one, other)
        corrected.append(estimate.value - 0.32)
        covered += estimate.low <= 0.32 <= estimate.high
    bias, error = np.mean(plain), np.std(corrected) / math.sqrt(40)
    assert bias > 0.08
    assert abs(np.mean(corrected)) < min(3 * error, bias / 4)
    assert covered >= 33


def test_frechet_misfits_are_told() -> None:
    with pytest.raises(TooFewSamples, match="Fréchet distance needs at least 2 samples and was given 1"):
        frechet_distance(normal(5, 3, 1), normal(1, 3, 1))
    with pytest.raises(UnfitFeatures, match="one width and was given 3 and 4"):
        frechet_distance(normal(5, 3, 1), normal(5, 4, 1))
    broken = normal(5, 3, 1)
    broken[2, 1] = torch.nan
    with pytest.raises(UnfitFeatures, match="1 of 5 rows contain nan or inf, the first is row 2"):
        frechet_distance(broken, normal(5, 3, 1))
    with pytest.raises(UnfitFeatures, match=r"shape \[n, width\] and was given \[5, 3, 2\]"):
        frechet_distance(torch.ones(5, 3, 2), normal(5, 3, 1))
    with pytest.raises(TooFewSamples, match="at least 40 samples and was given 39"):
        frechet_estimate(normal(39, 3, 1), normal(50, 3, 1))


# energy


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 30), m=st.integers(1, 30))
def test_energy_agrees_with_scipy_in_one_dimension(seed: int, n: int, m: int) -> None:
    one, other = normal(n, 1, seed), 2 * normal(m, 1, seed + 1) - 1
    root = scipy.stats.energy_distance(one.flatten().numpy(), other.flatten().numpy())
    assert energy_distance(one, other, unbiased=False) == pytest.approx(root**2, abs=1e-10)


def test_energy_by_hand_in_the_plane() -> None:
    # X: two points 5 apart; Y: the first of them twice
    one = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    other = torch.zeros(2, 2)
    assert energy_distance(one, other, unbiased=False) == pytest.approx(2 * 2.5 - 2.5 - 0)
    assert energy_distance(one, other) == pytest.approx(2 * 2.5 - 5 - 0)


def test_energy_of_gaussians_in_one_dimension() -> None:
    # E|N(m, s^2)| = s sqrt(2/pi) exp(-m^2 / 2 s^2) + m erf(m / s sqrt 2); here m = 1, s^2 = 2
    across = 2 / math.sqrt(math.pi) * math.exp(-1 / 4) + math.erf(1 / 2)
    exact = 2 * across - 2 * 2 / math.sqrt(math.pi)
    values = [energy_distance(normal(60, 1, 2 * run), normal(60, 1, 2 * run + 1) + 1) for run in range(200)]
    assert abs(np.mean(values) - exact) < 4 * np.std(values) / math.sqrt(200)


def test_the_u_statistic_is_unbiased_and_the_v_statistic_is_not() -> None:
    pairs = [(normal(20, 5, 2 * run), normal(30, 5, 2 * run + 1)) for run in range(300)]
    unbiased = [energy_distance(*pair) for pair in pairs]
    biased = [energy_distance(*pair, unbiased=False) for pair in pairs]
    assert abs(np.mean(unbiased)) < 4 * np.std(unbiased) / math.sqrt(300)
    # the V-statistic's excess is E|X - X'| (1/n + 1/m); for 5-d normals E|X - X'| = 2 Gamma(3) / Gamma(5/2)
    excess = 2 * math.gamma(3) / math.gamma(2.5) * (1 / 20 + 1 / 30)
    assert np.mean(biased) == pytest.approx(excess, abs=4 * np.std(biased) / math.sqrt(300))
    assert min(biased) >= 0


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_energy_does_not_depend_on_the_chunk(chunk: int) -> None:
    one, other = normal(23, 3, 1), normal(31, 3, 2)
    assert energy_distance(one, other, chunk=chunk) == pytest.approx(energy_distance(one, other), rel=1e-12)
    assert energy_distance(one, one.flip(0), unbiased=False, chunk=chunk) == pytest.approx(0, abs=1e-13)


def test_energy_misfits_are_told() -> None:
    with pytest.raises(TooFewSamples, match="energy distance needs at least 2 samples and was given 1"):
        energy_distance(torch.ones(1, 1), torch.ones(5, 1))
    assert energy_distance(torch.zeros(1, 1), torch.ones(5, 1), unbiased=False) == 2
    with pytest.raises(UnfitFeatures, match="was given 1 and 2"):
        energy_distance(torch.ones(5, 1), torch.ones(5, 2))
