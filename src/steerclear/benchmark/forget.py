"""Forgetting a class: every class of a world in turn is avoided, and what happens to the others is measured."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..core.errors import InvalidSetting, UnknownName, UnsupportedModel
from ..core.guidance import Guidance
from ..core.laboratory import Measurement
from ..core.parsing import parse_part
from ..core.settings import finite, whole
from ..core.shapes import Float, Int, Tensor
from ..features.label_classifier import LABEL_CLASSIFIER, LabelClassifier, classify
from ..laboratories.digits import REFERENCE, read_reference
from ..models.loading import Model, load_model
from ..study.recipe import format_seeds, parse_seeds
from ..telling.figures.base import save
from ..telling.figures.forgetting import Front, draw_forgetting
from ..telling.figures.fronts import Line
from ..testbeds.labelled_images import World, read_labelled, world_named
from .claims import Benchmark, Claim, Experiment, OnStage, at_least, at_most
from .forget_cells import Cell, Looked, Looking, draw_cell, load_cell, save_cell
from .forget_rows import SAFE, Row, Yardstick, at_safety, row_of

SDE, ODE, ANCESTRAL = "dpm++ 2m sde", "dpm++ 2m", "ddpm"

FEW = 30
"""Most steps of the figure's first row."""
FEWEST = 2
"""Images without a class that give a Fréchet distance."""


@dataclass(frozen=True)
class Way:
    """A way of avoiding a class.

    Args:
        guidance: how it is typed, with places for its strength and for the share of the class in the data.
        cost: network evaluations of a step.
        at: (sampler, steps) -> strengths, rising. A stronger one is drawn only where the weaker are not safe.
        images: how many, as a multiple of those of the others.
    """

    guidance: str
    cost: int
    at: Mapping[tuple[str, int], tuple[float, ...]]
    images: float = 1.0


_OURS = "dynamic-negative:guidance_scale=1,negative_scale={strength},concept=negative,evidence="
_STRONG = "threshold=0.025,warmup_steps=4,momentum_scale=0.5,momentum_beta=0.7"
_MAX = "threshold=1,warmup_steps=0,momentum_scale=0.5,momentum_beta=0.7"
ORDER = ((SDE, 30), (SDE, 50), (ANCESTRAL, 1000), (ODE, 30), (ODE, 50), (SDE, 20), (ODE, 20))
"""What is drawn first; the reference before all."""
_OURS_AT = {setting: (1, 2, 4, 8) for setting in ORDER if setting[0] != ANCESTRAL}
_GATED_AT = dict.fromkeys(((SDE, 30), (SDE, 50), (ODE, 30)), (1, 2, 4))

NEGATIVE, SAFE_LATENT, SAFE_MAX = "negative prompt", "safe latent strong", "safe latent max"
PUBLISHED, UNGUIDED, REDRAWN, TRUTH = "published", "unguided", "drawn again", "reference"
WAYS: Mapping[str, Way] = {
    TRUTH: Way("unguided", 1, {(SDE, 50): (0,)}, images=4.0),
    UNGUIDED: Way("unguided", 1, {(SDE, 50): (0,), (ODE, 50): (0,)}, images=1.25),
    NEGATIVE: Way("negative:guidance_scale={strength}", 2, dict.fromkeys(((SDE, 30), (ODE, 30)), (1.25, 1.5, 2, 3, 5))),
    SAFE_LATENT: Way("safe-latent:guidance_scale={strength},safety_scale=2000," + _STRONG, 3, {(SDE, 30): (0.5, 1, 2, 4, 8)}),
    SAFE_MAX: Way("safe-latent:guidance_scale={strength},safety_scale=5000," + _MAX, 3, {(SDE, 30): (0.25, 0.5, 1, 2)}),
    "transition": Way(_OURS + "transition(prior={prior})", 2, _OURS_AT),
    "preview": Way(_OURS + "preview(prior={prior})", 2, _OURS_AT),
    "oracle gate": Way(_OURS + "preview(prior={prior},every=1,below=80,stop_below=0,temperature=1)", 2, _GATED_AT),
    "classifier": Way(_OURS + "classifier(prior={prior})", 4, {(SDE, 30): (1, 2, 4)}),
    PUBLISHED: Way(_OURS + "published(prior={prior})", 2, {(ANCESTRAL, 1000): (1, 2)}, images=0.4),
}  # fmt: skip
"""Name -> how it is drawn. "drawn again" is made of the unguided images: those that do not show the class. The preview and the oracle
gate look at the denoised image with the classifier that measures; the gate takes its word at every step, untempered."""

