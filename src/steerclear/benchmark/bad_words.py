"""Is "bad" as a negative prompt a bad version of the model? Both, on digits of which a part is spoiled and some are captioned so."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from torch.nn import Module

from ..core.errors import InvalidSetting, UnknownName, UnsupportedModel, keeping
from ..core.laboratory import Measurement
from ..core.saving import clear_partials
from ..core.settings import finite, whole
from ..core.shapes import Float, Tensor
from ..features.label_classifier import LABEL_CLASSIFIER, LabelClassifier
from ..laboratories.digits import REFERENCE, Reference, read_reference
from ..metrics.frechet import Frechet
from ..metrics.precision_recall import Precision, Recall
from ..metrics.rates import rate
from ..models.loading import Model, load_model
from ..models.samplers import scheduler_text
from ..networks.shared.averages import digest_of, snapshots_in
from ..study.folders import working_folder
from ..telling.figures.base import save as save_figure
from ..telling.figures.fronts import Line, Panel, draw_fronts
from ..testbeds.labelled_images import SPLITS, SPOILED_DIGITS
from ..testbeds.spoiled_images import BAD, Spoiling
from .bad_words_cells import AUTO, SETS, UNGUIDED, WAYS, WORDS, Cell, Looked, draw, load, save, weak_of
from .claims import Benchmark, Claim, Experiment, OnStage, at_least, at_most

HALVED = 0.5
"""Share of the unguided spoiled images that a way may leave to have removed them."""
ERRS = 0.05
"""Most of the real images that the classifier may take for spoiled, or for clean, wrongly."""
DIGEST = 16
REAL = "real images"


class Row(BaseModel):
    """One way at one scale.

    Attributes:
        way, scale: what was drawn; "real images" for clean ones that nobody drew.
        images: how many, of all classes and sets of seeds.
        spoiled: share in which the classifier sees a spoiled digit.
        right: share in which it sees the digit that was asked for, spoiled or not.
        to_clean: Fréchet distance to real images that are not spoiled.
        to_data: Fréchet distance to real images whose captions do not say "bad": the clean ones and the spoiled ones that nobody
            named, which is what the network was taught to draw.
        precision, recall: against clean images.
        sets: ``spoiled``, ``to_clean`` and ``to_data`` of each set of seeds.
    """

    model_config = ConfigDict(frozen=True)

    way: str
    scale: float
    images: int
    spoiled: Measurement
    right: Measurement
    to_clean: Measurement
    to_data: Measurement
    precision: Measurement
    recall: Measurement
    sets: list[list[float]] = []


class BadWordsBenchmark(Benchmark):
    """The claims, and every figure that they come from."""

    rows: list[Row]


@dataclass(frozen=True)
class Real:
    """Features of real images, and the classes that the classifier sees in them; one half compares, the other is compared.

    Args:
        reference: of all of them, spoiled ones with classes of their own.
        classes: how many there are, not counting those of spoiled images.
        spoiling: of the world.
    """

    reference: Reference
    classes: int
    spoiling: Spoiling

    @property
    def clean(self) -> Tensor:
        return self.reference.labels < self.classes

    @property
    def unnamed(self) -> Tensor:
        """Those whose captions do not say that they are bad."""
        test = Spoiling(self.spoiling.share, self.spoiling.told, 2 * self.spoiling.seed + SPLITS.index("test"))
        return ~test.chosen(len(self.reference.labels))[1]

    def features(self, chosen: Tensor) -> tuple[Float[Tensor, "n width"], Float[Tensor, "m width"]]:
        """Of the chosen ones: those to compare with, and those that stand for perfect images."""
        own = self.reference.features[chosen]
        return own[::2], own[1::2]

    def row(self, way: str, scale: float, parts: Sequence[Looked]) -> Row:
        """The figures of one way; ``parts`` are its sets of seeds."""
        looked, clean, data = Looked.joined(parts), self.features(self.clean)[0], self.features(self.unnamed)[0]
        distance = Frechet().of
        return Row(
            way=way, scale=scale, images=len(looked.seen),
            spoiled=rate(looked.seen >= self.classes).measured(),
            right=rate(looked.seen % self.classes == looked.asked).measured(),
            to_clean=distance(looked.features, clean), to_data=distance(looked.features, data),
            precision=Precision().of(looked.features, clean), recall=Recall().of(looked.features, clean),
            sets=[
                [float((part.seen >= self.classes).double().mean()), distance(part.features, clean).value,
                 distance(part.features, data).value]
                for part in parts
            ] if len(parts) > 1 else [],
        )  # fmt: skip

    def perfect(self, images: int) -> Row:
        """As many clean real images, in place of drawn ones."""
        chosen = self.clean.nonzero().flatten()[1::2][:images]
        real = self.reference
        return self.row(REAL, 1.0, [Looked(real.labels[chosen], real.seen[chosen], real.features[chosen])])


@dataclass(frozen=True)
class BadWords(Experiment):
    """ "Bad" as a negative prompt against a weak network, on digits of which a part is spoiled and half of those captioned so.

    Args:
        model: a folder that `steerclear train digits --world spoiled-digits` wrote.
        snapshots: the snapshots of the same training.
        weak_at: after which share of its training the weak network stopped.
        weak_width: relative width of the average of the weak network's weights.
        ways: names, separated by commas, with other scales after a colon, as "bad words:1.5 2"; default: all. The unguided
            images, which everything is compared with, are always among them.
        images: of each class in each of three sets of seeds.
        num_inference_steps: of every image.
        batch_size: images at a time.
        device: where the networks run.
    """

    name = "bad-words"

    model: str = "out/spoiled-digits"
    snapshots: str = "out/train-spoiled-digits/snapshots/denoiser"
    weak_at: float = 0.125
    weak_width: float = 0.1
    ways: str | None = None
    images: int = 100
    num_inference_steps: int = 30
    batch_size: int = 100
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, low in (("images", 5), ("num_inference_steps", 1), ("batch_size", 1)):
            whole(name, getattr(self, name), low=low)
        finite("weak_at", self.weak_at, low=0, high=1)
        self.scales()

    def scales(self) -> dict[str, tuple[float, ...]]:
        """Way -> its scales.

        Raises:
            UnknownName: there is no such way.
            InvalidSetting: a scale is not a number.
        """
        if self.ways is None:
            return dict(WAYS)
        found = {UNGUIDED: WAYS[UNGUIDED]}
        for name, _, own in (one.partition(":") for one in self.ways.split(",")):
            if name.strip() not in WAYS:
                raise UnknownName("way", name.strip(), WAYS)
            found[name.strip()] = tuple(_scale(one) for one in own.split()) or WAYS[name.strip()]
        return found

    def measure(self, folder: Path, on_stage: OnStage) -> Benchmark:
        """Measure all claims; each finished cell is kept.

        Raises:
            UnsupportedModel: the model is none of spoiled digits.
            InvalidSetting: the snapshots are not those of its training.
            FolderConflict: another process is using the folder.
        """
        bench = _Bench(self, load_model(self.model, device=self.device))
        real = Real(bench.reference, len(SPOILED_DIGITS.written), _spoiling())
        rows: list[Row] = []
        with working_folder(folder), keeping(lambda: rows):
            clear_partials(folder)
            for way, scales in self.scales().items():
                for scale in scales:
                    rows.append(real.row(way, scale, bench.parts(way, scale, folder / "cells", on_stage)))
        rows.append(real.perfect(rows[0].images))
        save_figure(draw_fronts(panels_of(rows), 2, floor="as many real images"), folder / f"{self.name}.png")
        return BadWordsBenchmark(
            model=bench.model.name, model_digest=bench.model.digest, weak_digest=bench.made_with["weak"],
            scheduler=scheduler_text(bench.model.pipe.scheduler, bench.model.folder),
            num_inference_steps=self.num_inference_steps, seeds=f"{self.images} of each class in {SETS} sets",
            claims=claims_of(rows, real), rows=rows,
        )  # fmt: skip


def _scale(text: str) -> float:
    try:
        return finite("a scale", float(text))
    except ValueError as error:
        raise InvalidSetting("a scale", text, "a number", 'such as "bad words:1.5 2"') from error


def _spoiling() -> Spoiling:
    assert SPOILED_DIGITS.spoiling is not None  # that is what the world is about
    return SPOILED_DIGITS.spoiling


@dataclass
class _Bench:
    """The model, its weak network, and who looks."""

    asked: BadWords
    model: Model

    def __post_init__(self) -> None:
        if tuple(getattr(self.model.pipe, "classes", ())) != SPOILED_DIGITS.classes:
            raise UnsupportedModel(
                f"the model {self.model.name!r} does not draw the classes {SPOILED_DIGITS.classes[0]} to "
                f"{SPOILED_DIGITS.classes[-1]}; make one with `steerclear train digits --world spoiled-digits`."
            )

    @property
    def _folder(self) -> Path:
        return self.model.folder or Path()

    @cached_property
    def reference(self) -> Reference:
        return read_reference(self._folder / REFERENCE)

    @cached_property
    def classifier(self) -> LabelClassifier:
        return LabelClassifier.load(self._folder / LABEL_CLASSIFIER)

    @cached_property
    def weak(self) -> Module:
        return weak_of(self.model.pipe.unet, Path(self.asked.snapshots), self.asked.weak_at, self.asked.weak_width)

    @cached_property
    def made_with(self) -> Mapping[str, str]:
        """What decides a cell, beside its name."""
        kept = snapshots_in(Path(self.asked.snapshots))
        weak = f"{digest_of(kept)} {self.asked.weak_at} {self.asked.weak_width}"
        return {
            "model": self.model.digest, "weak": hashlib.sha256(weak.encode()).hexdigest()[:DIGEST],
            "made": f"{self.asked.num_inference_steps} {self.asked.images}",
        }  # fmt: skip

    def parts(self, way: str, scale: float, folder: Path, on_stage: OnStage) -> list[Looked]:
        """The images of a way, by set of seeds; cells that are there are read."""
        on_progress, parts = on_stage(f"{way} {scale:g}"), []
        classes = len(SPOILED_DIGITS.written)
        for part in range(SETS):
            found = []
            for number in range(classes):
                cell = Cell(way, scale, number, part, self.asked.images)
                looked = load(folder / cell.file, self.made_with)
                if looked is None:
                    steps, size = self.asked.num_inference_steps, self.asked.batch_size
                    looked = draw(self.model.pipe, cell, self.weak, self.classifier, steps, size)
                    save(folder / cell.file, looked, self.made_with)
                found.append(looked)
                on_progress(part * classes + number + 1, SETS * classes)
            parts.append(Looked.joined(found))
        return parts


def best(rows: Sequence[Row], way: str) -> Row:
    """The row of a way that is nearest to clean images."""
    return min((row for row in rows if row.way == way), key=lambda row: row.to_clean.value)


def claims_of(rows: Sequence[Row], real: Real) -> list[Claim]:
    """What is said of the classifier, of the model, of bad words and of the weak network."""
    spoiling, plain = real.spoiling, best(rows, UNGUIDED)
    unnamed = spoiling.share * (1 - spoiling.told) / (1 - spoiling.share * spoiling.told)
    seen, clean = real.reference.seen >= real.classes, real.clean
    claims = [
        at_most("clean real images that the classifier takes for spoiled", ERRS, rate(seen[clean]).measured()),
        at_most("spoiled real images that it takes for clean", ERRS, rate(~seen[~clean]).measured()),
        at_most(
            f"spoiled images without guidance, {plain.spoiled.value:.3f}: distance to their share of what captions do not name, "
            f"{unnamed:.3f}", ERRS, abs(plain.spoiled.value - unnamed),
        ),
    ]  # fmt: skip
    there = [way for way in (WORDS, AUTO) if any(row.way == way for row in rows)]
    for way in there:
        row = best(rows, way)
        words = f"{way} {row.scale:g}"
        claims += [
            at_most(f"{words}: Fréchet distance to clean images, against unguided's", plain.to_clean.value, row.to_clean),
            at_most(f"{words}: Fréchet distance to what the network was taught, against unguided's", plain.to_data.value, row.to_data),
            at_most(f"{words}: spoiled images, against half of unguided's, {plain.spoiled.value:.3f}", HALVED * plain.spoiled.value, row.spoiled),
            at_least(f"{words}: recall, against unguided's", plain.recall.value, row.recall),
            at_least(f"{words}: the digit that was asked for, against unguided's", plain.right.value, row.right),
        ]  # fmt: skip
    if len(there) > 1:
        ours, weak = best(rows, WORDS), best(rows, AUTO)
        claims.append(
            at_most(
                f"{WORDS} {ours.scale:g}: Fréchet distance to clean images, against that of the {AUTO} at its best, {weak.scale:g}",
                weak.to_clean.value, ours.to_clean,
            )
        )  # fmt: skip
    return claims


def panels_of(rows: Sequence[Row]) -> list[Panel]:
    """Distance to clean images, and to what the network was taught, against the share of spoiled images."""
    real, drawn = rows[-1], rows[:-1]
    least = 0.01  # the axis is logarithmic, and a distance less its bias may be below 0

    def lines(name: str) -> tuple[Line, ...]:
        return tuple(
            Line(
                way,
                tuple(
                    (100 * row.spoiled.value, max(getattr(row, name).value, least)) for row in drawn if row.way == way
                ),
            )
            for way in dict.fromkeys(row.way for row in drawn)
        )

    across = f"images in which a “{BAD}” digit is seen, %"
    return [
        Panel("Distance to clean images", across, "Fréchet distance", lines("to_clean"), max(real.to_clean.value, least)),
        Panel("Distance to what the network was taught", across, "Fréchet distance", lines("to_data"), max(real.to_data.value, least)),
    ]  # fmt: skip
