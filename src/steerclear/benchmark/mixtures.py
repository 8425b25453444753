"""Every method on the exact worlds, against the exact target: what it removes, what else it changes, what it costs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from ..core.laboratory import Measurement
from ..core.settings import finite, whole
from ..metrics.estimates import jackknife
from ..telling.figures.base import save
from ..telling.figures.fronts import Line, Panel, draw_fronts
from .claims import Benchmark, Claim, Experiment, OnStage, at_least, at_most
from .mixture_cells import OMEGA, SETS, WORLDS, Cell, Found, found

SWEEPS: dict[str, tuple[float, ...]] = {
    "negative": (0.5, 1, 1.5, 2), "published": (1, 3), "tracking": (0.75, 1, 1.25, 1.5), "oracle": (0.5, 0.75, 1),
    "unguided": (0,), "redraw": (1,), "rewound": (1,), "exact draws": (1,),
}  # fmt: skip
"""Strengths of each method."""

LABELS = {
    "tracking": "tracking", "oracle": "oracle", "negative": "negative prompt", "published": "published",
    "redraw": "drawn again", "rewound": "rewound", "unguided": "unguided",
}  # fmt: skip
SAMPLERS = {"2m": "DPM-Solver++(2M)", "sde": "SDE-DPM-Solver++"}

REMOVED, MATCHED = {False: 0.9, True: 0.75}, 0.9
"""Share removed at strength 1 with exact scores and with perturbed ones; share at which methods are compared."""

OF_NEGATIVE = {False: (1 / 10, 1 / 5), True: (1 / 8, 1 / 5)}
"""Sliced Wasserstein distance and total variation as shares of the negative prompt's, with exact and with perturbed scores."""

OF_ORACLE, OF_UNRELATED = 1.4, {"2": 1 / 5, "16": 1 / 50, "64": 1 / 50}
RATE_APART, OF_PUBLISHED, PUBLISHED_STEPS = 0.005, 1.3, 1000
"""Against the published method in 1,000 steps."""

FEWER, UNIT = 3, 72
"""Costly cells take one FEWERth of the samples: 64 dimensions beside exact scores, and the published method in 1,000 steps; both
together one of 2 FEWER. Numbers of samples are multiples of UNIT, so that sets and groups stay equally large."""


Interval = tuple[float, float, float]
"""A figure and the ends of its 95 % interval, in five digits."""


class Row(BaseModel):
    """One cell, as the docs quote it.

    Attributes:
        dimensions, scores, concept, sampler, steps, method, strength: what was sampled.
        samples, escaped: how many, and how many of them were far from every component.
        removed: 1 - rate of the concept / prior; None for an unrelated concept.
        balance: total variation between the shares of the kept components and their true shares.
        distance: sliced Wasserstein distance to exact draws.
        calls: network evaluations per sample.
    """

    model_config = ConfigDict(frozen=True)

    dimensions: int
    scores: str
    concept: str
    sampler: str
    steps: int
    method: str
    strength: float
    samples: int
    escaped: int
    removed: Interval | None
    balance: Interval
    distance: Interval
    calls: float


class MixtureBenchmark(Benchmark):
    """The claims, and every figure that they come from."""

    rows: list[Row]


@dataclass(frozen=True)
class Setting:
    """What methods are compared in: a world, the error of its scores, a sampler."""

    world: str
    error: float
    sampler: str

    @property
    def name(self) -> str:
        scores = f"scores with an error of {self.error:g}" if self.error else "exact scores"
        return f"{self.world} dimensions, {scores}, {SAMPLERS[self.sampler]}"


@dataclass(frozen=True)
class Stage:
    """Cells that are measured together, and the claims that they make.

    Attributes:
        name: for progress bars.
        cells: in order.
        claims: of the figures of all cells so far.
        setting: the setting that is swept, None for other stages.
    """

    name: str
    cells: list[Cell]
    claims: Callable[[dict[Cell, Found]], Iterable[Claim]]
    setting: Setting | None = None


@dataclass(frozen=True)
class Curve:
    """A method's figures along its strengths: value, sets and left-out values in columns, ``[strengths, columns]``."""

    removed: Tensor
    balance: Tensor
    distance: Tensor

    @property
    def most(self) -> float:
        """The largest share removed at any strength."""
        return float(self.removed[:, 0].max())

    def at(self, figures: Tensor, level: float) -> Tensor:
        """Figures at a share removed, ``[columns]``: between two strengths their logarithm is linear in the share."""
        return torch.stack([_between(self.removed[:, one], figures[:, one], level) for one in range(figures.shape[1])])


