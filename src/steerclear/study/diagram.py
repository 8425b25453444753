"""What guidances do in a world of the plane, as data to draw: their push at several noise levels, paths, and what they sample."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ..core.denoiser import Branch, Denoiser, Point
from ..core.engine import GuidedDenoiser
from ..core.errors import InvalidSetting
from ..core.evidence import Surroundings
from ..core.guidance import Guidance, negative_has_no_effect
from ..core.parsing import parse_part
from ..core.sampling import sample
from ..core.settings import finite, whole
from ..evidence.oracle import OracleEvidence
from ..evidence.transition import TransitionEvidence
from ..guidance.unguided import Unguided
from ..metrics.energy import energy_distance
from ..testbeds.mixture import Mixture, MixtureDenoiser, MixtureTestbed, MixtureWorld
from ..testbeds.planar import PlanarMixture

MECHANISMS = {
    "all": (
        "unguided", "autoguidance:2", "negative:1.5", "dynamic-negative:1", "redraw:from_step=0",
        "autoguidance(auto_scale=2,inner=dynamic-negative(guidance_scale=1))",
    ),
    "class": ("unguided", "autoguidance:2", "cfg:3", "negative:2"),
}  # fmt: skip
"""By what the prompt shows: what is drawn if nothing else is asked for."""

LEVELS = (1.0, 0.4, 0.12)
"""Noise levels that are drawn by default, as shares of the world's spread."""

PIXELS, BINS, ARROWS = 180, 45, 15
"""Places per side: of a density, of the bins in which samples are counted, of a field of arrows."""

FINER, SMOOTH = 3, 1.0
"""What is wanted is averaged over this many places per side of a pixel; it and samples are smoothed by so many pixels."""

LOWEST, HIGHEST, TRAINED = 0.002, 80.0, 1000
"""sigma / alpha at the ends of the sampler's schedule, and the number of levels between that it can choose from."""

OUTSIDE, ARROWS_WITHIN = 0.01, 0.99
"""Share of the world's mass outside of its contour; share of the prompt's within which arrows are drawn."""

NEVER = 50.0
"""Log-odds of what does not happen."""

CHUNK, COMPARED = 1024, 4000
"""Samples at once; samples whose energy distance is measured, which takes every pair of them."""

TRUTH, SECOND_TRUTH = 1_000_000_000, 2_000_000_000
"""First seeds of exact draws: those that samples are compared with, and those that stand in for samples."""


@dataclass(frozen=True)
class Shading:
    """A density on the pixels of the picture, ``[PIXELS, PIXELS]``, from the bottom up.

    Attributes:
        share: the share of the mass that is denser than a pixel, in [0, 1]: below .5 is the half that is densest.
        concept: the probability that a finished image from there shows the concept, in [0, 1].
    """

    share: np.ndarray
    concept: np.ndarray


@dataclass(frozen=True)
class Push:
    """A guidance's change of the prediction at one noise level.

    Attributes:
        places: where, in the picture, ``[n, 2]``.
        arrows: guided minus plain denoised prediction there, in the data's unit, ``[n, 2]``.
        mean: its mean length, over the images of that noise level.
    """

    places: np.ndarray
    arrows: np.ndarray
    mean: float


@dataclass(frozen=True)
class Way:
    """One draw on its way from noise to image.

    Attributes:
        seed: of the image.
        points: in the picture, ``[steps + 1, 2]``.
        shows: whether the finished image shows the concept.
        kept: False for a draw in whose place another one was made.
    """

    seed: int
    points: np.ndarray
    shows: bool
    kept: bool


@dataclass(frozen=True)
class Numbers:
    """Samples against what is wanted.

    Attributes:
        concept: rate of the concept, the mean of p(c | x).
        misplaced: total variation to what is wanted, in bins: the share of the images that would have to lie elsewhere.
        outside: share outside of the contour that holds 99 % of the world, whatever the prompt shows.
        energy: energy distance to what is wanted, squared.
        calls: network evaluations per image.
    """

    concept: float
    misplaced: float
    outside: float
    energy: float
    calls: float


