"""A folder of labelled images as a judge: a ridge logistic regression on the features of any network, cross-validated."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..core.errors import InvalidSetting, SteerclearWarning, UnfitFeatures
from ..core.features import Features
from ..core.laboratory import Asked, Judge, Judged, Laboratory
from ..core.logistic import auc, cross_validated, fit, log_odds
from ..core.settings import folder_path
from ..core.shapes import Bool, Float, Tensor
from ..features.dinov2 import Dinov2Features
from ..testbeds.labelled_folder import LabelledFolder, read_labelled_folder
from .shared.probabilities import BATCH, ProbabilityJudge, Vocabulary, warn_of_unknown

FEWEST = 8
"""Fewest images that show a class, and that do not."""
FOLDS = 5
RIDGES = (0.01, 0.1, 1.0, 10.0)
"""What the ridge is chosen from, where features have a mean square of 1."""
OFTEN_WRONG = 0.2
"""A larger error is remarked on."""
NAMED = 3
"""Most files in a warning."""


@dataclass(frozen=True)
class LabelledImages(Laboratory):
    """Labelled images as a judge. A folder has one subfolder per class, with a few dozen images in each.

    A class is learned against all other images of the folder, on features x that are centered and scaled,

        log p(class | image) / p(not class | image) = w x + b

    with a ridge on w (Hoerl and Kennard 1970, Technometrics 12; Le Cessie and Van Houwelingen 1992, Applied Statistics 41).
    The ridge is chosen, and the error said, by cross-validation: the images on which the error is counted chose nothing. A
    subfolder "none" or "other" has images that show no class. An image that lies in several subfolders shows all of them.

    Args:
        folder: of the subfolders.
        features: in which images are told apart.
    """

    name = "labels"

    folder: str
    features: Features = field(default_factory=Dinov2Features)

    def __post_init__(self) -> None:
        folder_path("folder", self.folder)

    def refuses(self, model: Judged, asked: Asked) -> str | None:
        return None

    def judge(self, model: Judged, asked: Asked) -> Judge:
        """The judge.

        Raises:
            InvalidSetting: there is no such folder, or it has no two classes, or too few images of one; a
                watched word that is no class.
            UnsupportedModel: the network of the features cannot be loaded, or cannot see these images.

        Warns:
            SteerclearWarning: images that cannot be read, and are left out; no class is named by the negative prompt.
        """
        learned = _learned(folder_path("folder", self.folder), self.features)
        vocabulary = Vocabulary.of(tuple(learned.classes), asked)
        warn_of_unknown(f"the judge labels of {self.folder}", asked, vocabulary)
        return ProbabilityJudge(
            "the regression on labelled images", vocabulary, learned.probabilities, self.features, True, BATCH,
            {name: one.error for name, one in learned.classes.items()}, learned.source,
            learned.remarks(vocabulary.names),
        )  # fmt: skip


@dataclass(frozen=True)
class LearnedClass:
    """A class that was learned.

    Attributes:
        weights, intercept: log-odds = features @ weights + intercept.
        error: share of the labelled images about which a fit to others is wrong.
        auc: how often, of two images, the one with the class has the higher log-odds by a fit to others.
        wrong, images: in numbers.
    """

    weights: Float[Tensor, " width"]
    intercept: float
    error: float
    auc: float
    wrong: int
    images: int


@dataclass(frozen=True)
class Learned:
    """What was learned of a folder."""

    classes: dict[str, LearnedClass]
    source: str

    def probabilities(self, vectors: Float[Tensor, "n width"]) -> dict[str, Tensor]:
        """Of images with these features, by class."""
        return {name: log_odds(vectors, one.weights, one.intercept).sigmoid() for name, one in self.classes.items()}

    def remarks(self, names: Sequence[str]) -> tuple[str, ...]:
        """A sentence on each of these classes that is often mistaken."""
        often = {name: self.classes[name] for name in names if self.classes[name].error > OFTEN_WRONG}
        return tuple(
            f"The judge is wrong about {name!r} in {one.wrong} of {one.images} labelled images (AUC {one.auc:.2f}); its rates "
            f"say little. Add images, or take other features."
            for name, one in often.items()
        )


def _learned(folder: Path, features: Features) -> Learned:
    read = read_labelled_folder(folder)
    _warn_of_broken(read)
    _check_counts(folder, read)
    vectors = _features(read, features)
    classes = {name: learned_class(vectors, torch.tensor([name in one for one in read.shown])) for name in read.classes}
    source = f"{FOLDS}-fold cross-validation on the {len(read.images)} labelled images in {folder}, with {features.described}"
    return Learned(classes, source)


def _warn_of_broken(read: LabelledFolder) -> None:
    if read.left_out:
        named = "; ".join(f"{path} ({reason})" for path, reason in read.left_out[:NAMED])
        more = f"; and {len(read.left_out) - NAMED} more" if len(read.left_out) > NAMED else ""
        warnings.warn(f"images that cannot be read are left out: {named}{more}", SteerclearWarning, stacklevel=4)


def _check_counts(folder: Path, read: LabelledFolder) -> None:
    """Each class needs enough images that show it, and enough that do not."""
    if not read.classes:
        raise InvalidSetting("folder", str(folder), "a folder with at least one class beside none and other")
    for name in read.classes:
        with_it = sum(name in one for one in read.shown)
        counts = {name: with_it, f"what is not {name}": len(read.shown) - with_it}
        for what, count in counts.items():
            if count < FEWEST:
                allowed = f"a folder with at least {FEWEST} images of each class, and as many of anything else"
                raise InvalidSetting("folder", str(folder), allowed, f"of {what} it has {count}")


def _features(read: LabelledFolder, features: Features) -> Float[Tensor, "n width"]:
    """Features of images of several sizes, in their order."""
    found: dict[int, Tensor] = {}
    sizes: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(read.images):
        sizes.setdefault(tuple(image.shape), []).append(place)
    for places in sizes.values():
        found |= dict(zip(places, features.of(torch.stack([read.images[place] for place in places])), strict=True))
    vectors = torch.stack([found[place] for place in range(len(read.images))]).double()
    if not bool(vectors.isfinite().all()):
        raise UnfitFeatures(f"{features.described} are not finite for the labelled images; take other features")
    return vectors


def learned_class(vectors: Float[Tensor, "n width"], shown: Bool[Tensor, " n"]) -> LearnedClass:
    """A class, learned from features and labels.

    Args:
        vectors: features, float64.
        shown: which images show the class.
    """
    order = torch.argsort(shown.long(), stable=True)  # image k is in fold k % 5: as many with the class in each
    vectors, shown = vectors[order], shown[order]
    inside, back, center = _in_their_span(vectors)
    guessed = torch.zeros(len(vectors), dtype=torch.float64)
    fold = torch.arange(len(vectors)) % FOLDS
    for number in range(FOLDS):  # the images of a fold have no part in its ridge
        own = fold == number
        ridge = _best_ridge(inside[~own], shown[~own])
        guessed[own] = log_odds(inside[own], *fit(inside[~own], shown[~own], ridge))
    weights, intercept = fit(inside, shown, _best_ridge(inside, shown))
    weights = back @ weights
    wrong = int(((guessed > 0) != shown).sum())
    return LearnedClass(
        weights, intercept - float(center @ weights), wrong / len(vectors), auc(guessed, shown), wrong, len(vectors)
    )


def _in_their_span(vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates of centered and scaled features in the space that they span, ``[n, at most n]``; the way back; the center.

    A ridge's solution lies in that space (Kimeldorf and Wahba 1971), so that nothing is lost and wide features cost little.
    Coordinates have a mean square length of 1.
    """
    center = vectors.mean(0)
    left, size, right = torch.linalg.svd(vectors - center, full_matrices=False)
    kept = size > size[0].clamp(min=1e-12) * 1e-9
    inside = left[:, kept] * size[kept]
    scale = inside.square().sum(1).mean().sqrt().clamp(min=1e-12)
    return inside / scale, right[kept].T / scale, center


def _best_ridge(inside: Tensor, shown: Tensor) -> float:
    """The ridge whose cross-validated log-loss is smallest."""

    def loss(ridge: float) -> float:
        guessed = cross_validated(inside, shown, ridge, FOLDS)
        return float((torch.nn.functional.softplus(guessed) - shown * guessed).mean())

    return min(RIDGES, key=loss)
