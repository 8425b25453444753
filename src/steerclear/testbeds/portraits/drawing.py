"""Draw portraits from signed distances: 64 x 64 pixels, anti-aliased, a whole batch at once.

Every shape is a function that is negative inside and positive outside, in units of the face; its value divided by a
pixel's width gives the coverage. Shapes are painted back to front. All that the attributes do not determine (proportions,
tilt, exact colors) comes from ``VARIATIONS`` uniform numbers per image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...core.seeds import uniform_per_image
from .attributes import PALETTES, Attributes
from .streams import PortraitStream

SIZE = 64
VARIATIONS = 96
BATCH = 64


class _Variation:
    """Returns each image's uniform numbers, always in the same order."""

    def __init__(self, uniforms: Tensor) -> None:
        self.uniforms = uniforms
        self.used = 0

    def take(self, count: int) -> Tensor:
        self.used += count
        return self.uniforms[:, self.used - count : self.used]

    def between(self, low: float, high: float) -> Tensor:
        """A number per image, shaped to broadcast over pixels, ``[batch, 1, 1]``."""
        return (low + (high - low) * self.take(1)).unsqueeze(-1)

    def color(self, base: Tensor, spread: float) -> Tensor:
        """The base color, varied in hue (three numbers) and in lightness (one)."""
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


class _Canvas:
    """A batch of portraits in progress: random numbers, colors, the face's coordinates and the image."""

    def __init__(self, attributes: Attributes, uniforms: Tensor) -> None:
        self.batch = len(uniforms)
        self.vary = vary = _Variation(uniforms)
        self.shown = {name: values.float().view(self.batch, 1, 1) for name, values in attributes.items()}
        self.man, self.woman = self.shown["man"], 1 - self.shown["man"]

        def base_color(name: str) -> Tensor:
            return torch.tensor(list(PALETTES[name].values()))[attributes[name]]

        background = vary.color(base_color("background"), 0.09)
        self.hair = vary.color(base_color("hair"), 0.06)
        self.skin = vary.color(base_color("skin"), 0.05)
        self.hat = vary.color(base_color("hat_color"), 0.08)
        self.shirt = vary.take(3) * 0.7 + 0.12

        # The canvas spans [-1, 1]; the face frame is moved, tilted and scaled within it.
        axis = (torch.arange(SIZE) + 0.5) / SIZE * 2 - 1
        canvas_y, canvas_x = torch.meshgrid(axis, axis, indexing="ij")
        move_x, move_y = vary.between(-0.07, 0.07), vary.between(0.05, 0.13)
        scale, tilt = vary.between(1.06, 1.20), vary.between(-0.08, 0.08)
        self.body_x, self.body_y = (canvas_x - move_x) / scale, (canvas_y - move_y) / scale
        self.x = torch.cos(tilt) * self.body_x + torch.sin(tilt) * self.body_y
        self.y = torch.cos(tilt) * self.body_y - torch.sin(tilt) * self.body_x
        self.side = self.x.abs()
        self.pixel = (2 / SIZE) / scale

        shade = 1 - 0.10 * (canvas_y + 1) / 2 * vary.between(0, 1.6)
        self.image = background.view(self.batch, 3, 1, 1) * shade.unsqueeze(1)
        self.head_x = vary.between(0.40, 0.45) - 0.03 * self.woman
        self.head_y = vary.between(0.50, 0.55)

    def gray(self, value: float) -> Tensor:
        return torch.full((self.batch, 3), value)

    def paint(self, distance: Tensor, color: Tensor, opacity: Tensor | float = 1.0) -> None:
        coverage = ((0.5 - distance / self.pixel).clamp(0, 1) * opacity).unsqueeze(1)
        self.image = self.image + (color.view(self.batch, 3, 1, 1) - self.image) * coverage


