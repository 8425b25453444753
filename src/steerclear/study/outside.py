"""Measure anybody's folders of images, without a model: each folder is a row, as a method is in a comparison."""

import hashlib
import importlib.util
import json
import math
import os
import platform
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from .. import __version__
from ..core.errors import InvalidSetting, SteerclearWarning, in_words_of, keeping
from ..core.features import Features
from ..core.laboratory import Asked, Column, Judge, Laboratory, Measurement, Seen
from ..core.saving import stays_if_unwritable
from ..core.settings import folder_path, whole
from .comparisons import SELECTIVITY
from .disagreement import Disagreement, disagreements
from .findings import LIBRARIES
from .folders import default_folder, refuse_early, run_folder
from .gallery import write_text
from .judgements import Judged, Judgements, OnProgress, some_of
from .judging import FEWEST, PLAIN_FEATURES, WithFeatures, check_names, check_watch, named_features, partly_known
from .measure import NO_JUDGE, Judging, find_judge, named_judge
from .notes import unsure_notes
from .outside_beside import Named, beside
from .outside_folders import ImageFolder, image_folders, named_by_seed, pair_names, reference_folder, refuse_inside
from .reading import Unreadable, read_pixels
from .recipe import checked_prompt
from .results import RESULTS_FILE, ImageResult, MethodResult, Results, TruthResult
from .run import option
from .truth import Redrawn, RedrawnJudge, joined, truth_of

JUDGEMENTS = "judgements"
"""Folder of what judges have seen, within that of the results."""
KEY_LENGTH = 16
NAMED = 6
"""Most files that a note names."""
WARNED = 50
"""Most files that the warnings of a row name."""
OnFolder = Callable[[ImageFolder], OnProgress]
"""Called when a folder begins; returns what is called with (files done, in all)."""


@dataclass(frozen=True)
class Outside:
    """What ``steerclear measure`` is asked.

    Attributes:
        folders: of images; each is a row, and that of a comparison stands for its methods.
        concepts: what the images should not show.
        watch: what else is to be looked for; None for the judge's own.
        prompt: what the images should show, for judges that know the truth of it; None without.
        reference: a folder of images; those without a concept are what the others are compared with.
        judge, second_judge: laboratories by name, see :class:`~steerclear.study.study.Study`.
        features: extractor, or its name; None for the judge's own.

    Raises:
        InvalidSetting, PromptError: no concept, or one that is no text; no folder.
        UnknownName: no such laboratory or extractor.
    """

    folders: tuple[Path, ...]
    concepts: tuple[str, ...]
    watch: tuple[str, ...] | None = None
    prompt: str | None = None
    reference: Path | None = None
    judge: str | None = None
    second_judge: str | None = None
    features: Features | str | None = None

    def __post_init__(self) -> None:
        concept = in_words_of("concepts", "--concept")
        if not self.concepts and self.judge != NO_JUDGE:
            raise InvalidSetting(concept, None, "what to look for in the images, such as people")
        for text in (*self.concepts, *(self.watch or ())):
            checked_prompt("concept", text)
            if not text.strip(" ,"):
                raise InvalidSetting(concept, text, "a word, or several", "there is an empty one between commas")
        if self.prompt is not None:
            checked_prompt("prompt", self.prompt)
        for judge in (self.judge, self.second_judge):
            if judge not in (None, NO_JUDGE):
                named_judge(judge)
        if self.features is not None:
            self.extractor()
        if self.judge == NO_JUDGE and (self.features is None or self.reference is None):
            remedy = "without one, give a reference and features: then only the features are compared"
            raise InvalidSetting(in_words_of("judge", "--judge"), NO_JUDGE, "a judge", remedy)

    def extractor(self) -> Features | None:
        """The features in which images are compared; None for the judge's own."""
        return self.features if isinstance(self.features, Features | None) else named_features(self.features)

    def question(self) -> dict[str, Any]:
        """What two measurements in one folder share; the folders may differ, and ``results.json`` describes the last ones."""
        return {
            "command": "measure", "prompt": self.prompt, "concepts": list(self.concepts),
            "watch": None if self.watch is None else list(self.watch), "judge": self.judge,
            "features": self.features.to_config() if isinstance(self.features, Features) else self.features,
        }  # fmt: skip

    def outdir(self, given: Path | None) -> Path:
        """The folder of the results, refused early if it holds something else.

        Raises:
            FolderConflict: see :func:`~steerclear.study.folders.refuse_early`; or it is inside a measured folder.
        """
        chosen = {
            "folders": [str(path.resolve()) for path in self.folders],
            "reference": self.reference and str(self.reference.resolve()),
        }
        named = [path.resolve().name for path in self.folders[:3]]
        folder = given or default_folder("measure", [" ".join(named), *self.concepts], self.question() | chosen)
        refuse_inside(folder, [*self.folders, *([self.reference] if self.reference else [])])
        refuse_early(folder, self.question())
        return folder


