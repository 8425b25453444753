"""The contract of a figure, and what figures share: colours for light and dark pages, plain axes, saving."""

import io
import textwrap
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ...core.settings import Configurable
from ...core.shelf import entries, find
from ...study.gallery import write_bytes
from ...study.results import Results

DPI = 160
SHELF = "telling.figures"
TABLE_PLACE = 50
"""Place of the page's table: figures with a smaller place are above it."""


@dataclass(frozen=True)
class Theme:
    """Colours, as "#rrggbb".

    Attributes:
        paper, ink, muted, faint: background, text, secondary text, guide lines.
        concept, other: for what shows the concept or is off its truth, and for the rest. They differ in lightness as well
            as in hue, for gray prints and colour-blind readers.
    """

    paper: str
    ink: str
    muted: str
    faint: str
    concept: str
    other: str


LIGHT = Theme("#ffffff", "#1b1f24", "#5b6470", "#dfe3e8", "#c8430a", "#3b82c4")
DARK = Theme("#161a20", "#e8ebef", "#a3adba", "#39414c", "#ff8a4c", "#5ea3e0")


class Shown(Figure):
    """A figure that notebooks show without matplotlib's integration."""

    def _repr_png_(self) -> bytes:
        return png(self)


class Drawing(Configurable, ABC):
    """The contract of a figure, a frozen dataclass on the shelf ``telling.figures``.

    It is written as ``NAME.png``, shown on the page, and drawn by ``comparison.figure(name)``.

    Class attributes:
        name: of the file.
        title: heading of its section on the page.
        meaning: what it shows, in one sentence; also the alternative text.
        place: its order among the figures, see :data:`TABLE_PLACE`.
        on_page: whether the page shows it.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    meaning: ClassVar[str]
    place: ClassVar[int] = 100
    on_page: ClassVar[bool] = True

    @abstractmethod
    def nothing(self, results: Results) -> str | None:
        """Why there is nothing to draw, in one sentence; None if there is."""

    @abstractmethod
    def draw(self, results: Results, folder: Path, theme: Theme = LIGHT) -> Figure:
        """The figure of results that have something to draw; ``folder`` is that of results.json."""

    def explained(self, results: Results) -> str:
        """How to read it, in words for the page."""
        return self.meaning

    def figure(self, results: Results, folder: Path, theme: Theme = LIGHT) -> Figure:
        """The figure, or one that says why there is nothing to draw."""
        reason = self.nothing(results)
        return self.draw(results, folder, theme) if reason is None else sentence(reason, theme)


def drawings() -> list[type[Drawing]]:
    """All figures, in the order of the page."""
    return sorted(entries(SHELF, Drawing).values(), key=lambda drawing: (drawing.place, drawing.name))


def find_drawing(name: str) -> type[Drawing]:
    """The figure with this name; UnknownName, with the nearest name, if there is none."""
    return find(SHELF, Drawing, name)


def blank(width: float, height: float, theme: Theme, dpi: int = DPI) -> Figure:
    """An empty figure of this size in inches, with its own canvas."""
    figure = Shown(figsize=(width, height), dpi=dpi, facecolor=theme.paper)
    FigureCanvasAgg(figure)
    return figure


def text(where: Any, x: float, y: float, words: str, **style: Any) -> None:
    """Write words literally: a dollar sign in a prompt does not begin a formula."""
    where.text(x, y, words, parse_math=False, **style)


def wrapped(words: str, width: int, lines: int) -> str:
    """The words in at most ``lines`` lines of ``width`` characters; cut text ends in "…".

    >>> wrapped("portrait photo of a man with a mustache", 16, 2)
    'portrait photo\\nof a man with a…'
    """
    return "\n".join(textwrap.wrap(words, width, max_lines=lines, placeholder="…"))


def quiet(axes: Axes, theme: Theme, *, sides: tuple[str, ...] = ("bottom",)) -> None:
    """Show only the named spines; ticks and labels in the secondary colour."""
    axes.set_facecolor(theme.paper)
    for side, spine in axes.spines.items():
        spine.set_visible(side in sides)
        spine.set_color(theme.faint)
    axes.tick_params(colors=theme.muted, labelsize=8, length=3, width=0.6, labelcolor=theme.muted)


def legend(figure: Figure, handles: list[Line2D], theme: Theme, y: float, columns: int | None = None) -> None:
    """A legend at the left, in one row unless ``columns`` says otherwise; ``y`` is its middle as a fraction of the height."""
    figure.legend(
        handles=handles, loc="center left", bbox_to_anchor=(0.012, y), ncols=columns or len(handles), frameon=False, fontsize=8.5,
        labelcolor=theme.ink, borderaxespad=0, handlelength=1.8, columnspacing=1.6,
    )  # fmt: skip


def sentence(words: str, theme: Theme) -> Figure:
    """A figure of one sentence."""
    figure = blank(8, 0.9, theme)
    text(figure, 0.5, 0.5, words, ha="center", va="center", color=theme.muted, fontsize=10)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as PNG, the same bytes every time."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # letters of a prompt that the font lacks become boxes; the page's text has them
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        paper = figure.get_facecolor()
        figure.savefig(buffer, format="png", dpi=figure.dpi, facecolor=paper, metadata={"Software": None})
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> Path:
    """Write the figure as PNG, and its folder if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, png(figure))
    return path
