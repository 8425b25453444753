"""The report: question, answer, images, figures, table, equations and settings in one file that needs no network."""

import base64
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..core.laboratory import Column
from ..core.saving import stays_if_unwritable
from ..core.settings import folder_path
from ..study.commands import generate_command
from ..study.gallery import write_text
from ..study.results import ImageResult, MethodResult, Results
from .figures.base import DARK, LIGHT, TABLE_PLACE, Drawing, drawings, png, save
from .figures.grid import in_columns
from .glossary import explained
from .guidance_docs import ARXIV, GuidanceDoc, documentation, documented_class, plain
from .looking import Doubt, differing_images, disagreement_rows, judge_text, unsure_images, who
from .sizes import fitted, opened
from .summary import question, summary
from .table import (
    DIRECTIONS,
    concept_columns,
    header,
    interval_text,
    main_columns,
    off_truth,
    rate_columns,
    rows,
    shows_concept,
    truth_row,
    unsure,
    value_text,
)

TEMPLATE = "report.html.j2"
REPORT_FILE = "report.html"
SEEDS_SHOWN = 8
THUMBNAIL = 192


@dataclass(frozen=True)
class Part:
    """A guidance or an evidence within a method.

    Attributes:
        where: the setting that holds it, such as "inner.evidence"; "" for the method's own guidance.
        class_name: as in ``guider_config.json``.
        doc: its documentation; None if the class is not installed.
        settings: name, value in words, meaning.
    """

    where: str
    class_name: str
    doc: GuidanceDoc | None
    settings: list[tuple[str, str, str]]


@dataclass(frozen=True)
class Thumbnail:
    """One image of the page: its data URI, its alternative text, and its frame's class ("" for none)."""

    uri: str
    alt: str
    frame: str


@dataclass(frozen=True)
class Drawn:
    """A figure of the page: heading, how to read it, what it shows, place, and data URIs for light and dark pages."""

    title: str
    explained: str
    meaning: str
    place: int
    light: str
    dark: str


def write_all(results: Results, folder: Path | str) -> Path:
    """Write figures and page, returns the page's path; on a read-only disk existing ones are kept."""
    page = folder_path("folder", folder) / REPORT_FILE
    with stays_if_unwritable(page):
        write_figures(results, folder)
        write_report(results, folder)
    return page


def write_figures(results: Results, folder: Path | str) -> list[Path]:
    """Write every figure that has something to draw as ``NAME.png`` into the folder of results.json, and remove earlier ones of
    the others; returns the paths in the order of the page."""
    folder, written = folder_path("folder", folder), []
    for drawing in (one() for one in drawings()):
        path = folder / f"{drawing.name}.png"
        if drawing.nothing(results) is None:
            written.append(save(drawing.draw(results, folder), path))
        else:
            path.unlink(missing_ok=True)
    return written


def write_report(results: Results, folder: Path | str) -> Path:
    """Write ``report.html`` into the folder of results.json, to which the images' paths are relative; returns its path."""
    folder = folder_path("folder", folder)
    heads, images = in_columns(results, SEEDS_SHOWN)
    shown = [one for one in (drawing() for drawing in drawings() if drawing.on_page) if one.nothing(results) is None]
    methods = results.methods
    page = rendered(
        TEMPLATE, results=results, question=question(results), answer=summary(results), heads=heads,
        all_heads=len(in_columns(results, 10**9)[0]), rates=bool(rate_columns(results)), table_place=TABLE_PLACE,
        thumbnails=[
            [None if image is None else _thumbnail(results, method, image, folder) for image in row]
            for method, row in zip(methods, images, strict=True)
        ],
        concepts=concept_columns(results), concept_cells=[_concept_cells(results, method) for method in methods],
        figures=[_drawn(drawing, results, folder) for drawing in shown], tables=_tables(results), who=who(results),
        explanations=[(column, DIRECTIONS.get(column.better or "", "")) for column in results.columns],
        parts=[parts(method.guidance) if method.guidance else [] for method in methods],
        branches=[_branches(method) for method in methods], count=sum(len(method.images) for method in methods),
        unsure=_strip(results, unsure_images(results), folder), differing=_strip(results, differing_images(results), folder),
        disagreements=disagreement_rows(results), judges=[judge_text(one) for one in (results.judge, results.second_judge)],
        commands=[generate_command(results, method) for method in methods], words=explained(_words(results)),
    )  # fmt: skip
    path = folder / REPORT_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page)
    return path