@dataclass(frozen=True)
class Drawn:
    """A guidance in the world.

    Attributes:
        guidance: as it was asked for.
        without: whether it is wanted that the concept is missing, because negative prompts change something here.
        pushes: per noise level; None where it never changes the prediction.
        paths: of the same seeds for every guidance; a draw that is not kept stands before the one that is.
        sampled: where its samples are.
        numbers: what they are worth.
    """

    guidance: Guidance
    without: bool
    pushes: tuple[Push | None, ...]
    paths: tuple[Way, ...]
    sampled: Shading
    numbers: Numbers


@dataclass(frozen=True)
class Wanted:
    """What is wanted, exactly, and the numbers of exact draws: the least that chance allows."""

    shading: Shading
    numbers: Numbers


@dataclass(frozen=True)
class Scene:
    """All that a diagram shows.

    Attributes:
        request: what was asked for.
        sigmas: noise levels sigma / alpha of the pushes.
        extent: left, right, bottom and top of the picture, in the data's unit.
        levels: noise levels of the points of ways, one per step.
        noisy: the network's density at each noise level.
        wanted: without the concept or not -> what is wanted.
        drawn: the guidances.
    """

    request: "Diagram"
    sigmas: tuple[float, ...]
    extent: tuple[float, float, float, float]
    levels: tuple[float, ...]
    noisy: tuple[Shading, ...]
    wanted: dict[bool, Wanted]
    drawn: tuple[Drawn, ...]


