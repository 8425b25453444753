"""Guidances over an exact world of the plane: what they push, the paths of images, and what they sample beside what is wanted.

Drawn by ``steerclear diagram``; no figure of a comparison's page.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ...core.guidance import Guidance
from ...core.parsing import part_text
from ...study.diagram import Diagram, Drawn, Numbers, Push, Scene, Shading, Way
from ..guidance_docs import documentation
from .base import LIGHT, Theme, blank, legend, text, wrapped

WIDTH, MARGIN, GAP, DPI = 10.0, 0.12, 0.1, 100
"""Sizes in inches, and pixels per inch: 1,000 pixels wide."""

LEGEND, HEAD, FOOT, NUMBERS = 0.76, 0.6, 0.22, 0.82
"""Room in inches for the legend and the columns' names, above a row, and below a panel with one line or with numbers."""

SHADES = ((0.2, 0.85), (0.5, 0.6), (0.8, 0.38), (0.95, 0.22), (0.99, 0.11))
"""Densest share of the images, and how dark it is."""

OUTLINE = 0.95
"""The line around what is wanted holds this share of it."""

LONGEST, LONG, SHORT = 1.5, 90, 0.1
"""Length of the longest arrows in spacings; this percentile of their lengths is one spacing long; shorter ones are left out."""

FEWEST, MOST, TITLE = 4, 5, 24
"""Panels side by side in a figure of samples, and characters that fit above one."""


class Words(NamedTuple):
    """A guidance in plain words."""

    title: str
    does: str


WORDS = {
    "unguided": Words("The prompt alone", "nothing is pushed"),
    "cfg": Words("CFG", "away from what the empty prompt shows"),
    "negative": Words(
        "Negative prompt", "away from what the negative prompt shows, whether it is about to appear or not"
    ),
    "dynamic-negative": Words("Dynamic negative", "the same direction, but only where the concept is likely"),
    "redraw": Words("Drawn again", "no push; a finished image that shows the concept is drawn anew"),
    "autoguidance": Words("Weak network", "autoguidance: away from what a worse network makes of the same prompt"),
}
"""By the guidance's name; others are told by their documentation."""


def words_of(guidance: Guidance) -> Words:
    """Title and one clause of a guidance; one around another is told with it."""
    known = WORDS.get(guidance.name) or Words(guidance.name, wrapped(documentation(type(guidance)).summary, 80, 1))
    inner = getattr(guidance, "inner", None)
    if not isinstance(inner, Guidance) or inner.name == "unguided":
        return known
    inside = words_of(inner)
    return Words(f"{inside.title} + {known.title[0].lower()}{known.title[1:]}", "both pushes, added")


def draw_pushes(scene: Scene, theme: Theme = LIGHT) -> Figure:
    """A row per guidance: its push at each noise level over that level's density, then the paths of some images."""
    columns = len(scene.sigmas) + 1
    panel = (WIDTH - 2 * MARGIN - GAP * (columns - 1)) / columns
    row = HEAD + panel + FOOT
    height = LEGEND + 0.34 + row * len(scene.drawn)
    figure = blank(WIDTH, height, theme, DPI)
    names = [f"noise level {sigma:g}" for sigma in scene.sigmas] + [f"paths of {scene.request.paths} images"]
    for column, name in enumerate(names):
        x = MARGIN + column * (panel + GAP)
        text(figure, x / WIDTH, 1 - (LEGEND + 0.1) / height, name, fontsize=9.5, color=theme.ink, va="center")
    for index, drawn in enumerate(scene.drawn):
        top = height - LEGEND - 0.24 - index * row
        _head(figure, drawn.guidance, MARGIN / WIDTH, (top - 0.16) / height, theme)
        for column in range(columns):
            box = (
                (MARGIN + column * (panel + GAP)) / WIDTH,
                (top - HEAD - panel + 0.14) / height,
                panel / WIDTH,
                panel / height,
            )
            axes = figure.add_axes(box, label=f"{part_text(drawn.guidance)}/{names[column]}")
            if column < len(scene.sigmas):
                _draw_push(axes, scene, scene.noisy[column], drawn.pushes[column], theme)
            else:
                _draw_paths(axes, scene, drawn, theme)
    _legend(figure, height, theme, scene.request, [
        "Arrows: from the plain prediction of the finished image to the guided one, at each panel's own scale; the mean length is below.",
        (f"Paths run from noise (ring) to image (dot); dotted: a draw that was replaced. Noise level: σ / α; this world's spread is "
         f"{scene.request.frame.spread:.2g}."),
    ])  # fmt: skip
    return figure