@dataclass(frozen=True)
class NoModel:
    """What a laboratory is told of images whose model is not known."""

    name: str = "images"
    folder: Path | None = None
    pipe: Any = None


class Blind(Judge):
    """Sees nothing, where only features are compared."""

    def columns(self) -> list[Column]:
        return []

    def see(self, images: Tensor) -> Seen:
        return Seen({})

    def measure(self, seen: Seen) -> dict[str, Measurement]:
        return {}


def words(option_name: str, texts: Sequence[str]) -> tuple[str, ...]:
    """The words of texts with commas between them, each once.

    Raises:
        InvalidSetting: there is nothing between two commas.

    >>> words("--concept", ["a hat, people", "a hat"])
    ('a hat', 'people')
    """
    parts = [part.strip() for text in texts for part in text.split(",")]
    if "" in parts:
        remedy = "there is nothing between two commas" if len(parts) > 1 else "it is empty"
        raise InvalidSetting(option_name, ", ".join(texts), "words with commas between them", remedy)
    return tuple(dict.fromkeys(parts))


def measure_folders(
    asked: Outside, folder: Path | str, *, judge: Laboratory | None = None, second_judge: Laboratory | None = None,
    batch_size: int = 16, command: str = "", on_folder: OnFolder = lambda folder: lambda done, total: None,
) -> Results:  # fmt: skip
    """Judge all images, compare the folders, and write ``results.json``; a stopped run goes on where it was.

    Memory does not grow with the images but for what is seen in each: some numbers, and its features.

    Args:
        asked: the question.
        folder: of the results; what judges saw is kept in its folder ``judgements``, unless they are functions of Python.
        judge, second_judge: laboratories in place of those that are asked for by name.
        batch_size: most images that a judge sees at once.
        command: that repeats this, for the report.
        on_folder: see :data:`OnFolder`.

    Raises:
        InvalidSetting: a folder without an image that can be read, or a judge that needs the images' model.
        UnsupportedModel: the files of the judge are damaged.
        FolderConflict: the folder of the results holds something else, or is inside a measured one.
    """
    folder = folder_path("folder", folder)
    whole("batch_size", batch_size, low=1)
    rows = image_folders(asked.folders)
    truth = None if asked.reference is None else reference_folder(asked.reference)
    refuse_inside(folder, [*asked.folders, *([asked.reference] if asked.reference else [])])
    _warn_of_reference(truth, rows)
    sizes = [_first_size(row) for row in rows]  # of each folder, before anything is judged
    judging = _first_judge(asked, judge, sizes[0])
    two = asked.second_judge is not None or second_judge is not None
    second = _judging(asked, asked.second_judge, second_judge, sizes[0]) if two else None
    with run_folder(folder, asked.question(), option()), keeping(lambda: (folder / JUDGEMENTS).exists()):
        looking = _judgements(asked, judging, folder, batch_size)
        seen = [_seen(looking, row, on_folder) for row in rows]
        redrawn = None if truth is None else _redrawn(judging, truth, _seen(looking, truth, on_folder), seen)
        results = _results(asked, folder, rows, judging, seen, redrawn)
        if second is not None:
            results = _with_second(
                results, judging, second, seen, rows, _judgements(asked, second, folder, batch_size), on_folder
            )
        results = results.model_copy(update={"command": command})
        with stays_if_unwritable(folder / RESULTS_FILE):
            write_text(folder / RESULTS_FILE, results.model_dump_json(indent=1) + "\n")
    return results


