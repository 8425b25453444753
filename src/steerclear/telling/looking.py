"""Who judged the images and against what they are compared, in words; the images over which judges hesitate or differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.laboratory import UNSURE, Column, Laboratory, Measurement
from ..study.results import ImageResult, MethodResult, Results
from .guidance_docs import plain
from .table import concept_columns, exactly_known, interval_text, number, rate_columns, value_text

MOST_SHOWN = 16
"""Most images of a strip."""


@dataclass(frozen=True)
class Doubt:
    """An image that a person should look at.

    Attributes:
        method, image: which one.
        said: what was seen in it, in words.
    """

    method: MethodResult
    image: ImageResult
    said: str


def judge_text(config: Mapping[str, Any] | None) -> str:
    """A laboratory and its settings, in words.

    >>> judge_text({"_class_name": "Portraits", "classifier": "own"})
    'portraits (classifier own)'
    >>> judge_text(None)
    'nobody'
    """
    if config is None:
        return "nobody"
    class_name = str(config.get("_class_name", ""))
    known = {cls.__name__: name for name, cls in Laboratory.known().items()}
    settings = [
        f"{name} {plain(value)}" for name, value in config.items() if name != "_class_name" and value not in (None, "")
    ]
    inside = f" ({', '.join(settings)})" if settings else ""
    return known.get(class_name, class_name) + inside


def truth_text_of(results: Results) -> str | None:
    """What the images are compared with, in one sentence; None without a truth."""
    truth = results.truth
    if truth is None:
        return None if results.target is None else _known(results, results.target)
    if truth.kind == "exact":
        return _known(results, truth.target)
    counted = f"{truth.kept:,} of {truth.drawn:,}" if truth.kept is not None and truth.drawn is not None else "all"
    hesitation = f", unsure of {truth.unsure} of those kept" if truth.unsure else ""
    made = f"images, made with {truth.method}, " if truth.kind == "redrawn" else f"images in {truth.method} "
    names = " or ".join(column.label for column in concept_columns(results))
    which = f"in which the judge sees no {names}" if names else "that can be read"
    return f"Truth: measured against {counted} {made}{which}{hesitation}."


def _known(results: Results, target: str) -> str:
    return f"Truth: {target}, " + ("known exactly." if exactly_known(results) else "counted in labelled images.")


def who(results: Results) -> list[str]:
    """Who judged, in which features images are compared, and with what, in sentences."""
    if results.judge is None and results.features is None:
        return []
    said = [f"Judge: {judge_text(results.judge)}."]
    if results.second_judge is not None:
        said.append(f"Second judge: {judge_text(results.second_judge)}.")
    if results.watched:
        said.append(f"Watched: {', '.join(results.watched)}.")
    if (error := error_text(results)) is not None:
        said.append(error)
    if (truth := truth_text_of(results)) is not None:
        said.append(truth)
    if results.features is not None and any(column.role == "score" for column in results.columns):
        said.append(f"Features: {results.features}.")
    return said


def error_text(results: Results) -> str | None:
    """How often the judge errs, in one sentence; None where that is not known."""
    if not results.judge_errors:
        return None
    labels = {column.name: column.label for column in results.columns}
    shares = [f"{labels.get(name, name)} {number(100 * share, 1)} %" for name, share in results.judge_errors.items()]
    where = f", on {results.judge_error_source}" if results.judge_error_source else ""
    return f"The judge errs in {', '.join(shares)}{where}."


def unsure_images(results: Results, most: int = MOST_SHOWN) -> list[Doubt]:
    """The images in which the judge is unsure of a concept, the closest calls first."""
    low, high = UNSURE
    found = [
        (abs(sure - 0.5), Doubt(method, image, f"{column.label} {number(100 * sure, 0)} %"))
        for column in concept_columns(results)
        for method in results.methods
        for image in method.images
        if (sure := image.probability.get(column.name)) is not None and low <= sure <= high
    ]
    return [doubt for _, doubt in sorted(found, key=lambda one: one[0])[:most]]


def differing_images(results: Results, most: int = MOST_SHOWN) -> list[Doubt]:
    """The images in which two judges differ: the concepts first."""
    by_file = {image.file: (method, image) for method in results.methods for image in method.images}
    order = [column.name for column in rate_columns(results)]
    columns = {column.name: column for column in results.columns}
    found: list[Doubt] = []
    for one in sorted(
        results.disagreements, key=lambda one: order.index(one.column) if one.column in order else len(order)
    ):
        for file in one.images:
            if file in by_file:
                method, image = by_file[file]
                found.append(
                    Doubt(method, image, _who_sees(one.first, one.second, image, one.column, columns.get(one.column)))
                )
    return found[:most]


def disagreement_rows(results: Results) -> list[list[str]]:
    """One row per column that two judges see: its label, and the share of images in which they differ, with its interval."""
    columns = {column.name: column.label for column in results.columns}
    rows = []
    for one in results.disagreements:
        share = Measurement(value=one.share, low=one.low, high=one.high)
        cells = f"{value_text(share, True)} {interval_text(share, True)}".strip()
        rows.append([columns.get(one.column, one.column), cells, str(len(one.images))])
    return rows


def _who_sees(first: str, second: str, image: ImageResult, name: str, column: Column | None) -> str:
    label = name if column is None else column.label
    seen = image.shown.get(name)
    return f"{label}: {first if seen else second} sees it, {second if seen else first} does not"
