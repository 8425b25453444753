"""Ways of saying "no" on the shipped model, each at several strengths: what is removed, what else moves, what it costs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from ..core.errors import InvalidSetting, UnknownName
from ..core.guidance import Guidance
from ..core.laboratory import Measurement, Seen
from ..core.parsing import parse_part
from ..core.settings import finite
from ..laboratories.portraits import PortraitJudge, concepts_in
from ..metrics.frechet import Frechet
from ..metrics.rates import rate
from ..models.loading import Model
from ..study.measure import pixels
from ..study.methods import Method
from ..study.recipe import parse_seeds
from ..study.study import ModelAsked
from ..telling.figures.base import save
from ..telling.figures.fronts import Line, Panel, draw_fronts
from ..testbeds.portraits import shows
from .claims import Benchmark, Claim, OnStage, at_most
from .portraits import MAN, PortraitExperiment
from .tracking import moved_ratio

CONCEPTS = "mustache, hat, glasses, beard, smile, mustache + hat"
"""Several negatives at once have a plus between them."""

BY_OWN = "drawn again by own"

REDRAWN = ("drawn again", BY_OWN, "rewound", "later")

WAYS: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "unguided": ("unguided", (0,)),
    "negative prompt": ("negative:guidance_scale={}", (2, 3, 5)),
    "constant": ("dynamic-negative:guidance_scale=1,negative_scale={},evidence=constant", (1, 2)),
    "scheduled constant": (
        "interval:inner=dynamic-negative(guidance_scale=1,negative_scale={},evidence=constant),stop=6,by=sigma", (2, 4)
    ),
    "asking": (
        "dynamic-negative:guidance_scale=1,negative_scale={},evidence=classifier(every=2,below=14,stop_below=1.9)", (1, 2)
    ),
    "transition": ("dynamic-negative:guidance_scale=1,negative_scale={},evidence=transition", (1, 2)),
    "looking": ("dynamic-negative:guidance_scale=1,negative_scale={},evidence=preview", (1,)),
    "drawn again": ("redraw:from_step=0,tries={}", (8,)),
    BY_OWN: ("redraw:from_step=0,tries={},judge=portraits(classifier=own)", (8,)),
    "rewound": ("redraw:from_step={},tries=8", (6, 10, 12, 14)),
    "later": ("redraw:latest={}", (0.4,)),
}  # fmt: skip
"""Name -> how it is typed, with a place for its strength, and the strengths. Of "drawn again" the second classifier flags, of "drawn again by
own" the one that measures, so that the second measures it."""

GATE = "oracle gate"
"""The constant push where the unguided image of the seed shows the concept, and none elsewhere: no network is asked anew."""

SETS = 3
"""The seeds are split into three sets; a row has the figures of all seeds, and of each set."""


class Row(BaseModel):
    """One way at one strength.

    Attributes:
        concept, scheduler, way, strength: what was made.
        images: how many.
        rate: how often the concept is left, as the measuring classifier sees it.
        rate_by_other: the same, as the other classifier does: of images drawn again the one that flagged them.
        shift: collateral shift, less chance.
        frechet: distance to true portraits without the concept.
        moved_without, moved_with: how far the images moved whose unguided image has no concept, and has it.
        ratio: of the two; None where one of them is 0.
        calls: network evaluations per image.
        sets: rate, shift and Fréchet distance of each set of seeds.
    """

    model_config = ConfigDict(frozen=True)

    concept: str
    scheduler: str
    way: str
    strength: float
    images: int
    rate: Measurement
    rate_by_other: float
    shift: Measurement
    frechet: Measurement
    moved_without: float
    moved_with: float
    ratio: Measurement | None
    calls: float
    sets: list[tuple[float, float, float]]


class FrontsBenchmark(Benchmark):
    """The claims, and every figure that they come from."""

    rows: list[Row]


