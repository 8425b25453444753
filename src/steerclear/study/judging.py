"""What a study asks of those who look at its images: whom, what else to look for, in which features, and for which truth."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..core.errors import GivenTwice, InvalidSetting, SteerclearWarning, UnsupportedModel, in_words_of
from ..core.features import Features
from ..core.guidance import negative_has_no_effect
from ..core.laboratory import Asked, Judge, Judged, Laboratory, Seen, ThroughAnother
from ..core.metric import metrics
from ..core.parsing import parse_part
from ..core.prompts import concepts_named
from ..core.settings import whole
from .comparisons import FEATURES, SELECTIVITY
from .disagreement import seen_by_both
from .measure import COST, MOVED, NO_JUDGE, Judging, find_judge, named_judge
from .methods import SCALES, Method, chosen_methods, standard_methods

Kind = Literal["exact", "redrawn", "none"]
TRUTHS: tuple[str, ...] = get_args(Kind)
REFERENCE_METHOD = "unguided"
PLAIN_FEATURES = "pixels"
"""The features of a judge without any, where a truth is to be redrawn."""

WORDS = "words with commas between them, none empty"

TRIED = 64
"""Sides of an image on which features are tried, where a study names none."""

FEWEST, MOST = 8, 1_000_000
"""Fewest images that make a truth; most that are drawn for one."""


def checked_judges(asked: Any) -> dict[str, Any]:
    """Those fields of a study that say who looks at its images, by name.

    Raises:
        InvalidSetting, UnknownName: a value of the wrong type, out of range, or unknown.
    """
    for name in ("judge", "second_judge"):
        value = getattr(asked, name)
        if not isinstance(value, str | None):
            raise InvalidSetting(name, value, f"a laboratory's name{f', {NO_JUDGE!r}' * (name == 'judge')} or None")
        if value is not None and (name, value) != ("judge", NO_JUDGE):
            named_judge(value)
    if asked.truth is not None and asked.truth not in TRUTHS:
        raise InvalidSetting("truth", asked.truth, f"one of {', '.join(TRUTHS)}")
    if asked.features is not None:
        named_features(asked.features)
    reference_of(asked.prompt, asked.reference_method)
    number = asked.reference_images
    return {
        "watch": _checked_watch(asked.watch, asked.negative_prompts),
        "reference_images": None if number is None else whole("reference_images", number, low=FEWEST, high=MOST),
    }


def watched_words(text: object) -> Any:
    """Words with commas between them, as a tuple; other things unchanged, to be checked later.

    Raises:
        InvalidSetting: one of them is empty.

    >>> watched_words("trees, blue sky")
    ('trees', 'blue sky')
    """
    if not isinstance(text, str):
        return text
    words = tuple(word.strip() for word in text.split(","))
    if not all(words):
        raise InvalidSetting("watch", text, WORDS)
    return words


def _checked_watch(watch: object, negatives: Sequence[str]) -> tuple[str, ...] | None:
    if watch is None:
        return None
    if (
        not isinstance(watch, (tuple, list))
        or not watch
        or not all(isinstance(one, str) and one.strip() for one in watch)
    ):
        raise InvalidSetting("watch", watch, in_words_of("a tuple of words, none empty, or None", WORDS))
    words = tuple(one.strip() for one in watch)
    places = [word.casefold() for word in words]
    again = next((word for place, word in enumerate(words) if word.casefold() in places[:place]), None)
    if again is not None:
        raise GivenTwice(f"the watched {again!r}")
    named = {part.strip().casefold() for negative in negatives for part in negative.split(",")}
    both = next((word for word in words if word.casefold() in named), None)
    if both is not None:
        raise InvalidSetting(
            "watch", both, "what no negative prompt names", "that is looked for in any case; leave it out"
        )
    return words


def named_features(text: object) -> Features:
    """The features of a name with settings.

    Raises:
        InvalidSetting, UnknownName: see :func:`~steerclear.core.parsing.parse_part`.
    """
    if not isinstance(text, str) or not text.strip():
        raise InvalidSetting("features", text, f"one of {', '.join(Features.known())}, or None for the judge's own")
    return parse_part(text, Features)


def reference_of(prompt: str, name: object) -> Method:
    """The method that draws the images of a truth, from its name.

    Raises:
        UnknownName, InvalidSetting: unknown, several, or one that uses a negative prompt.
    """
    if not isinstance(name, str) or not name.strip():
        raise InvalidSetting("reference_method", name, f"a method's name, such as {REFERENCE_METHOD}")
    method = chosen_methods((name,), standard_methods(prompt, (), **SCALES), prompt, ())[0]
    if method.prompt != prompt or negative_has_no_effect(method.guidance) is None:
        allowed = f"a method without a negative prompt, such as {REFERENCE_METHOD}"
        remedy = "the truth is drawn from what the model makes of the prompt alone"
        raise InvalidSetting("reference_method", name, allowed, remedy)
    return method


@dataclass(frozen=True)
class WithFeatures(ThroughAnother):
    """A judge with the features of somebody else."""

    extractor: Features

    @property
    def features(self) -> str:
        return self.extractor.described

    def see(self, images: Tensor) -> Seen:
        seen = self.judge.see(images)
        return Seen(seen.shown, seen.probabilities, self.extractor.of(images))


@dataclass(frozen=True)
class Panel:
    """Who looks at the images of a study, and where the truth comes from; known before the first image is made.

    Attributes:
        judging: the judge of the images.
        second: another one, with whom it is compared; None without one.
        truth: where the truth comes from; None without a truth that somebody asked for or knows.
        reference: draws the images of a redrawn truth.
        reference_images: their number.
        notes: what a reader should know of it.
    """

    judging: Judging
    second: Judging | None = None
    truth: Kind | None = None
    reference: Method | None = None
    reference_images: int = 0
    notes: tuple[str, ...] = ()


def panel(
    study: Any, model: Judged, judge: Laboratory | None = None, second: Laboratory | None = None,
    features: Features | None = None,
) -> Panel:  # fmt: skip
    """Who looks at the images of a study.

    Args:
        study: the question.
        model: the model that makes the images.
        judge, second, features: given in Python, in place of those that the study names.

    Raises:
        UnknownName, InvalidSetting: no such laboratory or features; a word is to be watched that the judge does not know.
        UnsupportedModel: a named laboratory cannot judge these images; the truth that is asked for cannot be had.

    Warns:
        SteerclearWarning: something that was asked for has no effect.
    """
    asked = Asked(study.prompt, study.negative_prompts, study.height, study.width, study.watch)
    judging = find_judge(study.judge if judge is None else judge, model, asked)
    extractor = named_features(study.features) if features is None and study.features is not None else features
    if judging.judge is None or judging.laboratory is None:
        _warn_without_judge(study, second, extractor)
        return Panel(judging)
    check_names(judging.laboratory.name, judging.judge, study.watch)
    check_watch(judging.laboratory.name, judging.judge, study.watch)
    kind, notes = _kind(study, judging.laboratory.name, judging.judge, extractor)
    notes += partly_known(judging.judge, study.negative_prompts)
    if kind == "redrawn":
        if extractor is None and judging.judge.features is None:
            extractor = named_features(PLAIN_FEATURES)
        if extractor is not None:
            _try(extractor, study)
            judging = Judging(judging.laboratory, WithFeatures(judging.judge, extractor))
    else:
        _warn_of_reference(study, kind, extractor)
    wanted = study.second_judge if second is None else second
    other = None if wanted is None else _second(wanted, judging, model, asked)
    if kind != "redrawn":
        return Panel(judging, other, kind, notes=notes)
    images = study.reference_images or max(FEWEST, 2 * len(study.seeds))
    return Panel(judging, other, kind, reference_of(study.prompt, study.reference_method), images, notes)


def _second(wanted: str | Laboratory, judging: Judging, model: Judged, asked: Asked) -> Judging | None:
    """Another judge of the same images; None, with a warning, where there is nothing in which the two can differ.

    It looks for the same words. One that does not know all of them looks for its own list.
    """
    try:
        other = find_judge(wanted, model, asked)
    except InvalidSetting:
        if asked.watch is None:
            raise
        other = find_judge(wanted, model, replace(asked, watch=None))
    columns = [one.judge.columns() for one in (judging, other) if one.judge is not None]
    why = None
    if other.laboratory == judging.laboratory:
        why = "it is the judge itself"
    elif len(columns) == 2 and not seen_by_both(*columns):
        why = "the two judges count nothing in common"
    if why is not None:
        _no_effect("second_judge", "--second-judge", why, "name another one")
    return other if why is None else None


def _try(extractor: Features, study: Any) -> None:
    """Look at one gray image, so that what cannot be loaded is said before any image is made."""
    extractor.of(torch.full((1, 3, study.height or TRIED, study.width or TRIED), 128, dtype=torch.uint8))


def _kind(study: Any, name: str, judge: Judge, extractor: Features | None) -> tuple[Kind | None, tuple[str, ...]]:
    """Where the truth comes from, and why not from where one would expect it."""
    unseen = unrecognized(judge, study.negative_prompts)
    redraw = in_words_of("truth='redrawn'", "--truth redrawn")
    if study.truth == "exact" and judge.target is None:
        raise UnsupportedModel(f"the laboratory {name} knows no exact truth for this question; take {redraw}.")
    if study.truth == "redrawn" and unseen:
        raise UnsupportedModel(
            f"the truth cannot be redrawn, because the laboratory {name} does not recognize {', '.join(map(repr, unseen))}, so "
            f"nobody says which images show it; take another {in_words_of('judge', '--judge')}, or leave out {redraw}."
        )
    if study.truth is not None:
        return study.truth, ()
    if judge.target is not None:
        return "exact", ()
    if judge.features is None and extractor is None:
        return None, ()
    if unseen:
        words = " or ".join(map(repr, unseen))
        return None, (
            f"No truth is redrawn: the judge does not recognize {words}, so it cannot tell images without it.",
        )
    return "redrawn", ()


def unrecognized(judge: Judge, negatives: Sequence[str]) -> tuple[str, ...]:
    """The negative prompts in which a judge recognizes no concept."""
    known = [column.name for column in judge.columns() if column.role == "concept"]
    return tuple(negative for negative in negatives if not concepts_named((negative,), known))


def partly_known(judge: Judge, negatives: Sequence[str]) -> tuple[str, ...]:
    """A note on what negative prompts name that a judge does not recognize, where it recognizes something else of them."""
    known = [column.name for column in judge.columns() if column.role == "concept"]
    parts = dict.fromkeys(part.strip() for negative in negatives for part in negative.split(",") if part.strip())
    strange = [repr(part) for part in parts if not concepts_named((part,), known)]
    if not known or not strange:
        return ()
    about = f"its rates, and a truth, are about {', '.join(map(repr, known))} alone"
    return (f"The judge does not recognize {' or '.join(strange)} of what the negative prompts name: {about}.",)


def check_names(name: str, judge: Judge, watch: Sequence[str] | None) -> None:
    """Refuse what would have the name of another column, so that one number would stand for both.

    Raises:
        InvalidSetting: a concept, or something that is watched, is called as a metric is, or as something else that is counted.
    """
    taken = {metric.name for metric in metrics()} | {SELECTIVITY.name, MOVED.name, COST.name, FEATURES}
    for column in judge.columns():
        if column.role not in ("concept", "rate"):
            continue
        if column.name in taken:
            own = watch is not None and column.role == "rate"
            setting = "negative_prompt" if column.role == "concept" else "watch" if own else f"a column of {name}"
            remedy = f"ask for it in other words, as '{column.name} of the image'"
            raise InvalidSetting(setting, column.name, "no name of a metric or of another column", remedy)
        taken.add(column.name)


def check_watch(name: str, judge: Judge, watch: tuple[str, ...] | None) -> None:
    """Warn where words to be watched have no effect, and refuse those that a judge does not know.

    Raises:
        InvalidSetting: a judge of a closed vocabulary cannot see one of them.
    """
    if watch is None:
        return
    known = [column.name for column in judge.columns() if column.role in ("concept", "rate")]
    meant = {
        word: {one for one in known if one.casefold() == word.casefold()} | {*concepts_named((word,), known)}
        for word in watch
    }
    strange = [word for word, columns in meant.items() if not columns]
    if strange:
        allowed = f"what the laboratory {name} can see: {', '.join(known) or 'nothing'}"
        remedy = (
            f"take a judge of open words, as {in_words_of(chr(39).join(('judge=', 'siglip', '')), '--judge siglip')}"
        )
        raise InvalidSetting("watch", ", ".join(strange), allowed, remedy)
    wanted = set().union(*meant.values())
    if any(column.role == "rate" and column.name not in wanted for column in judge.columns()):
        _no_effect(
            "watch", "--watch", f"the laboratory {name} looks for its own list: {', '.join(known)}", "leave it out"
        )


def _warn_without_judge(study: Any, second: Laboratory | None, extractor: Features | None) -> None:
    given: Mapping[str, object] = {
        "watch": study.watch, "second_judge": second or study.second_judge, "features": extractor,
        "truth": None if study.truth == "none" else study.truth, **_of_reference(study),
    }  # fmt: skip
    for name, value in given.items():
        if value is not None:
            _no_effect(name, f"--{name.replace('_', '-')}", "nobody judges the images", "name a judge")


def _warn_of_reference(study: Any, kind: Kind | None, extractor: Features | None) -> None:
    exact = "the images are compared with the exact truth that the judge knows, in its own features"
    why = {"exact": exact, "none": "no truth was asked for"}.get(kind or "", "no truth is redrawn")
    redraw = f"take {in_words_of(chr(39).join(('truth=', 'redrawn', '')), '--truth redrawn')} for it, or leave it out"
    for name, value in {**_of_reference(study), "features": extractor}.items():
        if value is not None:
            _no_effect(name, f"--{name.replace('_', '-')}", why, redraw)


def _of_reference(study: Any) -> dict[str, object]:
    method = None if study.reference_method == REFERENCE_METHOD else study.reference_method
    return {"reference_images": study.reference_images, "reference_method": method}


def _no_effect(python: str, command_line: str, why: str, remedy: str) -> None:
    text = f"{in_words_of(python, command_line)} has no effect: {why}; {remedy}"
    warnings.warn(text, SteerclearWarning, stacklevel=4)
