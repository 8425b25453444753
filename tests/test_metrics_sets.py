"""Precision, recall and diversity: sets made by hand, laws, and the definitions written out."""

import math

import pytest
import scipy.spatial
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steerclear.core.errors import TooFewSamples, UnfitFeatures
from steerclear.metrics.diversity import mean_pairwise_distance, vendi_of_kernel, vendi_score
from steerclear.metrics.estimates import Estimate
from steerclear.metrics.precision_recall import precision_recall
from steerclear.metrics.rates import rate


def normal(rows: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def values(real: torch.Tensor, generated: torch.Tensor, k: int = 3) -> tuple[float, float]:
    both = precision_recall(real, generated, k=k)
    return both.precision.value, both.recall.value


# precision and recall


def test_equal_sets_are_precise_and_complete_and_far_sets_neither() -> None:
    points = normal(50, 4, 1)
    assert values(points, points) == (1.0, 1.0)
    assert values(points, points + 1000) == (0.0, 0.0)


def test_one_mode_of_two_is_precise_and_half_complete() -> None:
    mode = normal(40, 3, 1)
    real = torch.cat([mode, mode + 1000])
    assert values(real, mode) == (1.0, 0.5)
    assert values(mode, real) == (0.5, 1.0)


def test_radii_reach_to_the_kth_other_neighbour_and_include_their_edge() -> None:
    real = torch.tensor([0.0, 1.0, 3.0, 6.0]).unsqueeze(1)
    # k = 1: radii 1 1 2 3, balls [-1, 1] [0, 2] [1, 5] [3, 9]
    for place, inside in [(-1.0, 1), (-1.001, 0), (9.0, 1), (9.001, 0), (2.5, 1)]:
        generated = torch.tensor([place, 100.0]).unsqueeze(1)
        assert precision_recall(real, generated, k=1).precision.count == inside, place
    # k = 2: radii 3 2 3 5, so the union reaches from -3 to 11
    for place, inside in [(-3.0, 1), (-3.001, 0), (11.0, 1), (11.001, 0)]:
        generated = torch.tensor([place, 100.0, 200.0]).unsqueeze(1)
        assert precision_recall(real, generated, k=2).precision.count == inside, place


def test_twins_have_balls_of_no_size() -> None:
    # every real point three times: its two nearest others are itself, so with k = 2 only exact copies are inside
    real = normal(5, 2, 1).repeat(3, 1)
    generated = torch.cat([real[:5], real[:5] + 1e-9])
    assert precision_recall(real, generated, k=2).precision.count == 5


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 5), chunk=st.sampled_from([1, 7, 512]))
def test_precision_and_recall_agree_with_a_tree_search(seed: int, k: int, chunk: int) -> None:
    real, generated = normal(30, 3, seed), 0.8 * normal(25, 3, seed + 1) + 0.5

    def covered(queries: torch.Tensor, points: torch.Tensor) -> int:
        radii = scipy.spatial.KDTree(points).query(points, k=k + 1)[0][:, -1]
        return int((scipy.spatial.distance.cdist(queries, points) <= radii).any(1).sum())

    both = precision_recall(real, generated, k=k, chunk=chunk)
    assert (both.precision.count, both.precision.total) == (covered(generated, real), 25)
    assert (both.recall.count, both.recall.total) == (covered(real, generated), 30)
    swapped = precision_recall(generated, real, k=k)
    assert (swapped.precision, swapped.recall) == (both.recall, both.precision)


def test_intervals_are_wilsons() -> None:
    both = precision_recall(normal(30, 3, 1), normal(20, 3, 2))
    assert both.precision == rate(torch.arange(20) < both.precision.count)
    assert both.recall == rate(torch.arange(30) < both.recall.count)


def test_precision_misfits_are_told() -> None:
    with pytest.raises(TooFewSamples, match="needs at least 4 samples and was given 3"):
        precision_recall(normal(10, 2, 1), normal(3, 2, 1))
    with pytest.raises(UnfitFeatures, match="at least 1, not 0; the paper takes 3"):
        precision_recall(normal(10, 2, 1), normal(10, 2, 1), k=0)


# diversity


def test_mean_pairwise_distance_is_the_mean_over_pairs() -> None:
    points = normal(40, 5, 1)
    exact = float(scipy.spatial.distance.pdist(points).mean())
    for chunk in (1, 7, 512):
        estimate = mean_pairwise_distance(points, chunk=chunk)
        assert estimate.value == pytest.approx(exact, rel=1e-12)
        assert (estimate.low, estimate.high) == pytest.approx((mean_pairwise_distance(points).low, estimate.high))
    scaled = mean_pairwise_distance(3 * points + 7)
    assert (scaled.value, scaled.low) == pytest.approx((3 * exact, 3 * estimate.low), rel=1e-9)


