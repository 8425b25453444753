"""Parallel and orthogonal parts of a push, per image."""

import pytest
import torch

from steerclear.core.numerics import dot, norm, orthogonal, parallel

SHAPE = (5, 4, 8, 8)


def drawn(seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, 1e-6)])
def test_the_two_parts_are_the_push_and_one_has_nothing_of_the_direction(dtype: torch.dtype, rounding: float) -> None:
    push, along = drawn(0, dtype), drawn(1, dtype)
    part, rest = parallel(push, along), orthogonal(push, along)
    assert part.dtype == rest.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert float((part + rest - push).abs().max()) <= rounding * float(push.abs().max())
    assert float((dot(rest, along) / norm(push) / norm(along)).abs().max()) <= rounding
    expected = dot(push.double(), along.double()) / dot(along.double(), along.double())
    assert torch.allclose(part.double(), expected[:, None, None, None] * along.double(), rtol=0, atol=10 * rounding)


def test_nothing_lies_along_no_direction() -> None:
    push, along = drawn(0), drawn(1)
    along[2] = 0
    assert parallel(push, along)[2].abs().max() == 0
    assert torch.equal(orthogonal(push, along)[2], push[2])
    assert float(orthogonal(push, push * 2).abs().max()) < 1e-6


@pytest.mark.parametrize("length", [1e-30, 1e30])
def test_the_length_of_the_direction_has_no_effect(length: float) -> None:
    push, along = drawn(0), drawn(1)
    assert torch.allclose(parallel(push, along * length), parallel(push, along), rtol=1e-5, atol=1e-6)


def test_each_image_is_itself_alone() -> None:
    push, along = drawn(0), drawn(1)
    for part in (parallel, orthogonal):
        together = part(push, along)
        assert all(torch.equal(part(push[k : k + 1], along[k : k + 1])[0], together[k]) for k in range(len(push)))