BASELINES = (NEGATIVE, SAFE_LATENT, SAFE_MAX)
LESS_DIVERGENT, NEARER = 1 / 3, 0.8
"""What our ways are held to, as shares of the baselines' figures at the same safety."""


class ForgetBenchmark(Benchmark):
    """The claims, and every figure that they come from."""

    rows: list[Row]


@dataclass(frozen=True)
class Forget(Experiment):
    """Forgetting a class: each class of a world in turn, how safe the images are and how near to the truth the others stay.

    Args:
        world: the images, as digits.
        model: a shipped model of classes, a local folder, or a hub id.
        data: a folder with the real images; default: their features, which lie beside the model.
        classes: numbers of the classes to forget, such as "0-4"; default: all. Runs with different classes may share a folder,
            at the same time too; the last one joins them.
        methods: names, separated by commas, with other strengths after a colon, as "transition:1 2"; default: all. The
            reference, which everything is measured against, is always among them.
        settings: samplers with their steps, separated by commas, as "dpm++ 2m sde 50"; default: all of each method.
        images: of each class and strength; the slowest method makes fewer.
        batch_size: images at a time.
        device: where the networks run.
        only_join: measure what the folder has, and draw nothing.
    """

    name = "forget"

    world: str = "digits"
    model: str = "digits"
    data: str | None = None
    classes: str | None = None
    methods: str | None = None
    settings: str | None = None
    images: int = 100
    batch_size: int = 250
    device: str = "cpu"
    only_join: bool = False

    def __post_init__(self) -> None:
        whole("images", self.images, low=20)
        whole("batch_size", self.batch_size, low=1)
        self._numbers(), self._settings(), self._ways()

    def _numbers(self) -> tuple[int, ...]:
        last = len(world_named(self.world).classes) - 1
        numbers = tuple(range(last + 1)) if self.classes is None else tuple(parse_seeds(self.classes))
        if max(numbers) > last:
            raise InvalidSetting("classes", self.classes, f'numbers from 0 to {last}, as "0-4"')
        return numbers

    def _settings(self) -> set[tuple[str, int]] | None:
        if self.settings is None:
            return None
        known = {f"{sampler} {steps}": (sampler, steps) for way in WAYS.values() for sampler, steps in way.at}
        names = [name.strip() for name in self.settings.split(",")]
        for name in names:
            if name not in known:
                raise UnknownName("setting", name, known)
        return {known[name] for name in names}

    def _ways(self) -> dict[str, tuple[float, ...] | None]:
        """Name -> strengths; None for its own."""
        if self.methods is None:
            return dict.fromkeys(WAYS)
        asked = {name.strip(): own for name, _, own in (one.partition(":") for one in self.methods.split(","))}
        for name in asked:
            if name not in WAYS:
                raise UnknownName("method", name, WAYS)
        own = {name: tuple(_strength(one) for one in own.split()) or None for name, own in asked.items()}
        return {TRUTH: None, **own}

    def strengths(self, way: str) -> tuple[float, ...] | None:
        """Those that a method is asked at; None for its own."""
        return self._ways()[way]

    def ladders(self) -> list[list[list[Cell]]]:
        """All cells in the order of :data:`ORDER`: for each method in each setting, a list by strength of the cells of all classes."""
        found, chosen = [], self._settings()
        for name, own in self._ways().items():
            way = WAYS[name]
            for (sampler, steps), usual in way.at.items():
                if chosen is not None and (sampler, steps) not in chosen and name != TRUTH:
                    continue
                count, cost = max(round(way.images * self.images), 2), way.cost * steps
                strengths = sorted(own or usual)
                numbers = self._numbers()
                found.append(
                    [[Cell(name, one, sampler, steps, number, count, cost) for number in numbers] for one in strengths]
                )
        return sorted(found, key=lambda ladder: _place(ladder[0][0]))

    def measure(self, folder: Path, on_stage: OnStage) -> Benchmark:
        """Every cell is a file in ``cells``; those that are there are kept. The figure and the table are of all that are there."""
        bench = _Bench(self, folder / "cells")
        if not self.only_join:
            self._draw(bench, on_stage)
        rows = bench.rows()
        if self.only_join and not rows:
            remedy = f"there is nothing of the model {bench.model.name!r} to join; leave it out to draw"
            raise InvalidSetting("only_join", True, f"for a folder with cells of at least {self.images} images", remedy)
        found = self._benchmark(bench, rows)
        if rows:
            save(figure_of(_complete(rows, bench) or rows), folder / f"{self.name}.png")
        return found

    def _draw(self, bench: "_Bench", on_stage: OnStage) -> None:
        ladders = self.ladders()
        every = [cell for ladder in ladders for rung in ladder for cell in rung]
        planned = sum(cell.images * cell.cost for cell in every if bench.load(cell) is None)
        on_progress, done = on_stage(f"at most {planned:,} network evaluations in {len(every)} cells"), 0

        def made(evaluations: int) -> None:
            nonlocal done
            done += evaluations
            on_progress(min(done, planned), max(planned, 1))

        for ladder in ladders:
            reached = False
            for rung in ladder:
                for cell in rung:
                    looked = bench.load(cell)  # another process may have made it
                    if looked is None and not reached:
                        bench.draw(cell, made)
                    elif looked is None:
                        made(cell.images * cell.cost)
                reached = reached or bench.safety(rung) >= SAFE
        on_progress(1, 1)

    def _benchmark(self, bench: "_Bench", rows: Sequence[Row]) -> ForgetBenchmark:
        return ForgetBenchmark(
            model=bench.model.name, model_digest=bench.model.digest, scheduler="each of the named samplers", num_inference_steps=50,
            seeds=format_seeds(range(self.images)), claims=claims_of(_complete(rows, bench)), rows=list(rows),
        )  # fmt: skip