@dataclass(frozen=True)
class Fronts(PortraitExperiment):
    """Removal against collateral shift, and shift against network calls, for several concepts on the shipped model.

    Args:
        prompt: what the images should show.
        concepts: negative prompts, separated by commas; several at once have a plus between them.
        schedulers: separated by commas; "own" is the model's.
        ways: names of ways, separated by commas, with other strengths after a colon, as "looking:1 2"; default: all.
    """

    name = "fronts"

    seeds: str = "0-767"
    prompt: str = MAN
    concepts: str = CONCEPTS
    schedulers: str = "own"
    ways: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        fewest = SETS * Frechet.fewest
        if len(parse_seeds(self.seeds)) < fewest:
            raise InvalidSetting(
                "seeds", self.seeds, f"at least {fewest}", f"{SETS} sets of them give Fréchet distances"
            )
        for way in self._ways():
            if way not in (*WAYS, GATE):
                raise UnknownName("way", way, (*WAYS, GATE))

    def _ways(self) -> dict[str, tuple[float, ...]]:
        """Name -> strengths."""
        usual = {way: strengths for way, (_, strengths) in WAYS.items()} | {GATE: WAYS["constant"][1]}
        if self.ways is None:
            return usual
        asked = [name.partition(":") for name in self.ways.split(",")]
        return {
            way.strip(): tuple(_number(one) for one in own.split()) or usual.get(way.strip(), ())
            for way, _, own in asked
        }

    def measure(self, folder: Path, on_stage: OnStage) -> Benchmark:
        """Images go to ``<scheduler>/<concept>/images``; results are rewritten after each way, the figure at the end."""
        rows: list[Row] = []
        model = ModelAsked(self.model, device=self.device).load()
        for scheduler in (name.strip() for name in self.schedulers.split(",")):
            for concept in (name.strip() for name in self.concepts.split(",")):
                for row in self._rows(concept, scheduler, folder / _plain(scheduler) / _plain(concept), on_stage):
                    rows.append(row)
                    self._benchmark(model, rows).save(folder / f"{self.name}.json")
        found = self._benchmark(model, rows)
        save(figure_of(found), folder / f"{self.name}.png")
        return found

    def _benchmark(self, model: Model, rows: Sequence[Row]) -> FrontsBenchmark:
        plain = self.benchmark(model, claims_of(rows), scheduler="each of the named schedulers")
        return FrontsBenchmark(**plain.model_dump(), rows=list(rows))

    def _rows(self, concept: str, scheduler: str, folder: Path, on_stage: OnStage) -> Iterator[Row]:
        negatives = tuple(part.strip() for part in concept.split("+"))
        asked = self._ways()
        base: dict[str, tuple[float, ...]] = {"unguided": (0,)} | ({"constant": asked[GATE]} if GATE in asked else {})
        wanted = base | {way: strengths for way, strengths in asked.items() if way != GATE}
        methods = {
            (way, strength): _method(way, strength, self.prompt, negatives, f"{scheduler}, {concept}: ")
            for way, strengths in wanted.items()
            for strength in strengths
        }
        named = None if scheduler == "own" else scheduler
        study = replace(self.study(list(methods.values()), negatives, named), prompt=self.prompt)
        model = study.model.load()
        measure = _Measure(model, self.prompt, negatives, concept, scheduler)
        names = {method.name: key for key, method in methods.items()}
        for method, pictures in self.pictures(model, study, folder, on_stage):
            (way, strength), images = names[method.name], pixels(pictures)
            calls = torch.tensor([one.evaluations for one in pictures])
            measure.keep(way, strength, images, calls)
            if way in asked:
                yield measure.row(way, strength, images, calls)
        if GATE in asked:
            for strength in asked[GATE]:
                yield measure.row(GATE, strength, *measure.gated(strength))


def _number(text: str) -> float:
    try:
        return finite("a strength", float(text), low=0)
    except ValueError as error:
        raise InvalidSetting("a strength", text, "a number of at least 0", 'such as "looking:1 2"') from error


