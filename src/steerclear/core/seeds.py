"""One generator per image: image k is the same at any batch size, in any order and on any worker."""

import operator
from collections import Counter
from collections.abc import Iterable, Sequence
from enum import IntEnum

import torch
from torch import Tensor

from .errors import GivenTwice, InvalidSetting

LARGEST_SEED = 2**32 - 1
"""torch's CPU generator reads only the low 32 bits of a seed; larger seeds would repeat smaller ones."""

STRIDE = 0x9E3779B97F4A7C15
MIXING = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
"""SplitMix64 (Steele, Lea and Flood 2014): its counter's step; the shifts and factors of its finalizer."""


class Stream(IntEnum):
    """Independent uses of one image's seed, which would otherwise draw the same numbers.

    A testbed may define further streams, with other numbers.
    """

    LATENTS = 0
    TRUTH = 4
    EVIDENCE = 5
    REDRAW = 6


def stream_seed(seed: int, stream: IntEnum) -> int:
    """The seed of one stream of one image, in [0, 2**32).

    ``LATENTS`` keeps the image's seed, as pipelines do; SplitMix64's finalizer mixes the others.

    >>> stream_seed(7, Stream.LATENTS), stream_seed(7, Stream.TRUTH) == 7
    (7, False)
    """
    return int(seed) if stream == Stream.LATENTS else _finalized(int(seed) + STRIDE * (int(stream) + 1)) % 2**32


def mixed(*numbers: int) -> int:
    """One number in [0, 2**64) that depends on all the given numbers and on their order.

    >>> mixed(1, 2) == mixed(2, 1), mixed(1) == mixed(1, 0)
    (False, False)
    """
    state = 0
    for number in numbers:
        state = _finalized(state + int(number) + STRIDE)
    return state


def _finalized(state: int) -> int:
    """SplitMix64's finalizer."""
    state %= 2**64
    for shift, factor in MIXING:
        state = (state ^ (state >> shift)) * factor % 2**64
    return state ^ (state >> 31)


def checked_seeds(seeds: object, *, some: bool = True) -> tuple[int, ...]:
    """Image seeds as Python integers.

    Args:
        seeds: integers of any library, each from 0 to :data:`LARGEST_SEED`; no seed twice, because an image depends on its
            seed alone.
        some: require at least one seed.

    Raises:
        InvalidSetting: any other value.

    >>> checked_seeds(range(3)), checked_seeds(torch.tensor([7]))
    ((0, 1, 2), (7,))
    """
    if isinstance(seeds, (str, bytes)) or not isinstance(seeds, Iterable):
        raise InvalidSetting("seeds", seeds, "a sequence of whole numbers, such as range(64)")
    given = tuple(seeds)
    if some and not given:
        raise InvalidSetting("seeds", given, "at least one")
    numbers = []
    for seed in given:
        try:
            number = -1 if isinstance(seed, bool) else operator.index(seed)
        except TypeError:
            number = -1
        if not 0 <= number <= LARGEST_SEED:
            raise InvalidSetting("a seed", seed, f"a whole number from 0 to {LARGEST_SEED}")
        numbers.append(number)
    again = [number for number, times in Counter(numbers).items() if times > 1]
    if again:
        raise GivenTwice(f"the seed {again[0]}")
    return tuple(numbers)


def image_generators(
    seeds: Sequence[int], device: str = "cpu", stream: IntEnum = Stream.LATENTS
) -> list[torch.Generator]:
    """One freshly seeded generator per image.

    Args:
        seeds: one non-negative integer per image.
        device: device of the generators. The CPU gives the same numbers on every machine.
        stream: the use of the numbers.

    >>> a, b = image_generators([3, 4])
    >>> alone = image_generators([4])[0]
    >>> bool((torch.rand(2, generator=b) == torch.rand(2, generator=alone)).all())
    True
    """
    return [torch.Generator(device).manual_seed(stream_seed(seed, stream)) for seed in seeds]


def uniform_per_image(seeds: Sequence[int], count: int, stream: IntEnum) -> Tensor:
    """``count`` uniform numbers in [0, 1) per image, shape ``[len(seeds), count]``, float32.

    >>> pair = uniform_per_image([1, 2], 3, Stream.TRUTH)
    >>> bool((pair[1] == uniform_per_image([2], 3, Stream.TRUTH)).all())
    True
    """
    if not len(seeds):
        return torch.empty(0, count)
    generators = image_generators(seeds, stream=stream)
    return torch.stack([torch.rand(count, generator=generator) for generator in generators])