def _between(removed: Tensor, figures: Tensor, level: float) -> Tensor:
    for low in range(len(removed) - 1):
        if removed[low] < level <= removed[low + 1]:
            part = (level - removed[low]) / (removed[low + 1] - removed[low])
            return torch.lerp(figures[low].log(), figures[low + 1].log(), part).exp()
    return figures[removed.argmax()]


@dataclass(frozen=True)
class Mixtures(Experiment):
    """All methods on exact worlds of 2, 16 and 64 dimensions, against the exact target, at equal shares removed.

    Args:
        images: samples of each cell, over three sets of seeds; the costly ones take a third.
        first: the first seed.
        error: size of the perturbed scores' error, as a share of the score.
    """

    name = "mixtures"

    images: int = 7200
    first: int = 10_000
    error: float = 0.1

    def __post_init__(self) -> None:
        whole("images", self.images, low=UNIT)
        whole("first", self.first, low=0)
        finite("error", self.error, low=0)

    def measure(self, folder: Path, on_stage: OnStage) -> Benchmark:
        """Every cell is kept in ``folder/cells``; the results and the figure are rewritten after each stage."""
        done: list[Stage] = []
        results: dict[Cell, Found] = {}
        for stage in self.stages():
            progress = on_stage(stage.name)
            for count, cell in enumerate(stage.cells):
                progress(count, len(stage.cells))
                results[cell] = found(cell, folder)
            progress(len(stage.cells), len(stage.cells))
            done.append(stage)
            result = self.written(done, results, folder)
        return result

    def stages(self) -> list["Stage"]:
        """What is measured, in order."""
        stages = []
        for world in WORLDS:
            settings = [Setting(world, error, sampler) for error in self._errors() for sampler in SAMPLERS]
            stages += [Stage(one.name, list(self._swept(one)), partial(self._of_setting, one), one) for one in settings]
            for title, cells in self._others(world).items():
                claims = self._of_unrelated if "unrelated" in title else self._against_published
                stages.append(Stage(f"{world} dimensions, {title}", cells, partial(claims, world)))
        return stages

    def written(self, done: list["Stage"], results: dict[Cell, Found], folder: Path) -> MixtureBenchmark:
        """The result of these stages; it and its figure are written into the folder."""
        claims = [claim for stage in done for claim in stage.claims(results)] + [_of_escapes(results)]
        result = MixtureBenchmark(
            model="Gaussian mixtures", model_digest=None,
            scheduler=" and ".join(SAMPLERS.values()) + ", Karras levels of Stable Diffusion", num_inference_steps=30,
            seeds=f"{self.first}-{self.first + self._images - 1}, in three sets",
            claims=claims, rows=[_row(cell, one) for cell, one in results.items()],
        )  # fmt: skip
        result.save(folder / f"{self.name}.json")
        exact = [stage.setting for stage in done if stage.setting is not None and not stage.setting.error]
        worlds = [world for world in WORLDS if sum(one.world == world for one in exact) == len(SAMPLERS)]
        if worlds:
            panels = self._panels([one for one in exact if one.world in worlds], results)
            save(draw_fronts(panels, columns=len(worlds)), folder / f"{self.name}.png")
        return result

    @property
    def _images(self) -> int:
        return self.images // UNIT * UNIT

    def _fewer(self, world: str) -> int:
        """Of a cell that is costly in 64 dimensions."""
        return self._images // FEWER if world == "64" else self._images

    def _errors(self) -> tuple[float, ...]:
        return (0.0, self.error) if self.error else (0.0,)

    def _cell(self, world: str, method: str, **other: object) -> Cell:
        return replace(Cell(world, "unguided", first=self.first, images=self._images), method=method, **other)  # type: ignore[arg-type]

    def _swept(self, setting: Setting) -> Iterable[Cell]:
        for method, strengths in SWEEPS.items():
            if method != "published" or not setting.error:  # it fails with exact scores already
                yield from (self._in(setting, method, strength) for strength in strengths)

    def _in(self, setting: Setting, method: str, strength: float = 1) -> Cell:
        images = self._fewer(setting.world) if setting.error else self._images
        if method == "exact draws":  # the same for all
            return self._cell(setting.world, method, strength=strength, images=images)
        where = {"sampler": setting.sampler, "error": setting.error}
        return self._cell(setting.world, method, strength=strength, images=images, **where)

    def _others(self, world: str) -> dict[str, list[Cell]]:
        """Cells beside the sweeps, by stage."""
        fewest = self._images // FEWER // (2 if world == "64" else 1)
        unrelated = [
            self._cell(world, method, strength=strength, sampler=sampler, related=False, images=self._fewer(world))
            for sampler in SAMPLERS
            for method, strength in (("unguided", 0), ("negative", 1), ("tracking", 1))
        ]
        published = self._cell(world, "published", sampler="ddpm", steps=PUBLISHED_STEPS, images=fewest)
        tracking = self._cell(world, "tracking", sampler="sde", images=fewest)
        return {"unrelated concept": unrelated, f"published, {PUBLISHED_STEPS:,} steps": [published, tracking]}

    def _curve(self, setting: Setting, method: str, results: dict[Cell, Found]) -> Curve:
        """Of the unguided sampler, which is strength 0, and of all strengths."""
        cells = [self._in(setting, "unguided", 0), *(self._in(setting, method, one) for one in SWEEPS[method])]
        every, prior = [results[cell] for cell in cells], WORLDS[setting.world].prior
        rate, balance, distance = (
            torch.stack([getattr(one, name).tensor() for one in every]) for name in ("rate", "balance", "distance")
        )
        return Curve(1 - rate / prior, balance, distance)

    def _of_setting(self, setting: Setting, results: dict[Cell, Found]) -> list[Claim]:
        """At strength 1, and at matched removal."""
        perturbed = setting.error > 0
        ours, negative, oracle = (self._curve(setting, name, results) for name in ("tracking", "negative", "oracle"))
        removed = ours.removed[1 + SWEEPS["tracking"].index(1)]
        claims = [
            at_least(
                f"{setting.name}: share removed at strength 1{_sets(removed)}", REMOVED[perturbed], _measured(removed)
            )
        ]
        level = min(MATCHED, ours.most, negative.most, oracle.most)
        floor = results[self._in(setting, "exact draws")]
        kinds = ("distance", "sliced Wasserstein distance"), ("balance", "total variation of the kept components")
        for (name, title), bound in zip(kinds, OF_NEGATIVE[perturbed], strict=True):
            mine, its, best = (one.at(getattr(one, name), level) for one in (ours, negative, oracle))
            told = (f"{setting.name}: {title} at {level:.0%} removed, against the {{}}'s "
                    f"(tracking {mine[0]:.3f}, negative prompt {its[0]:.3f}, oracle {best[0]:.3f}, exact draws "
                    f"{getattr(floor, name).value:.3f}){{}}")  # fmt: skip
            claims.append(at_most(told.format("negative prompt", _sets(mine / its)), bound, _measured(mine / its)))
            if not perturbed:
                claims.append(at_most(told.format("oracle", _sets(mine / best)), OF_ORACLE, _measured(mine / best)))
        return claims

    def _against_published(self, world: str, results: dict[Cell, Found]) -> list[Claim]:
        cells = next(cells for title, cells in self._others(world).items() if title.startswith("published"))
        its, ours = (results[cell] for cell in cells)
        apart, ratio = ours.rate.tensor() - its.rate.tensor(), ours.distance.tensor() / its.distance.tensor()
        signed = _measured(apart)
        where = f"{world} dimensions, exact scores, against the published method in {PUBLISHED_STEPS:,} ancestral steps"
        return [
            at_most(f"{where}: how far the rate in 30 SDE steps is from its (tracking {ours.rate.value:.4f}, published "
                    f"{its.rate.value:.4f}, difference within [{signed.low:.4f}, {signed.high:.4f}])",
                    RATE_APART, abs(float(apart[0]))),
            at_most(f"{where}: ratio of the sliced Wasserstein distances (tracking {ours.distance.value:.3f}, published "
                    f"{its.distance.value:.3f}){_sets(ratio)}", OF_PUBLISHED, _measured(ratio)),
        ]  # fmt: skip

    def _of_unrelated(self, world: str, results: dict[Cell, Found]) -> Iterable[Claim]:
        cells = self._others(world)["unrelated concept"]
        for plain, negative, ours in zip(cells[::3], cells[1::3], cells[2::3], strict=True):
            base, its, mine = (results[cell].distance.tensor() for cell in (plain, negative, ours))
            ratio = (mine - base) / (its - base)
            yield at_most(
                f"{world} dimensions, exact scores, {SAMPLERS[plain.sampler]}, unrelated concept, prior taken as .5: excess of the "
                f"sliced Wasserstein distance over the unguided {base[0]:.3f}, against the negative prompt's at weight 1 (tracking "
                f"{mine[0]:.3f}, negative prompt {its[0]:.3f}){_sets(ratio)}", OF_UNRELATED[world], _measured(ratio),
            )  # fmt: skip

    def _panels(self, settings: list[Setting], results: dict[Cell, Found]) -> list[Panel]:
        """Removal against distance, a row for each sampler; then distance against calls in the last one."""
        rows = [one for sampler in SAMPLERS for one in settings if one.sampler == sampler]
        last = [one for one in rows if one.sampler == [*SAMPLERS][-1]]
        return [self._removal(one, results) for one in rows] + [self._calls(one, results) for one in last]

    def _removal(self, setting: Setting, results: dict[Cell, Found]) -> Panel:
        floor = results[self._in(setting, "exact draws")].distance.value
        lines = []
        for method, label in LABELS.items():
            curve = self._curve(setting, method, results)
            points = zip((100 * curve.removed[1:, 0]).tolist(), curve.distance[1:, 0].tolist(), strict=True)
            lines.append(Line(label, tuple(points)))
        title = f"{setting.world} dimensions, {SAMPLERS[setting.sampler]}"
        return Panel(title, "concept removed, %", "distance to the target", tuple(lines), floor, (100.0, floor))

    def _calls(self, setting: Setting, results: dict[Cell, Found]) -> Panel:
        floor, lines = results[self._in(setting, "exact draws")].distance.value, []
        for method, label in LABELS.items():
            curve = self._curve(setting, method, results)
            if curve.most >= MATCHED:
                calls = results[self._in(setting, method, SWEEPS[method][-1])].calls
                lines.append(Line(label, ((calls, float(curve.at(curve.distance, MATCHED)[0])),)))
        title = f"{setting.world} dimensions, at {MATCHED:.0%} removed"
        return Panel(title, "network calls per sample", "distance to the target", tuple(lines), floor)


