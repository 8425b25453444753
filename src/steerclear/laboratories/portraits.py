"""The laboratory of portraits: what they show, and how far that is from the exact truth of their world."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from torch import Tensor

from ..core.errors import SteerclearError, UnfitFeatures, in_words_of
from ..core.laboratory import Asked, Better, Column, Judge, Judged, Laboratory, Measurement, Role, Seen, Truth
from ..core.metric import metrics
from ..features.portrait_classifier import CLASSIFIER, AttributeClassifier, PortraitClassifier, read
from ..metrics.estimates import INTERVAL_NEEDS
from ..testbeds.portraits import (
    SIZE,
    attribute_rates,
    concept_probability,
    indicators,
    posterior,
    read_prompt,
    shows,
    true_portraits,
)
from .second_classifier import second_classifier
from .shared.measuring import rates, score_columns, scores

REFERENCE_PORTRAITS = 2000
REFERENCE_SEEDS = 3_000_000_000
PERFECT_SEEDS = 3_500_000_000
Which = Literal["own", "second"]
SEERS: dict[Which, str] = {"own": "the classifier", "second": "the second classifier"}
SHOWN_ATTRIBUTES = ("man", "mustache", "beard", "glasses", "hat", "smile")


@dataclass(frozen=True)
class Portraits(Laboratory):
    """Portraits by a model that ships their attribute classifier, compared with the exact truth of their world.

    Args:
        classifier: "own", the model's own, or "second", another network that was trained on other portraits and that comes
            with steerclear, so that it also judges images whose model is not at hand.
    """

    name = "portraits"

    classifier: Which = "own"

    def refuses(self, model: Judged, asked: Asked) -> str | None:
        if not has_classifier(model) and self.classifier == "own":
            if model.folder is None and model.pipe is None:
                return "its classifier comes with a model; give portraits:classifier=second, which needs none"
            return "this model ships no attribute classifier and its truth is not known"
        if {asked.height, asked.width} <= {None, SIZE}:
            return None
        leave_out = in_words_of("height and width", "--height and --width")
        return f"the classifier of this model sees only images of {SIZE} x {SIZE}; leave out {leave_out} to measure"

    def judge(self, model: Judged, asked: Asked) -> "PortraitJudge":
        judge = PortraitJudge(model.folder, asked.prompt, ", ".join(asked.negative_prompts) or None, self.classifier)
        _ = judge.classifier
        return judge

    def second(self) -> "Portraits":
        return self.changed(classifier="second" if self.classifier == "own" else "own")

    def prior(self, model: Judged, prompt: str, negative_prompt: str) -> float | None:
        """The rate of the commonest concept in true portraits of the prompt, kept between 0.05 and 0.95."""
        if not has_classifier(model):
            return None
        try:
            attributes, probability = posterior(prompt)
        except SteerclearError:
            return None
        rates = [float(probability[shows(concept, attributes)].sum()) for concept in concepts_in(negative_prompt)]
        return min(0.95, max(0.05, max(rates))) if rates else None


def has_classifier(model: Judged) -> bool:
    """Whether a model ships a classifier of portraits; that of a model with named classes is another kind."""
    if model.folder is None or hasattr(model.pipe, "class_number"):
        return False
    return (model.folder / CLASSIFIER).is_file()


def concepts_in(text: str) -> tuple[str, ...]:
    """The concepts in a text with commas that this world knows: "mustache", "red hat"."""
    known = []
    for part in (part.strip() for part in text.split(",")):
        try:
            wish = read_prompt(part)
        except SteerclearError:
            continue
        if not wish.unknown and (wish.mentions.values or wish.man is not None):
            known.append(part)
    return tuple(dict.fromkeys(known))


@dataclass(frozen=True)
class PortraitJudge(Judge):
    """Measures images of the portraits' world against its exact truth.

    Args:
        folder: the model's folder, which holds the classifier; None needs the second one.
        prompt: the question's prompt.
        negative: the question's negative prompts, joined by commas; None without any.
        which: the classifier, "own" or "second"; see :class:`Portraits`.
    """

    folder: Path | None
    prompt: str
    negative: str | None = None
    which: Which = "own"
    _features: dict[range, Tensor] = field(default_factory=dict, repr=False)

    @cached_property
    def classifier(self) -> AttributeClassifier:
        if self.which == "second":
            return second_classifier()
        assert self.folder is not None  # or the question is refused
        return PortraitClassifier.load(self.folder / CLASSIFIER)

    @cached_property
    def _truth_or_why_not(self) -> tuple[dict[str, float] | None, str]:
        try:
            return attribute_rates(self.prompt, without=self.negative), ""
        except SteerclearError as error:
            return None, f"No exact truth: {error}"

    @property
    def truth(self) -> dict[str, float] | None:
        """Exact rates of the target; None if the prompt names things that this world does not know."""
        return self._truth_or_why_not[0]

    @property
    def target(self) -> str | None:
        if self.truth is None:
            return None
        return f'true portraits of "{self.prompt}"' + (f" that show no {self.negative}" if self.negative else "")

    @cached_property
    def concepts(self) -> tuple[str, ...]:
        """The concepts that the negative prompt names and this world knows."""
        return concepts_in(self.negative or "")

    @property
    def features(self) -> str:
        return f"what {SEERS[self.which]} of portraits sees in an image"

    @cached_property
    def changed(self) -> tuple[str, ...]:
        """The attributes that the concepts name: not counted as collateral."""
        names: list[str] = []
        for concept in self.concepts:
            wish = read_prompt(concept)
            names += [name for name, _ in wish.mentions.values] + (["man"] if wish.man is not None else [])
            names += ["hat_color"] if "hat" in wish.mentions else []
        return tuple(dict.fromkeys(names))

    @cached_property
    def _others(self) -> tuple[str, ...]:
        return tuple(name for name in SHOWN_ATTRIBUTES if name not in self.changed)

    def columns(self) -> list[Column]:
        known, seer = self.truth is not None, SEERS[self.which]

        def share(name: str, role: Role, better: Better) -> Column:
            meaning, way = f"share of images in which {seer} sees: {name}", better if known else None
            return Column(name=name, label=name, meaning=meaning, percent=True, role=role, better=way)

        concepts = [share(name, "concept", "lower") for name in self.concepts]
        others = [share(name, "rate", "truth") for name in self._others]
        return concepts + others + (score_columns() if known else [])

    def see(self, images: Tensor) -> Seen:
        if images.shape[2:] != (SIZE, SIZE):
            height, width = images.shape[2:]
            raise UnfitFeatures(
                f"{SEERS[self.which]} sees images of {SIZE} x {SIZE}, not of {width} x {height}; resize them."
            )
        attributes, features, sure = read(self.classifier, images)
        concepts = {name: shows(name, attributes) for name in self.concepts if name not in attributes}
        probabilities = {name: concept_probability(name, sure) for name in self.concepts}
        return Seen(attributes | concepts, probabilities, features)

    def indicators(self, seen: Seen) -> dict[str, Tensor]:
        return indicators(seen.shown) | {name: shows(name, seen.shown) for name in self.concepts}

    def measure(self, seen: Seen) -> dict[str, Measurement]:
        assert seen.features is not None  # of every judge of portraits
        truth = self._true_of(len(seen.features))
        return rates(self, seen, truth) | ({} if truth is None else scores(self, seen, truth))

    def _true_of(self, count: int) -> Truth | None:
        """The exact truth for a set of so many images; None if it is not known."""
        if self.truth is None or self.target is None:
            return None
        reference = self._true(REFERENCE_SEEDS, max(REFERENCE_PORTRAITS, count))
        return Truth(self.target, self.truth, reference, self._true(PERFECT_SEEDS, count))

    def _true(self, first_seed: int, count: int) -> Tensor:
        """Features of true portraits of the target, the same for every method."""
        seeds = range(first_seed, first_seed + count)
        if seeds not in self._features:
            images, _ = true_portraits(self.prompt, seeds, without=self.negative)
            self._features[seeds] = read(self.classifier, images)[1]
        return self._features[seeds]

    def notes(self, images: int) -> list[str]:
        why_not = self._truth_or_why_not[1]
        few = [] if why_not else [metric for metric in metrics() if images < metric.fewest and not metric.detail]
        notes = [why_not] if why_not else []
        notes += [f"The {metric.label} is left out: it needs at least {metric.fewest} images." for metric in few]
        if images < INTERVAL_NEEDS:
            notes.append(f"With fewer than {INTERVAL_NEEDS} images, only rates, precision and recall have intervals.")
        return notes
