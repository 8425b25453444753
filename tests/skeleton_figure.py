"""A figure in one file: how many network evaluations each method took."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from matplotlib.figure import Figure

from steerclear.study.results import Results
from steerclear.telling.figures.base import LIGHT, Drawing, Theme, blank, quiet


@dataclass(frozen=True)
class Evaluations(Drawing):
    """A bar per method."""

    name: ClassVar[str] = "evaluations"
    title: ClassVar[str] = "What it cost"
    meaning: ClassVar[str] = "Network evaluations per image, a bar per method."

    def nothing(self, results: Results) -> str | None:
        return None if results.methods else "There are no methods, so nothing was evaluated."

    def draw(self, results: Results, folder: Path, theme: Theme = LIGHT) -> Figure:
        figure = blank(6, 3, theme)
        axes = figure.add_axes((0.1, 0.2, 0.85, 0.7), label="evaluations")
        quiet(axes, theme)
        axes.bar([method.name for method in results.methods], [method.evaluations for method in results.methods])
        return figure
