"""Training images and captions: drawn once from their seeds, stored as 8-bit pixels, the same on every machine."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ..core.saving import save_whole
from ..core.seeds import image_generators
from ..core.shapes import Float, Int, Tensor, UInt8
from ..testbeds.portraits import attributes as world
from ..testbeds.portraits.attributes import Attributes, probability_of
from ..testbeds.portraits.captions import meaning, probability_of_mentions, read_prompt, write_caption
from ..testbeds.portraits.drawing import draw_from_seeds
from ..testbeds.portraits.streams import PortraitStream

FLIPPED_OF_ALL = ("smile", "glasses", "hat")
FLIPPED_OF_MEN = ("mustache", "beard")
ATTRIBUTES = "attributes."
"""Begins the names of attributes among the tensors of a file."""


def portraits(seeds: Sequence[int], **fixed: int) -> tuple[UInt8[Tensor, "images 3 64 64"], Attributes]:
    """True portraits, ``[n, 3, 64, 64]`` uint8, and their attributes. Portrait k depends on its seed alone."""
    attributes = world.sample(seeds, **fixed)
    return draw_from_seeds(attributes, seeds), attributes


def drawn(parts: Iterable[Sequence[int]]) -> dict[str, Tensor]:
    """True portraits of some seeds, part by part: ``images`` uint8 and ``attributes.<name>``."""
    images, attributes = zip(*(portraits(seeds) for seeds in parts), strict=True)
    columns = {f"{ATTRIBUTES}{name}": torch.cat([some[name] for some in attributes]) for name in attributes[0]}
    return {"images": torch.cat(images)} | columns


def attributes_of(stored: dict[str, Tensor]) -> Attributes:
    """The attributes of what :func:`drawn` gave."""
    return {key.removeprefix(ATTRIBUTES): value for key, value in stored.items() if key.startswith(ATTRIBUTES)}


def captions(seeds: Sequence[int], attributes: Attributes, each: int) -> list[list[str]]:
    """``each`` captions per portrait, drawn from the portrait's own seed."""
    columns = zip(*(column.tolist() for column in attributes.values()), strict=True)
    rows = [dict(zip(attributes, values, strict=True)) for values in columns]
    return [
        [write_caption(portrait, generator) for _ in range(each)]
        for portrait, generator in zip(rows, image_generators(seeds, stream=PortraitStream.CAPTION), strict=True)
    ]


def numbered_meanings(captions: list[list[str]]) -> Int[Tensor, "portraits each"]:
    """A number per caption, from 0, equal for captions of the same meaning in other words; ``[portraits, each]``.

    >>> numbered_meanings([["a man", "photo of a man"], ["a man with glasses", "a man"]]).tolist()
    [[0, 0], [1, 0]]
    """
    numbers: dict[Hashable, int] = {}
    return torch.tensor([[numbers.setdefault(meaning(text), len(numbers)) for text in row] for row in captions])


def by_meaning(meanings: Int[Tensor, "*places"]) -> tuple[Int[Tensor, " captions"], Int[Tensor, " meanings"]]:
    """Indices into ``meanings.flatten()``, sorted by meaning, and the number of captions per meaning.

    >>> order, count = by_meaning(torch.tensor([[0, 1], [2, 0]]))
    >>> order.tolist(), count.tolist()
    ([0, 3, 1, 2], [2, 1, 1])
    """
    return meanings.flatten().argsort(stable=True), meanings.flatten().bincount()


def sibling(seeds: Sequence[int], attributes: Attributes) -> Attributes:
    """The attributes of every portrait with one of them flipped; the seed determines which, in turn."""
    turn = torch.as_tensor(list(seeds))
    flipped = {name: column.clone() for name, column in attributes.items()}
    for man, names in ((0, FLIPPED_OF_ALL), (1, FLIPPED_OF_ALL + FLIPPED_OF_MEN)):
        for place, name in enumerate(names):
            chosen = (attributes["man"] == man) & (turn % len(names) == place)
            flipped[name] = torch.where(chosen, 1 - attributes[name], flipped[name])
    return flipped


def differing(attributes: Attributes, others: Attributes) -> Int[Tensor, " portraits"]:
    """The index of the one attribute in which each portrait differs from the other, ``[portraits]``.

    >>> differing({"man": torch.tensor([1, 0]), "hat": torch.tensor([0, 1])}, {"man": torch.tensor([1, 1]), "hat": torch.tensor([1, 1])})
    tensor([1, 0])
    """
    return torch.stack([attributes[name] != others[name] for name in attributes]).int().argmax(0)


def log_probability_unsaid(members: Sequence[Attributes]) -> Float[Tensor, "portraits members"]:
    """Log probability of each member within its family, ``[portraits, members]``, float32."""
    return _log_shares(torch.stack([probability_of(attributes) for attributes in members], dim=1))


def log_probability_told(
    members: Sequence[Attributes], captions: list[list[str]], meanings: Int[Tensor, "portraits each"]
) -> Float[Tensor, "portraits each members"]:
    """Log probability of each member given a caption of its family's first member, ``[portraits, each, members]``.

    By Bayes' rule, p(member | caption) is proportional to p(caption | member) p(member).

    Args:
        members: attributes of the first member of all families, then of the second, and so on.
        captions: the captions of every portrait.
        meanings: their :func:`numbered_meanings`.
    """
    each, flat = len(captions[0]), [caption for row in captions for caption in row]
    joint = torch.stack([probability_of(attributes) for attributes in members], dim=1).repeat_interleave(each, 0)
    order, count = by_meaning(meanings)
    for places in order.split(count.tolist()):
        mentions, rows = read_prompt(flat[places[0]]).mentions, places // each
        for member, attributes in enumerate(members):
            some = {name: column[rows] for name, column in attributes.items()}
            joint[places, member] *= probability_of_mentions(some, mentions)
    return _log_shares(joint).view(len(captions), each, len(members))


def _log_shares(joint: Tensor) -> Tensor:
    return (joint / joint.sum(1, keepdim=True)).log().float()


def to_model(images: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """uint8 pixels -> float32 in [-1, 1], the input of AutoencoderKL and of the classifier."""
    return images.float() / 127.5 - 1


def to_pixels(images: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Floats in [-1, 1] -> uint8 pixels, clipped."""
    return (images.float().clamp(-1, 1) * 127.5 + 127.5).round().byte()


def cached(path: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors in ``path``; if the file is missing, they are computed and written there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.contiguous() for name, tensor in make().items()}
        save_whole(path, lambda to: save_file(tensors, to))
    return load_file(path)