def draw(attributes: Attributes, uniforms: Tensor) -> Tensor:
    """Paint one portrait per row of attributes.

    Args:
        attributes: integers of shape ``[batch]``, by name.
        uniforms: random variation, in [0, 1), shape ``[batch, VARIATIONS]``.

    Returns:
        RGB images in [0, 1], shape ``[batch, 3, 64, 64]``, float32.
    """
    canvas = _Canvas(attributes, uniforms)
    _paint_head(canvas)
    _paint_hair(canvas)
    eye_x, eye_y = _paint_eyes(canvas)
    _paint_nose_and_mouth(canvas)
    _paint_glasses(canvas, eye_x, eye_y)
    _paint_hat(canvas)
    return canvas.image.clamp(0, 1)


def _paint_head(at: _Canvas) -> None:
    """Behind the head a woman's long hair, the shirt, the neck, a man's ears; then the head and its beard."""
    x, y, side, woman, paint = at.x, at.y, at.side, at.woman, at.paint
    length = at.vary.between(0.45, 0.72)
    long_hair = _box(x, y - 0.10 - (length - 0.55) * 0.6, at.head_x + 0.16, at.head_y + length * 0.35 + 0.10, 0.42)
    paint(long_hair, at.hair * 0.86, woman)
    paint(_ellipse(at.body_x, at.body_y - 1.06, 0.78 - 0.14 * woman, 0.46), at.shirt)
    paint(_box(at.body_x, at.body_y - 0.56, 0.17 - 0.03 * woman, 0.22, 0.08), at.skin * 0.88)
    paint(_ellipse(side - at.head_x * 0.98, y - 0.03, 0.08, 0.12), at.skin * 0.93, at.man)

    paint(_ellipse(x, y, at.head_x, at.head_y), at.skin)

    jaw = _ellipse(x, y - 0.02, at.head_x * 1.02, at.head_y * 1.07)
    beard = torch.maximum(jaw, -_ellipse(x, y + 0.10, at.head_x * 0.78, 0.50))
    paint(torch.maximum(beard, 0.08 - y), at.hair * 0.92, at.shown["beard"])


def _paint_hair(at: _Canvas) -> None:
    x, y = at.x, at.y
    hairline, parting = at.vary.between(0.20, 0.30), at.vary.between(-0.5, 0.5)
    fringe = y + hairline + 0.05 * parting * x / at.head_x - 0.385 * at.side**2 / at.head_x + 0.05
    at.paint(torch.maximum(_ellipse(x, y + 0.03, at.head_x + 0.055, at.head_y + 0.045), fringe), at.hair)
    strands = torch.maximum(
        _ellipse(x, y - 0.05, at.head_x + 0.10, at.head_y + 0.10),
        -_ellipse(x, y - 0.12, at.head_x * 0.86, at.head_y * 1.02),
    )
    at.paint(torch.maximum(strands, y - 0.42), at.hair, at.woman)


def _paint_eyes(at: _Canvas) -> tuple[Tensor, Tensor]:
    """Eyes, lashes and brows; returns the position of the eyes."""
    x, y, side, vary, paint = at.x, at.y, at.side, at.vary, at.paint
    eye_x, eye_y = vary.between(0.165, 0.19), vary.between(-0.06, -0.02)
    gaze = vary.between(-0.022, 0.022)
    iris = vary.take(3) * torch.tensor([0.25, 0.30, 0.45]) + torch.tensor([0.08, 0.12, 0.12])
    paint(_ellipse(side - eye_x, y - eye_y, 0.080, 0.058), at.gray(0.97))
    paint(_ellipse((side - eye_x) * torch.sign(x) - gaze, y - eye_y, 0.042, 0.048), iris)
    lashes = torch.maximum(
        _ellipse(side - eye_x, y - eye_y, 0.095, 0.075), -_ellipse(side - eye_x, y - eye_y - 0.02, 0.09, 0.07)
    )
    paint(lashes, at.gray(0.08), 0.35 + 0.6 * at.woman)

    brow, slant = vary.between(0.02, 0.03) - 0.008 * at.woman, vary.between(-0.2, 0.2)
    along = side - eye_x
    paint(_box(along, y - eye_y + 0.125 + slant * along + 0.9 * along**2, 0.10, brow, brow * 0.9), at.hair * 0.75)
    return eye_x, eye_y


