"""Schematics by name: each is data, which a module of ``study`` makes, and a drawing of them in ``telling.figures``."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from ..core.errors import UnknownName


class Schematic(NamedTuple):
    """Where a schematic comes from, as ``module:function`` below ``steerclear``.

    Attributes:
        data: makes what is drawn.
        drawing: draws it.
        keeps: whether ``data`` takes a folder in which finished parts are kept.
    """

    data: str
    drawing: str
    keeps: bool


SCHEMATICS = {
    "sampler": Schematic("study.two_places:two_places", "telling.figures.schematic_sampler:draw_sampler", False),
    "space": Schematic("study.sampling_space:sampling_space", "telling.figures.schematic_space:draw_space", True),
}
"""By name: what a negative prompt is at each step of a sampler; where images lie without a prompt, with one, with a negative."""


def schematic(name: str, folder: Path) -> Any:
    """The figure of this name.

    Args:
        name: of :data:`SCHEMATICS`.
        folder: for what is kept.

    Raises:
        UnknownName: there is no such schematic.
    """
    if name not in SCHEMATICS:
        raise UnknownName("schematic", name, SCHEMATICS)
    one = SCHEMATICS[name]
    data = _found(one.data)(folder / name) if one.keeps else _found(one.data)()
    return _found(one.drawing)(data)


def _found(place: str) -> Callable[..., Any]:
    module, _, function = place.partition(":")
    return getattr(import_module(f"steerclear.{module}"), function)
