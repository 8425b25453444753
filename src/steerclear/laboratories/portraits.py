"""Statistics of finished images: what they show, and how far they are from the truth."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from torch import Tensor

from ..core.errors import SteerclearError
from ..core.laboratory import Column, Measurement
from ..metrics.collateral import collateral_shift
from ..metrics.diversity import mean_pairwise_distance
from ..metrics.frechet import frechet_estimate
from ..metrics.precision_recall import precision_recall
from ..metrics.rates import rate
from ..testbeds.portraits import (
    attribute_rates,
    concept_probability,
    indicators,
    posterior,
    read_prompt,
    shows,
    true_portraits,
)
from .measured import measured
from .portrait_classifier import CLASSIFIER, PortraitClassifier, read

NEIGHBOURS = 3
FEWEST_FOR_FRECHET = 48
REFERENCE_PORTRAITS = 2000
REFERENCE_SEEDS = 3_000_000_000
FLOOR_SEEDS = 3_500_000_000
SHOWN_ATTRIBUTES = ("man", "mustache", "beard", "glasses", "hat", "smile")


@dataclass(frozen=True)
class Seen:
    """What was read off a set of images.

    Attributes:
        attributes: integers by attribute, ``[n]``.
        features: the classifier's feature vectors, ``[n, 128]``.
        probabilities: how sure the classifier is, by attribute: ``[n]`` of "yes", or ``[n, levels]``.
    """

    attributes: dict[str, Tensor]
    features: Tensor
    probabilities: dict[str, Tensor]


@dataclass(frozen=True)
class PortraitLaboratory:
    """Measures images of the portraits' world against its exact truth.

    Args:
        folder: the model's folder, which holds the classifier.
        prompt: the question's prompt.
        negative: the question's negative prompts, joined by commas; None when there is none.
    """

    folder: Path
    prompt: str
    negative: str | None
    notes: list[str] = field(default_factory=list)
    _seen_true: dict[range, Seen] = field(default_factory=dict, repr=False)

    @cached_property
    def classifier(self) -> PortraitClassifier:
        return PortraitClassifier.load(self.folder / CLASSIFIER)

    @cached_property
    def truth(self) -> dict[str, float] | None:
        """Exact rates of the target; None when the prompt speaks of what this world does not know."""
        try:
            return attribute_rates(self.prompt, without=self.negative)
        except SteerclearError as error:
            self.notes.append(f"No exact truth: {error}")
            return None

    @property
    def target(self) -> str | None:
        if self.truth is None:
            return None
        return f'true portraits of "{self.prompt}"' + (f" that show no {self.negative}" if self.negative else "")

    @cached_property
    def concepts(self) -> tuple[str, ...]:
        """The concepts that the negative prompt names and this world knows: "mustache", "red hat"."""
        parts = [] if self.negative is None else [part.strip() for part in self.negative.split(",")]
        known = []
        for part in parts:
            try:
                wish = read_prompt(part)
            except SteerclearError:
                continue
            if not wish.unknown and (wish.mentions.values or wish.man is not None):
                known.append(part)
        return tuple(dict.fromkeys(known))

    @cached_property
    def _named(self) -> tuple[str, ...]:
        """The attributes that the concepts speak of: not counted as collateral."""
        names: list[str] = []
        for concept in self.concepts:
            wish = read_prompt(concept)
            names += [name for name, _ in wish.mentions.values] + (["man"] if wish.man is not None else [])
            names += ["hat_color"] if "hat" in wish.mentions else []
        return tuple(dict.fromkeys(names))

    @cached_property
    def _others(self) -> tuple[str, ...]:
        return tuple(name for name in SHOWN_ATTRIBUTES if name not in self._named)

    def prior(self) -> float:
        """How often a concept is in true portraits of the prompt (the commonest one), kept between 0.05 and 0.95."""
        try:
            attributes, probability = posterior(self.prompt)
        except SteerclearError:
            return 0.5
        rates = [float(probability[shows(concept, attributes)].sum()) for concept in self.concepts]
        return min(0.95, max(0.05, max(rates, default=0.5)))

    def see(self, images: Tensor) -> Seen:
        return Seen(*read(self.classifier, images))

    def _true(self, first_seed: int, count: int) -> Seen:
        """True portraits of the target: the same ones for every method."""
        seeds = range(first_seed, first_seed + count)
        if seeds not in self._seen_true:
            images, _ = true_portraits(self.prompt, seeds, without=self.negative)
            self._seen_true[seeds] = self.see(images)
        return self._seen_true[seeds]

    def columns(self) -> list[Column]:
        """What is measured, in order: the concept first."""
        columns = [
            Column(name=name, label=name, percent=True, meaning=f"share of images in which the classifier sees: {name}")
            for name in (*self.concepts, *self._others)
        ]  # fmt: skip
        if self.truth is None:
            return columns
        return [
            *columns,
            Column(name="collateral_shift", label="collateral shift", percent=True,
                   meaning="mean absolute difference of all other attributes' rates from the exact truth, less what as many "
                           "true portraits would show by chance; where the interval reaches 0, chance may be all of it"),
            Column(name="frechet", label="Fréchet distance",
                   meaning="distance of feature means and covariances to true portraits of the target, bias removed"),
            Column(name="precision", label="precision", percent=True,
                   meaning="share of images that lie among true portraits of the target"),
            Column(name="recall", label="recall", percent=True,
                   meaning="share of true portraits of the target that lie among the images"),
            Column(name="diversity", label="diversity", meaning="mean distance of two images in feature space"),
        ]  # fmt: skip

    def shown(self, seen: Seen) -> dict[str, Tensor]:
        """What each image shows: every attribute, and yes or no for each concept ("red hat")."""
        return seen.attributes | {name: shows(name, seen.attributes) for name in self.concepts}

    def sure(self, seen: Seen) -> dict[str, Tensor]:
        """How sure the classifier is of each concept in each image: probabilities, ``[n]``."""
        return {name: concept_probability(name, seen.probabilities) for name in self.concepts}

    def measure(self, seen: Seen) -> dict[str, Measurement]:
        """All columns for one set of images."""
        shown = indicators(seen.attributes)
        found = {name: self._rate(shows(name, seen.attributes), 0.0, "lower") for name in self.concepts}
        for name in self._others:
            found[name] = self._rate(shown[name], None if self.truth is None else self.truth[name], "truth")
        if self.truth is not None:
            found["collateral_shift"] = self._collateral(shown, self.truth)
            found |= self._against_reference(seen.features)
        return found

    def _rate(self, indicator: Tensor, truth: float | None, better: Literal["lower", "truth"]) -> Measurement:
        seen = rate(indicator)
        known = self.truth is not None
        return Measurement(
            value=seen.value, low=seen.low, high=seen.high, interval="wilson",
            truth=truth if known else None, better=better if known else None,
        )  # fmt: skip

    def _collateral(self, shown: Mapping[str, Tensor], truth: Mapping[str, float]) -> Measurement:
        shift = collateral_shift(shown, truth, exclude=self._named)
        corrected = measured(shift.excess, "bootstrap", truth=0.0, better="lower")
        return corrected.model_copy(update={"uncorrected": shift.value, "by_chance": shift.floor})

    def _against_reference(self, features: Tensor) -> dict[str, Measurement]:
        """Fréchet distance, precision, recall and diversity; each with what as many true portraits would give."""
        count = len(features)
        floor = self._true(FLOOR_SEEDS, count).features
        reference = self._true(REFERENCE_SEEDS, max(REFERENCE_PORTRAITS, count)).features
        same_number = reference[:count]
        found: dict[str, Measurement] = {}
        if count >= FEWEST_FOR_FRECHET:  # below, the bias cannot be removed and the number would mislead
            distance = frechet_estimate(features, reference)
            perfect = frechet_estimate(floor, reference)
            found["frechet"] = measured(distance, "jackknife", truth=perfect.value, better="lower")
        if count > NEIGHBOURS:
            ours, perfect_both = precision_recall(same_number, features), precision_recall(same_number, floor)
            for name in ("precision", "recall"):
                value, perfect_value = getattr(ours, name), getattr(perfect_both, name)
                found[name] = Measurement(
                    value=value.value, low=value.low, high=value.high, interval="wilson",
                    truth=perfect_value.value, better="higher",
                )  # fmt: skip
        if count > 1:
            spread = mean_pairwise_distance(features)
            found["diversity"] = measured(
                spread, "jackknife", truth=mean_pairwise_distance(floor).value, better="truth"
            )
        return found
