"""The truth by redrawing: images of the same model in which the judge sees no concept are draws of p(x | prompt, no concept).

Where no exact truth is known, the model is asked for other images of the prompt, without a negative prompt and on seeds of
their own. Those in which the judge sees none of the concepts are distributed as a perfect answer would be (rejection
sampling), exactly so up to the judge's errors.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..core.errors import in_words_of
from ..core.laboratory import UNSURE, Column, Judge, Measurement, Seen, ThroughAnother, Truth
from ..core.metric import metrics
from ..laboratories.shared.measuring import rates, score_columns, scores
from .gallery import Picture
from .judging import FEWEST, Panel
from .measure import Judging, pixels

FIRST_SEED = 2_800_000_000
"""Of the images of a truth: other seeds than those of the images that are compared."""

REFERENCE = "the truth"
"""What the images of a truth are called while they are made."""

CHUNK = 256
"""Images that are opened at once."""


@dataclass(frozen=True)
class Redrawn:
    """A truth that was measured on images.

    Attributes:
        truth: None if too few images were kept.
        target: what the images are, in words.
        drawn: images that were looked at.
        kept: those in which the judge sees no concept.
        unsure: those kept of which the judge is unsure.
    """

    truth: Truth | None
    target: str
    drawn: int
    kept: int
    unsure: int


def reference_seeds(taken: Iterable[int], count: int) -> list[int]:
    """The first ``count`` seeds from :data:`FIRST_SEED` that are not taken.

    >>> reference_seeds([2800000001], 2)
    [2800000000, 2800000002]
    """
    seeds: list[int] = []
    others, seed = set(taken), FIRST_SEED
    while len(seeds) < count:
        if seed not in others:
            seeds.append(seed)
        seed += 1
    return seeds


def joined(parts: Sequence[Seen]) -> Seen:
    """What was seen in several sets of images, as in one; of a set at least."""
    shown = {name: torch.cat([part.shown[name] for part in parts]) for name in parts[0].shown}
    sure = {name: torch.cat([part.probabilities[name] for part in parts]) for name in parts[0].probabilities}
    features = [part.features for part in parts if part.features is not None]
    return Seen(shown, sure, torch.cat(features) if features else None)


def looked(judge: Judge, pictures: Sequence[Picture]) -> Seen:
    """What a judge sees in many images, of which only some are in memory at a time."""
    places = range(0, len(pictures), CHUNK)
    return joined([judge.see(pixels(pictures[place : place + CHUNK])) for place in places])


def shows_none(judge: Judge, seen: Seen) -> Tensor:
    """Whether the judge sees none of the concepts in an image, bool, ``[n]``; for judges of at least one thing."""
    shown = judge.indicators(seen)
    concepts = [shown[column.name] for column in judge.columns() if column.role == "concept"]
    if concepts:
        return ~torch.stack([one.bool().cpu() for one in concepts]).any(0)
    known = [*seen.shown.values()] + ([] if seen.features is None else [seen.features])
    return torch.ones(len(known[0]), dtype=torch.bool)


def truth_of(judge: Judge, seen: Seen, *, target: str, images: int | None = None) -> Redrawn:
    """The truth that a judge's look at images gives: of those in which it sees no concept.

    The rates are those of all images that are kept. Their features are cut in two: as many as are compared, if there are
    twice as many, else half, stand for a perfect answer; the others are the reference.

    Args:
        judge: who looked, and says what the concepts are.
        seen: what it saw.
        target: what the images that are kept are, in words.
        images: the number of images that will be compared, at least 1; None for half of those kept.

    Returns:
        The truth; without one where fewer than :data:`~steerclear.study.judging.FEWEST` images are kept.
    """
    keep = shows_none(judge, seen)
    kept, (low, high) = int(keep.sum()), UNSURE
    concepts = {column.name for column in judge.columns() if column.role == "concept"}
    doubtful = [(value >= low) & (value <= high) for name, value in seen.probabilities.items() if name in concepts]
    unsure = int((torch.stack(doubtful).any(0).cpu() & keep).sum()) if doubtful else 0
    if kept < FEWEST:
        return Redrawn(None, target, len(keep), kept, unsure)
    shown = {name: values.cpu()[keep] for name, values in judge.indicators(seen).items()}
    shares = {name: float(values.double().mean()) for name, values in shown.items()}
    perfect = kept // 2 if images is None else min(images, kept // 2)
    features = None if seen.features is None else seen.features[keep.to(seen.features.device)]
    truth = Truth(target, shares, images=kept, shown=shown)
    if features is not None:
        truth = replace(truth, features=features[perfect:], perfect=features[:perfect])
    return Redrawn(truth, target, len(keep), kept, unsure)


def redrawn_by(lookers: Panel, pictures: Sequence[Picture], study: Any) -> Panel:
    """Those who look, with the truth that these images give.

    Args:
        lookers: with the judge of the images.
        pictures: the images that were drawn for the truth.
        study: the question.
    """
    judging = lookers.judging
    if judging.judge is None or judging.laboratory is None or lookers.reference is None:
        return lookers
    concepts = [column.label for column in judging.judge.columns() if column.role == "concept"]
    target = f'images of the same model for "{study.prompt}" ({lookers.reference.label})'
    if concepts:
        target += f" in which the laboratory {judging.laboratory.name} sees no {' and no '.join(concepts)}"
    redrawn = truth_of(judging.judge, looked(judging.judge, pictures), target=target, images=len(study.seeds))
    return replace(lookers, judging=Judging(judging.laboratory, RedrawnJudge(judging.judge, redrawn)))


def expected_columns(lookers: Panel) -> list[Column]:
    """What will be measured, before a truth is drawn: some may still be left out where too few images are kept of it."""
    judge = lookers.judging.judge
    if judge is None:
        return []
    own = judge.columns()
    if lookers.truth != "redrawn":
        return own
    known = {column.name for column in own}
    return [*own, *(column for column in score_columns() if column.name not in known)]


def without_truth(lookers: Panel) -> Panel:
    """Those who look, with a judge that compares with nothing."""
    judging = lookers.judging
    if judging.judge is None:
        return lookers
    return replace(lookers, judging=Judging(judging.laboratory, RedrawnJudge(judging.judge)))


@dataclass(frozen=True)
class RedrawnJudge(ThroughAnother):
    """Any judge, with a truth that was measured on images in place of its own; without one it measures plain rates.

    Args:
        judge: who sees.
        redrawn: the truth; None for none.
    """

    redrawn: Redrawn | None = None

    @property
    def truth(self) -> Truth | None:
        return None if self.redrawn is None else self.redrawn.truth

    @property
    def target(self) -> str | None:
        return None if self.truth is None else self.truth.target

    def columns(self) -> list[Column]:
        better = {"concept": "lower", "rate": None if self.truth is None else "truth"}
        own = [
            column.model_copy(update={"better": better[column.role]})
            for column in self.judge.columns() if column.role in better
        ]  # fmt: skip
        return own + self._others() + (score_columns() if self.truth is not None else [])

    def _others(self) -> list[Column]:
        """Numbers of the judge's own that are no metrics of a truth."""
        known = {column.name for column in score_columns()}
        return [one for one in self.judge.columns() if one.role in ("score", "cost") and one.name not in known]

    def measure(self, seen: Seen) -> dict[str, Measurement]:
        found = rates(self, seen, self.truth)
        others = {column.name for column in self._others()}
        if others:
            found |= {name: one for name, one in self.judge.measure(seen).items() if name in others}
        return found if self.truth is None else found | scores(self, seen, self.truth)

    def notes(self, images: int) -> list[str]:
        return list(dict.fromkeys([*self._truth_notes(images), *self.judge.notes(images)]))

    def _truth_notes(self, images: int) -> list[str]:
        redrawn, truth = self.redrawn, self.truth
        if redrawn is None:
            return []
        told = f"{redrawn.kept} of {redrawn.drawn} images"
        if truth is None:
            return [
                f"No truth: it would be {redrawn.target}, but these are only {told}, and at least {FEWEST} are needed. {_more()}"
            ]
        said = f"The truth is redrawn: {redrawn.target} ({told}). {_error_text(self.judge)}"
        if redrawn.unsure:
            low, high = (f"{100 * end:.0f}" for end in UNSURE)
            said += f" The judge is unsure ({low} to {high} %) of {redrawn.unsure} of those images."
        found, there = [said], 0 if truth.features is None or truth.perfect is None else len(truth.perfect)
        if truth.features is not None and there < images:
            found.append(
                f"The truth of the scores is that of {there} images, not {images}, because no more were kept: they are a little "
                f"worse for fewer images. {_more()}"
            )
        fewest = min(there, images) if truth.features is not None else images
        left_out = [metric for metric in metrics() if truth.features is not None and fewest < metric.fewest]
        return found + [f"The {one.label} is left out: it needs at least {one.fewest} images." for one in left_out]


def _more() -> str:
    return f"Draw more with {in_words_of('reference_images', '--reference-images')}."


def _error_text(judge: Judge) -> str:
    errors = judge.errors()
    if not errors:
        return "It is exact up to the judge's errors, which are not known."
    shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in errors.items())
    where = f" ({judge.error_source})" if judge.error_source else ""
    return f"It is exact up to the judge's errors: {shares}{where}."