def test_pairwise_interval_is_that_of_sets_without_one_sample() -> None:
    points = normal(15, 2, 3)
    without = torch.stack([scipy_mean(points[torch.arange(15) != place]) for place in range(15)])
    error = math.sqrt(14 / 15 * float((without - without.mean()).square().sum()))
    reach = float(scipy.stats.t.ppf(0.975, 14)) * error
    estimate = mean_pairwise_distance(points)
    value = float(scipy_mean(points))
    assert (estimate.low, estimate.high) == pytest.approx((value - reach, value + reach), rel=1e-9)


def scipy_mean(points: torch.Tensor) -> torch.Tensor:
    return torch.tensor(scipy.spatial.distance.pdist(points).mean())


@pytest.mark.parametrize("count", [8, 16, 64])
@pytest.mark.parametrize("width", [1, 128])
def test_pairwise_interval_covers_the_truth(count: int, width: int) -> None:
    # normals are on average 2 Gamma((d + 1) / 2) / Gamma(d / 2) apart
    truth = 2 * math.exp(math.lgamma((width + 1) / 2) - math.lgamma(width / 2))
    runs, covered = 600, 0
    for run in range(runs):
        estimate = mean_pairwise_distance(normal(count, width, run))
        covered += estimate.low <= truth <= estimate.high
    least = 0.91 if width == 1 and count == 8 else 0.945
    assert covered / runs > least - 2.5 * math.sqrt(0.95 * 0.05 / runs)


def test_a_few_samples_have_no_interval() -> None:
    assert mean_pairwise_distance(torch.tensor([[0.0], [3.0]])) == Estimate(3.0, None, None)
    assert mean_pairwise_distance(normal(7, 3, 1)).low is None
    assert mean_pairwise_distance(normal(8, 3, 1)).low is not None


def test_equal_points_have_no_distance() -> None:
    estimate = mean_pairwise_distance(torch.ones(8, 3))
    assert (estimate.value, estimate.low, estimate.high) == (0, 0, 0)
    with pytest.raises(TooFewSamples, match="mean pairwise distance needs at least 2 samples and was given 1"):
        mean_pairwise_distance(torch.ones(1, 3))


@pytest.mark.parametrize("sizes", [(1,), (4,), (1, 1, 1), (5, 5), (6, 3, 1)])
def test_vendi_of_groups_is_the_exponential_of_their_entropy(sizes: tuple[int, ...]) -> None:
    features = torch.cat([torch.eye(6)[k].repeat(size, 1) * (k + 1) for k, size in enumerate(sizes)])
    shares = torch.tensor(sizes).double() / sum(sizes)
    exact = math.exp(-float((shares * shares.log()).sum()))
    assert vendi_score(features) == pytest.approx(exact, rel=1e-12)


def test_vendi_of_two_directions_in_closed_form() -> None:
    # the kernel [[1, c], [c, 1]] / 2 has eigenvalues (1 + c) / 2 and (1 - c) / 2
    for angle in (0.0, 0.1, 1.0, math.pi / 2):
        shares = [(1 + math.cos(angle)) / 2, (1 - math.cos(angle)) / 2]
        exact = math.exp(-sum(share * math.log(share) for share in shares if share > 0))
        features = torch.tensor([[1.0, 0.0], [math.cos(angle), math.sin(angle)]], dtype=torch.float64)
        assert vendi_score(features) == pytest.approx(exact, rel=1e-9)
        assert vendi_of_kernel(torch.tensor([[1, math.cos(angle)], [math.cos(angle), 1]])) == pytest.approx(exact, 1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 20), width=st.integers(1, 20))
def test_vendi_laws(seed: int, rows: int, width: int) -> None:
    features = normal(rows, width, seed)
    score = vendi_score(features)
    unit = features / features.norm(dim=1, keepdim=True)
    assert score == pytest.approx(vendi_of_kernel(unit @ unit.T), rel=1e-8)
    assert 1 - 1e-12 <= score <= min(rows, width) + 1e-9
    assert vendi_score(features.repeat(3, 1)) == pytest.approx(score, rel=1e-9)  # copies add nothing
    lengths = torch.rand(rows, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.1
    assert vendi_score(lengths * features) == pytest.approx(score, rel=1e-9)


def test_vendi_misfits_are_told() -> None:
    with pytest.raises(UnfitFeatures, match="row 1 is all zeros"):
        vendi_score(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    with pytest.raises(TooFewSamples, match="Vendi score needs at least 1 samples and was given 0"):
        vendi_score(torch.empty(0, 4))
    with pytest.raises(UnfitFeatures, match="ones on its diagonal"):
        vendi_of_kernel(2 * torch.eye(3))
    with pytest.raises(UnfitFeatures, match="symmetric kernel"):
        vendi_of_kernel(torch.tensor([[1.0, 0.5], [0.0, 1.0]]))
    with pytest.raises(UnfitFeatures, match="negative eigenvalue"):
        vendi_of_kernel(torch.tensor([[1.0, 2.0], [2.0, 1.0]]))
