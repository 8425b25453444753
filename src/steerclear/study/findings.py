"""From images and those who look at them to the results of a study."""

import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from .. import __version__
from ..core.laboratory import Judge, Measurement, Seen
from ..models.loading import Model
from .comparisons import SELECTIVITY, compared
from .disagreement import Disagreement, disagreements
from .gallery import Picture
from .judging import Panel
from .measure import COST, MOVED, pixel_change, pixels
from .methods import Method
from .notes import method_warnings, notes, redraw_notes, same_judge_notes, unsure_notes
from .recipe import Recipe, format_seeds
from .results import ImageResult, MethodResult, Results, TruthResult
from .study import Study
from .truth import RedrawnJudge, joined, reference_seeds

LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "scipy")


def results_of(
    model: Model, study: Study, recipes: Mapping[str, Recipe], made: Mapping[str, Sequence[Picture]], lookers: Panel,
    folder: Path, settings: Mapping[str, Any], left_out: Sequence[str], command: str,
) -> Results:  # fmt: skip
    """Everything that a study found.

    Args:
        model, study: the model, and the question.
        recipes, made: of each method that was run, by its name.
        lookers: who looks at the images.
        folder: of the run, to which paths are relative.
        settings: of the model, see :func:`~steerclear.study.run.settings_of`.
        left_out: why methods were left out, and which have a default of the model, in sentences.
        command: how to repeat it.
    """
    judging, second = lookers.judging, lookers.second
    methods = [method for method in study.methods if method.name in made]
    first = pixels(made[methods[0].name])
    rows, seen, by_second = [], [], []
    first_seen: Seen | None = None
    for method in methods:
        images = pixels(made[method.name])
        here = judging.judge.see(images) if judging.judge else None
        row = _row(method, recipes[method.name], made[method.name], images, first, lookers, here, folder)
        if judging.judge and here is not None and first_seen is not None:
            row = _beside(row, judging.judge, here, first_seen, methods[0].name)
        rows.append(row)
        first_seen = first_seen or here
        if here is not None:
            seen.append(Seen(here.shown, here.probabilities))
        if second is not None and second.judge is not None:
            other = second.judge.see(images)
            by_second.append(Seen(other.shown, other.probabilities))
    guidances = {method.label: recipes[method.name].built_guidance() for method in methods}
    judge = judging.judge
    columns = [*(judge.columns() if judge else ()), SELECTIVITY, MOVED, COST]
    return Results(
        steerclear_version=__version__, versions={name: version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        command=command, prompt=study.prompt, negative_prompts=list(study.negative_prompts), **settings,
        networks={name: found.source for name, found in model.networks.items()}, calibrations=list(study.calibrations),
        num_inference_steps=study.num_inference_steps, height=study.height,
        width=study.width, seeds=format_seeds(study.seeds),
        judge=judging.laboratory.to_config() if judging.laboratory else None,
        columns=[column for column in columns if any(column.name in row.measurements for row in rows)],
        target=judge.target if judge else None, truth=_truth(study, lookers, rows), features=judge.features if judge else None,
        watched=list(study.watch or ()), judge_errors=judge.errors() if judge else {},
        judge_error_source=judge.error_source if judge else "",
        second_judge=second.laboratory.to_config() if second and second.laboratory else None,
        disagreements=_disagreements(lookers, seen, by_second, rows),
        notes=[
            *notes(model, methods, left_out, judging, len(study.seeds)), *lookers.notes,
            *redraw_notes(rows), *same_judge_notes(guidances, judging), *unsure_notes(rows),
        ], methods=rows,
    )  # fmt: skip


def _beside(row: MethodResult, judge: Judge, seen: Seen, first: Seen, with_method: str) -> MethodResult:
    """A row with its two-sample tests against the first method."""
    found, further = compared(judge, seen, first, with_method)
    measured = row.measurements | further
    last = {name: measured.pop(name) for name in (MOVED.name, COST.name)}  # in the order of the columns
    return row.model_copy(update={"comparisons": found, "measurements": measured | last})


def _truth(study: Study, lookers: Panel, rows: Sequence[MethodResult]) -> TruthResult | None:
    """Where the truth comes from, as data."""
    judge = lookers.judging.judge
    if judge is None or judge.target is None:
        return None
    if not isinstance(judge, RedrawnJudge) or judge.redrawn is None or judge.truth is None:
        counted = [column.name for column in judge.columns() if column.role in ("concept", "rate")]
        found = {name: one for name, one in rows[0].measurements.items() if name in counted}
        shares = {name: one.truth for name, one in found.items() if one.truth is not None}
        return TruthResult(kind="exact", target=judge.target, rates=shares)
    redrawn, method = judge.redrawn, lookers.reference
    return TruthResult(
        kind="redrawn", target=judge.target, method=method.name if method else None, drawn=redrawn.drawn, kept=redrawn.kept,
        unsure=redrawn.unsure, seeds=format_seeds(reference_seeds(study.seeds, lookers.reference_images)),
        rates=dict(judge.truth.rates),
    )  # fmt: skip


def _disagreements(
    lookers: Panel, first: Sequence[Seen], second: Sequence[Seen], rows: Sequence[MethodResult]
) -> list[Disagreement]:
    """Where the two judges differ in all images together."""
    own, other = lookers.judging, lookers.second
    if (
        not second
        or not first
        or other is None
        or own.judge is None
        or other.judge is None
        or own.laboratory is None
        or other.laboratory is None
    ):
        return []
    files = [image.file for row in rows for image in row.images]
    names = own.laboratory.name, other.laboratory.name
    return disagreements(own.judge.columns(), other.judge.columns(), joined(first), joined(second), *names, files)


def _row(
    method: Method, recipe: Recipe, pictures: Sequence[Picture], images: Tensor, first: Tensor, lookers: Panel,
    seen: Seen | None, folder: Path,
) -> MethodResult:  # fmt: skip
    judge = lookers.judging.judge
    cost = sum(picture.evaluations for picture in pictures) / len(pictures)
    measured = judge.measure(seen) if judge and seen else {}
    measurements = {name: one for name, one in measured.items() if math.isfinite(one.value)}  # JSON has no NaN
    measurements |= {"moved": pixel_change(images, first), "evaluations": Measurement(value=cost)}
    shown, sure = (seen.shown, seen.probabilities) if seen else ({}, {})
    return MethodResult(
        name=method.name, label=method.label, prompt=method.prompt, negative_prompts=list(method.negative_prompts),
        guidance=recipe.guidance, recipe_digest=recipe.digest(), evaluations=cost,
        noise_levels=pictures[0].levels, branches=pictures[0].branches, measurements=measurements,
        images=[
            ImageResult(
                seed=picture.seed, file=picture.path.relative_to(folder).as_posix(),
                shown={name: int(values[row]) for name, values in shown.items()},
                probability={name: round(float(values[row]), 4) for name, values in sure.items()},
                trace=picture.trace, draws=picture.draws, flagged=picture.flagged,
            )
            for row, picture in enumerate(pictures)
        ],
        warnings=[
            *method_warnings(method, pictures[0].levels),
            *(f"the judge gave no number for {name}: {one.value}" for name, one in measured.items() if name not in measurements),
        ],
    )  # fmt: skip
