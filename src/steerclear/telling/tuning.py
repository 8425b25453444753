"""``steerclear.tune(pipe, prompt, ...)``, and what a tuning found in words and tables.

found = steerclear.tune(pipe, "any", guidance="autoguidance", vary="auto_scale=1:3", minimise="frechet")
found.guidance  # "autoguidance:auto_scale=1.7", or None where it is better left off
"""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from ..core.calibration import Calibration
from ..core.errors import InvalidSetting
from ..core.features import Features
from ..core.laboratory import Laboratory
from ..models.defaults import KEY, Default
from ..models.files import DEFAULTS_FILE
from ..models.given import Given
from ..models.loading import Model
from ..study.calibrations import GivenCalibration, as_given
from ..study.gallery import write_text
from ..study.judging import REFERENCE_METHOD, watched_words
from ..study.methods import SCALES
from ..study.space import Space, Span, parse_varied
from ..study.study import comparison
from ..study.tune import tune as tuned_in
from ..study.tuned import TUNED_FILE, Row, Tuned
from ..study.tuning import FINAL_SEEDS, TRIALS, Tuning, limits_of, method_text, search_seeds, split_networks, wanted
from .comparison import as_model, as_negatives, as_seeds, as_tuple, asked_model, call_text
from .place import Place
from .progress import progress_bars, show_methods
from .table import MISSING, cell, heading, value_text

FIGURE = "tuning.png"
SHOWN = 8
"""Most trials of a table."""


@dataclass(frozen=True, eq=False, repr=False)
class Found:
    """What a tuning found.

    Attributes:
        tuned: all measurements, as in ``tune.json``.
        place: the folder of the images.
    """

    tuned: Tuned
    place: Place

    @property
    def folder(self) -> Path:
        """Folder of the images and ``tune.json``; a temporary one lasts as long as this object."""
        return self.place.path

    @property
    def guidance(self) -> str | None:
        """What was found, for ``guidance=`` and ``methods=``; None if it is better left off, or nothing keeps the limits."""
        best = self.tuned.best
        return best.method if best is not None and self.tuned.verdict == "use" else None

    def figure(self, *, dark: bool = False) -> Any:
        """The trials as a matplotlib figure: the front, each setting, and the seeds held out."""
        from .figures.base import DARK, LIGHT
        from .figures.tuning import draw_tuning

        return draw_tuning(self.tuned, DARK if dark else LIGHT)

    def save(self, folder: Path | str) -> Path:
        """Copy the images and ``tune.json`` into a folder; returns it.

        Raises:
            FolderConflict: the folder holds something else.
        """
        return self.place.copied(folder)

    def __repr__(self) -> str:
        return "\n".join(told(self.tuned))


