"""Tune a guidance: trials on some seeds, and what was found on others; what ``steerclear tune`` does."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..core.errors import InvalidSetting, NotFiniteError, SteerclearError, SteerclearWarning, in_words_of, keeping
from ..core.features import Features
from ..core.laboratory import Column, Laboratory
from ..core.metric import Metric
from ..core.saving import stays_if_unwritable
from ..core.settings import folder_path, whole
from ..models.files import located
from ..models.loading import Model
from ..models.networks import NETWORKS, load_named
from ..networks.shared.naming import named
from .calibrations import GivenCalibration
from .comparisons import SELECTIVITY
from .folders import run_folder
from .gallery import write_text
from .goals import Bounds, Goal, find_column
from .measure import COST, MOVED
from .methods import Method
from .recipe import format_seeds
from .results import Results
from .run import Started, identity, lacks, option, settings_of, who_looks
from .search import Refused, Tried, needs_optuna, search
from .space import Choices, Space
from .truth import expected_columns
from .tuned import TRIALS_FILE, TUNED_FILE, Row, Trials, Tuned, best_of, front_of, gained, nearest_of, read_trials
from .tuned import verdict_of as verdict
from .tuning import FINAL, SEARCH, UNGUIDED, Tuning, Workshop

BESIDE_UNGUIDED = (SELECTIVITY.name, MOVED.name)
"""Columns that compare images with those of the first method."""


def tune(
    asked: Tuning, folder: Path | str, *, model: Model | None = None, judge: Laboratory | None = None,
    features: Features | None = None, batch_size: int = 16, command: str = "", on_method: Started | None = None,
    on_progress: Callable[[int, int], None] | None = None, calibrations: Sequence[GivenCalibration] = (),
) -> Tuned:  # fmt: skip
    """Find the settings that are best under the limits, and measure them on seeds that the search has not seen.

    Images and measurements are kept in the folder: running again continues, and more trials go on from those that are there.
    ``trials.json`` has every trial, ``tune.json`` what was found.

    Args:
        asked: the question.
        folder: images go to ``search`` and ``final`` in it.
        model: the study's model, already loaded; None loads it.
        judge, features: in place of the study's.
        batch_size, command, on_method, on_progress, calibrations: see :func:`~steerclear.study.run.run`.

    Raises:
        UnknownName: nothing that is measured has the name of the objective or of a limit.
        InvalidSetting: too few seeds for a measurement that is wanted; or there is no such number of the images.
        MissingPackage: optuna is not installed.
        SteerclearError: see :func:`~steerclear.study.run.run`.
    """
    folder = folder_path("folder", folder)
    whole("batch_size", batch_size, low=1)
    needs_optuna()
    model = asked.study.model.load() if model is None else model
    columns = [*expected_columns(who_looks(asked.study, model, judge, None, features)), SELECTIVITY, MOVED, COST]
    goal = Goal.of(asked.direction, asked.objective, asked.limits, columns)
    _check_seeds(asked, goal)
    _warn_of_direction(goal, columns)
    networks = _checked_networks(asked.space, model)
    given = {
        "judge": judge, "features": features, "batch_size": batch_size, "command": command, "on_method": on_method,
        "on_progress": on_progress, "calibrations": calibrations,
    }  # fmt: skip
    shop = Workshop(asked, model, folder, given, any(name in BESIDE_UNGUIDED for name in goal.names))
    claimed = identity(model, asked.study) | asked.asked() | networks
    done: list[Row] = []
    with run_folder(folder, claimed, option()), keeping(lambda: done):
        tuned = _tuned(shop, goal, columns, command, done)
        with stays_if_unwritable(folder / TUNED_FILE):
            write_text(folder / TUNED_FILE, tuned.model_dump_json(indent=1) + "\n")
    return tuned


def _check_seeds(asked: Tuning, goal: Goal) -> None:
    """Refuse fewer images than a measurement needs, before any is made."""
    for name in goal.names:
        kind = Metric.known().get(name)
        for option_name, seeds in (("seeds", asked.study.seeds), ("final_seeds", asked.final_seeds)):
            if kind is not None and len(seeds) < kind.fewest:
                where = in_words_of(option_name, f"--{option_name.replace('_', '-')}")
                raise InvalidSetting(
                    f"the number of {where}", len(seeds), f"at least {kind.fewest}", f"the {kind.label} needs them"
                )


def _warn_of_direction(goal: Goal, columns: Sequence[Column]) -> None:
    better = find_column(goal.objective, columns).better
    if better not in (None, "truth") and (better == "lower") != (goal.direction == "minimise"):
        warnings.warn(
            f"{goal.objective} is better where it is {better}, and is to be {goal.direction}d as asked", SteerclearWarning,
            stacklevel=3,
        )  # fmt: skip


def _checked_networks(space: Space, model: Model) -> dict[str, str]:
    """Load what is varied at both ends, and each source that is named, so that a wrong one is said before any image is made.

    Returns the digests of their files, which two runs in one folder must share: trials are not measured again.
    """
    sources = [(name, source) for end in (0, 1) for name, source in _networks_at(space, end).items()]
    for one in space.varied:
        if isinstance(one, Choices) and one.key in space.in_networks - space.holes:
            sources += [(one.key, source) for source in one.texts]
    digests = {f"networks.{name}={source}": _digest(name, source, model) for name, source in sources}
    return {key: digest for key, digest in digests.items() if digest is not None}


def _digest(name: str, source: str, model: Model) -> str | None:
    """Of the files of a network, which is loaded as for its trials; None without files."""
    (given,) = named(None, {name: source}).values()
    found = load_named(name, located(given, parts=NETWORKS), model.folder, model.pipe)
    return None if found is None else found.source.digest


def _networks_at(space: Space, end: float) -> dict[str, str]:
    return space.networks_of({one.key: one.at(end) for one in space.varied})


def _tuned(shop: Workshop, goal: Goal, columns: Sequence[Column], command: str, done: list[Row]) -> Tuned:
    """The search, its choice, and the last measurement."""
    asked, space, settings = shop.asked, shop.asked.space, settings_of(shop.model)
    seeds = asked.study.seeds
    first = shop.measured(_known(shop), {}, seeds, SEARCH)
    unguided = Row(role="unguided", method=UNGUIDED, measurements=first.methods[0].measurements)
    done.append(unguided)
    default = _default(shop, first)
    bounds = goal.against(unguided.measurements, None if default is None else default.measurements)
    rows = [_with(row, bounds) for row in _searched(shop, bounds)]
    found = best_of(rows, goal)
    within, found = found is not None, nearest_of(rows, goal) if found is None else found
    final = _final(shop, None if found is None else rows[found], default)
    ends: dict[str, Row] = {row.role: row for row in final}
    last = goal.against(ends["unguided"].measurements, ends["default"].measurements if "default" in ends else None)
    numbers = [ends[role].measurements.get(goal.objective) if role in ends else None for role in ("found", "unguided")]
    gain = gained(goal, *numbers)
    return Tuned(
        steerclear_version=__version__, command=command, prompt=asked.study.prompt, judge=first.judge, target=first.target,
        negative_prompts=list(asked.study.negative_prompts), num_inference_steps=asked.study.num_inference_steps,
        **{name: settings[name] for name in ("model", "model_digest", "scheduler")}, method=space.method, vary=space.written,
        direction=goal.direction, objective=goal.objective, limits=[one.written for one in goal.limits],
        bounds=list(bounds.numbers), final_bounds=list(last.numbers), columns=list(columns),
        seeds=format_seeds(seeds), final_seeds=format_seeds(asked.final_seeds), unguided=_with(unguided, bounds),
        default=None if default is None else _with(default, bounds), trials=rows, found=found, within=within,
        front=front_of(rows, goal), final=[_with(row, last) for row in final],
        verdict=verdict(goal, within, ends, last, gain), gain=gain[0], gain_low=gain[1], gain_high=gain[2],
        images=len(seeds) * sum(row.refused is None for row in rows),
    )  # fmt: skip


def _with(row: Row, bounds: Bounds) -> Row:
    return row.model_copy(update={"violations": list(bounds.violations(row.measurements))})


def _known(shop: Workshop) -> list[Method]:
    """Unguided, and the method at its defaults unless the model lacks a network for it."""
    plain = shop.asked.space.plain
    return [shop.unguided, *([plain] if lacks(shop.model, plain, shop.asked.study) is None else [])]


def _default(shop: Workshop, first: Results) -> Row | None:
    """The method at its defaults, on the seeds of the search; None if the model lacks a network for it."""
    found = {one.name: one.measurements for one in first.methods}.get(shop.asked.space.plain.name)
    return None if found is None else Row(role="default", method=shop.asked.space.method, measurements=found)


def _searched(shop: Workshop, bounds: Bounds) -> list[Row]:
    """The trials, kept in the folder after each."""
    space, path = shop.asked.space, shop.folder / TRIALS_FILE
    rows = read_trials(path.read_text(encoding="utf-8"), str(path)).rows if path.is_file() else []

    def measure(values: Mapping[str, str]) -> Any:
        networks = space.networks_of(values)
        try:  # a setting that is refused, or a network that cannot be made of these values
            method, model = space.method_of(values), shop.with_networks(networks)
        except SteerclearError as error:
            raise Refused(str(error)) from error
        try:
            found = shop.measured([*shop.first, method], networks, shop.asked.study.seeds, SEARCH, model)
        except NotFiniteError as error:
            raise Refused(str(error)) from error
        return found.methods[-1].measurements

    def keep(one: Tried) -> None:
        rows.append(_row(space, one))
        write_text(path, Trials(rows=rows).model_dump_json(indent=1) + "\n")

    kept = [Tried(row.values, row.measurements, row.refused) for row in rows]
    search(
        space.varied, bounds, measure, shop.asked.trials, first=space.defaults(), kept=kept, on_trial=keep)  # fmt: skip
    return rows[: shop.asked.trials]


def _row(space: Space, one: Tried) -> Row:
    return Row(
        role="trial", method=space.text(one.values), networks=space.networks_of(one.values), values=dict(one.values),
        measurements=dict(one.measurements), refused=one.refused,
    )  # fmt: skip


def _final(shop: Workshop, best: Row | None, default: Row | None) -> list[Row]:
    """Unguided, the default and what was found, on the seeds held out."""
    space, seeds = shop.asked.space, shop.asked.final_seeds
    methods: dict[str, Method] = {"unguided": shop.unguided} | ({} if default is None else {"default": space.plain})
    together = best is not None and not best.networks
    if best is not None and together:
        methods["found"] = space.named(best.method)
    results = shop.measured([*methods.values()], {}, seeds, FINAL)
    rows = [_final_row(results, role, method) for role, method in methods.items()]
    if best is not None and not together:
        method = space.named(best.method)
        rows.append(_final_row(shop.measured([*shop.first, method], best.networks, seeds, FINAL), "found", method))
    texts = {"unguided": UNGUIDED, "default": space.method, "found": "" if best is None else best.method}
    extra = {} if best is None else {"values": best.values, "networks": best.networks}
    return [row.model_copy(update={"method": texts[row.role]} | (extra if row.role == "found" else {})) for row in rows]


def _final_row(results: Results, role: Any, method: Method) -> Row:
    found = next(one for one in results.methods if one.name == method.name)
    return Row(role=role, method=method.name, measurements=found.measurements)