@dataclass(frozen=True)
class Diagram:
    """Guidances in a world of the plane, and how closely one looks.

    The prompt shows everything, so that a negative prompt has something to remove, or it names the class without the concept.
    The empty prompt shows everything, the negative prompt the concept. The network has learned the world as if seen out of focus: C_k + b^2 I in place of C_k, with b = ``blur`` S. The weak network
    has the same fault, stronger: its covariances are ``weaker`` times those of the network. Points of the noise level s = sigma / alpha are drawn at u, so that their spread is that of
    the data at every level:

        u = m + (x_t / alpha - m) S / sqrt(S^2 + s^2),   m the world's mean, S^2 its mean variance per coordinate

    Attributes:
        world: a mixture of two dimensions.
        mechanisms: guidances. An evidence that is not named is the exact posterior of what the network learned.
        sigmas: noise levels of the pushes, sigma / alpha, above 0; () for :data:`LEVELS` times the world's spread.
        samples: images per guidance, at least 100.
        paths: images whose way is drawn, at least 1.
        moving: images whose ways are computed for an animation, at least 0.
        steps: of the sampler, DPM-Solver++(2M) from sigma / alpha = 80 to .002, at least 2.
        seed: of the first image, at least 0.
        prompt: what it shows, "all" or "class".
        blur: b, as a share of the world's spread, at least 0; 0 is a perfect network.
        weaker: factor of the weak network's covariances against the network's, at least 1.

    Raises:
        InvalidSetting: a number out of range, or a world of another dimension.
    """

    world: MixtureTestbed
    mechanisms: tuple[Guidance, ...] = ()
    sigmas: tuple[float, ...] = ()
    samples: int = 20_000
    paths: int = 8
    moving: int = 0
    steps: int = 40
    seed: int = 0
    prompt: str = "all"
    blur: float = 0.05
    weaker: float = 3.0

    def __post_init__(self) -> None:
        if self.world.world.full.dimension != 2:
            raise InvalidSetting(
                "the dimension of --world", self.world.world.full.dimension, "2, so that it can be drawn",
                "a world may take settings, as scattered:dimension=2",
            )  # fmt: skip
        for sigma in self.sigmas:
            finite("sigma", sigma, low=LOWEST, high=HIGHEST)
        whole("samples", self.samples, low=100)
        whole("paths", self.paths, low=1, high=CHUNK)
        whole("moving", self.moving, low=0, high=CHUNK)
        whole("steps", self.steps, low=2)
        whole("seed", self.seed, low=0, high=TRUTH - self.samples)
        if self.prompt not in MECHANISMS:
            raise InvalidSetting("prompt", self.prompt, "all or class")
        finite("blur", self.blur, low=0)
        finite("weaker", self.weaker, low=1)
        if not self.mechanisms:
            object.__setattr__(self, "mechanisms", tuple(parse_part(one, Guidance) for one in MECHANISMS[self.prompt]))

    @cached_property
    def truth(self) -> MixtureWorld:
        """The world itself."""
        own = self.world.world
        return MixtureWorld(PlanarMixture.of(own.full), own.membership)

    @cached_property
    def learned(self) -> MixtureWorld:
        """What the network makes of it."""
        full = self.truth.full
        blurred = replace(full, variances=full.variances + (self.blur * self.frame.spread) ** 2)
        return MixtureWorld(blurred, self.truth.membership)

    @cached_property
    def denoiser(self) -> MixtureDenoiser:
        """The network, with its weak one."""
        return Prompted(
            self.learned, empty=self.learned.full, networks={"weak": self.weaker}, shown=self._shown(self.learned)
        )

    def _shown(self, world: MixtureWorld) -> Mixture:
        """What the prompt shows."""
        return world.full if self.prompt == "all" else world.target

    def log_odds(self, sample: Tensor, alpha: Any, sigma: Any) -> Tensor:
        """Of the concept, for the network, given the prompt: it is sure of its absence where the prompt names the class without it."""
        odds = self.learned.log_odds(sample, alpha, sigma)
        return odds if self.prompt == "all" else torch.full_like(odds, -NEVER)

    @cached_property
    def frame(self) -> "Frame":
        """The picture's place in the world."""
        mean, covariance = self.truth.full.moments()
        spread = math.sqrt(float(covariance.diagonal().mean()))
        draws = self.truth.full.sample(range(TRUTH, TRUTH + 2000))
        low, high = draws.amin(0), draws.amax(0)
        half = float((high - low).max()) / 2 * 1.12
        centre = (low + high) / 2
        ends = torch.stack([centre - half, centre + half], 1).flatten().tolist()
        return Frame(mean, spread, (ends[0], ends[1], ends[2], ends[3]))

    def scene(self, on_stage: Callable[[str], Callable[[int, int], None]] | None = None) -> Scene:
        """Compute all that is drawn.

        Args:
            on_stage: called with a guidance's name; returns a function of (images done, of how many).
        """
        sigmas = self.sigmas or tuple(float(f"{share * self.frame.spread:.1g}") for share in LEVELS)
        truths = {without: self._exact(without) for without in (False, True)}
        drawn = []
        for guidance in self.mechanisms:
            without = self.prompt == "class" or negative_has_no_effect(guidance) is None
            acting = with_oracle(guidance, OracleEvidence(self.log_odds))
            progress = None if on_stage is None else on_stage(guidance.name)
            made, calls = self._samples(acting, progress)
            pushes = tuple(self._push(acting, sigma) for sigma in sigmas)
            drawn.append(
                Drawn(
                    guidance, without, pushes, tuple(self._ways(acting)), self._counted(made),
                    self._numbers(made, without, calls),
                )
            )  # fmt: skip
        noisy = tuple(self._shading(sigma) for sigma in sigmas)
        return Scene(self, sigmas, self.frame.extent, self._levels, noisy, truths, tuple(drawn))

    def _exact(self, without: bool) -> Wanted:
        draws = self.world.draws(range(SECOND_TRUTH, SECOND_TRUTH + self.samples), without_concept=without)
        wanted = self.truth.target if without else self.truth.full
        density = self._density(wanted, self.frame.pixels(PIXELS * FINER), 0.0).reshape(PIXELS, FINER, PIXELS, FINER)
        smooth = gaussian_filter(density.mean((1, 3)).numpy(), SMOOTH)
        shading = Shading(shares(torch.from_numpy(smooth)), self._finished)
        return Wanted(shading, self._numbers(draws, without, 0.0))

    def _samples(self, guidance: Guidance, progress: Callable[[int, int], None] | None) -> tuple[Tensor, float]:
        """The samples, ``[samples, 2]``, and the network evaluations of each."""
        made: list[Tensor] = []
        calls = 0.0
        for begin in range(self.seed, self.seed + self.samples, CHUNK):
            seeds = range(begin, min(begin + CHUNK, self.seed + self.samples))
            run = self._run(self.denoiser, guidance, seeds)
            made.append(run.samples)
            calls += float(run.trace.evaluations.sum())
            if progress is not None:
                progress(begin - self.seed + len(seeds), self.samples)
        return torch.cat(made), calls / self.samples

    def _run(self, denoiser: Denoiser, guidance: Guidance, seeds: Sequence[int]) -> Any:
        return sample(denoiser, guidance, scheduler(), seeds, (2,), num_inference_steps=self.steps, negatives=1,
                      dtype=torch.float64)  # fmt: skip

    def _push(self, guidance: Guidance, sigma: float) -> Push | None:
        """Where the guidance moves the prediction at a noise level; None if nowhere."""
        places = self.frame.pixels(ARROWS)
        density = self._density(self._shown(self.learned), places, sigma)
        point = self._point(self.frame.noisy(places, sigma), sigma)
        guided, plain = (self._denoised(one, point) for one in (guidance, Unguided()))
        moved = guided - plain
        if not moved.any():
            return None
        inside = shares(density.reshape(ARROWS, ARROWS)).flatten() < ARROWS_WITHIN
        weights = density / density.sum()
        return Push(places[inside].numpy(), moved[inside].numpy(), float((weights * moved.norm(dim=1)).sum()))

    def _point(self, sample: Tensor, sigma: float) -> Point:
        """The sampler's step that is nearest to this noise level, there."""
        index = min(range(self.steps), key=lambda step: abs(math.log(self._levels[step] / sigma)))
        alpha, following = 1 / math.hypot(1, sigma), (*self._levels, 0.0)[index + 1]
        after = 1 / math.hypot(1, following)
        return Point(sample, alpha, sigma * alpha, index, index, self.steps, next_alpha=after,
                     next_sigma=following * after)  # fmt: skip

    @cached_property
    def _levels(self) -> tuple[float, ...]:
        plan = scheduler()
        plan.set_timesteps(self.steps)
        return tuple(plan.sigmas[:-1].tolist())

    def _denoised(self, guidance: Guidance, point: Point) -> Tensor:
        surroundings = Surroundings(len(point.sample), 1, tuple(range(len(point.sample))))
        noise = GuidedDenoiser(self.denoiser, guidance, surroundings).predict(point)
        return (point.sample - point.sigma * noise) / point.alpha

    def _ways(self, guidance: Guidance) -> Iterator[Way]:
        """Of the first seeds; where images are drawn again one after another, so that every draw of each is known."""
        seeds = range(self.seed, self.seed + max(self.paths, self.moving))
        for some in [seeds] if guidance.redrawing() is None else [[seed] for seed in seeds]:
            recorder = Recorder(self.denoiser, [])
            run = self._run(recorder, guidance, some)
            for number, draw in enumerate(recorder.draws):
                last = number == len(recorder.draws) - 1
                end = run.samples if last else self._end(draw[-1])
                shows = (self.truth.log_odds(end) > 0).tolist()
                points = [self.frame.seen(point.sample, point.sigma / point.alpha) for point in draw]
                for row, way in enumerate(torch.stack([*points, end], 1).numpy()):
                    yield Way(some[row], way, shows[row], last)

    def _end(self, point: Point) -> Tensor:
        """Where a draw that was replaced would have ended, but for the last guided step."""
        shown = self.denoiser.mixture(Branch.parse("positive"))
        return shown.denoised(point.sample, point.alpha, point.sigma)

    def _shading(self, sigma: float) -> Shading:
        """What the network makes of the prompt at a noise level."""
        density = self._density(self._shown(self.learned), self.frame.pixels(PIXELS), sigma)
        concept = self._concept(self.learned, sigma)
        return Shading(shares(density), concept if self.prompt == "all" else np.zeros_like(concept))

    def _density(self, mixture: Mixture, places: Tensor, sigma: float) -> Tensor:
        """At places of the picture, up to a constant; ``[n]``."""
        alpha = 1 / math.hypot(1, sigma)
        noisy = self.frame.noisy(places, sigma).split(CHUNK)
        return torch.cat([mixture.log_density(some, alpha, sigma * alpha) for some in noisy]).exp()

    def _concept(self, world: MixtureWorld, sigma: float) -> np.ndarray:
        alpha = 1 / math.hypot(1, sigma)
        noisy = self.frame.noisy(self.frame.pixels(PIXELS), sigma).split(CHUNK)
        odds = torch.cat([world.log_odds(some, alpha, sigma * alpha) for some in noisy])
        return odds.nan_to_num(0.0).sigmoid().reshape(PIXELS, PIXELS).numpy()

    @cached_property
    def _finished(self) -> np.ndarray:
        return self._concept(self.truth, 0.0)

    def _counted(self, made: Tensor) -> Shading:
        """A density from samples: their histogram, smoothed by a Gaussian of one pixel."""
        counts = gaussian_filter(self.frame.counts(made, PIXELS), SMOOTH)
        return Shading(shares(torch.from_numpy(counts).flatten()), self._finished)

    def _numbers(self, made: Tensor, without: bool, calls: float) -> Numbers:
        exact = self._draws(without)
        threshold = self._threshold
        outside = torch.cat([self.truth.full.log_density(some) for some in made.split(CHUNK)]) < threshold
        return Numbers(
            concept=float(torch.cat([self.truth.log_odds(some).sigmoid() for some in made.split(CHUNK)]).mean()),
            misplaced=self._misplaced(made, without),
            outside=float(outside.double().mean()),
            energy=energy_distance(made[:COMPARED], exact[:COMPARED]),
            calls=calls,
        )

    def _draws(self, without: bool) -> Tensor:
        count = min(self.samples, COMPARED)
        return self.world.draws(range(TRUTH, TRUTH + count), without_concept=without)

    @cached_property
    def _threshold(self) -> float:
        """The log density of the contour that holds 99 % of the world, from 20,000 exact draws."""
        draws = self.world.draws(range(TRUTH, TRUTH + 20_000))
        return float(torch.cat([self.truth.full.log_density(some) for some in draws.split(CHUNK)]).quantile(OUTSIDE))

    @cached_property
    def _masses(self) -> dict[bool, np.ndarray]:
        """Exact probability of each bin, with the concept and without, from eight times as many places per side."""
        found = {}
        for without, mixture in ((False, self.truth.full), (True, self.truth.target)):
            fine = BINS * 8
            density = self._density(mixture, self.frame.pixels(fine), 0.0).reshape(BINS, 8, BINS, 8)
            found[without] = density.sum((1, 3)).numpy() * (self.frame.side / fine) ** 2
        return found

    def _misplaced(self, made: Tensor, without: bool) -> float:
        """Total variation in bins; what lies outside of the picture is one more bin."""
        shares = self.frame.counts(made, BINS) / len(made)
        masses = self._masses[without]
        beyond = abs((1 - shares.sum()) - max(1 - masses.sum(), 0.0))
        return float(np.abs(shares - masses).sum() + beyond) / 2


