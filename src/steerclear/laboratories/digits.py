"""The laboratory of images with classes: which class each shows, and how far a set is from real images of its classes."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..core.class_names import class_number
from ..core.errors import InvalidSetting, PromptError, UnfitFeatures, UnsupportedModel, in_words_of
from ..core.laboratory import Asked, Column, Judge, Judged, Laboratory, Measurement, Seen, Truth
from ..core.metric import metrics
from ..core.saving import save_whole
from ..core.sums import check_sums
from ..features.digits import SHIPPED
from ..features.label_classifier import LABEL_CLASSIFIER, LabelClassifier, classify
from ..metrics.estimates import INTERVAL_NEEDS
from ..testbeds.labelled_images import Labelled
from .shared.measuring import rates, score_columns, scores

REFERENCE = "reference.safetensors"
"""In a model's folder: the classifier's features of real images that no network was trained on, and their classes."""
REFERENCE_IMAGES = 2000
"""Real images that a set is compared with; as many as are measured where that is more."""


@dataclass(frozen=True)
class Digits(Laboratory):
    """Images of a model with named classes that ships a classifier and features of real images: digits, and any other.

    Args:
        folder: of the model whose classifier and real images are taken; none for the images' own model, and for images of
            which no model is known the digits that come with steerclear.
    """

    name = "digits"

    folder: str | None = None

    def refuses(self, model: Judged, asked: Asked) -> str | None:
        folder = self._folder(model)
        if folder is None or not all((folder / name).is_file() for name in (LABEL_CLASSIFIER, REFERENCE)):
            which = "this model" if self.folder is None else f"the folder {self.folder!r}"
            return f"{which} ships no classifier of classes with real images to compare with"
        if model.pipe is not None and not hasattr(model.pipe, "class_number"):
            return f"its prompts are not names of classes, as those of a ClassConditionalPipeline are, but a {type(model.pipe).__name__}'s"
        if {asked.height, asked.width} == {None}:
            return None
        if model.pipe is not None:
            return f"its images have one size; leave out {in_words_of('height and width', '--height and --width')}"
        side = ClassWords.of(folder).size
        if {asked.height, asked.width} != {side}:
            return f"its classifier sees images of {side} x {side}, not of {asked.width} x {asked.height}"
        return None

    def _folder(self, model: Judged) -> Path | None:
        if self.folder is not None:
            return Path(self.folder).expanduser()
        return SHIPPED if model.folder is None and model.pipe is None else model.folder

    def judge(self, model: Judged, asked: Asked) -> "ClassJudge":
        folder = self._folder(model)
        assert folder is not None  # it is not refused
        judge = judge_of(folder, asked.prompt, asked.negative_prompts, asked.watch)
        _ = judge.classifier, judge.reference
        return judge

    def prior(self, model: Judged, prompt: str, negative_prompt: str) -> float | None:
        """The share of the concept among real images of the prompt, kept between 0.05 and 0.95."""
        if self.refuses(model, Asked(prompt, (negative_prompt,))) is not None:
            return None
        try:
            judge = self.judge(model, Asked(prompt, (negative_prompt,)))
        except PromptError:
            return None
        labels = judge.reference.of(judge.asked).labels
        share = float(torch.isin(labels, torch.tensor(judge.excluded)).double().mean()) if len(labels) else 0.0
        return min(0.95, max(0.05, share))


@dataclass(frozen=True)
class Reference:
    """Features of real images.

    Args:
        features: ``[n, width]``, divided by the classifier's scale.
        labels: the classes that people gave them, ``[n]``.
        seen: the classes that the classifier sees in them, ``[n]``.
    """

    features: Tensor
    labels: Tensor
    seen: Tensor

    def of(self, classes: tuple[int, ...]) -> "Reference":
        """The images of these classes."""
        rows = torch.isin(self.labels, torch.tensor(classes))
        return Reference(self.features[rows], self.labels[rows], self.seen[rows])


def write_reference(path: Path, classifier: LabelClassifier, images: Labelled) -> None:
    """Write the features of real images, in float16, and their classes."""
    probabilities, features = classify(classifier, images.images)
    tensors = {
        "features": features.half(), "labels": images.labels.to(torch.uint8),
        "seen": probabilities.argmax(1).to(torch.uint8),
    }  # fmt: skip
    save_whole(path, lambda to: save_file({name: value.contiguous() for name, value in tensors.items()}, to))


def read_reference(path: Path) -> Reference:
    """The reference of a file.

    Raises:
        UnsupportedModel: the file is missing or damaged.
    """
    try:
        stored = load_file(path)
        found = Reference(stored["features"].float(), stored["labels"].long(), stored["seen"].long())
        if not found.features.isfinite().all() or not len(found.features) == len(found.labels) == len(found.seen):
            raise ValueError("numbers that do not belong together")
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        what = str(error).splitlines()[0][:100]
        raise UnsupportedModel(
            f"the reference {path} cannot be read ({what}); make the model again with `steerclear train digits`."
        ) from error
    return found


@dataclass(frozen=True)
class ClassWords:
    """What the files of a model say of its images.

    Args:
        names: of its classes, by number.
        size: pixels of an image, each way.
    """

    names: tuple[str, ...]
    size: int

    @classmethod
    def of(cls, folder: Path) -> "ClassWords":
        """Those of a folder.

        Raises:
            UnsupportedModel: it has no such files, or they are damaged.
        """
        try:
            index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
            network = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))
            names = {int(number): str(name) for number, name in index["class_names"].items()}
            return cls(
                tuple(names[number] for number in range(len(names))), int(network["sample_size"] * index["patch"])
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UnsupportedModel(
                f"the folder {str(folder)!r} does not say which classes its model has; make it again with `steerclear train "
                f"digits`."
            ) from error


def judge_of(
    folder: Path, prompt: str, negatives: tuple[str, ...], watch: tuple[str, ...] | None = None
) -> "ClassJudge":
    """The judge of a question.

    Args:
        folder: of the model, with its classifier and its reference.
        prompt: a class, or "any".
        negatives: classes that should not show; the parts of one that is joined by commas are several.
        watch: the classes to count beside these; None for all the others.

    Raises:
        PromptError: a prompt that is not a class.
        InvalidSetting: the same of what is watched.
        UnsupportedModel: the folder is no model of classes.
    """
    words = ClassWords.of(folder)
    every = tuple(range(len(words.names)))

    def numbers(texts: tuple[str, ...]) -> tuple[int, ...]:
        found = [class_number(part, words.names) for text in texts for part in text.split(",") if part.strip()]
        return tuple(dict.fromkeys(number for number in found if number in every))

    asked = numbers((prompt,)) or every
    try:
        watched = None if watch is None else numbers(watch)
    except PromptError as error:
        raise InvalidSetting(
            "watch", ", ".join(watch or ()), f"classes of this model: {', '.join(words.names)}"
        ) from error
    return ClassJudge(folder, words.names, asked, numbers(negatives), watched, words.size)


@dataclass(frozen=True)
class ClassJudge(Judge):
    """Measures images with classes against real ones: those of the asked classes without the excluded ones.

    Args:
        folder: of the model.
        names: of all classes, by number.
        asked: the classes that the prompt allows.
        excluded: the classes that the negative prompts name.
        watched: the classes to count beside these; None for all the others.
        size: pixels of an image, each way, that the classifier sees; None for any.
    """

    folder: Path
    names: tuple[str, ...]
    asked: tuple[int, ...]
    excluded: tuple[int, ...] = ()
    watched: tuple[int, ...] | None = None
    size: int | None = None

    @cached_property
    def classifier(self) -> LabelClassifier:
        check_sums(f"the model {str(self.folder)!r}", self.folder)
        classifier = LabelClassifier.load(self.folder / LABEL_CLASSIFIER)
        if classifier.head.out_features != len(self.names):
            raise UnsupportedModel(
                f"the classifier in {self.folder} knows {classifier.head.out_features} classes, and the model has "
                f"{len(self.names)}; make it again with `steerclear train digits`."
            )
        return classifier

    @cached_property
    def reference(self) -> Reference:
        return read_reference(self.folder / REFERENCE)

    @property
    def kept(self) -> tuple[int, ...]:
        """The classes that should show; none where the question contradicts itself."""
        return tuple(number for number in self.asked if number not in self.excluded)

    @property
    def target(self) -> str | None:
        if not self.kept:
            return None
        wanted = "" if len(self.asked) > 1 else f" of {self._named(self.asked)}"
        without = tuple(number for number in self.excluded if number in self.asked)
        return f"real images{wanted}" + (f" without {self._named(without)}" if without else "")

    def _named(self, numbers: tuple[int, ...]) -> str:
        return ", ".join(self.names[number] for number in numbers)

    @property
    def features(self) -> str:
        return "what the model's own classifier of classes sees in an image"

    @property
    def _others(self) -> tuple[int, ...]:
        every = range(len(self.names)) if self.watched is None else self.watched
        return tuple(number for number in every if number not in self.excluded)

    def columns(self) -> list[Column]:
        known, seer = bool(self.kept), "the model's classifier"

        def meaning(number: int) -> str:
            return f"share of images in which {seer} sees: {self.names[number]}"

        concepts = [
            Column(name=self.names[one], label=self.names[one], meaning=meaning(one), percent=True, role="concept",
                   better="lower" if known else None)
            for one in self.excluded
        ]  # fmt: skip
        others = [
            Column(name=self.names[one], label=self.names[one], meaning=meaning(one), percent=True, role="rate",
                   better="truth" if known else None)
            for one in self._others
        ]  # fmt: skip
        return concepts + others + (score_columns() if known else [])

    def see(self, images: Tensor) -> Seen:
        """See :class:`~steerclear.core.laboratory.Judge`; colors are taken together where the model's images are gray.

        Raises:
            UnfitFeatures: images of another size, which would be other images to the classifier.
        """
        if self.size is not None and images.shape[2:] != (self.size, self.size):
            height, width = images.shape[2:]
            raise UnfitFeatures(
                f"the classifier sees images of {self.size} x {self.size}, not of {width} x {height}; resize them."
            )
        with torch.no_grad():
            probabilities, features = classify(self.classifier, images)
        found = probabilities.argmax(1)
        shown = {name: (found == number).long() for number, name in enumerate(self.names)}
        sure = {self.names[number]: probabilities[:, number] for number in self.excluded}
        return Seen(shown, sure, features)

    def errors(self) -> dict[str, float]:
        """Of each class: how often the classifier sees it where it is not, or does not where it is, among real images."""
        labels, seen = self.reference.labels, self.reference.seen
        wrong = {
            number: float(((labels == number) != (seen == number)).double().mean()) for number in range(len(self.names))
        }
        return {self.names[number]: wrong[number] for number in (*self.excluded, *self._others)}

    @property
    def error_source(self) -> str:
        return f"{len(self.reference.labels):,} real images that neither the model nor its classifier was trained on"

    def measure(self, seen: Seen) -> dict[str, Measurement]:
        assert seen.features is not None  # see gives them
        truth = self.truth(len(seen.features))
        return rates(self, seen, truth) | ({} if truth is None else scores(self, seen, truth))

    def truth(self, count: int) -> Truth | None:
        """Real images of the kept classes, half of them as a perfect answer, for a set of so many; None where none is kept.

        The rates are those of people's labels.
        """
        if not self.kept or self.target is None:
            return None
        real = self.reference.of(self.kept)
        counted = {number: self.names[number] for number in (*self.excluded, *self._others)}
        shown = {name: real.labels == number for number, name in counted.items()}
        share = {name: float(there.double().mean()) for name, there in shown.items()}
        reference, perfect = real.features[::2][: max(REFERENCE_IMAGES, count)], real.features[1::2][:count]
        return Truth(self.target, share, reference, perfect, len(real.labels), shown)

    def notes(self, images: int) -> list[str]:
        said = [] if self.kept else ["No exact truth: no image is of the asked class and of none of the excluded ones."]
        few = [metric for metric in metrics() if self.kept and images < metric.fewest]
        said += [f"The {metric.label} is left out: it needs at least {metric.fewest} images." for metric in few]
        if images < INTERVAL_NEEDS:
            said.append(f"With fewer than {INTERVAL_NEEDS} images, only rates, precision and recall have intervals.")
        return said