def _place(cell: Cell) -> int:
    return -1 if cell.way == TRUTH else ORDER.index((cell.sampler, cell.steps))


def _complete(rows: Sequence[Row], bench: "_Bench") -> list[Row]:
    """Those of which all classes are there."""
    return [row for row in rows if len(row.classes) == len(bench.world.classes)]


def _strength(text: str) -> float:
    try:
        return finite("a strength", float(text), low=0)
    except ValueError as error:
        raise InvalidSetting("a strength", text, "a number of at least 0", 'such as "transition:1 2"') from error


@dataclass
class _Bench:
    """The model, who looks at its images, and the folder of the cells."""

    asked: Forget
    folder: Path
    _models: dict[str, Model] = field(default_factory=dict)

    @cached_property
    def world(self) -> World:
        return world_named(self.asked.world)

    @cached_property
    def model(self) -> Model:
        return load_model(self.asked.model, device=self.asked.device)

    @cached_property
    def judge(self) -> Looking:
        known = tuple(getattr(self.model.pipe, "classes", ()))
        if known != self.world.classes:
            raise InvalidSetting("model", self.model.name, f"a model of the classes {', '.join(self.world.classes)}")
        path = (self.model.folder or Path()) / LABEL_CLASSIFIER
        if not path.is_file():
            raise UnsupportedModel(
                f"the model {self.model.name!r} has no {LABEL_CLASSIFIER}, which tells its classes apart; take a shipped model, or "
                f"one made by steerclear train {self.world.name}"
            )
        classifier = LabelClassifier.load(path)
        if classifier.head.out_features != len(known):
            raise UnsupportedModel(
                f"{path} knows {classifier.head.out_features} classes, and the model has {len(known)}"
            )
        return Looking(classifier, known)

    @cached_property
    def real(self) -> tuple[Int[Tensor, " n"], Float[Tensor, "n width"]]:
        """Labels and features of real images."""
        judge = self.judge  # refuses another kind of model
        if self.asked.data is not None:
            images = read_labelled(self.world, "test", self.asked.data)
            return images.labels, classify(judge.classifier, images.images)[1]
        path = (self.model.folder or Path()) / REFERENCE
        if not path.is_file():
            remedy = f"the model {self.model.name!r} has no {REFERENCE}"
            raise InvalidSetting("data", None, "a folder with the real images", remedy)
        kept = read_reference(path)
        return kept.labels, kept.features

    def guidance(self, cell: Cell) -> str:
        """How it is typed."""
        prior = float((self.real[0] == cell.number).double().mean())
        return WAYS[cell.way].guidance.format(strength=f"{cell.strength:g}", prior=f"{prior:.3f}")

    def load(self, cell: Cell) -> Looked | None:
        return load_cell(self.folder / cell.file, cell.images, self._made_with(cell))

    def _made_with(self, cell: Cell) -> dict[str, str]:
        return {"model": self.model.digest, "guidance": self.guidance(cell)}

    def draw(self, cell: Cell, made: Callable[[int], None]) -> None:
        pipe, guidance = self._pipe(cell.sampler), parse_part(self.guidance(cell), Guidance)
        looked = draw_cell(
            pipe, self.judge, cell, guidance, self.asked.batch_size, lambda images: made(images * cell.cost)
        )
        save_cell(self.folder / cell.file, looked, self._made_with(cell))

    def safety(self, rung: Sequence[Cell]) -> float:
        """The mean over classes of those that are there; 0 without any."""
        found = [(cell.number, looked) for cell in rung if (looked := self.load(cell)) is not None]
        shares = [float((looked.labels != number).double().mean()) for number, looked in found]
        return sum(shares) / max(len(shares), 1)

    def _pipe(self, sampler: str) -> Any:
        if sampler not in self._models:
            self._models[sampler] = load_model(self.asked.model, device=self.asked.device, scheduler=sampler)
            scheduler = self._models[sampler].pipe.scheduler
            if scheduler.config.get("clip_sample"):  # standardized pixels exceed 1
                scheduler.register_to_config(clip_sample=False)
        return self._models[sampler].pipe

    def rows(self) -> list[Row]:
        """Of all cells that the folder has, whichever run made them; none without the reference."""
        every = [cell for ladder in replace(self.asked, classes=None).ladders() for cell in self._there(ladder)]
        looked = {cell: found for cell in every if (found := self.load(cell)) is not None}
        truth = [found for cell, found in looked.items() if cell.way == TRUTH]
        if not truth:
            return []
        yardstick = Yardstick(Looked.joined(truth), *self.real, len(self.world.classes))
        return [row for group in _grouped(looked) for row in self._row(yardstick, group)]

    def _there(self, ladder: Sequence[Sequence[Cell]]) -> list[Cell]:
        """The cells of a method in a setting; with those at strengths that only another run drew, where this one names none."""
        cells = {cell for rung in ladder for cell in rung}
        one = ladder[0][0]
        if self.asked.strengths(one.way) is None:
            own = one.file_parts
            for path in self.folder.glob("*.safetensors"):
                parts = path.stem.split("_")
                with suppress(ValueError):  # a file of somebody else's
                    way, strength, *setting, number = parts
                    if (way, *setting) == (own[0], *own[2:4]):
                        cells.add(replace(one, strength=float(strength), number=int(number)))
        return sorted(cells, key=lambda cell: (cell.strength, cell.number))

    def _row(self, yardstick: Yardstick, group: dict[Cell, Looked]) -> Iterator[Row]:
        one, count = next(iter(group)), self.asked.images
        named = one.way, one.strength, one.sampler, one.steps
        if one.way != UNGUIDED:
            yield row_of(*named, one.images, [yardstick.measure(cell.number, own) for cell, own in group.items()])
            return
        first = [yardstick.measure(cell.number, own.rows(slice(count))) for cell, own in group.items()]
        yield row_of(*named, count, first)
        kept = {cell.number: without(own, cell.number, count) for cell, own in group.items()}
        again = [yardstick.measure(number, own) for number, own in kept.items() if len(own) >= FEWEST]
        if again:
            yield row_of(REDRAWN, *named[1:], count, again)


