"""Every image has its own numbers: known answers, and independence of batch, order and use."""

import itertools
from enum import IntEnum

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steerclear.core.seeds import LARGEST_SEED, Stream, image_generators, stream_seed, uniform_per_image
from steerclear.testbeds.portraits.streams import PortraitStream

SEEDS = st.integers(0, LARGEST_SEED)
NUMBERS = 5000
STREAMS = tuple(sorted((Stream.LATENTS, *PortraitStream, Stream.TRUTH)))


@pytest.mark.parametrize(
    ("stream", "output"),
    [(1, 3203168211198807973), (2, 9817491932198370423), (3, 4593380528125082431), (4, 16408922859458223821)],
)
def test_streams_are_the_published_outputs_of_splitmix64(stream: int, output: int) -> None:
    # outputs 2 to 5 of the reference implementation seeded with 1234567; stream s is output s + 1
    assert stream_seed(1234567, STREAMS[stream]) == output % 2**32


def test_latents_come_from_the_seed_as_pipelines_draw_them() -> None:
    ours = torch.randn(4, 16, 16, generator=image_generators([42])[0])
    assert torch.equal(ours, torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(42)))


def test_the_largest_seed_is_the_last_that_is_different() -> None:
    def first(seed: int) -> float:
        return float(torch.rand((), dtype=torch.float64, generator=image_generators([seed])[0]))

    assert first(LARGEST_SEED) != first(0)
    assert first(LARGEST_SEED + 1) == first(0)


def test_no_two_uses_of_a_thousand_seeds_share_a_seed() -> None:
    used = {stream_seed(seed, stream) for seed in range(1000) for stream in STREAMS}
    assert len(used) == 1000 * len(STREAMS)


@settings(max_examples=30, deadline=None)
@given(seeds=st.lists(SEEDS, min_size=1, max_size=6), stream=st.sampled_from(STREAMS), data=st.data())
def test_an_image_has_its_numbers_in_any_batch_and_order(
    seeds: list[int], stream: IntEnum, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(seeds))))
    batch = uniform_per_image(seeds, 7, stream)
    again = uniform_per_image([seeds[k] for k in order], 7, stream)
    assert torch.equal(batch[list(order)], again)
    for k, seed in enumerate(seeds):
        assert torch.equal(batch[k : k + 1], uniform_per_image([seed], 7, stream))


def test_asking_for_more_numbers_keeps_the_first_ones() -> None:
    # a float generator may fill blocks of 16 at a time in another order, so this is no matter of course
    few, many = (uniform_per_image(range(20), count, PortraitStream.DRAWING) for count in (5, 96))
    assert torch.equal(few, many[:, :5])


def test_no_seeds_are_no_rows() -> None:
    assert uniform_per_image([], 5, PortraitStream.DRAWING).shape == (0, 5)


def test_streams_and_neighbouring_seeds_are_uncorrelated_and_uniform() -> None:
    columns = [uniform_per_image(range(NUMBERS + 1), 1, stream).double().flatten() for stream in STREAMS]
    kinds = [column[:-1] for column in columns] + [column[1:] for column in columns]
    for column in kinds:
        assert abs(float(column.mean()) - 0.5) < 5 * (1 / 12 / NUMBERS) ** 0.5
        assert abs(float(column.var()) - 1 / 12) < 5 * (1 / 180 / NUMBERS) ** 0.5
    for one, other in itertools.combinations(kinds, 2):
        assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 5 / NUMBERS**0.5
