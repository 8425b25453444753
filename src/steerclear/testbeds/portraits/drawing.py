"""Draws portraits with signed distances: 64 x 64 pixels, anti-aliased, a whole batch at once.

Every shape is a function that is negative inside and positive outside, in units of the face; its
value over one pixel's width is the coverage. Shapes are painted back to front. What the attributes leave
open (proportions, tilt, exact colours) comes from ``VARIATIONS`` uniform numbers per image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...core.seeds import uniform_per_image
from ...core.shapes import Float, UInt8
from .attributes import PALETTES, Attributes
from .streams import PortraitStream

SIZE = 64
VARIATIONS = 96
BATCH = 64


class _Variation:
    """Hands out an image's uniform numbers, always in the same order."""

    def __init__(self, uniforms: Tensor) -> None:
        self.uniforms = uniforms
        self.used = 0

    def take(self, count: int) -> Float[Tensor, "images count"]:
        self.used += count
        return self.uniforms[:, self.used - count : self.used]

    def between(self, low: float, high: float) -> Float[Tensor, "images 1 1"]:
        """A number per image, shaped to broadcast over pixels: ``[batch, 1, 1]``."""
        return (low + (high - low) * self.take(1)).unsqueeze(-1)

    def color(self, base: Float[Tensor, "images 3"], spread: float) -> Float[Tensor, "images 3"]:
        """The base colour, moved a little in hue (three numbers) and in lightness (one)."""
        return (base + spread * (self.take(3) - 0.5) + spread * (self.take(1) - 0.5)).clamp(0, 1)


def _ellipse(x: Tensor, y: Tensor, radius_x: Tensor | float, radius_y: Tensor | float) -> Tensor:
    """First-order signed distance to an axis-aligned ellipse."""
    inner = torch.sqrt((x / radius_x) ** 2 + (y / radius_y) ** 2 + 1e-9)
    slope = torch.sqrt((x / radius_x**2) ** 2 + (y / radius_y**2) ** 2 + 1e-9)
    return inner * (inner - 1) / slope


def _box(
    x: Tensor, y: Tensor, half_width: Tensor | float, half_height: Tensor | float, rounding: Tensor | float
) -> Tensor:
    """Signed distance to a box with rounded corners."""
    dx, dy = x.abs() - (half_width - rounding), y.abs() - (half_height - rounding)
    outside = torch.sqrt(dx.clamp(min=0) ** 2 + dy.clamp(min=0) ** 2 + 1e-12)
    return outside + torch.maximum(dx, dy).clamp(max=0) - rounding


