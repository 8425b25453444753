"""A judge that asks a model of images and texts for anything that has a name, by pairs of statements."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F

from ...core.errors import UnsupportedModel
from ...core.laboratory import UNSURE, Asked, Better, Column, Judge, Measurement, Role, Seen
from ...core.shapes import Float, Tensor, UInt8
from .measuring import rates
from .statements import GENERAL, bare, nouns, pairs
from .towers import Towers

CALIBRATION = "judging.json"
"""A file beside a model's weights: how its answers are to be read."""

Link = Literal["softmax", "sigmoid"]
"""How a statement's similarity becomes the log of its odds against another's: see :class:`PairJudge`."""


@dataclass(frozen=True)
class Calibration:
    """How the answers of a model are read: probability = sigmoid(evidence / temperature + offset).

    Attributes:
        temperature: above 0.
        offset: 0 without one: as likely there as not where neither statement fits better.
        words: temperature and offset of single words, which were calibrated by themselves.
        watch: what is watched unless something else is asked for; None for what is watched with any model.
        errors: share of the calibration's images about which the judge is wrong, in [0, 1], by word.
        source: on what it was calibrated, in words; "" for a model that was not.
    """

    temperature: float = 1.0
    offset: float = 0.0
    words: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    watch: tuple[str, ...] | None = None
    errors: Mapping[str, float] = field(default_factory=dict)
    source: str = ""

    @classmethod
    def read(cls, folder: Path) -> "Calibration":
        """From the file in a model's folder; without the file there is none.

        Raises:
            UnsupportedModel: the file is damaged.
        """
        path = folder / CALIBRATION
        if not path.is_file():
            return cls()
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            words = {str(word): (float(pair[0]), float(pair[1])) for word, pair in found.get("words", {}).items()}
            watch = found.get("watch")
            calibration = cls(
                float(found.get("temperature", 1)), float(found.get("offset", 0)), words,
                None if watch is None else tuple(str(word) for word in watch),
                {str(word): float(share) for word, share in found.get("errors", {}).items()}, str(found.get("source", "")),
            )  # fmt: skip
            lowest = min(calibration.temperature, *(pair[0] for pair in words.values()), 1.0)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise UnsupportedModel(
                f"{path} is not a calibration ({error}); copy the file again or remove it."
            ) from error
        if not lowest > 0:
            raise UnsupportedModel(f"{path} has the temperature {lowest}, but it must be above 0; copy the file again.")
        return calibration

    def write(self, folder: Path) -> None:
        """Write the file into a model's folder."""
        content: dict[str, Any] = {
            "temperature": self.temperature, "offset": self.offset,
            "words": {word: list(pair) for word, pair in self.words.items()},
            "watch": None if self.watch is None else list(self.watch), "errors": dict(self.errors), "source": self.source,
        }  # fmt: skip
        (folder / CALIBRATION).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class PairJudge(Judge):
    """Answers "is there an X?" by comparing statements with X with the same statements without a word on X.

    With a pair of statements t (with X) and u (without), the similarities s of their vectors to an image's, and f the identity
    for a CLIP (a softmax over the pair) or log sigmoid for a SigLIP (its probability that a text belongs to an image),

        evidence    = mean over pairs of f(s_t) - f(s_u)
        p(X | image) = sigmoid(evidence / temperature + offset)

    and X is seen where p is above the threshold. CLIP: Radford et al. 2021, arXiv 2103.00020; SigLIP: Zhai et al. 2023, arXiv
    2303.15343; temperature and offset: Platt 1999, Guo et al. 2017, arXiv 1706.04599.

    Args:
        towers: the model.
        link: "softmax" or "sigmoid".
        asked: the question; the concepts are its negative prompts, split at commas.
        threshold: in (0, 1).
        calibration: how evidence is read.
        batch: images at once.
    """

    towers: Towers
    link: Link
    asked: Asked
    threshold: float = 0.5
    calibration: Calibration = field(default_factory=Calibration)
    batch: int = 32
    _unsure: dict[str, list[int]] = field(default_factory=dict, repr=False)

    @cached_property
    def concepts(self) -> tuple[str, ...]:
        """What the negative prompts name."""
        return _things(",".join(self.asked.negative_prompts).split(","))

    @cached_property
    def watched(self) -> tuple[str, ...]:
        """What else is looked for: as asked, or as the model's calibration says, or the prompt's nouns and general things."""
        wanted = self.asked.watch
        if wanted is None:
            wanted = self.calibration.watch
        if wanted is None:
            wanted = (*nouns(self.asked.prompt), *GENERAL)
        return tuple(thing for thing in _things(wanted) if thing not in self.concepts)

    @property
    def features(self) -> str:
        return f"unit vectors of images by {self.towers.name}"

    @cached_property
    def pairs(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """The statements by which each thing is asked for. One that is too long for the model is left out."""
        every = {thing: pairs(thing, self.asked.prompt) for thing in (*self.concepts, *self.watched)}
        return {thing: tuple(pair for pair in asked if self.towers.fits(pair[0])) for thing, asked in every.items()}

    @cached_property
    def _texts(self) -> tuple[dict[str, int], Tensor]:
        """Every statement's row among the vectors of texts; each is embedded once."""
        texts = dict.fromkeys(text for asked in self.pairs.values() for pair in asked for text in pair)
        rows = {text: row for row, text in enumerate(texts)}
        return rows, self.towers.of_texts(list(rows)) if rows else torch.empty(0, 1)

    def prepare(self) -> None:
        """Read all statements, so that nothing can fail only after images were made.

        Raises:
            UnsupportedModel: a thing has a name that is too long for the model.
        """
        for thing, asked in self.pairs.items():
            if not asked:
                raise UnsupportedModel(
                    f"{thing!r} is too long for {self.towers.name!r}, which reads {self.towers.longest} tokens; name it shorter."
                )
        _ = self._texts

    def columns(self) -> list[Column]:
        def share(name: str, role: Role, better: Better | None) -> Column:
            meaning = f"share of images in which {self.towers.name} sees: {name}"
            return Column(name=name, label=name, meaning=meaning, percent=True, role=role, better=better)

        concepts = [share(name, "concept", "lower") for name in self.concepts]
        return concepts + [share(name, "rate", None) for name in self.watched]

    def evidence(self, vectors: Float[Tensor, "images columns"]) -> dict[str, Float[Tensor, " images"]]:
        """By thing, float64; positive where the statements with it fit better than those without."""
        rows, texts = self._texts
        if not rows:
            return {}
        fits = vectors.double() @ texts.double().T * self.towers.scale + (self.towers.bias or 0.0)
        if self.link == "sigmoid":
            fits = F.logsigmoid(fits)
        return {
            thing: torch.stack([fits[:, rows[having]] - fits[:, rows[lacking]] for having, lacking in asked]).mean(0)
            for thing, asked in self.pairs.items()
        }

    def see(self, images: UInt8[Tensor, "images 3 height width"]) -> Seen:
        vectors = self.towers.of_images(images, self.batch)
        sure = {}
        for thing, evidence in self.evidence(vectors).items():
            temperature, offset = self.calibration.words.get(
                thing, (self.calibration.temperature, self.calibration.offset)
            )
            sure[thing] = (evidence / temperature + offset).sigmoid().float()
            low, high = UNSURE
            between, seen = self._unsure.get(thing, [0, 0])
            self._unsure[thing] = [
                between + int(((sure[thing] > low) & (sure[thing] < high)).sum()),
                seen + len(images),
            ]
        return Seen({thing: (value > self.threshold).long() for thing, value in sure.items()}, sure, vectors)

    def measure(self, seen: Seen) -> dict[str, Measurement]:
        return rates(self, seen, None)

    def errors(self) -> dict[str, float]:
        return {thing: self.calibration.errors[thing] for thing in self.pairs if thing in self.calibration.errors}

    @property
    def error_source(self) -> str:
        return self.calibration.source if self.errors() else ""

    def notes(self, images: int) -> list[str]:
        name, every = self.towers.name, (*self.concepts, *self.watched)
        notes = []
        if not self.calibration.source:
            notes.append(
                f"The probabilities of {name} are not calibrated: compare methods with one another, and look at the images "
                f"near the threshold {self.threshold:g}."
            )
        else:
            new = [thing for thing in every if thing not in self.calibration.words]
            if new:
                notes.append(
                    f"{name} was not calibrated for {', '.join(new)}; a word that it never learned has no meaning."
                )
        cut = [thing for thing in every if len(self.pairs[thing]) < len(pairs(thing, self.asked.prompt))]
        if cut:
            notes.append(
                f"The prompt is longer than the {self.towers.longest} tokens that {name} reads, so it is asked without the prompt."
            )
        return notes + self._doubts()

    def _doubts(self) -> list[str]:
        """How much the rates depend on the threshold: the share of images with a probability in the middle."""
        shares = {thing: between / seen for thing, (between, seen) in self._unsure.items() if between and seen}
        if not shares:
            return []
        low, high = UNSURE
        told = ", ".join(f"{thing} {share:.1%}" for thing, share in sorted(shares.items(), key=lambda one: -one[1]))
        unsure = f"is unsure (probability {low:g} to {high:g}; the threshold is {self.threshold:g})"
        return [f"Share of all images seen in which {self.towers.name} {unsure}: {told}."]


def _things(words: Sequence[str]) -> tuple[str, ...]:
    """Names of things in lower case, without articles; none twice and none empty."""
    return tuple(dict.fromkeys(thing for thing in map(bare, words) if thing))
