"""Autoguidance on the fractal world: how many points it brings back to the truth, and what that costs of the branches."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from ..core.laboratory import Measurement
from ..core.settings import whole
from ..metrics.estimates import jackknife, percentile_interval
from ..telling.figures.base import save
from ..telling.figures.clouds import Cloud, Ground, draw_clouds
from ..telling.figures.fronts import Line, Panel, draw_fronts
from ..testbeds.fractal import contour, coverage_of
from .claims import Benchmark, Claim, Experiment, OnStage, at_least, at_most
from .fractal_cells import GROUPS, HIGHEST, LOWEST, SNAPSHOTS, STEPS, WEAK, WORLD, Cell, Found, found, network, samples

SCALES = (1.5, 2.0, 2.5, 3.0, 3.5)
CFG_SCALES = (1.25, 1.5, 2.0, 3.0)
UPPERS, UPPER_SCALES = (0.1,), (2.5, 3.0, 3.5, 4.0)
"""sigma / alpha up to which guidances in an interval act, and the scales of autoguidance there."""
OF_UNGUIDED, KEPT, LOST, EXACT_OUTSIDE = {False: 0.25, True: 0.5}, 0.98, 0.9, 0.015
"""Outlier rate with autoguidance as a share of the unguided one's, at most, of one class and of any; coverage with it as a share, at least; with
classifier-free guidance, at most; outlier rate of the exact denoiser under the same sampler, at most."""
RESAMPLES = 2000
LATER = 1_000_000
"""From the first seed to that of the choice."""
SHOWN = 4000
"""Points of each panel of the picture."""
AROUND = 0.12
"""Room around the tree in the picture."""

Interval = tuple[float, float, float]
"""A figure and the ends of its 95 % interval, in five digits."""


class Row(BaseModel):
    """One cell, as the docs quote it.

    Attributes:
        method, weak, scale, stop, whole, exact: what was sampled, see :class:`~steerclear.benchmark.fractal_cells.Cell`; no
            stop is None.
        final: whether it is of the final seeds, or of those on which settings are chosen.
        samples: how many.
        outliers: share outside of the contour that holds 99 % of the mass.
        coverage: share of the branches that have at least half of the points that they should have.
        energy: squared energy distance to exact draws.
        calls: network evaluations per point.
    """

    model_config = ConfigDict(frozen=True)

    method: str
    weak: str
    scale: float
    stop: float | None
    whole: bool
    exact: bool
    final: bool
    samples: int
    outliers: Interval
    coverage: Interval
    energy: Interval
    calls: float


class FractalBenchmark(Benchmark):
    """The claims, and every figure that they come from."""

    rows: list[Row]


@dataclass(frozen=True, eq=False)
class Rates:
    """Outlier rate and coverage of a cell, from all its points and from resamples of them.

    Attributes:
        outliers, coverage: ``[1 + RESAMPLES]``.
    """

    outliers: Tensor
    coverage: Tensor

    @classmethod
    def of(cls, cell: Cell, one: Found) -> "Rates":
        """Means over the labels. Points of a label are resampled by the bootstrap, which for tallies is multinomial."""
        # two cells must not share their draws: the interval of a ratio would be too narrow
        generator = np.random.default_rng(int(cell.digest(), 16))
        outliers, coverage = [], []
        for label, counts in zip(cell.labels, one.tallies, strict=True):
            observed = np.array(counts)
            again = generator.multinomial(observed.sum(), observed / observed.sum(), RESAMPLES)
            every = torch.from_numpy(np.concatenate([observed[None], again])).double()
            outliers.append(every[:, 0] / every.sum(1))
            coverage.append(coverage_of(every, contour(WORLD, label).shares))
        return cls(torch.stack(outliers).mean(0), torch.stack(coverage).mean(0))


def _interval(values: Tensor) -> Interval:
    value, (low, high) = float(values[0]), percentile_interval(values[1:])
    return _rounded(value), _rounded(low), _rounded(high)


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def _measured(values: Tensor) -> Measurement:
    low, high = percentile_interval(values[1:])
    return Measurement(value=float(values[0]), low=low, high=high, interval="bootstrap")


@dataclass(frozen=True)
class FractalTrees(Experiment):
    """Autoguidance and classifier-free guidance on the fractal world, with networks trained on it in minutes.

    Args:
        images: points of each cell, half of each class.
        chosen_on: points of each cell on which weak network and scale are chosen.
        first: the first seed; those of the choice are a million later.
    """

    name = "fractal"

    images: int = 20_000
    chosen_on: int = 4000
    first: int = 10_000

    def __post_init__(self) -> None:
        # a quarter of the final cells' points, half of them of a class, make a group of each; and no seed is in both
        whole("images", self.images, low=8 * GROUPS, high=LATER)
        whole("chosen_on", self.chosen_on, low=2 * GROUPS)
        whole("first", self.first, low=0)

    def measure(self, folder: Path, on_stage: OnStage) -> Benchmark:
        """Networks and cells are kept in the folder."""
        progress = on_stage("training")
        names = ("main", *WEAK)
        for count, name in enumerate(names):
            progress(count, len(names))
            network(name, folder)
        progress(len(names), len(names))
        results: dict[Cell, Found] = {}
        claims: list[Claim] = []
        for whole_world in (False, True):
            title = "any class" if whole_world else "one class"
            self._all(self._swept(whole_world), f"choosing, {title}", results, folder, on_stage)
            final = self._final(whole_world, results)
            self._all(final.values(), f"measuring, {title}", results, folder, on_stage)
            claims += _claims(final, results, title)
            self._draw(whole_world, final, results, folder)
        return FractalBenchmark(
            model="networks on points, trained on the fractal world", model_digest=None,
            scheduler=f"Heun, sigma / alpha from {HIGHEST:g} to {LOWEST:g}", num_inference_steps=STEPS,
            seeds=f"{self.first}-{self.first + self.images - 1}; chosen on those a million later",
            claims=claims, rows=[self._row(cell, one) for cell, one in results.items()],
        )  # fmt: skip

    def _all(
        self, cells: Iterable[Cell], title: str, results: dict[Cell, Found], folder: Path, on_stage: OnStage
    ) -> None:
        progress, every = on_stage(title), list(cells)
        for count, cell in enumerate(every):
            progress(count, len(every))
            results[cell] = found(cell, folder)
        progress(len(every), len(every))

    def _swept(self, whole_world: bool) -> list[Cell]:
        """What is chosen from, the unguided sampler first; classifier-free guidance needs a class."""
        plain = Cell("unguided", whole=whole_world, first=self.first + LATER, images=self.chosen_on)
        weaks = SNAPSHOTS if whole_world else WEAK
        auto = [replace(plain, method="auto", weak=weak, scale=scale) for weak in weaks for scale in SCALES]
        auto += [
            replace(plain, method="auto", weak=weak, scale=scale, stop=stop)
            for weak in SNAPSHOTS
            for stop in UPPERS
            for scale in UPPER_SCALES
        ]
        if whole_world:
            return [plain, *auto]
        cfg = [
            replace(plain, method="cfg", scale=scale, stop=stop) for stop in (math.inf, *UPPERS) for scale in CFG_SCALES
        ]
        return [plain, *auto, *cfg]

    def _final(self, whole_world: bool, results: dict[Cell, Found]) -> dict[str, Cell]:
        """The cells of the claims, at the settings that the others chose."""
        plain, *others = self._swept(whole_world)
        rates = {cell: Rates.of(cell, results[cell]) for cell in (plain, *others)}
        auto = [cell for cell in others if cell.method == "auto"]
        # the claim's coverage, and then the fewest outliers
        kept = [cell for cell in auto if rates[cell].coverage[0] >= KEPT * rates[plain].coverage[0]] or auto
        best = min(kept, key=lambda cell: float(rates[cell].outliers[0]))
        chosen = {"unguided": plain, "auto": best}
        cfg = [cell for cell in others if cell.method == "cfg"]
        if cfg:
            wanted = rates[best].outliers[0]
            chosen["cfg"] = min(cfg, key=lambda cell: abs(float(rates[cell].outliers[0] - wanted)))
            chosen["exact cfg"] = replace(chosen["cfg"], exact=True)
        chosen["exact"] = replace(plain, exact=True)
        chosen["draws"] = replace(plain, method="exact draws")
        few = {"exact", "exact cfg"}
        return {
            name: replace(cell, first=self.first, images=self.images // 4 if name in few else self.images)
            for name, cell in chosen.items()
        }

    def _row(self, cell: Cell, one: Found) -> Row:
        rates, energy = Rates.of(cell, one), jackknife(one.energy, torch.tensor(one.left_out))
        assert energy.low is not None  # there are enough groups
        assert energy.high is not None
        return Row(
            method=cell.method, weak=cell.weak, scale=cell.scale, stop=None if math.isinf(cell.stop) else cell.stop,
            whole=cell.whole, exact=cell.exact, final=cell.first == self.first, samples=cell.images,
            outliers=_interval(rates.outliers), coverage=_interval(rates.coverage),
            energy=(_rounded(one.energy), _rounded(energy.low), _rounded(energy.high)), calls=one.calls,
        )  # fmt: skip

    def _draw(self, whole_world: bool, final: dict[str, Cell], results: dict[Cell, Found], folder: Path) -> None:
        """The picture of the points, and the front of every sweep."""
        label = final["unguided"].labels[0]
        truth, clouds = contour(WORLD, label), []
        for name in ("draws", "unguided", "cfg", "auto"):
            if name in final:
                cell = final[name]
                points, _ = samples(cell, label, cell.seeds[0][:SHOWN], folder)
                outside = WORLD.branch_of(points, label)[1] < truth.level
                rates = Rates.of(cell, results[cell])
                said = f"{float(rates.outliers[0]):.1%} outside, {float(rates.coverage[0]):.0%} of the branches"
                clouds.append(Cloud(_title(cell), said, points, outside))
        ending = "-any" if whole_world else ""
        save(draw_clouds([(_ground(label), clouds)]), folder / f"{self.name}{ending}.png")
        panel = _front(self._swept(whole_world), results)
        save(draw_fronts([panel], columns=1, floor="exact draws"), folder / f"{self.name}{ending}-scales.png")


def _title(cell: Cell) -> str:
    if cell.method in ("exact draws", "unguided"):
        return cell.method
    name = "autoguidance" if cell.method == "auto" else "classifier-free guidance"
    return f"{name} {cell.scale:g}" + ("" if math.isinf(cell.stop) else f" below {cell.stop:g}")


def _ground(label: int, points: int = 500) -> Ground:
    means = WORLD.of(label).means
    (left, bottom), (right, top) = (means.amin(0) - AROUND).tolist(), (means.amax(0) + AROUND).tolist()
    across, up = (
        torch.linspace(low, high, points, dtype=torch.float64) for low, high in ((left, right), (bottom, top))
    )
    grid = torch.stack(torch.meshgrid(across, up, indexing="xy"), 2).reshape(-1, 2)
    density = WORLD.branch_of(grid, label)[1].reshape(points, points)
    level = contour(WORLD, label).level
    return Ground(density.clamp(min=level - 5), level, (left, right, bottom, top))


def _front(cells: list[Cell], results: dict[Cell, Found]) -> Panel:
    """Coverage against the outlier rate, one line per weak network."""
    points: dict[str, list[tuple[float, float]]] = {}
    for cell in cells:
        rates = Rates.of(cell, results[cell])
        kind = {"auto": cell.weak, "cfg": "CFG"}.get(cell.method, cell.method)
        label = kind.replace("_", ", ") + ("" if math.isinf(cell.stop) else f" < {cell.stop:g}")
        points.setdefault(label, []).append((float(rates.coverage[0]), float(rates.outliers[0])))
    lines = tuple(Line(label, tuple(some)) for label, some in points.items())
    return Panel("", "branches covered", "share outside", lines, 0.01)


def _claims(final: dict[str, Cell], results: dict[Cell, Found], title: str) -> list[Claim]:
    rates = {name: Rates.of(cell, results[cell]) for name, cell in final.items()}
    plain, auto, cell = rates["unguided"], rates["auto"], final["auto"]
    told = f"{title}, {_title(cell)} with {cell.weak!r}"
    claims = [
        at_most(f"{title}: outlier rate of the exact denoiser under the same sampler", EXACT_OUTSIDE,
                _measured(rates["exact"].outliers)),
        at_most(f"{told}: outlier rate, as a share of the unguided {float(plain.outliers[0]):.4f}", OF_UNGUIDED[cell.whole],
                _measured(_ratio(auto.outliers, plain.outliers))),
        at_least(f"{told}: branch coverage, as a share of the unguided {float(plain.coverage[0]):.3f}", KEPT,
                 _measured(_ratio(auto.coverage, plain.coverage))),
        at_most(f"{told}: energy distance, as a share of the unguided {results[final['unguided']].energy:.5f}", 1.0,
                _energy_ratio(results[cell], results[final["unguided"]])),
        at_most(f"{told}: network evaluations, as a multiple of the unguided", 2.0,
                results[cell].calls / results[final["unguided"]].calls),
    ]  # fmt: skip
    if "cfg" in final:
        cfg = rates["cfg"]
        claims.append(at_most(
            f"{title}, {_title(final['cfg'])}, whose outlier rate ({float(cfg.outliers[0]):.4f}) is nearest to autoguidance's "
            f"({float(auto.outliers[0]):.4f}): branch coverage, as a share of the unguided", LOST,
            _measured(_ratio(cfg.coverage, plain.coverage)),
        ))  # fmt: skip
    return claims


def _ratio(one: Tensor, plain: Tensor) -> Tensor:
    """Of rates; those of few points may be 0, which a share of is not defined."""
    return one / plain.clamp(min=1e-6)


def _energy_ratio(one: Found, plain: Found) -> Measurement:
    left_out = torch.tensor(one.left_out) / torch.tensor(plain.left_out)
    return jackknife(one.energy / plain.energy, left_out).measured("jackknife")