def draw_samples(scene: Scene, theme: Theme = LIGHT) -> Figure:
    """What is wanted, exactly, and beside it what each guidance that wants it samples, with numbers below."""
    sizes = [1 + sum(one.without == without for one in scene.drawn) for without in (False, True)]
    across = min(max(*sizes, FEWEST), MOST)
    panel = (WIDTH - 2 * MARGIN - GAP * (across - 1)) / across
    rows = _rows(scene, across)
    row = HEAD + panel + NUMBERS
    height = LEGEND + row * len(rows)
    figure = blank(WIDTH, height, theme, DPI)
    for index, (without, shown) in enumerate(rows):
        top = height - LEGEND - index * row
        for place, drawn in enumerate(shown):
            x, bottom = MARGIN + place * (panel + GAP), top - HEAD - panel + 0.14
            box = x / WIDTH, bottom / height, panel / WIDTH, panel / height
            key = "wanted" if drawn is None else part_text(drawn.guidance)
            axes = figure.add_axes(box, label=f"{key}/{'without' if without else 'all'}")
            wanted = scene.wanted[without]
            shade(axes, scene, wanted.shading if drawn is None else drawn.sampled, theme)
            if drawn is None:
                titled(figure, x / WIDTH, (top - 0.16) / height, "Wanted", _wish(scene, without), theme)
            else:
                _outline(axes, scene, wanted.shading, theme)
                _head(figure, drawn.guidance, x / WIDTH, (top - 0.16) / height, theme, short=True)
            numbers = wanted.numbers if drawn is None else drawn.numbers
            told = _told(numbers, None if drawn is None else wanted.numbers)
            text(
                figure,
                x / WIDTH,
                (bottom - 0.06) / height,
                told,
                fontsize=8.5,
                color=theme.ink,
                va="top",
                linespacing=1.3,
            )
    _legend(figure, height, theme, scene.request, [
        (f"Thin line: around {100 * OUTLINE:.0f} % of what is wanted. In the wrong place: images that would have to lie elsewhere; by chance: "
         f"so many of exact draws."),
        "Off the map: images outside of the contour that holds 99 % of everything in this world.",
    ])  # fmt: skip
    return figure


def _rows(scene: Scene, across: int) -> list[tuple[bool, Sequence[Drawn | None]]]:
    """Panels of each row; None is what is wanted, which begins every row."""
    rows: list[tuple[bool, Sequence[Drawn | None]]] = []
    for without in dict.fromkeys(one.without for one in scene.drawn):
        own = [one for one in scene.drawn if one.without == without]
        rows += [(without, [None, *own[begin : begin + across - 1]]) for begin in range(0, len(own), across - 1)]
    return rows


def _wish(scene: Scene, without: bool) -> str:
    return "all without the concept" if without else "all that the prompt shows"


def _told(numbers: Numbers, chance: Numbers | None) -> str:
    concept = f"with the concept: {_percent(numbers.concept)}"
    if chance is None:
        return f"{concept}\noff the map: {_percent(numbers.outside)}"
    return (
        f"{concept}\nin the wrong place: {_percent(numbers.misplaced)}\n   by chance: {_percent(chance.misplaced)}\n"
        f"off the map: {_percent(numbers.outside)}"
    )


def _percent(share: float) -> str:
    """A share in at most three characters and the sign.

    >>> _percent(0.3062), _percent(0.0123), _percent(0.0004)
    ('31 %', '1.2 %', '0.0 %')
    """
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.1f} %"


def _head(figure: Figure, guidance: Guidance, x: float, y: float, theme: Theme, *, short: bool = False) -> None:
    """Title of a guidance, and below it what it does or how it is typed."""
    words = words_of(guidance)
    asked = typed(guidance)
    title, below = words.title, f"{words.does}  ({cut(asked, 76)})"
    if short:
        first, plus, second = title.partition(" + ")
        title, below = cut(first, TITLE), cut(plus.lstrip() + second if plus else asked, TITLE + 6)
    titled(figure, x, y, title, below, theme)


def cut(words: str, most: int) -> str:
    """At most so many characters.

    >>> cut("dynamic-negative:guidance_scale=1", 20)
    'dynamic-negative:gu…'
    """
    return words if len(words) <= most else words[: most - 1] + "…"


def typed(guidance: Guidance) -> str:
    """The guidance as people type it, without its default parts.

    >>> from ...guidance.negative_prompt import NegativePromptGuidance
    >>> typed(NegativePromptGuidance(2.0))
    'negative:2'
    """
    return (
        part_text(guidance)
        .replace("guidance=unguided,", "")
        .replace(":guidance_scale=", ":")
        .replace(":auto_scale=", ":")
    )


def titled(figure: Figure, x: float, y: float, title: str, below: str, theme: Theme) -> None:
    inch = 1 / figure.get_figheight()
    text(figure, x, y, title, fontsize=10.5, fontweight="bold", color=theme.ink, va="center")
    text(figure, x, y - 0.19 * inch, below, fontsize=8.5, color=theme.muted, va="center")


