"""The training images: drawn once from their seeds, kept as 8-bit pixels, the same on every machine."""

from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from ..seeds import Stream, image_generators
from ..testbeds.portraits import attributes as world
from ..testbeds.portraits.attributes import Attributes
from ..testbeds.portraits.captions import write_caption
from ..testbeds.portraits.drawing import draw_from_seeds


def portraits(seeds: range, **fixed: int) -> tuple[Tensor, Attributes]:
    """True portraits, ``[n, 3, 64, 64]`` uint8, and what they show. Portrait k depends on its seed alone."""
    attributes = world.sample(seeds, **fixed)
    return draw_from_seeds(attributes, seeds), attributes


def captions(seeds: range, attributes: Attributes, each: int) -> list[list[str]]:
    """``each`` captions for every portrait, drawn from the portrait's own seed."""
    columns = zip(*(column.tolist() for column in attributes.values()), strict=True)
    rows = [dict(zip(attributes, values, strict=True)) for values in columns]
    return [
        [write_caption(portrait, generator) for _ in range(each)]
        for portrait, generator in zip(rows, image_generators(seeds, stream=Stream.CAPTION), strict=True)
    ]


def to_model(images: Tensor) -> Tensor:
    """uint8 pixels -> float32 in [-1, 1], as AutoencoderKL and the classifier take them."""
    return images.float() / 127.5 - 1


def to_pixels(images: Tensor) -> Tensor:
    """Floats in [-1, 1] -> uint8 pixels, clipped."""
    return (images.float().clamp(-1, 1) * 127.5 + 127.5).round().byte()


def cached(path: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors in ``path``; made, and written there, when the file is missing."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        save_file({name: tensor.contiguous() for name, tensor in make().items()}, partial)
        partial.replace(path)
    return load_file(path)