def _first_judge(asked: Outside, given: Laboratory | None, size: tuple[int, int]) -> Judging:
    """Who judges the images, with the features in which they are compared."""
    extractor = asked.extractor()
    if asked.judge == NO_JUDGE and given is None:
        assert extractor is not None  # or the question is refused
        return Judging(None, WithFeatures(Blind(), extractor), "No judge was asked for: only features are compared.")
    judging = _judging(asked, asked.judge, given, size)
    assert judging.judge is not None
    assert judging.laboratory is not None
    check_names(judging.laboratory.name, judging.judge, asked.watch)
    check_watch(judging.laboratory.name, judging.judge, asked.watch)
    if extractor is None and asked.reference is not None and judging.judge.features is None:
        extractor = named_features(PLAIN_FEATURES)
    return judging if extractor is None else replace(judging, judge=WithFeatures(judging.judge, extractor))


def _judging(asked: Outside, wanted: str | None, given: Laboratory | None, size: tuple[int, int]) -> Judging:
    """Who judges images of no known model.

    Raises:
        InvalidSetting: the judge needs the model, or there is none; it knows none of the concepts.
    """
    question = Asked(asked.prompt or "", asked.concepts, *size, asked.watch)
    option_name = in_words_of("judge", "--judge")
    if given is None and not wanted:
        remedy = "nothing says by itself who can judge images of no known model"
        raise InvalidSetting(option_name, None, "given", remedy)
    named = given if given is not None else named_judge(str(wanted))
    refusal = named.refuses(NoModel(), question)
    if refusal is not None:
        raise InvalidSetting(option_name, named.name, "a laboratory that judges images without their model", refusal)
    judging = find_judge(named, NoModel(), question)
    assert judging.judge is not None  # a named one judges, or raises
    columns = judging.judge.columns()
    if not any(column.role == "concept" for column in columns):
        known = ", ".join(column.label for column in columns if column.role == "rate")
        remedy = f"it knows {known}" if known else "name something that it knows"
        allowed = "something that the judge knows"
        raise InvalidSetting(in_words_of("concepts", "--concept"), ", ".join(asked.concepts), allowed, remedy)
    return judging


def _first_size(row: ImageFolder) -> tuple[int, int]:
    """Height and width of the first image that can be read.

    Raises:
        InvalidSetting: there is none.
    """
    reasons = []
    for path in row.files:
        try:
            _, height, width = read_pixels(path).shape
            return height, width
        except Unreadable as error:
            reasons.append(f"{path.name}: {error}")
    more = f" and {len(reasons) - NAMED} more" * (len(reasons) > NAMED)
    allowed = "one with an image that can be read"
    raise InvalidSetting("the folder", str(row.path), allowed, "; ".join(reasons[:NAMED]) + more)


def _warn_of_reference(truth: ImageFolder | None, rows: Sequence[ImageFolder]) -> None:
    for row in rows:
        if truth is not None and row.path.resolve() == truth.path.resolve():
            said = f"{row.label} is compared with itself: it is the reference too, so its agreement says nothing"
            warnings.warn(said, SteerclearWarning, stacklevel=3)


def _judgements(asked: Outside, judging: Judging, folder: Path, batch_size: int) -> Judgements:
    """The judge with its folder, which is named after all that decides what it sees."""
    judge = judging.judge
    assert judge is not None
    laboratory = judging.laboratory
    config = {} if laboratory is None else laboratory.to_config()
    if any(callable(getattr(laboratory, name, None)) for name in config):
        return Judgements(judge, None, batch_size)  # nothing tells a function from another one of its name
    features = [judge.extractor.to_config(), judge.extractor.key] if isinstance(judge, WithFeatures) else None
    decides = [__version__, config, asked.prompt, asked.concepts, asked.watch, _files_behind(config), features]
    key = hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()[:KEY_LENGTH]
    return Judgements(judge, folder / JUDGEMENTS / key, batch_size)