@dataclass(frozen=True)
class Frame:
    """The picture's place in the world, and its coordinates at every noise level.

    Attributes:
        mean, spread: m and S of :class:`Diagram`.
        extent: left, right, bottom, top.
    """

    mean: Tensor
    spread: float
    extent: tuple[float, float, float, float]

    @property
    def side(self) -> float:
        """Of the picture, in the data's unit."""
        return self.extent[1] - self.extent[0]

    def pixels(self, count: int) -> Tensor:
        """Centres of ``count`` places per side, ``[count * count, 2]``, row after row from the bottom."""
        left, _, bottom, _ = self.extent
        along = (torch.arange(count, dtype=torch.float64) + 0.5) / count * self.side
        rows, columns = torch.meshgrid(along + bottom, along + left, indexing="ij")
        return torch.stack([columns.flatten(), rows.flatten()], 1)

    def noisy(self, places: Tensor, sigma: float) -> Tensor:
        """x_t of places of the picture, where alpha^2 + sigma^2 = 1."""
        alpha = 1 / math.hypot(1, sigma)
        return alpha * (self.mean + (places - self.mean) * math.hypot(self.spread, sigma) / self.spread)

    def seen(self, sample: Tensor, sigma: float) -> Tensor:
        """The inverse of :meth:`noisy`."""
        alpha = 1 / math.hypot(1, sigma)
        return self.mean + (sample / alpha - self.mean) * self.spread / math.hypot(self.spread, sigma)

    def counts(self, made: Tensor, count: int) -> np.ndarray:
        """Samples in each of ``count`` places per side, ``[count, count]`` from the bottom."""
        left, right, bottom, top = self.extent
        points = made.numpy()
        return np.histogram2d(points[:, 1], points[:, 0], count, ((bottom, top), (left, right)))[0]