def tune(
    model: Any, prompt: str, negative_prompt: str | Iterable[str] = (), *, guidance: str, vary: str | Iterable[str],
    minimise: str | None = None, maximise: str | None = None, subject_to: str | Iterable[str] = (),
    trials: int = TRIALS, images: int | None = None, seeds: Iterable[int] | str | None = None,
    final_seeds: Iterable[int] | str = FINAL_SEEDS, num_inference_steps: int = 30, height: int | None = None,
    width: int | None = None, weak: Given | None = None, networks: Mapping[str, Given] | None = None,
    judge: Laboratory | str | None = None,
    calibration: Calibration | str | Path | Iterable[Calibration | str | Path] | None = None,
    folder: Path | str | None = None, batch_size: int = 16, progress: bool | None = None,
    watch: Iterable[str] | str | None = None, truth: str | None = None, reference_images: int | None = None,
    reference_method: str = REFERENCE_METHOD, features: Features | str | None = None,
) -> Found:  # fmt: skip
    """Find the settings of a guidance that are best under limits, and measure them on seeds that the search has not seen.

    Args:
        model, prompt, negative_prompt, num_inference_steps, height, width, judge, calibration, folder, batch_size, progress, watch,
            truth, reference_images, reference_method, features: see :func:`~steerclear.telling.comparison.compare`.
        guidance: what is tuned: a method or guidance with settings, as in ``compare(methods=...)``.
        vary: what is varied, as "auto_scale=1:3, start=0:0.6": ranges, ``key=low:high:log`` for equal ratios, or choices
            ``key=one|other``. ``start`` and ``stop`` put the guidance into an interval; "weak=one|other" takes other networks.
        minimise, maximise: the objective, the name of a measurement; one of the two.
        subject_to: what must be kept, such as "recall >= unguided", "mustache <= 2 %" or "frechet <= 0.9 * default".
        trials: how many settings are tried, those of an earlier call in this folder among them.
        images: of each trial; None for one per seed.
        seeds: of the search; None for 256 from 2,000,000 on.
        final_seeds: of the last measurement, none of them among ``seeds``.
        weak, networks: see ``compare``; in a text, ``{key}`` stands for something varied.

    Raises:
        InvalidSetting: seeds in both sets; text of another form; too few images for a measurement; a value that the guidance refuses.
        UnknownName: a setting or a measurement that does not exist.
        MissingPackage: optuna is not installed.
        SteerclearError: see ``compare``.

    Warns:
        SteerclearWarning: something given has no effect; says why.
    """
    asked, place = dict(locals()), Place(folder)
    named = {name: one for name, one in {"weak": weak, **(networks or {})}.items() if one is not None}
    typed = {name: one for name, one in named.items() if isinstance(one, str)}
    open_ones = split_networks(typed, _texts("vary", vary))[1]
    loaded = as_model(model, None, {name: one for name, one in named.items() if name not in open_ones} or None)
    calibrations = as_given(as_tuple(calibration))
    question = _question(loaded, asked, open_ones, calibrations)
    with progress_bars(progress) as bars:
        on_method, on_progress = show_methods(bars)
        found = tuned_in(
            question, place.path, model=loaded, judge=judge if isinstance(judge, Laboratory) else None,
            features=features if isinstance(features, Features) else None, batch_size=batch_size,
            command=call_text(asked, tune), on_method=on_method, on_progress=on_progress, calibrations=calibrations,
        )  # fmt: skip
    return Found(found, place)


def _question(
    loaded: Model, asked: Mapping[str, Any], sources: Mapping[str, str], calibrations: Sequence[GivenCalibration]
) -> Tuning:
    """The question of the arguments of :func:`tune`; ``sources`` are those of networks with a place for something varied."""
    judge, features, seeds = asked["judge"], asked["features"], asked["seeds"]
    direction, objective = wanted(asked["minimise"], asked["maximise"])
    method, vary = method_text(_text("guidance", asked["guidance"]), ()), parse_varied(_texts("vary", asked["vary"]))
    study = comparison(
        asked["prompt"], as_negatives(asked["negative_prompt"]),
        search_seeds(None if seeds is None else as_seeds(seeds), asked["images"]), methods=(method,),
        judge=judge if isinstance(judge, str) else None, model=asked_model(loaded),
        calibrations=tuple(one.source for one in calibrations), watch=as_tuple(watched_words(asked["watch"])),
        features=features if isinstance(features, str) else None,
        **{name: asked[name] for name in ("num_inference_steps", "height", "width", "truth", "reference_images", "reference_method")},
    )  # fmt: skip
    space = Space.of(study.prompt, study.negative_prompts, method, vary, sources, SCALES)
    limits, final = limits_of(_texts("subject_to", asked["subject_to"])), as_seeds(asked["final_seeds"])
    return Tuning(study, space, direction, objective, limits, asked["trials"], final)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidSetting(name, value, "a text, such as 'autoguidance'")
    return value


def _texts(name: str, value: Any) -> tuple[str, ...]:
    """One text or several."""
    texts = (value,) if isinstance(value, str) else as_tuple(value)
    if not isinstance(texts, tuple) or not all(isinstance(one, str) for one in texts):
        raise InvalidSetting(name, value, "a text or several")
    return texts


# in words