def _of_escapes(results: dict[Cell, Found]) -> Claim:
    """Samples that are not finite are an error of ``steerclear.sample``, so that none is among these."""
    tracked = {cell: one for cell, one in results.items() if cell.method == "tracking"}
    count, escaped = sum(cell.images for cell in tracked), sum(one.escaped for one in tracked.values())
    return at_most(
        f"all worlds, exact and perturbed scores, all strengths: samples of the tracking that are not finite or escaped, of "
        f"{count:,} (omega {OMEGA['2m']:g} and {OMEGA['sde']:g})", 0, float(escaped),
    )  # fmt: skip


def _measured(figures: Tensor) -> Measurement:
    """A number from its value, its sets and its left-out values."""
    return jackknife(float(figures[0]), figures[1 + SETS :]).measured("jackknife")


def _interval(figures: Tensor) -> Interval:
    one = _measured(figures)
    assert one.low is not None
    assert one.high is not None
    return round(one.value, 5), round(one.low, 5), round(one.high, 5)


def _sets(figures: Tensor) -> str:
    return "; sets of seeds " + ", ".join(f"{one:.3f}" for one in figures[1 : 1 + SETS].tolist())


def _row(cell: Cell, one: Found) -> Row:
    removed = 1 - one.rate.tensor() / WORLDS[cell.world].prior
    return Row(
        dimensions=int(cell.world), scores=f"error {cell.error:g}" if cell.error else "exact",
        concept="related" if cell.related else "unrelated", sampler=cell.sampler, steps=cell.steps, method=cell.method,
        strength=cell.strength, samples=cell.images, escaped=one.escaped,
        removed=_interval(removed) if cell.related else None, balance=_interval(one.balance.tensor()),
        distance=_interval(one.distance.tensor()), calls=one.calls,
    )  # fmt: skip