@dataclass(frozen=True, eq=False)
class Prompted(MixtureDenoiser):
    """A world as a network whose prompt may name a part of it.

    Attributes:
        shown: what the prompt shows; None for p.
    """

    shown: Mixture | None = None

    def _main(self, condition: str) -> Mixture:
        return self.shown if condition == "positive" and self.shown is not None else super()._main(condition)


@dataclass(frozen=True)
class Recorder:
    """A denoiser that keeps where it was asked, draw after draw.

    Attributes:
        inner: predicts.
        draws: a list of points per draw.
    """

    inner: MixtureDenoiser
    draws: list[list[Point]]

    exact = True

    @property
    def prediction_type(self) -> str:
        return self.inner.prediction_type

    def predict(self, point: Point, branches: tuple[Branch, ...], rows: Tensor | None) -> list[Tensor]:
        if not self.draws or point.index < self.draws[-1][-1].index:
            self.draws.append([])
        if not self.draws[-1] or point.index > self.draws[-1][-1].index:
            self.draws[-1].append(point)
        return self.inner.predict(point, branches, rows)


def with_oracle(guidance: Guidance, oracle: OracleEvidence) -> Guidance:
    """The guidance with the exact posterior for every evidence that was left at its default, inside wrappers too.

    An evidence that follows an image along its path has no value at a place, and a diagram shows what a guidance is meant to do.
    """
    changes: dict[str, Any] = {}
    for name in guidance.parameters():
        value = getattr(guidance, name)
        if isinstance(value, Guidance):
            changes[name] = with_oracle(value, oracle)
        elif name == "evidence" and (value is None or value == TransitionEvidence()):
            changes[name] = oracle
    return guidance.changed(**changes) if changes else guidance