def _plain(concept: str) -> str:
    return "-and-".join(part.strip().replace(" ", "-") for part in concept.split("+"))


def _method(way: str, strength: float, prompt: str, negatives: tuple[str, ...], before: str) -> Method:
    guidance = parse_part(WAYS[way][0].format(f"{strength:g}"), Guidance)
    name = f"{way}-{strength:g}".replace(",", "").replace(" ", "-")
    texts = (", ".join(negatives),) if way == "negative prompt" else () if way == "unguided" else negatives
    return Method(name, f"{before}{way} {strength:g}", prompt, texts, guidance)


class _Measure:
    """The judges of one concept, and the images that others are compared with."""

    def __init__(self, model: Model, prompt: str, negatives: tuple[str, ...], concept: str, scheduler: str) -> None:
        self.named, self.concept, self.scheduler = ", ".join(negatives), concept, scheduler
        folder = model.folder or Path()
        self.judge = PortraitJudge(folder, prompt, self.named)
        self.second = PortraitJudge(folder, prompt, self.named, "second")
        if self.judge.truth is None:
            allowed = "ones that true portraits of the prompt may be without"
            raise InvalidSetting("concepts", self.concept, allowed, " ".join(self.judge.notes(len(self.named))))
        self.kept: dict[tuple[str, float], tuple[Tensor, Tensor]] = {}

    def keep(self, way: str, strength: float, images: Tensor, calls: Tensor) -> None:
        if way in ("unguided", "constant"):
            self.kept[way, strength] = images, calls

    @property
    def unguided(self) -> Tensor:
        return self.kept["unguided", 0][0]

    def _shown(self, seen: Seen) -> Tensor:
        """Whether a concept shows in each image."""
        return torch.stack([shows(name, seen.shown).bool() for name in concepts_in(self.named)]).any(0)

    def gated(self, strength: float) -> tuple[Tensor, Tensor]:
        """Images and calls of the oracle gate."""
        had = self._shown(self.judge.see(self.unguided))
        (pushed, more), (plain, calls) = self.kept["constant", strength], self.kept["unguided", 0]
        return torch.where(had[:, None, None, None], pushed, plain), torch.where(had, more, calls)

    def row(self, way: str, strength: float, images: Tensor, calls: Tensor) -> Row:
        reference = images if way == "unguided" else self.unguided
        judge, other = (self.second, self.judge) if way == BY_OWN else (self.judge, self.second)
        had, seen = self._shown(judge.see(reference)), judge.see(images)
        shown, found = self._shown(seen), judge.measure(seen)
        change = (images.double() - reference.double()).abs().flatten(1).mean(1) / 255
        both = bool(had.any()) and not bool(had.all()) and float(change[had].sum()) > 0
        return Row(
            concept=self.concept, scheduler=self.scheduler, way=way, strength=strength, images=len(images),
            rate=rate(shown).measured(0.0), rate_by_other=float(self._shown(other.see(images)).double().mean()),
            shift=found["collateral_shift"], frechet=found["frechet"],
            moved_without=_mean(change[~had]), moved_with=_mean(change[had]),
            ratio=moved_ratio(images, reference, had) if both else None, calls=float(calls.double().mean()),
            sets=[_of_set(judge, some, shown[rows]) for rows, some in _sets(images)],
        )  # fmt: skip


def _of_set(judge: PortraitJudge, images: Tensor, shown: Tensor) -> tuple[float, float, float]:
    found = judge.measure(judge.see(images))
    return float(shown.double().mean()), found["collateral_shift"].value, found["frechet"].value


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else 0.0


def _sets(images: Tensor) -> Iterator[tuple[slice, Tensor]]:
    size = len(images) // SETS
    for number in range(SETS):
        rows = slice(number * size, (number + 1) * size)
        yield rows, images[rows]