def _paint_nose_and_mouth(at: _Canvas) -> None:
    x, y, side, woman, vary, paint = at.x, at.y, at.side, at.woman, at.vary, at.paint
    paint(torch.maximum(_ellipse(x, y - 0.13, 0.062, 0.055), 0.135 - y), at.skin * 0.78, 0.9)

    mouth_y = vary.between(0.31, 0.34)
    width, height, droop = vary.between(0.19, 0.25), vary.between(0.065, 0.085), vary.between(0.0, 0.9)
    below_nose = y - (mouth_y - 0.095) - droop * side**2 * 2.2
    mustache = torch.minimum(
        _ellipse(side - width * 0.48, below_nose, width * 0.60, height),
        _box(side - width * 0.7, below_nose - 0.012, width * 0.5, height * 0.6, height * 0.55),
    )
    paint(mustache, at.hair * 0.70, at.shown["mustache"])

    smile, straight = vary.between(1.9, 2.6), vary.between(-0.25, 0.25)
    curve = torch.where(at.shown["smile"] > 0, smile, straight)
    lip = torch.stack([0.62 + 0.18 * woman, 0.25 - 0.12 * woman, 0.25 - 0.06 * woman], 1).view(at.batch, 3)
    lip = lip * (0.55 + 0.45 * at.skin.mean(1, keepdim=True))
    mouth_width, thickness = 0.145 + 0.035 * at.shown["smile"], 0.020 + 0.016 * woman
    mouth = y - mouth_y - 0.03 + curve * x**2 - 0.02 * at.shown["smile"]
    paint(_box(x, mouth, mouth_width, thickness, thickness * 0.9), lip)
    teeth = torch.maximum(torch.maximum(mouth, mouth_y - 0.04 - y), side - mouth_width * 0.85)
    paint(teeth, at.gray(0.96), at.shown["smile"] * 0.9)


def _paint_glasses(at: _Canvas, eye_x: Tensor, eye_y: Tensor) -> None:
    side, above, there, paint = at.side, at.y - eye_y, at.shown["glasses"], at.paint
    rim = at.vary.between(0.125, 0.145)
    frame = at.vary.color(at.gray(0.10), 0.08)
    lens = torch.sqrt((side - eye_x) ** 2 * 0.9 + above**2 + 1e-9) - rim
    bridge = (eye_x - rim).clamp(min=0.02) + 0.01
    temple = (at.head_x - eye_x - rim).clamp(min=0.02) / 2 + 0.02
    paint(lens, at.gray(0.95), there * 0.22)
    paint(lens.abs() - 0.020, frame, there)
    paint(_box(at.x, above + 0.02, bridge, 0.016, 0.01), frame, there)
    paint(_box(side - (eye_x + rim + at.head_x) / 2, above + 0.01, temple, 0.015, 0.01), frame, there)


def _paint_hat(at: _Canvas) -> None:
    x, there, half_width = at.x, at.shown["hat"], at.head_x * 0.92 + 0.02
    brim_y, crown = at.vary.between(-0.36, -0.31), at.vary.between(0.18, 0.24)
    below_brim = at.y - brim_y
    at.paint(_box(x, below_brim + crown, half_width, crown, 0.13), at.hat, there)
    at.paint(_box(x, below_brim + 0.075, half_width, 0.05, 0.01), at.hat * 0.55, there)
    at.paint(_box(x, below_brim, at.head_x + 0.20, 0.055, 0.05), at.hat * 0.9, there)


def draw_from_seeds(attributes: Attributes, seeds: Sequence[int]) -> Tensor:
    """Paint one portrait per row of attributes; its random variation comes from the row's seed.

    Args:
        attributes: integers of shape ``[n]``, by name.
        seeds: one integer in [0, 2**32) per image. Image k depends on row k and seed k alone.

    Returns:
        RGB pixels in 0 ... 255, shape ``[n, 3, 64, 64]``, uint8.

    Raises:
        ValueError: the numbers of seeds and rows differ.

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