def told(found: Tuned) -> list[str]:
    """What was found, in sentences."""
    sentences = [_verdict(found), *_kept(found), *_at_the_end(found)]
    refused = [row for row in found.trials if row.refused is not None]
    if refused:
        sentences.append(
            f"{len(refused)} of {len(found.trials)} trials could not be measured; the first one: {refused[0].refused}"
        )
    if found.default is None:
        sentences.append("The default is not beside it, because the model lacks a network that it needs.")
    return sentences


def _objective(found: Tuned, row: Row | None) -> str:
    column = found.column(found.objective)
    return MISSING if row is None else cell(row.measurements.get(column.name), column.percent)


def _verdict(found: Tuned) -> str:
    label, best = found.column(found.objective).label, found.best
    ends = {role: found.at_the_end(role) for role in ("unguided", "default", "found")}
    if best is None:
        return f"No trial could be measured, so nothing was found for {found.method}."
    if not found.within:
        return f"Nothing that was tried keeps {_limits(found)}. The nearest is {settings_text(best)}: {_short(found, best)}."
    if found.verdict == "none":
        beyond = " and ".join(one.written for one in found.broken())
        return (
            f"Nothing is recommended: {settings_text(best)} kept {_limits(found)} on the seeds of the search, but not {beyond} on the "
            f"seeds held out."
        )
    default = "" if ends["default"] is None else f", {_objective(found, ends['default'])} at the default"
    numbers = f"{_objective(found, ends['found'])}, against {_objective(found, ends['unguided'])} unguided{default}"
    where = f"on the seeds held out ({found.final_seeds})"
    if found.verdict == "use":
        return f"Take {settings_text(best)}: the {label} is {numbers}, {where}."
    return (
        f"Leave {found.method} off: with the best settings that were found, {settings_text(best)}, the {label} is {numbers}, {where}. "
        f"{_difference(found)}"
    )


def _difference(found: Tuned) -> str:
    if found.gain is None:
        return "There is no number to compare."
    ends = "" if found.gain_low is None else f" [{found.gain_low:.3g}, {found.gain_high:.3g}]"
    worse = found.gain_high is not None and found.gain_high < 0
    return f"The gain of {found.gain:.3g}{ends} is {'a loss' if worse else 'not more than chance'}."


def _limits(found: Tuned) -> str:
    return " and ".join(found.limits)


def _bound(found: Tuned, name: str, bound: float) -> str:
    return f"{100 * bound:.4g} %" if found.column(name).percent else f"{bound:.4g}"


def _short(found: Tuned, row: Row) -> str:
    """What a row has where it exceeds its limits."""
    parts = [
        f"{limit.name} {cell(row.measurements.get(limit.name), found.column(limit.name).percent)} where "
        f"{'at most' if limit.at_most else 'at least'} {_bound(found, limit.name, bound)} is wanted"
        for limit, bound, beyond in zip(found.goal.limits, found.bounds, row.violations, strict=True)
        if beyond > 0
    ]
    return "; ".join(parts)


def _kept(found: Tuned) -> list[str]:
    """What the limits measure on the seeds held out."""
    row = found.at_the_end("found")
    if row is None or found.verdict == "none":
        return []
    return [
        f"{limit.written}: {cell(row.measurements.get(limit.name), found.column(limit.name).percent)} on the seeds held out, where "
        f"the bound is {_bound(found, limit.name, bound)}{'' if beyond <= 0 else ', which lies within its interval'}."
        for limit, bound, beyond in zip(found.goal.limits, found.final_bounds, row.violations, strict=True)
    ]


def _at_the_end(found: Tuned) -> list[str]:
    """Settings that were found at the end of their range."""
    best, said = found.best, []
    for one in parse_varied([found.vary]) if best is not None and found.within else ():
        value = best.values.get(one.key) if best else None
        at = one.number(value) if isinstance(one, Span) and value is not None else None
        if isinstance(one, Span) and at is not None and min(at - one.low, one.high - at) < 0.01 * (one.high - one.low):
            said.append(
                f"{one.key} is at the end of its range ({value} of {one.written}); a wider one may have better settings."
            )
    return said


