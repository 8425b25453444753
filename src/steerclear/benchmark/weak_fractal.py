"""The fractal world as a world of weaknesses: small networks on points, against the truth."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.errors import InvalidSetting
from ..core.sampling import sample
from ..metrics.energy import energy_distance
from ..networks.noised_weights import NoisedWeights
from ..networks.quantized_weights import QuantizedWeights
from ..networks.shared.naming import is_kind, parse_network
from ..networks.shared.second_weights import second_weights
from ..networks.snapshot import SnapshotWeights, with_weights
from ..testbeds.fractal import NO_CLASS, branch_coverage, outlier_rate
from ..training.points import COURSES, MAIN_STEPS, PointsDenoiser
from .fractal_cells import TRUTH_SEED, WORLD, network, scheduler
from .weak_images import MAINS, OTHERS, WIDTH, WIDTHS
from .weak_world import ANY, AVERAGES, EARLIER, NARROWER, Cell, Figured, Samples, Weak, WeaknessWorld, WorldAsked

CLASS = "class"
MAIN = "main"
SHARES = (16, 8, 4, 2)
"""Earlier snapshots: one part in so many of the training."""
TRAINED = {
    "narrow": Weak(NARROWER, "narrow"),
    "early, trained to its end": Weak(EARLIER, "early"),
    "narrow and early": Weak(NARROWER, "narrow_early"),
}
"""Those with a course of their own; how they are made is its name."""
KINDS = ("noised", "quantized")
"""Kinds that are made of any network with weights."""
COMPARED = 3000
"""Points of each class that the energy distance compares."""


@dataclass
class WeakFractal(WeaknessWorld):
    """The fractal world. Its networks are trained when they are first asked for, in some minutes, and kept in ``training``.

    A point of the condition "class" is of the class that its seed names: even seeds of the first.
    """

    asked: WorldAsked
    _networks: dict[str, Any] = field(default_factory=dict)

    name = "fractal"
    conditions = (CLASS, ANY)
    figures = (
        Figured("outliers", "share of outliers", lower=True),
        Figured("energy", "squared energy distance", lower=True),
        Figured("coverage", "coverage of the branches"),
    )
    bounds = {CLASS: 0.25, ANY: 0.25}
    kept_share = 0.98
    title = "a small network on points"
    sampler = "HeunDiscreteScheduler"

    def __post_init__(self) -> None:
        self.asked.refuse(self.name, "model", "narrow", "narrow_training", "prompt", "scheduler", "device")

    @property
    def folder(self) -> Path:
        """Where its networks and snapshots are."""
        return Path(self.asked.training or "out/benchmark").expanduser()

    @property
    def digest(self) -> str:
        return COURSES[MAIN].digest

    def mains(self) -> dict[str, str]:
        return dict(MAINS)

    def weaknesses(self) -> dict[str, Weak]:
        place = f"snapshot:folder={(self.folder / 'snapshots' / COURSES[MAIN].stage(MAIN)).as_posix()}"
        found = {
            f"1/{share} of the training": Weak(EARLIER, f"{place},step={MAIN_STEPS // share},width={WIDTH:g}")
            for share in SHARES
        }
        found |= {
            f"average {width:g}": Weak(AVERAGES, f"{place},step={MAIN_STEPS},width={width:g}") for width in WIDTHS
        }
        made = {name: weak for name, weak in OTHERS.items() if weak.how.partition(":")[0] in KINDS}
        return found | TRAINED | made

    def made_with(self, main: str, weak: Weak | None) -> str:
        said = [COURSES[MAIN].digest, str(self.asked.num_inference_steps), main]
        if weak is not None:
            said += [weak.how, COURSES[weak.how].digest if weak.how in COURSES else ""]
        return "\n".join(
            [*said, *(digest for how in (main, weak.how if weak else "") if (digest := self._elsewhere(how)))]
        )

    def _elsewhere(self, how: str) -> str | None:
        """The digest of snapshots that are not of the world's own training, which has its digest in its name."""
        kind = parse_network(how) if is_kind(how) else None
        own = self.folder / "snapshots" / COURSES[MAIN].stage(MAIN)
        return None if not isinstance(kind, SnapshotWeights) or Path(kind.folder) == own else kind.digest()

    def _main(self, how: str) -> Any:
        """The main network: the good one for "", or made of it."""
        own = network(MAIN, self.folder)  # its training leaves the snapshots
        if how and how not in self._networks:
            self._networks[how] = self._made(how, own)
        return self._networks[how] if how else own

    def _weak(self, how: str, main: str) -> Any:
        """A weak network: the name of a course, or what is made of the main one."""
        own, key = self._main(main), f"{main} {how}"
        if how in COURSES:
            return network(how, self.folder)
        if key not in self._networks:
            self._networks[key] = self._made(how, own)
        return self._networks[key]

    def _made(self, how: str, own: Any) -> Any:
        kind = parse_network(how) if is_kind(how) else None
        if isinstance(kind, SnapshotWeights):
            return with_weights(own, kind)
        if isinstance(kind, NoisedWeights | QuantizedWeights):
            return second_weights(own, kind.changed_weight).network
        allowed = f"one of the kinds snapshot, noised and quantized, or one of {', '.join(COURSES)}"
        raise InvalidSetting("a network of this world", how, allowed)

    def draw(
        self, cell: Cell, main: str, weak: Weak | None, seeds: Sequence[int], on_samples: Callable[[int], None]
    ) -> Samples:
        own = self._main(main)
        others = {} if weak is None else {"weak": self._weak(weak.how, main)}
        points, calls = torch.empty(len(seeds), *WORLD.shape), torch.empty(len(seeds))
        for label in self._labels(cell.condition):
            rows = [row for row, seed in enumerate(seeds) if label in (NO_CLASS, seed % 2)]
            if not rows:
                continue
            run = sample(
                PointsDenoiser(own, others, label), cell.guidance(), scheduler(), [seeds[row] for row in rows], WORLD.shape,
                num_inference_steps=self.asked.num_inference_steps,
            )  # fmt: skip
            points[rows], calls[rows] = run.samples, run.trace.evaluations.float()
            on_samples(len(rows))
        labels = torch.tensor([NO_CLASS if cell.condition == ANY else seed % 2 for seed in seeds], dtype=torch.uint8)
        return {"points": points, "label": labels, "evaluations": calls}

    def _labels(self, condition: str) -> tuple[int, ...]:
        return (NO_CLASS,) if condition == ANY else (0, 1)

    def measure(self, condition: str, samples: Samples) -> dict[str, float]:
        """Means over the classes."""
        found: dict[str, list[float]] = {one.name: [] for one in self.figures}
        for label in self._labels(condition):
            points: Tensor = samples["points"][samples["label"] == label].double()
            compared = points[:COMPARED]
            truth = WORLD.of(label).drawn(len(compared), torch.Generator().manual_seed(TRUTH_SEED + label))
            found["outliers"].append(outlier_rate(points, WORLD, label))
            found["energy"].append(energy_distance(compared, truth))
            found["coverage"].append(branch_coverage(points, WORLD, label))
        return {name: sum(values) / len(values) for name, values in found.items()}
