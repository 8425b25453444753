"""Which weak network helps: one main model, families of weak networks, guidance scales and intervals, on several worlds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from ..core.errors import InvalidSetting, UnknownName
from ..core.laboratory import Measurement
from ..core.settings import finite, whole
from ..networks.shared.naming import is_kind
from ..telling.figures.base import save
from ..telling.figures.weaknesses import Swept, SweptPanel, draw_weaknesses
from .claims import Benchmark, Claim, Experiment, OnStage, at_least, at_most
from .weak_cells import APART, Shelf
from .weak_digits import WeakDigits
from .weak_fractal import WeakFractal
from .weak_portraits import WeakPortraits
from .weak_rows import (
    HELPS,
    Row,
    best_of,
    faults_said,
    has_cfg,
    is_weak,
    row_of,
    said,
    settings_of,
    unguided_of,
    verdicts_of,
)
from .weak_world import CFG, OWN, UNGUIDED, WHOLE, Cell, Weak, WeaknessWorld, WorldAsked, family_named, has_faults_of

WORLDS: dict[str, Callable[[WorldAsked], WeaknessWorld]] = {
    "digits": WeakDigits, "portraits": WeakPortraits, "fractal": WeakFractal,
}  # fmt: skip
"""Name -> what makes the world."""
FEWEST = 50
"""Samples of a set that give a Fréchet distance without its bias."""


class WeaknessesBenchmark(Benchmark):
    """The claims, and every figure that they come from.

    Attributes:
        world: its name.
        weak: how each weak network is made.
        verdicts: a sentence per weak network in each setting, and one per setting on whether the weak network must have the faults
            of the main one.
        rows: one per weak network, scale and interval.
    """

    world: str
    weak: dict[str, str]
    verdicts: list[str]
    rows: list[Row]


@dataclass(frozen=True)
class Weaknesses(Experiment):
    """Weak networks for autoguidance: which of them helps a main model, at which scale, in which steps, and which does not.

    Args:
        world: digits, portraits or fractal.
        model: a shipped model, a local folder or a hub id; default: the world's own.
        training: the folder of the model's training; its snapshots are weak networks, and averages of other lengths. The fractal
            world's networks are trained there; default: out/benchmark.
        narrow: the folder of a smaller network, or of a model with one; default: the model's own weak network, if it has one.
        narrow_training: the folder of the smaller network's training; its snapshots are narrow and early at once.
        mains: main networks, separated by semicolons: own, names of the world's, or NAME=HOW with a folder or one of the kinds
            snapshot, noised and quantized. A weak network that is made of the main one has its faults, and more.
        weak: weak networks, separated by semicolons: names of the world's, or NAME=HOW with a folder or a kind of network;
            default: all of the world's. "none" leaves them out.
        conditions: what is asked for, separated by commas; default: the world's first. "any" asks for nothing.
        prompt: what images show, where the world takes one.
        scales: of autoguidance, separated by spaces.
        cfg_scales: of classifier-free guidance beside it, separated by spaces; "none" leaves it out.
        intervals: in which part of the steps the guidance acts, as "0-1 0.2-0.8".
        images: samples of a set.
        sets: how many sets of seeds; intervals are over them.
        num_inference_steps: of every sample.
        scheduler: another sampler than the model's own, such as "dpm++ 2m"; default: its own.
        batch_size: samples at a time.
        device: where the networks run.
        only_join: measure what the folder has, and draw nothing.
    """

    name = "weaknesses"

    world: str = "digits"
    model: str | None = None
    training: str | None = None
    narrow: str | None = None
    narrow_training: str | None = None
    mains: str = OWN
    weak: str | None = None
    conditions: str | None = None
    prompt: str | None = None
    scales: str = "1.25 1.5 2 3"
    cfg_scales: str = "1.25 1.5 2 3"
    intervals: str = "0-1"
    images: int = 500
    sets: int = 3
    num_inference_steps: int = 30
    scheduler: str | None = None
    batch_size: int = 250
    device: str = "cpu"
    only_join: bool = False

    def __post_init__(self) -> None:
        if self.world not in WORLDS:
            raise UnknownName("world", self.world, WORLDS)
        whole("images", self.images, low=FEWEST, high=APART)
        whole("sets", self.sets, low=1)
        for name in ("num_inference_steps", "batch_size"):
            whole(name, getattr(self, name), low=1)
        _scales("scales", self.scales), _scales("cfg_scales", self.cfg_scales), self._intervals()

    def _intervals(self) -> list[tuple[float, float]]:
        found = []
        for one in self.intervals.split():
            ends = one.split("-")
            try:
                start, stop = (float(end) for end in ends)
            except ValueError:
                start, stop = 1.0, 0.0
            if not 0 <= start < stop <= 1:
                raise InvalidSetting("intervals", one, "two shares of the steps, as 0.2-0.8")
            found.append((start, stop))
        return found or [WHOLE]

    def measure(self, folder: Path, on_stage: OnStage) -> Benchmark:
        """Every part of a cell is a file in ``cells``; those that are there are kept. Results are rewritten after each cell."""
        bench = _Bench(self, folder)
        if not self.only_join:
            bench.draw(on_stage)
        found = bench.result()
        if not found.rows:
            remedy = f"there is nothing of {bench.world.title} to join; leave it out to draw"
            raise InvalidSetting("only_join", True, f"for a folder with sets of {self.images} samples", remedy)
        save(figure_of(found.rows, bench.world), folder / f"{self.name}.png")
        return found


@dataclass
class _Bench:
    """The world, the cells that are asked for, and the folder."""

    asked: Weaknesses
    folder: Path

    @cached_property
    def world(self) -> WeaknessWorld:
        one = self.asked
        return WORLDS[one.world](WorldAsked(**{field.name: getattr(one, field.name) for field in fields(WorldAsked)}))

    @cached_property
    def mains(self) -> dict[str, str]:
        known = self.world.mains()
        return {
            name: known[name] if how is None else how for name, how in _named("main", self.asked.mains, known).items()
        }

    @cached_property
    def weak(self) -> dict[str, Weak]:
        known, asked = self.world.weaknesses(), self.asked.weak
        if asked is None:
            return known
        if asked.strip() == "none":
            return {}
        given = _named("weak network", asked, known)
        return {name: known[name] if how is None else Weak(family_named(how), how) for name, how in given.items()}

    @cached_property
    def conditions(self) -> list[str]:
        asked = self.asked.conditions
        found = [self.world.conditions[0]] if asked is None else [one.strip() for one in asked.split(",")]
        for name in found:
            if name not in self.world.conditions:
                raise UnknownName("condition", name, self.world.conditions)
        return found

    @cached_property
    def shelf(self) -> Shelf:
        return Shelf(self.world, self.folder / "cells" / self.world.name, self.mains, self.weak, self.asked.images)

    def cells(self) -> list[Cell]:
        """All that are asked for: without guidance, with classifier-free guidance, then with each weak network."""
        found = []
        for main in self.mains:
            for condition in self.conditions:
                found.append(Cell(main, condition))
                ways = {CFG: _scales("cfg_scales", self.asked.cfg_scales)} if has_cfg(condition) else {}
                ways |= dict.fromkeys(self.weak, _scales("scales", self.asked.scales))
                for interval in self.asked._intervals():
                    found += [Cell(main, condition, way, one, *interval) for way, own in ways.items() for one in own]
        return _different(found)

    def draw(self, on_stage: OnStage) -> None:
        cells, steps = self.cells(), self.asked.num_inference_steps
        sets = range(self.asked.sets)
        planned = {
            (cell, one): self.shelf.missing(cell, one) * cell.evaluations(steps) for one in sets for cell in cells
        }
        total = sum(planned.values())
        on_progress, done = on_stage(f"{total:,} network evaluations in {len(planned)} sets of samples"), 0
        for cell, number in planned:

            def made(count: int, cost: int = cell.evaluations(steps)) -> None:
                nonlocal done
                done += count * cost
                on_progress(min(done, total), max(total, 1))

            if planned[cell, number]:
                self.shelf.draw(cell, number, made)
                self.result().save(self.folder / f"{self.asked.name}.json")
        on_progress(1, 1)

    def rows(self) -> Iterator[Row]:
        for cell in self.cells():
            pairs = []
            for number in range(self.asked.sets):
                own, unguided = self.shelf.figures(cell, number), self.shelf.figures(cell.unguided, number)
                if own is not None and unguided is not None:
                    pairs.append((own, unguided))
            if pairs:
                weak = None if cell.weak is None else self.weak[cell.weak]
                owns, others = zip(*pairs, strict=True)
                row = row_of(
                    cell, "" if weak is None else weak.family, self.asked.images, self.world.figures, owns, others
                )
                same = None if weak is None else has_faults_of(self.mains[cell.main], weak)
                yield row.model_copy(update={"faults_of_main": same})

    def result(self) -> WeaknessesBenchmark:
        rows, world = list(self.rows()), self.world
        return WeaknessesBenchmark(
            model=world.title, model_digest=world.digest, scheduler=world.sampler, num_inference_steps=self.asked.num_inference_steps,
            seeds=f"{self.asked.sets} sets of {self.asked.images}, {APART:,} apart", claims=list(claims_of(rows, world)),
            world=world.name, weak={name: one.how or "the model's own" for name, one in self.weak.items()},
            verdicts=[*verdicts_of(rows, world.figures), *faults_said(rows)], rows=rows,
        )  # fmt: skip


def _named(what: str, text: str, known: Mapping[str, object]) -> dict[str, str | None]:
    """Name -> how it is made; None for one of the known names."""
    found: dict[str, str | None] = {}
    for one in (part.strip() for part in text.split(";") if part.strip()):
        name, sign, how = (part.strip() for part in one.partition("="))
        if one in known:
            found[one] = None
        elif is_kind(one):  # an equals sign in it belongs to its settings
            found[one] = one
        elif sign and name and how:
            found[name] = how
        else:
            raise UnknownName(what, one, known)
    return found


def _different(cells: Sequence[Cell]) -> list[Cell]:
    """Each cell once; refuses two whose files would be the same."""
    found: dict[str, Cell] = {}
    for cell in cells:
        other = found.setdefault(cell.folder, cell)
        if other != cell:
            one, two = ((it.main, it.condition, it.way, it.scale, it.start, it.stop) for it in (other, cell))
            said = ", ".join(f"{old} and {new}" for old, new in zip(one, two, strict=True) if old != new)
            raise InvalidSetting(
                "what is swept", said, "names and numbers that differ in more than signs, capitals and the 7th digit"
            )
    return list(found.values())


def _scales(name: str, text: str) -> tuple[float, ...]:
    if text.strip() == "none":
        return ()
    try:
        return tuple(dict.fromkeys(finite(name, float(one)) for one in text.split()))
    except ValueError as error:
        raise InvalidSetting(name, text, 'numbers with spaces between them, as "1.5 2"') from error


def claims_of(rows: Sequence[Row], world: WeaknessWorld) -> Iterator[Claim]:
    """The best weak network of each setting against no guidance, with classifier-free guidance beside it."""
    first, last = world.figures[0], world.figures[-1]
    for setting in settings_of(rows):
        main, condition, start, stop = setting
        own = [row for row in rows if row.setting == setting]
        unguided = unguided_of(rows, main, condition)
        best = best_of([row for row in own if is_weak(row)], last.name, world.kept_share, unguided)
        if best is None or unguided is None:
            continue
        where = f"{world.name}, {main}, {condition}" + ("" if (start, stop) == WHOLE else f", {start:g} to {stop:g}")
        how = f"{where}: {best.way} at scale {best.scale:g}"
        bound = world.bounds.get(condition, 1.0) if main == OWN else 1.0
        beside = f"unguided {said(unguided.figures[first.name])}{_cfg_said(own, world)}"
        yield at_most(
            f"{how}, {first.label} {said(best.figures[first.name])} as a share of the unguided one's ({beside})",
            bound, best.ratio,
        )  # fmt: skip
        share = "" if world.kept_share == 1 else f" {world.kept_share:g} of"
        least = world.kept_share * unguided.figures[last.name].value
        yield at_least(f"{how}: {last.label}, against{share} the unguided one's", least, best.figures[last.name])
        yield at_most(
            f"{how}: network evaluations per sample, as a share of planned",
            1.0, best.evaluations / max(unguided.evaluations * (1 + stop - start), 1e-9),
        )  # fmt: skip


def _cfg_said(rows: Sequence[Row], world: WeaknessWorld) -> str:
    first, last = world.figures[0], world.figures[-1]
    best = min((row for row in rows if row.way == CFG), key=lambda row: row.ratio.value, default=None)
    if best is None:
        return ""
    figures = f"{said(best.figures[first.name])}, {last.label} {best.kept.value:+.3f}"
    return f"; classifier-free guidance at its best scale, {best.scale:g}: {figures}"


def figure_of(rows: Sequence[Row], world: WeaknessWorld) -> Any:
    """A panel for each setting, the deciding figure above, the one that must not be lost below."""
    settings = settings_of(rows)
    panels = [_panel(rows, setting, world, which) for which in (0, -1) for setting in settings]
    return draw_weaknesses(panels, len(settings))


def _panel(rows: Sequence[Row], setting: tuple[str, str, float, float], world: WeaknessWorld, which: int) -> SweptPanel:
    figure, (main, condition, start, stop) = world.figures[which], setting
    own = [row for row in rows if row.setting == setting and row.way != UNGUIDED]
    lines = []
    for way in dict.fromkeys(row.way for row in own):
        swept = sorted((row for row in own if row.way == way), key=lambda row: row.scale)
        points = tuple((row.scale, *_ends(row.figures[figure.name])) for row in swept)
        helps = any(row.verdict == HELPS for row in swept)
        lines.append(Swept("classifier-free" if way == CFG else way, swept[0].family or CFG, points, helps))
    unguided = unguided_of(rows, main, condition)
    assert unguided is not None  # a row is of sets that have it
    title = f"{world.name}, {condition}" + ("" if main == OWN else f", main {main}")
    title += "" if (start, stop) == WHOLE else f", {start:g} to {stop:g}"
    return SweptPanel(title, figure.label, tuple(lines), _ends(unguided.figures[figure.name]), clipped=figure.lower)


def _ends(one: Measurement) -> tuple[float, float, float]:
    return one.value, one.value if one.low is None else one.low, one.value if one.high is None else one.high