def of_negative(rows: Sequence[Row], row: Row, what: str) -> float | None:
    """A figure of the negative prompt at the rate of another way: the logarithm of the rate is interpolated.

    Returns:
        None if no two strengths of the negative prompt have rates around it.
    """
    own = [
        one for one in rows if (one.concept, one.scheduler, one.way) == (row.concept, row.scheduler, "negative prompt")
    ]
    own = sorted(own, key=lambda one: one.strength)
    least = 0.5 / row.images
    wanted = math.log(max(row.rate.value, least))
    for weaker, stronger in pairwise(own):
        high, low = (math.log(max(one.rate.value, least)) for one in (weaker, stronger))
        if low <= wanted <= high and high > low:
            share = (high - wanted) / (high - low)
            return getattr(weaker, what).value * (1 - share) + getattr(stronger, what).value * share
    return getattr(own[-1], what).value if own and wanted < math.log(max(own[-1].rate.value, least)) else None


def claims_of(rows: Sequence[Row]) -> list[Claim]:
    """What each way promises: a guidance against the negative prompt at the same rate, drawing again against the truth."""
    return [claim for row in rows for claim in _claims(rows, row)]


def _claims(rows: Sequence[Row], row: Row) -> Iterator[Claim]:
    where = (
        f"{row.scheduler}, {row.concept}, {row.way} {row.strength:g} (left {row.rate.value:.3f}, {row.calls:.0f} calls)"
    )
    if row.way in REDRAWN:
        of_true = row.frechet.truth or 0.0
        told = f"{where}: Fréchet distance, against that of as many true portraits, {of_true:.2f}, and .5"
        low = Measurement(value=row.shift.low or 0.0)
        yield at_most(f"{where}: share with the concept, by the classifier that did not flag", 0.02, row.rate)
        yield at_most(told, of_true + 0.5, row.frechet)
        yield at_most(f"{where}: lower end of the collateral shift, less chance ({row.shift.value:.3f})", 0.0, low)
        return
    shift, frechet = of_negative(rows, row, "shift"), of_negative(rows, row, "frechet")
    if row.way in ("unguided", "negative prompt") or shift is None or frechet is None:
        return
    told = f"the negative prompt's at that rate, {shift:.3f}"
    yield at_most(f"{where}: collateral shift, less chance, against a fifth of {told}", shift / 5, row.shift)
    told = f"the negative prompt's at that rate, {frechet:.1f}"
    yield at_most(f"{where}: Fréchet distance, against a third of {told}", frechet / 3, row.frechet)
    if row.ratio is not None:
        yield at_most(f"{where}: images without the concept moved, as a share of those with it", 0.45, row.ratio)


def figure_of(found: FrontsBenchmark) -> Any:
    """Two panels per concept: shift against the concept's removal, and against calls."""
    panels = []
    for concept, scheduler in dict.fromkeys((row.concept, row.scheduler) for row in found.rows):
        own = [row for row in found.rows if (row.concept, row.scheduler) == (concept, scheduler)]
        base = next((row.rate.value for row in own if row.way == "unguided"), 1.0)
        floor = max(row.shift.by_chance or 0.0 for row in own)

        def line(way: str, across: str, own: Sequence[Row] = own, base: float = base) -> Line:
            some = [row for row in own if row.way == way]
            at = {"removed": lambda row: 1 - row.rate.value / base, "calls": lambda row: row.calls}[across]
            return Line(way, tuple((at(row), (row.shift.uncorrected or row.shift.value)) for row in some))

        ways = list(dict.fromkeys(row.way for row in own))
        title = concept if scheduler == "own" else f"{concept}, {scheduler}"
        for across, words, ideal in (("removed", "share removed", (1.0, floor)), ("calls", "network calls", None)):
            lines = tuple(line(way, across) for way in ways)
            panels.append(Panel(title, words, "collateral shift", lines, floor, ideal))
    return draw_fronts(panels, 2, floor="by chance")