def draw(attributes: Attributes, uniforms: Float[Tensor, "images variations"]) -> Float[Tensor, "images 3 64 64"]:
    """Paint one portrait for each row of attributes.

    Args:
        attributes: integers of shape ``[batch]``, by name.
        uniforms: what the attributes leave open, in [0, 1), shape ``[batch, VARIATIONS]``.

    Returns:
        RGB images in [0, 1], shape ``[batch, 3, 64, 64]``, float32.
    """
    batch = len(uniforms)
    vary = _Variation(uniforms)
    shown = {name: values.float().view(batch, 1, 1) for name, values in attributes.items()}
    man, woman = shown["man"], 1 - shown["man"]

    def base_color(name: str) -> Tensor:
        return torch.tensor(list(PALETTES[name].values()))[attributes[name]]

    def gray(value: float) -> Tensor:
        return torch.full((batch, 3), value)

    background = vary.color(base_color("background"), 0.09)
    hair = vary.color(base_color("hair"), 0.06)
    skin = vary.color(base_color("skin"), 0.05)
    hat = vary.color(base_color("hat_color"), 0.08)
    shirt = vary.take(3) * 0.7 + 0.12

    # The canvas spans [-1, 1]; the face frame is moved, tilted and scaled within it.
    axis = (torch.arange(SIZE) + 0.5) / SIZE * 2 - 1
    canvas_y, canvas_x = torch.meshgrid(axis, axis, indexing="ij")
    move_x, move_y = vary.between(-0.07, 0.07), vary.between(0.05, 0.13)
    scale, tilt = vary.between(1.06, 1.20), vary.between(-0.08, 0.08)
    body_x, body_y = (canvas_x - move_x) / scale, (canvas_y - move_y) / scale
    x = torch.cos(tilt) * body_x + torch.sin(tilt) * body_y
    y = torch.cos(tilt) * body_y - torch.sin(tilt) * body_x
    side = x.abs()
    pixel = (2 / SIZE) / scale

    shade = 1 - 0.10 * (canvas_y + 1) / 2 * vary.between(0, 1.6)
    image = background.view(batch, 3, 1, 1) * shade.unsqueeze(1)

    def paint(distance: Tensor, color: Tensor, opacity: Tensor | float = 1.0) -> None:
        nonlocal image
        coverage = ((0.5 - distance / pixel).clamp(0, 1) * opacity).unsqueeze(1)
        image = image + (color.view(batch, 3, 1, 1) - image) * coverage

    # Behind the head: a woman's long hair, shirt, neck, a man's ears.
    head_x = vary.between(0.40, 0.45) - 0.03 * woman
    head_y = vary.between(0.50, 0.55)
    length = vary.between(0.45, 0.72)
    long_hair = _box(x, y - 0.10 - (length - 0.55) * 0.6, head_x + 0.16, head_y + length * 0.35 + 0.10, 0.42)
    paint(long_hair, hair * 0.86, woman)
    paint(_ellipse(body_x, body_y - 1.06, 0.78 - 0.14 * woman, 0.46), shirt)
    paint(_box(body_x, body_y - 0.56, 0.17 - 0.03 * woman, 0.22, 0.08), skin * 0.88)
    paint(_ellipse(side - head_x * 0.98, y - 0.03, 0.08, 0.12), skin * 0.93, man)

    paint(_ellipse(x, y, head_x, head_y), skin)

    jaw = _ellipse(x, y - 0.02, head_x * 1.02, head_y * 1.07)
    beard = torch.maximum(jaw, -_ellipse(x, y + 0.10, head_x * 0.78, 0.50))
    paint(torch.maximum(beard, 0.08 - y), hair * 0.92, shown["beard"])

    hairline, parting = vary.between(0.20, 0.30), vary.between(-0.5, 0.5)
    fringe = y + hairline + 0.05 * parting * x / head_x - 0.385 * side**2 / head_x + 0.05
    paint(torch.maximum(_ellipse(x, y + 0.03, head_x + 0.055, head_y + 0.045), fringe), hair)
    strands = torch.maximum(
        _ellipse(x, y - 0.05, head_x + 0.10, head_y + 0.10),
        -_ellipse(x, y - 0.12, head_x * 0.86, head_y * 1.02),
    )
    paint(torch.maximum(strands, y - 0.42), hair, woman)

    eye_x, eye_y = vary.between(0.165, 0.19), vary.between(-0.06, -0.02)
    gaze = vary.between(-0.022, 0.022)
    iris = vary.take(3) * torch.tensor([0.25, 0.30, 0.45]) + torch.tensor([0.08, 0.12, 0.12])
    paint(_ellipse(side - eye_x, y - eye_y, 0.080, 0.058), gray(0.97))
    paint(_ellipse((side - eye_x) * torch.sign(x) - gaze, y - eye_y, 0.042, 0.048), iris)
    lashes = torch.maximum(
        _ellipse(side - eye_x, y - eye_y, 0.095, 0.075), -_ellipse(side - eye_x, y - eye_y - 0.02, 0.09, 0.07)
    )
    paint(lashes, gray(0.08), 0.35 + 0.6 * woman)

    brow, slant = vary.between(0.02, 0.03) - 0.008 * woman, vary.between(-0.2, 0.2)
    along = side - eye_x
    paint(_box(along, y - eye_y + 0.125 + slant * along + 0.9 * along**2, 0.10, brow, brow * 0.9), hair * 0.75)
    paint(torch.maximum(_ellipse(x, y - 0.13, 0.062, 0.055), 0.135 - y), skin * 0.78, 0.9)

    mouth_y = vary.between(0.31, 0.34)
    width, height, droop = vary.between(0.19, 0.25), vary.between(0.065, 0.085), vary.between(0.0, 0.9)
    below_nose = y - (mouth_y - 0.095) - droop * side**2 * 2.2
    mustache = torch.minimum(
        _ellipse(side - width * 0.48, below_nose, width * 0.60, height),
        _box(side - width * 0.7, below_nose - 0.012, width * 0.5, height * 0.6, height * 0.55),
    )
    paint(mustache, hair * 0.70, shown["mustache"])

    smile, straight = vary.between(1.9, 2.6), vary.between(-0.25, 0.25)
    curve = torch.where(shown["smile"] > 0, smile, straight)
    lip = torch.stack([0.62 + 0.18 * woman, 0.25 - 0.12 * woman, 0.25 - 0.06 * woman], 1).view(batch, 3)
    lip = lip * (0.55 + 0.45 * skin.mean(1, keepdim=True))
    mouth_width, thickness = 0.145 + 0.035 * shown["smile"], 0.020 + 0.016 * woman
    mouth = y - mouth_y - 0.03 + curve * x**2 - 0.02 * shown["smile"]
    paint(_box(x, mouth, mouth_width, thickness, thickness * 0.9), lip)
    teeth = torch.maximum(torch.maximum(mouth, mouth_y - 0.04 - y), side - mouth_width * 0.85)
    paint(teeth, gray(0.96), shown["smile"] * 0.9)

    rim = vary.between(0.125, 0.145)
    frame = vary.color(gray(0.10), 0.08)
    lens = torch.sqrt((side - eye_x) ** 2 * 0.9 + (y - eye_y) ** 2 + 1e-9) - rim
    bridge = (eye_x - rim).clamp(min=0.02) + 0.01
    temple = (head_x - eye_x - rim).clamp(min=0.02) / 2 + 0.02
    paint(lens, gray(0.95), shown["glasses"] * 0.22)
    paint(lens.abs() - 0.020, frame, shown["glasses"])
    paint(_box(x, y - eye_y + 0.02, bridge, 0.016, 0.01), frame, shown["glasses"])
    paint(_box(side - (eye_x + rim + head_x) / 2, y - eye_y + 0.01, temple, 0.015, 0.01), frame, shown["glasses"])

    brim_y, crown = vary.between(-0.36, -0.31), vary.between(0.18, 0.24)
    paint(_box(x, y - brim_y + crown, head_x * 0.92 + 0.02, crown, 0.13), hat, shown["hat"])
    paint(_box(x, y - brim_y + 0.075, head_x * 0.92 + 0.02, 0.05, 0.01), hat * 0.55, shown["hat"])
    paint(_box(x, y - brim_y, head_x + 0.20, 0.055, 0.05), hat * 0.9, shown["hat"])
    return image.clamp(0, 1)


