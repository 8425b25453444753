"""A judge made of a function: images to the probability of each name."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...core.errors import InvalidSetting, SteerclearWarning, UnfitFeatures, in_words_of, shown
from ...core.features import Features
from ...core.laboratory import Asked, Better, Column, Judge, Measurement, Role, Seen
from ...core.prompts import concepts_named
from .measuring import rates

BATCH = 32
"""Images that the function is given at once."""
MOST_COLUMNS = 20
"""A judge that knows more names than this looks only for what is asked: the concepts, and what is watched."""


@dataclass(frozen=True)
class Vocabulary:
    """What of a judge's names a question asks for.

    Attributes:
        known: all names of the judge.
        concepts: those that the negative prompts name.
        others: those that are counted beside them.
    """

    known: tuple[str, ...]
    concepts: tuple[str, ...]
    others: tuple[str, ...]

    @classmethod
    def of(cls, known: Sequence[str], asked: Asked) -> "Vocabulary":
        """What a question asks of a judge that knows these names alone.

        Raises:
            InvalidSetting: a watched word is none of them.
        """
        concepts = concepts_named(asked.negative_prompts, known)
        if asked.watch is None:
            watched = tuple(known) if len(known) <= MOST_COLUMNS else ()
        else:
            watched = tuple(dict.fromkeys(_watched(word, known) for word in asked.watch))
        return cls(tuple(known), concepts, tuple(name for name in watched if name not in concepts))

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.concepts, *self.others)


def _watched(word: str, known: Sequence[str]) -> str:
    """The name that a watched word means."""
    folded = {name.casefold(): name for name in known}
    if word.strip().casefold() in folded:
        return folded[word.strip().casefold()]
    named = concepts_named([word], known) if "," not in word else ()
    if len(named) == 1:
        return named[0]
    listed = ", ".join(known[:MOST_COLUMNS]) + (
        f" and {len(known) - MOST_COLUMNS} more" if len(known) > MOST_COLUMNS else ""
    )
    raise InvalidSetting(
        in_words_of("watch", "--watch"),
        word,
        f"something that this judge knows: {listed}",
        "leave it out, or name another judge",
    )


@dataclass(frozen=True)
class ProbabilityJudge(Judge):
    """Shows what a function sees with a probability above a half.

    Args:
        seer: who looks, in words, such as "your classifier".
        vocabulary: the names that count.
        probabilities: maps uint8 images, ``[n, 3, height, width]``, to the probability of every name, ``[n]`` in [0, 1].
        extractor: its features of images; None without any.
        reads_features: the function is given the features in place of the images.
        batch: images that the function is given at once.
        error_rates: how often it errs, by name.
        source: on what that was measured, in words.
        remarks: sentences for the reader.
    """

    seer: str
    vocabulary: Vocabulary
    probabilities: Callable[[Tensor], Mapping[str, Any]]
    extractor: Features | None = None
    reads_features: bool = False
    batch: int = BATCH
    error_rates: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def features(self) -> str | None:
        return None if self.extractor is None else self.extractor.described

    def errors(self) -> dict[str, float]:
        return {name: self.error_rates[name] for name in self.vocabulary.names if name in self.error_rates}

    @property
    def error_source(self) -> str:
        return self.source

    def columns(self) -> list[Column]:
        def column(name: str, role: Role, better: Better | None) -> Column:
            meaning = f"share of images in which {self.seer} sees: {name}"
            return Column(name=name, label=name, meaning=meaning, percent=True, role=role, better=better)

        concepts = [column(name, "concept", "lower") for name in self.vocabulary.concepts]
        return concepts + [column(name, "rate", None) for name in self.vocabulary.others]

    def see(self, images: Tensor) -> Seen:
        features = None if self.extractor is None else self.extractor.of(images)
        given = features if self.reads_features and features is not None else images
        parts = [self._checked(some) for some in given.split(self.batch)] if len(images) else []
        empty = torch.empty(0, dtype=torch.float64)
        sure = {name: torch.cat([empty, *(part[name] for part in parts)]) for name in self.vocabulary.names}
        return Seen({name: (value > 0.5).long() for name, value in sure.items()}, sure, features)

    def _checked(self, images: Tensor) -> dict[str, Tensor]:
        found, plain = self.probabilities(images), {}
        if not isinstance(found, Mapping):
            raise UnfitFeatures(
                f"{self._who} gave a {type(found).__name__}; give a mapping of {self.vocabulary.known} to probabilities"
            )
        for name in self.vocabulary.names:
            plain[name] = self._one(name, found.get(name), len(images))
        return plain

    def _one(self, name: str, given: Any, count: int) -> Tensor:
        """The probabilities of one name, float64."""
        try:
            value = None if given is None else torch.as_tensor(given).detach().double().cpu()
        except (TypeError, ValueError, RuntimeError):
            wrong = f"a {type(given).__name__}"
        else:
            if value is not None and value.shape == (count,) and bool(((value >= 0) & (value <= 1)).all()):
                return value
            wrong = "nothing" if value is None else f"shape {list(value.shape)}, values {value.flatten()[:4].tolist()}"
        raise UnfitFeatures(
            f"{self._who} gave {wrong} for {name!r}; give one probability in [0, 1] per image, shape [{count}]"
        )

    @property
    def _who(self) -> str:
        return self.seer.replace("your ", "the ", 1)

    def measure(self, seen: Seen) -> dict[str, Measurement]:
        return rates(self, seen, None)

    def notes(self, images: int) -> list[str]:
        return list(self.remarks)


def warn_of_unknown(seer: str, asked: Asked, vocabulary: Vocabulary) -> None:
    """Warn if negative prompts are given and none of them names something that a judge of a closed vocabulary knows."""
    if asked.negative_prompts and not vocabulary.concepts:
        few = ", ".join(vocabulary.known[:MOST_COLUMNS])
        warnings.warn(
            f"{seer} knows nothing that the negative prompt names ({shown(', '.join(asked.negative_prompts))}), so it cannot say "
            f"whether that is gone; it knows: {few}",
            SteerclearWarning, stacklevel=3,
        )  # fmt: skip