def rendered(template: str, **values: Any) -> str:
    """A template filled with these values, escaped."""
    environment = Environment(
        loader=PackageLoader("steerclear", "telling/templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"cited": cited, "plain": plain, "lines": equation_lines}
    return environment.get_template(template).render(values)


def cited(paper: str) -> list[tuple[str, str | None]]:
    """A citation as pieces of text, each with its link or None.

    >>> cited("A Title, 2024, arXiv 2406.02507")
    [('A Title, 2024, ', None), ('arXiv 2406.02507', 'https://arxiv.org/abs/2406.02507')]
    """
    pieces: list[tuple[str, str | None]] = []
    end = 0
    for found in ARXIV.finditer(paper):
        pieces.append((paper[end : found.start()], None))
        pieces.append((found[0], f"https://arxiv.org/abs/{found[1]}"))
        end = found.end()
    pieces.append((paper[end:], None))
    return [piece for piece in pieces if piece[0]]


def equation_lines(equation: str) -> list[str]:
    """The lines of an equation for a narrow page: gaps between columns shrink to three blanks.

    >>> equation_lines("D = D_prompt         at scale 1")
    ['D = D_prompt   at scale 1']
    """
    return [re.sub(r"(?<=\S) {4,}", "   ", line.rstrip()) for line in equation.splitlines()]


def parts(config: Mapping[str, Any], where: str = "") -> list[Part]:
    """A guidance (plain values with ``_class_name``) and all its parts, outermost first; ``where`` is the setting that holds it."""
    cls = documented_class(config)
    doc = None if cls is None else documentation(cls)
    meanings = {} if doc is None else {parameter.name: parameter.meaning for parameter in doc.parameters}
    inner = {name: value for name, value in config.items() if isinstance(value, Mapping)}
    settings = [
        (name, re.sub(r"\(.*", "", plain(value)) if name in inner else plain(value), meanings.get(name, ""))
        for name, value in config.items()
        if name != "_class_name"
    ]
    found = [Part(where, str(config.get("_class_name", "")), doc, settings)]
    for name, value in inner.items():
        found += parts(value, f"{where}.{name}".removeprefix("."))
    return found


@dataclass(frozen=True)
class PageTable:
    """A table of measurements: its columns, its first row, a row per method, what is off its truth, and the row of the truth."""

    columns: list[Column]
    directions: list[str]
    header: list[str]
    rows: list[list[str]]
    off: list[list[bool]]
    truth: list[str] | None


def _tables(results: Results) -> list[PageTable]:
    """The table of a first look, and if it leaves something out the full one."""
    found = [main_columns(results)] + [results.columns] * any(column.detail for column in results.columns)
    return [
        PageTable(
            columns, [DIRECTIONS.get(column.better or "", "") for column in columns], header(results, columns), rows(results, columns),
            [[off_rate(results, method, column) for column in columns] for method in results.methods],
            truth_row(results, columns) if results.target is not None else None,
        )
        for columns in found
    ]  # fmt: skip


def _strip(results: Results, doubts: Sequence[Doubt], folder: Path) -> list[tuple[Thumbnail, str, str]]:
    """Images side by side: each with whose it is, and what was said of it."""
    return [
        (
            _thumbnail(results, doubt.method, doubt.image, folder),
            f"{doubt.method.label}, {doubt.image.called}",
            doubt.said,
        )
        for doubt in doubts
    ]


def off_rate(results: Results, method: MethodResult, column: Any) -> bool:
    """Whether a rate's interval excludes its truth; False for scores, whose truth is only a lower bound."""
    return column in rate_columns(results) and off_truth(method.measurements.get(column.name))


def _concept_cells(results: Results, method: MethodResult) -> list[tuple[str, str]]:
    found = [(method.measurements.get(column.name), column.percent) for column in concept_columns(results)]
    return [(value_text(*one), interval_text(*one)) for one in found]


def _words(results: Results) -> str:
    """The page's text about methods and their settings."""
    found = [part for method in results.methods for part in parts(method.guidance)]
    settings = [" ".join(setting) for part in found for setting in part.settings]
    return " ".join([*settings, *(part.doc.summary for part in found if part.doc), "truth" if results.target else ""])


def _branches(method: MethodResult) -> list[tuple[str, int]]:
    """Each branch and its number of steps; branches at other noise levels ("positive@0.5") are one, "elsewhere"."""
    placed = [{re.sub("@.*", " elsewhere", name) for name in step} for step in method.branches]
    return sorted(Counter(name for step in placed for name in step).items())


def _thumbnail(results: Results, method: MethodResult, image: ImageResult, folder: Path) -> Thumbnail:
    whole = opened(folder / image.file)
    small, pixels = max(whole.size) <= THUMBNAIL, fitted(whole, THUMBNAIL)
    buffer = io.BytesIO()
    # Small drawings stay exact; photographs as PNG would make the page tens of megabytes.
    pixels.save(buffer, **({"format": "PNG"} if small else {"format": "JPEG", "quality": 88}))
    uri = data_uri(buffer.getvalue(), "image/png" if small else "image/jpeg")
    shows = shows_concept(results, image)
    seen = "" if shows is None else (", shows the concept" if shows else ", does not show the concept")
    if unsure(results, image):
        return Thumbnail(uri, f"{method.label}, {image.called}, may show the concept", "unsure")
    return Thumbnail(uri, f"{method.label}, {image.called}{seen}", "framed" if shows else "")


def _drawn(drawing: Drawing, results: Results, folder: Path) -> Drawn:
    light, dark = (data_uri(png(drawing.draw(results, folder, theme)), "image/png") for theme in (LIGHT, DARK))
    return Drawn(drawing.title, drawing.explained(results), drawing.meaning, drawing.place, light, dark)


def data_uri(data: bytes, kind: str) -> str:
    """Bytes of a media type as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