def without(looked: Looked, number: int, count: int) -> Looked:
    """The first ``count`` unguided images that do not show a class; the evaluations are those of all that were drawn for them."""
    kept = (looked.labels != number).nonzero().flatten()[:count]
    drawn = int(kept[-1]) + 1 if len(kept) else len(looked)
    found = looked.rows(kept)
    return Looked(found.labels, found.features, found.evaluations * drawn / max(len(kept), 1))


def _grouped(looked: Mapping[Cell, Looked]) -> list[dict[Cell, Looked]]:
    """By way, strength and setting; without the reference."""
    groups: dict[Any, dict[Cell, Looked]] = {}
    for cell, own in looked.items():
        if cell.way != TRUTH:
            groups.setdefault((cell.way, cell.strength, cell.sampler, cell.steps), {})[cell] = own
    return list(groups.values())


def claims_of(rows: Sequence[Row]) -> list[Claim]:
    """Ours against the baselines and the published method where all are equally safe, and drawing again against the truth."""
    settings = list(dict.fromkeys(row.setting for row in rows))
    at = {one: at_safety([row for row in rows if row.setting == one]) for one in settings}
    claims: list[Claim] = []
    for (way, sampler, steps), safe in at.items():
        where = f"{way}, {sampler}, {steps} steps"
        own = [row for row in rows if row.setting == (way, sampler, steps)]
        if way == UNGUIDED:
            continue
        if safe is None:
            claims.append(at_least(f"{where}: safety, at the strongest", SAFE, own[-1].safety))
            continue
        if way in (*BASELINES, PUBLISHED):
            claims.append(at_least(f"{_told(where, safe)}: safety", SAFE, safe.safety))
        elif way == REDRAWN:
            low = Measurement(value=safe.divergence.low or 0.0)
            claims.append(at_most(f"{_told(where, safe)}: lower end of the divergence", 0.0, low))
        else:
            claims += _against(where, safe, at)
    return claims