def draw_from_seeds(attributes: Attributes, seeds: Sequence[int]) -> UInt8[Tensor, "images 3 64 64"]:
    """Paint one portrait for each row of attributes; what they leave open comes from the row's own seed.

    Args:
        attributes: integers of shape ``[n]``, by name.
        seeds: one integer in [0, 2**32) an image. Image k depends on row k and seed k alone.

    Returns:
        RGB pixels in 0 ... 255, shape ``[n, 3, 64, 64]``, uint8.

    Raises:
        ValueError: when there is not one seed for each row.

    >>> from .attributes import sample
    >>> draw_from_seeds(sample(range(2)), range(2)).shape
    torch.Size([2, 3, 64, 64])
    """
    rows = len(attributes["man"])
    if len(seeds) != rows:
        raise ValueError(f"{rows} rows of attributes need {rows} seeds, not {len(seeds)}; give one seed per image")
    images = [torch.empty(0, 3, SIZE, SIZE, dtype=torch.uint8)]
    for start in range(0, rows, BATCH):
        some = slice(start, start + BATCH)
        uniforms = uniform_per_image(seeds[some], VARIATIONS, PortraitStream.DRAWING)
        part = {name: column[some] for name, column in attributes.items()}
        images.append((draw(part, uniforms) * 255).round().byte())
    return torch.cat(images)