def shares(density: Tensor) -> np.ndarray:
    """For every place the share of the mass that is denser, in [0, 1]; a square array, as the places are.

    >>> shares(torch.tensor([4.0, 1.0, 3.0, 2.0]))
    array([[0. , 0.9],
           [0.4, 0.7]])
    """
    flat = density.flatten().double()
    order = flat.argsort(descending=True, stable=True)
    before = flat[order].cumsum(0) - flat[order]
    found = torch.empty_like(flat)
    found[order] = before / flat.sum()
    side = math.isqrt(len(flat))
    return found.reshape(side, side).numpy()


def scheduler() -> Any:
    """DPM-Solver++(2M) on levels that reach from nearly all noise to hardly any, spaced as by Karras et al. (2022)."""
    from diffusers import DPMSolverMultistepScheduler

    levels = np.geomspace(LOWEST, HIGHEST, TRAINED)
    kept = 1 / (1 + levels**2)  # alpha^2 of each level
    betas = 1 - kept / np.concatenate([[1.0], kept[:-1]])
    return DPMSolverMultistepScheduler(TRAINED, trained_betas=betas, use_karras_sigmas=True)


def numbers_of(scene: Scene, named: Callable[[Guidance], str]) -> dict[str, Any]:
    """The numbers of a scene, for JSON.

    Args:
        scene: what was computed.
        named: how a guidance is called.
    """
    request = scene.request
    own = {"samples": request.samples, "steps": request.steps, "seed": request.seed, "prompt": request.prompt, "blur": request.blur,
           "weaker": request.weaker, "sigmas": list(scene.sigmas)}  # fmt: skip
    wanted = {"all": scene.wanted[False].numbers, "without": scene.wanted[True].numbers}
    return {
        "world": request.world.to_config(), **own,
        "exact draws": {name: vars(one) for name, one in wanted.items()},
        "guidances": [
            {"guidance": named(one.guidance), "wanted": "without" if one.without else "all", **vars(one.numbers),
             "mean push": [0.0 if push is None else push.mean for push in one.pushes]}
            for one in scene.drawn
        ],
    }  # fmt: skip