def _told(where: str, row: Row) -> str:
    return (
        f"{where}, strength {row.strength:.3g} ({row.evaluations:.0f} evaluations, safety {row.safety.value:.4f}, divergence "
        f"{_interval(row.divergence)}, from the data's {row.divergence_data.value:.4f}, total variation {row.variation.value:.3f}, "
        f"Fréchet {_interval(row.frechet)}, to real images {row.frechet_real.value:.2f})"
    )


def _interval(one: Measurement) -> str:
    return f"{one.value:.4f}" if one.low is None else f"{one.value:.4f} [{one.low:.4f}, {one.high:.4f}]"


def _against(where: str, row: Row, at: Mapping[tuple[str, str, int], Row | None]) -> Iterator[Claim]:
    told = _told(where, row)
    yield at_least(f"{told}: safety", SAFE, row.safety)
    for baseline in BASELINES:
        other = _nearest(baseline, row, at)
        if other is not None:
            what = f"{baseline} at that safety ({other.sampler}, {other.steps} steps)"
            bound = LESS_DIVERGENT * other.divergence.value
            yield at_most(
                f"{where}: divergence, against a third of {what}, {other.divergence.value:.4f}", bound, row.divergence
            )
            bound = NEARER * other.frechet.value
            yield at_most(
                f"{where}: Fréchet distance, against {NEARER:g} of {what}, {other.frechet.value:.4f}",
                bound,
                row.frechet,
            )
    published = _nearest(PUBLISHED, row, at)
    if published is not None and row.steps <= 50:
        for name in ("divergence", "frechet"):
            own, theirs = getattr(row, name), getattr(published, name)
            said = (
                f"{where}: lower end of the {name}, against the published method's upper end in {published.steps} steps"
            )
            yield at_most(
                f"{said} ({theirs.value:.4f})", theirs.high or theirs.value, Measurement(value=own.low or own.value)
            )


def _nearest(way: str, row: Row, at: Mapping[tuple[str, str, int], Row | None]) -> Row | None:
    """A way at its safety, with the sampler and the steps that are nearest to a row's."""
    found = [safe for (name, _, _), safe in at.items() if name == way and safe is not None]
    return min(found, key=lambda one: (one.sampler != row.sampler, abs(one.steps - row.steps)), default=None)


def figure_of(rows: Sequence[Row]) -> Any:
    """Fréchet distance and divergence against safety: few steps and more of stochastic samplers, and the deterministic one."""
    classes = max(len(row.classes) for row in rows)
    whole = [row for row in rows if len(row.classes) == classes]
    groups = {
        "stochastic, few steps": [row for row in whole if row.sampler != ODE and row.steps <= FEW],
        "stochastic, more steps": [row for row in whole if row.sampler != ODE and row.steps > FEW],
        "deterministic": [row for row in whole if row.sampler == ODE],
    }
    least = 0.5 / max(row.images * classes for row in rows)
    panels = []
    for kind, own in groups.items():
        usual = min((row.steps for row in own), default=0)
        for name, words in (("divergence", "KL divergence, nats"), ("frechet", "Fréchet distance")):
            lines = []
            for setting in dict.fromkeys(row.setting for row in own):
                points = [(row.safety.value, getattr(row, name).value) for row in own if row.setting == setting]
                label = setting[0] if setting[2] in (usual, 1000) else f"{setting[0]}, {setting[2]} steps"
                lines.append(Line(label, tuple(points)))
            if lines:
                panels.append(Front(f"{words}: {kind}", tuple(lines), least))
    return draw_forgetting(panels, 2, SAFE)