def _files_behind(config: Mapping[str, Any]) -> list[Any]:
    """Name, size and time of the files that a judge's settings name: a folder of weights, also as a setting of features,
    labelled images, a function's module and the package around it."""
    found = []
    for value in (one for one in config.values() if isinstance(one, str)):
        places = [Path(part) for part in dict.fromkeys([value, *re.split(r"[:,=()]", value)]) if part]
        module, colon, _ = value.partition(":")
        if colon and all(part.isidentifier() for part in module.split(".")):
            try:
                spec, around = importlib.util.find_spec(module), importlib.util.find_spec(module.split(".")[0])
            except (ImportError, ValueError):
                spec = around = None
            places += [Path(spec.origin)] if spec and spec.origin else []
            places += [Path(one) for one in (around and around.submodule_search_locations) or ()]
        for place in places:
            try:
                files = sorted(place.rglob("*")) if place.is_dir() else [place]
                files = [file for file in files if file.parent.name != "__pycache__"]  # written by the first import
                found += [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
            except (OSError, ValueError):
                continue
    return found


def _seen(looking: Judgements, row: ImageFolder, on_folder: OnFolder) -> Judged:
    judged = looking.of(row.files, on_folder(row))
    if not judged.paths:
        reason = next(f"{path.name}: {why}" for path, why in judged.left_out.items())
        raise InvalidSetting("the folder", str(row.path), "one with an image that can be read", reason)
    return judged


def _redrawn(judging: Judging, truth: ImageFolder, true: Judged, seen: Sequence[Judged]) -> Redrawn:
    """The truth that a reference gives: those of its images in which the judge sees no concept."""
    assert judging.judge is not None
    names = [column.label for column in judging.judge.columns() if column.role == "concept"]
    none_of = f" in which the judge sees no {' or '.join(names)}" if names else ""
    most = max(len(one.paths) for one in seen)
    return truth_of(judging.judge, true.seen, target=f"the images in {truth.label}{none_of}", images=most)


def _results(
    asked: Outside, folder: Path, rows: Sequence[ImageFolder], judging: Judging, seen: Sequence[Judged],
    redrawn: Redrawn | None,
) -> Results:  # fmt: skip
    assert judging.judge is not None
    # a truth that the judge knows is that of a prompt, so it is none without one
    exact = redrawn is None and asked.prompt is not None
    judge = judging.judge if exact else RedrawnJudge(judging.judge, redrawn)
    names = pair_names([one.paths for one in seen])
    numbers = _numbers(names)
    methods = [
        _row(row, one, judge.measure(one.seen), list(zip(one.paths, own, strict=True)), numbers, folder)
        for row, one, own in zip(rows, seen, names, strict=True)
    ]
    for place in range(1, len(rows)):
        here, first = Named(names[place], seen[place].seen), Named(names[0], seen[0].seen)
        tests, further = beside(judge, here, first, rows[0].name)
        measured = methods[place].measurements | further
        methods[place] = methods[place].model_copy(update={"comparisons": tests, "measurements": measured})
    told = [f"{row.label}: {said}" for row, one in zip(rows, seen, strict=True) for said in _left_out(one, NAMED)]
    told += [judging.refusal] if judging.refusal else []
    told += partly_known(judging.judge, asked.concepts)
    told += _truth_notes(judge, redrawn, methods) if redrawn is not None else judge.notes(len(seen[0].paths))
    return Results(
        steerclear_version=__version__, versions={name: version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        command="", prompt=asked.prompt or "", negative_prompts=list(asked.concepts), folders=[str(row.path) for row in rows],
        judge=judging.laboratory.to_config() if judging.laboratory else None, target=judge.target,
        columns=[column for column in [*judge.columns(), SELECTIVITY] if any(column.name in method.measurements for method in methods)],
        truth=_truth_result(judge, redrawn, asked), features=judge.features, watched=list(asked.watch or ()),
        judge_errors=judge.errors(), judge_error_source=judge.error_source,
        notes=[*told, *unsure_notes(methods)], methods=methods,
    )  # fmt: skip


def _truth_result(judge: Judge, redrawn: Redrawn | None, asked: Outside) -> TruthResult | None:
    target = judge.target
    if target is None:
        return None
    if redrawn is None or redrawn.truth is None:
        return TruthResult(kind="exact", target=target)
    return TruthResult(
        kind="reference", target=target, method=str(asked.reference), drawn=redrawn.drawn, kept=redrawn.kept,
        unsure=redrawn.unsure, rates=dict(redrawn.truth.rates),
    )  # fmt: skip


def _truth_notes(judge: Judge, redrawn: Redrawn, methods: Sequence[MethodResult]) -> list[str]:
    """What to know of a truth that other images gave."""
    told = f"{redrawn.kept} of {redrawn.drawn} images of the reference"
    if redrawn.truth is None:
        return [
            f"No truth: the judge sees no concept in only {told}, and at least {FEWEST} are needed; give more images."
        ]
    found, perfect = [], redrawn.truth.perfect
    most = max(len(method.images) for method in methods)
    if perfect is not None and len(perfect) < most:
        found.append(
            f"The truth of the scores is that of {len(perfect)} images, not {most}, because the reference has no more: they are a "
            f"little worse for fewer images. Give about twice as many images there as in a measured folder."
        )
    errors = judge.errors()
    known = (
        "its errors, which are not known" if not errors else f"its errors, which were counted on {judge.error_source}"
    )
    return [f"The truth is {told}, in which the judge sees no concept; it is exact up to {known}.", *found]


def _with_second(
    results: Results, judging: Judging, second: Judging, seen: Sequence[Judged], rows: Sequence[ImageFolder], looking: Judgements,
    on_folder: OnFolder,
) -> Results:  # fmt: skip
    """The results with what another judge says of the same images."""
    laboratory, judge = second.laboratory, judging.judge
    if laboratory is None or judging.laboratory is None or judge is None or laboratory == judging.laboratory:
        said = f"{in_words_of('second_judge', '--second-judge')} has no effect: it is the judge itself, or nobody; name another"
        warnings.warn(said, SteerclearWarning, stacklevel=3)
        return results
    found: list[Disagreement] = []
    first, other, files = [], [], []
    for row, one, method in zip(rows, seen, results.methods, strict=True):
        doubts = _seen(looking, replace(row, files=one.paths), on_folder)
        seen_by_both = set(doubts.paths)
        both = [path for path in one.paths if path in seen_by_both]
        first.append(some_of(one, both))
        other.append(some_of(doubts, both))
        by_path = dict(zip(one.paths, (image.file for image in method.images), strict=True))
        files += [by_path[path] for path in both]
    names = judging.laboratory.name, laboratory.name
    others = second.judge.columns() if second.judge else []
    found = disagreements(judge.columns(), others, joined(first), joined(other), *names, files)
    return results.model_copy(update={"second_judge": laboratory.to_config(), "disagreements": found})


def _numbers(names: Sequence[Sequence[str]]) -> dict[str, int]:
    """A number for each name: the name itself where all are whole numbers, else its place among them."""
    every = list(dict.fromkeys(name for own in names for name in own))
    if all(name.isdecimal() for name in every):
        return {name: int(name) for name in every}
    return {name: place for place, name in enumerate(every)}


def _row(
    row: ImageFolder, judged: Judged, measured: Mapping[str, Measurement], called: Sequence[tuple[Path, str]],
    numbers: Mapping[str, int], folder: Path,
) -> MethodResult:  # fmt: skip
    seen, by_seed = judged.seen, named_by_seed(row.path)
    return MethodResult(
        name=row.name, label=row.label,
        measurements={name: one for name, one in measured.items() if math.isfinite(one.value)},  # JSON has no NaN
        images=[
            ImageResult(
                seed=numbers[name], label=None if by_seed and name == str(numbers[name]) else name,
                file=Path(os.path.relpath(path, folder)).as_posix(),
                shown={what: int(values[place]) for what, values in seen.shown.items()},
                probability={what: round(float(values[place]), 4) for what, values in seen.probabilities.items()}, trace={},
            )
            for place, (path, name) in enumerate(called)
        ],
        warnings=_left_out(judged, WARNED),
    )  # fmt: skip


def _left_out(judged: Judged, most: int) -> list[str]:
    """Which files of a folder are left out, and why."""
    if not judged.left_out:
        return []
    named = [f"{path.name}: {why}" for path, why in list(judged.left_out.items())[:most]]
    more = f"; and {len(judged.left_out) - most} more" * (len(judged.left_out) > most)
    files = len(judged.left_out) + len(judged.paths)
    count = len(judged.left_out)
    return [f"{count} of {files} files {'is' if count == 1 else 'are'} left out: {'; '.join(named)}{more}."]
