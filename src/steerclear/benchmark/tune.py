"""The search of ``steerclear tune`` against a fine grid, in an exact world: what it finds, from how many samples."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from ..core.denoiser import Denoiser
from ..core.guidance import Guidance
from ..core.laboratory import Measurement
from ..core.parsing import parse_part
from ..core.sampling import sample
from ..core.settings import whole
from ..metrics.estimates import jackknife
from ..metrics.rates import rate
from ..metrics.sliced_wasserstein import left_out_distances, sliced_wasserstein
from ..study.gallery import write_text
from ..study.goals import Bounds, Goal, parse_limit
from ..study.search import Tried, search
from ..study.space import Varied, parse_varied
from ..telling.figures.base import save
from ..telling.figures.fronts import Line, Panel, draw_fronts
from ..testbeds.mixture import Mixture, MixtureDenoiser, MixtureWorld
from .claims import Benchmark, Claim, Experiment, OnStage, at_most
from .mixture_cells import WORLDS, Cell, scheduler_of

WORLD, STEPS, GROUPS = "2", 30, 20
"""The spiral; sampler steps; groups of samples that the jackknife leaves out."""
TOO_WIDE, WEAK = 1.6, 2.0
"""Factor of the main network's covariances beyond the true ones, its fault; and of the weak network's beyond those."""
SHARE = 0.25
"""Of the grid's samples that a search may take."""
HELD_OUT, TRUTH = 500_000, 1_000_000_000
"""First seeds of the samples that neither search nor grid has seen, and of exact draws."""
DISTANCE, RATE = "distance", "rate"


@dataclass(frozen=True)
class Question:
    """What is tuned in the exact world.

    Attributes:
        name: in claims.
        varied: what is varied, two settings.
        guidance: the guidance of some values, as typed.
        limits: as typed.
        without: whether samples should be without the concept; otherwise they are of the whole.
        faulty: whether the main network has a fault and a weak one is beside it.
    """

    name: str
    varied: str
    guidance: Callable[[Mapping[str, str]], str]
    limits: tuple[str, ...] = ()
    without: bool = False
    faulty: bool = False

    @property
    def settings(self) -> tuple[Varied, ...]:
        return parse_varied([self.varied])

    @property
    def goal(self) -> Goal:
        return Goal("minimise", DISTANCE, tuple(map(parse_limit, self.limits)))

    def denoiser(self) -> Denoiser:
        """The world as a network."""
        world = WORLDS[WORLD].world
        if self.faulty:
            wide = MixtureWorld(world.full.inflated(TOO_WIDE), world.membership)
            return MixtureDenoiser(wide, networks={"weak": WEAK})
        return MixtureDenoiser(world, empty=world.full, negatives=(world.concept,), conjunctions=(world.concept,))

    def target(self) -> Mixture:
        world = WORLDS[WORLD].world
        return world.target if self.without else world.full


def _autoguidance(values: Mapping[str, str]) -> str:
    return f"interval:inner=autoguidance(auto_scale={values['auto_scale']}), stop={values['stop']}"


def _negative(values: Mapping[str, str]) -> str:
    return f"interval:inner=negative(guidance_scale={values['guidance_scale']}), stop={values['stop']}"


QUESTIONS = (
    Question("autoguidance", "auto_scale=1.0:4.0, stop=0.5:1.0", _autoguidance, faulty=True),
    Question("negative prompt", "guidance_scale=1.0:5.0, stop=0.3:1.0", _negative, ("rate <= 5 %",), without=True),
)


@dataclass(frozen=True, eq=False)
class Sampled:
    """Samples of one setting, and as many exact draws."""

    samples: Tensor
    truth: Tensor

    @cached_property
    def groups(self) -> Tensor:
        return torch.arange(len(self.samples)) % GROUPS

    @cached_property
    def distances(self) -> tuple[float, Tensor]:
        """The sliced Wasserstein distance, and without each group."""
        return sliced_wasserstein(self.samples, self.truth), left_out_distances(self.samples, self.truth, self.groups)

    def measurements(self) -> dict[str, Measurement]:
        """The distance, and how often the concept shows."""
        value, left_out = self.distances
        shows = WORLDS[WORLD].world.log_odds(self.samples) > 0
        return {DISTANCE: jackknife(value, left_out).measured("jackknife"), RATE: rate(shows).measured()}

    def farther_than(self, other: "Sampled") -> Measurement:
        """How much farther from the truth than other samples of the same seeds; the interval is that of the difference."""
        (ours, left), (theirs, right) = self.distances, other.distances
        return jackknife(ours - theirs, left - right).measured("jackknife")


def sampled(question: Question, guidance: Guidance, first: int, count: int) -> Sampled:
    """Samples of seeds from ``first`` on."""
    run = sample(
        question.denoiser(), guidance, scheduler_of(Cell(WORLD, "unguided")), range(first, first + count), WORLDS[WORLD].shape,
        num_inference_steps=STEPS, negatives=1, dtype=torch.float64,
    )  # fmt: skip
    return Sampled(run.samples, question.target().sample(range(TRUTH + first, TRUTH + first + count)))