def settings_text(row: Row) -> str:
    """A row's method with its networks, in words.

    >>> settings_text(Row(role="trial", method="autoguidance:auto_scale=1.7", networks={"weak": "noised:0.1"}))
    'autoguidance:auto_scale=1.7 with the network weak=noised:0.1'
    """
    networks = [f"{name}={source}" for name, source in row.networks.items()]
    several = "networks" if len(networks) > 1 else "network"
    return f"{row.method} with the {several} {' and '.join(networks)}" if networks else row.method


def pasted(row: Row) -> str:
    """A row's method as ``--methods`` takes it, with the networks that it needs.

    >>> pasted(Row(role="trial", method="autoguidance:auto_scale=1.7", networks={"weak": "noised:0.1"}))
    '--methods autoguidance:auto_scale=1.7 --network weak=noised:0.1'
    """
    words = ["--methods", row.method]
    for name, source in row.networks.items():
        words += ["--network", f"{name}={source}"]
    return shlex.join(words)


def trial_table(found: Tuned) -> Table:
    """The best trials, those that keep the limits first, with what was wanted."""
    goal = found.goal
    table = Table(title=f"the best of {len(found.trials)} trials, seeds {found.seeds}", title_justify="left")
    table.add_column("settings")
    for name in goal.names:
        table.add_column(heading(found.column(name)), justify="right")
    table.add_column("keeps" if goal.limits else "")

    def rank(row: Row) -> tuple[bool, float, float]:
        value = row.value(goal.objective)
        return value is None, sum(max(one, 0.0) for one in row.violations), goal.loss(value or 0.0)

    for row in sorted((row for row in found.trials if row.refused is None), key=rank)[:SHOWN]:
        words = ", ".join(f"{key} {value}" for key, value in row.values.items())
        numbers = [cell(row.measurements.get(name), found.column(name).percent) for name in goal.names]
        table.add_row(words, *numbers, ("yes" if row.keeps else "no") if goal.limits else "")
    return table


def final_table(found: Tuned) -> Table:
    """Unguided, the default and what was found, on the seeds held out."""
    table = Table(title=f"on the seeds held out, {found.final_seeds}", title_justify="left")
    table.add_column("")
    for row in found.final:
        table.add_column(row.role, justify="right")
    for column in found.columns:
        if any(column.name in row.measurements for row in found.final) and (
            not column.detail or column.name in found.goal.names
        ):
            one = [row.measurements.get(column.name) for row in found.final]
            write = cell if column.name in found.goal.names else value_text
            table.add_row(heading(column), *(write(value, column.percent) for value in one))
    return table


def write_found(found: Tuned, folder: Path) -> Path:
    """Draw the trials into the folder, and write what the model's own default would be; returns the path of ``tune.json``."""
    from .figures.base import save
    from .figures.tuning import draw_tuning

    save(draw_tuning(found), folder / FIGURE)
    entry = model_default(found)
    if entry is None:
        (folder / DEFAULTS_FILE).unlink(missing_ok=True)  # of fewer trials
    else:
        write_text(
            folder / DEFAULTS_FILE, json.dumps({KEY: {found.method.partition(":")[0]: entry.entry()}}, indent=1) + "\n"
        )
    return folder / TUNED_FILE


def model_default(found: Tuned) -> Default | None:
    """What was found as a model's own default, for the file ``steerclear.json`` of its folder; None where nothing was found.

    A default names a guidance alone, so there is none where other networks than the model's own are needed.
    """
    best = found.best
    if best is None or found.verdict == "none" or (found.verdict == "use" and best.networks):
        return None
    row, unguided = found.at_the_end("found"), found.at_the_end("unguided")
    label, limits = found.column(found.objective).label, f" with {_limits(found)}" if found.limits else ""
    numbers = f"{_objective(found, row)} against {_objective(found, unguided)} unguided"
    if found.verdict == "use":
        return Default(
            best.method,
            f"of {len(found.trials)} settings it has the best {label}{limits}, {numbers} on seeds {found.final_seeds}",
        )
    why = (
        f"none of {len(found.trials)} settings ({found.vary}) has a better {label} than no guidance{limits}; the best, "
        f"{best.method}, has {numbers} on seeds {found.final_seeds}"
    )
    return Default(None, why)