def bare(axes: Axes, scene: Scene, theme: Theme) -> None:
    left, right, bottom, top = scene.extent
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], facecolor=theme.paper)
    for spine in axes.spines.values():
        spine.set_color(theme.faint)


def colours(shading: Shading, theme: Theme, strength: float = 1.0) -> np.ndarray:
    """The picture of a density, ``[n, n, 3]``: darker where it is denser, from blue to orange as the concept is likelier."""
    paper, other, concept = (np.array(to_rgb(one)) for one in (theme.paper, theme.other, theme.concept))
    dark = np.zeros_like(shading.share)
    for share, shade in reversed(SHADES):
        dark[shading.share < share] = shade * strength
    chance = np.round(shading.concept * 8) / 8  # few colours: small files
    hue = other + chance[:, :, None] * (concept - other)
    return paper + dark[:, :, None] * (hue - paper)


def shade(axes: Axes, scene: Scene, shading: Shading, theme: Theme, strength: float = 1.0) -> None:
    bare(axes, scene, theme)
    axes.imshow(
        colours(shading, theme, strength), extent=scene.extent, origin="lower", interpolation="nearest", zorder=0
    )


def _outline(axes: Axes, scene: Scene, shading: Shading, theme: Theme) -> None:
    axes.contour(
        shading.share, levels=[OUTLINE], extent=scene.extent, colors=[theme.ink], linewidths=0.5, origin="lower"
    )


def _draw_push(axes: Axes, scene: Scene, noisy: Shading, push: Push | None, theme: Theme) -> None:
    shade(axes, scene, noisy, theme)
    if push is None:
        _below(axes, "no push", theme)
        return
    left, right, *_ = scene.extent
    spacing = (right - left) / 15
    lengths = np.linalg.norm(push.arrows, axis=1)
    unit = float(np.percentile(lengths, LONG)) or 1.0
    drawn = push.arrows / unit * np.minimum(1, LONGEST * unit / np.maximum(lengths, 1e-300))[:, None] * spacing
    seen = lengths > SHORT * unit
    axes.quiver(
        *push.places[seen].T, *drawn[seen].T, color=theme.ink, angles="xy", scale_units="xy", scale=1, width=0.008, headwidth=3.4,
        headlength=3.6, headaxislength=3.2, pivot="tail", minlength=0, zorder=2,
    )  # fmt: skip
    _below(axes, f"mean push {push.mean:.2g}", theme)


def _below(axes: Axes, words: str, theme: Theme) -> None:
    text(axes, 0.0, -0.03, words, transform=axes.transAxes, va="top", fontsize=8.5, color=theme.ink)


def _draw_paths(axes: Axes, scene: Scene, drawn: Drawn, theme: Theme) -> None:
    shade(axes, scene, scene.wanted[drawn.without].shading, theme, strength=0.45)
    shown = [path for path in drawn.paths if path.seed < scene.request.seed + scene.request.paths]
    for path in shown:
        draw_path(axes, path, theme)
    again = sum(not path.kept for path in shown)
    ended = sum(path.shows for path in shown if path.kept)
    words = f"{ended} of {scene.request.paths} end in the concept"
    _below(axes, words + (f", {again} replaced" if again else ""), theme)


def draw_path(axes: Axes, path: Way, theme: Theme) -> None:
    """From noise to image."""
    color = theme.concept if path.shows else theme.other
    dash = "-" if path.kept else ":"
    axes.plot(*path.points.T, color=color, linewidth=1.1, linestyle=dash, zorder=3)
    axes.plot(*path.points[0], "o", color=color, markersize=4, markerfacecolor=theme.paper, zorder=4)
    if path.kept:
        axes.plot(*path.points[-1], "o", color=color, markersize=4.5, markeredgecolor=theme.paper, zorder=5)


def _legend(figure: Figure, height: float, theme: Theme, request: Diagram, lines: Sequence[str]) -> None:
    shows = "everything" if request.prompt == "all" else "everything but the concept"
    handles: list[Line2D | Patch] = [
        Patch(color=theme.other, label="without the concept"), Patch(color=theme.concept, label="with the concept"),
    ]  # fmt: skip
    shares = ", ".join(f"{100 * share:.0f}" for share, _ in SHADES)
    legend(figure, handles, theme, 1 - 0.16 / height)  # type: ignore[arg-type]  # patches have labels too
    told = f"darker: more images (densest {shares} %);  the prompt shows {shows}"
    text(figure, 0.36, 1 - 0.16 / height, told, fontsize=8.5, color=theme.ink, va="center")
    for index, line in enumerate(lines):
        text(
            figure,
            MARGIN / WIDTH,
            1 - (0.38 + 0.19 * index) / height,
            line,
            fontsize=8.5,
            color=theme.muted,
            va="center",
        )