@dataclass
class Kept:
    """Measured settings of one question on one set of seeds, in a file, so that none is measured twice."""

    question: Question
    first: int
    count: int
    path: Path
    known: dict[str, dict[str, Measurement]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path.is_file():
            read = json.loads(self.path.read_text())
            self.known = {
                text: {name: Measurement.model_validate(one) for name, one in of.items()} for text, of in read.items()
            }

    def __call__(self, values: Mapping[str, str]) -> dict[str, Measurement]:
        text = self.question.guidance(values)
        if text not in self.known:
            self.known[text] = sampled(self.question, parse_part(text, Guidance), self.first, self.count).measurements()
        return self.known[text]

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        plain = {text: {name: one.model_dump() for name, one in of.items()} for text, of in self.known.items()}
        write_text(self.path, json.dumps(plain, indent=1) + "\n")


class TuneRow(Benchmark):
    """The claims, and what each search and each grid found.

    Attributes:
        found: per question and set of seeds: the settings of the search and of the grid, and their figures on held-out seeds.
    """

    found: list[dict[str, object]]


@dataclass(frozen=True)
class Tune(Experiment):
    """The search of ``steerclear tune`` against the best of a fine grid, on held-out seeds, from a quarter of its samples.

    Args:
        samples: of each setting that is tried.
        held_out: samples of the last measurement.
        side: settings of the grid along each of two axes.
        sets: how often, each time with other seeds.
    """

    samples: int = 1000
    held_out: int = 4000
    side: int = 12
    sets: int = 3

    name = "tune"

    def __post_init__(self) -> None:
        whole("samples", self.samples, low=100, high=100_000)
        whole("held_out", self.held_out, low=100, high=1_000_000)
        whole("side", self.side, low=4, high=100)
        whole("sets", self.sets, low=1, high=100)

    @property
    def trials(self) -> int:
        """Of a search: a quarter of the grid's settings."""
        return int(SHARE * self.side**2)

    def measure(self, folder: Path, on_stage: OnStage) -> Benchmark:
        claims, found, panels = [], [], []
        for question in QUESTIONS:
            lines: list[Line] = []
            for number in range(self.sets):
                report = on_stage(f"{question.name}, seeds {number + 1} of {self.sets}")
                one, tried, grid = self._one(question, number, folder, report)
                claims += one.claims
                found.append(one.row)
                if number == 0:
                    lines = [Line("grid", _points(grid)), Line("search", _points(tried))]
            panels.append(Panel(question.name, question.settings[0].key, "distance to the truth", tuple(lines)))
        claims.append(at_most("samples of a search, as a share of the grid's", SHARE, self.trials / self.side**2))
        save(draw_fronts(panels, len(panels)), folder / "tune.png")
        return TuneRow(
            model="an exact world: the spiral of mixtures", model_digest=None, scheduler="DPM-Solver++(2M)",
            num_inference_steps=STEPS, seeds=f"0-{self.samples - 1} and so on; held out: {HELD_OUT}-{HELD_OUT + self.held_out - 1}",
            claims=claims, found=found,
        )  # fmt: skip

    def _one(
        self, question: Question, number: int, folder: Path, report: Callable[[int, int], None]
    ) -> tuple["_Outcome", list[Tried], list[Tried]]:
        """A search and a grid on one set of seeds, and both winners on held-out ones."""
        first, total = number * self.samples, self.side**2 + self.trials
        file = f"{question.name.replace(' ', '-')}-{first}-{self.samples}.json"
        kept, bounds = Kept(question, first, self.samples, folder / "tune" / file), question.goal.against(None, None)
        grid: list[Tried] = []
        for place, shares in enumerate(product([k / (self.side - 1) for k in range(self.side)], repeat=2)):
            values = {one.key: one.at(share) for one, share in zip(question.settings, shares, strict=True)}
            grid.append(Tried(values, kept(values)))
            report(place + 1, total)
        kept.save()
        tried: list[Tried] = []

        def on_trial(one: Tried) -> None:
            tried.append(one)
            report(len(grid) + len(tried), total)

        search(question.settings, bounds, kept, self.trials, on_trial=on_trial, seed=number)
        kept.save()
        return self._held_out(question, number, _best(tried, bounds), _best(grid, bounds)), tried, grid

    def _held_out(self, question: Question, number: int, ours: Tried, theirs: Tried) -> "_Outcome":
        texts = [question.guidance(one.values) for one in (ours, theirs)]
        one, other = (sampled(question, parse_part(text, Guidance), HELD_OUT, self.held_out) for text in texts)
        farther, shows = one.farther_than(other), one.measurements()[RATE]
        own = one.measurements()[DISTANCE]
        reach = own.value - (own.value if own.low is None else own.low)
        what = f"{question.name}, seeds {number + 1}"
        value, best = one.distances[0], other.distances[0]
        claims = [at_most(
            f"{what}: distance with what was found ({texts[0]}; {value:.4f}) beyond the grid's best ({texts[1]}; {best:.4f}), where "
            f"its interval reaches {reach:.4f} down", reach, farther,
        )]  # fmt: skip
        claims += [
            at_most(
                f"{what}: {limit.written} on held-out seeds, low end of its interval", limit.number, shows.low or 0.0
            )
            for limit in question.goal.limits
        ]
        figures = {"search": (texts[0], value, shows.value), "grid": (texts[1], best, other.measurements()[RATE].value)}
        row = {"question": question.name, "set": number, "farther": farther.model_dump(), **figures}
        return _Outcome(claims, row)


@dataclass(frozen=True)
class _Outcome:
    claims: list[Claim]
    row: dict[str, object]


def _best(tried: list[Tried], bounds: Bounds) -> Tried:
    """The best that keeps the limits; the nearest if none does."""
    keeping = [one for one in tried if one.keeps(bounds)] or tried
    return min(
        keeping, key=lambda one: (sum(max(v, 0) for v in bounds.violations(one.measurements)), one.value(bounds))
    )


def _points(tried: list[Tried]) -> tuple[tuple[float, float], ...]:
    """The least distance at each value of the first setting."""
    key = next(iter(tried[0].values))
    least: dict[float, float] = {}
    for one in tried:
        at, value = float(one.values[key]), one.measurements[DISTANCE].value
        least[at] = min(least.get(at, value), value)
    return tuple(sorted(least.items()))
