"""Whether the dynamic negative works with a scheduler: how much of the concept is left, and what else changes."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..core.laboratory import Measurement
from ..core.settings import finite
from ..laboratories.portraits import PortraitJudge
from ..metrics.estimates import bootstrap_counts, percentile_interval
from ..study.methods import standard_methods
from ..testbeds.portraits import shows
from .claims import Benchmark, Claim, OnStage, at_most
from .portraits import MAN, PortraitExperiment

CONCEPT = "mustache"
METHODS = ("cfg", "negative", "dynamic-negative")
SCHEDULERS = (
    "dpm++ 2m sde", "dpm++ 2m", "euler", "euler_a", "unipc", "ddim", "ddpm", "pndm", "lms", "deis", "heun",
)  # fmt: skip
"""Popular schedulers, by their popular names."""

LEFT = 0.5
"""It works if at most this share of CFG's concept is left, and the Fréchet distance is at most the negative prompt's."""


@dataclass(frozen=True)
class Tracking(PortraitExperiment):
    """Whether the dynamic negative works with each scheduler, with its defaults, against CFG and the negative prompt.

    Args:
        schedulers: names, separated by commas; default: the popular ones.
        guidance_scale: of all three methods; 1 is off.
    """

    name = "tracking"

    seeds: str = "0-255"
    schedulers: str | None = None
    guidance_scale: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        finite("guidance_scale", self.guidance_scale)

    def measure(self, folder: Path, on_stage: OnStage) -> Benchmark:
        """Images go to ``<scheduler>/images/<method>``; the results are rewritten after each scheduler."""
        names = SCHEDULERS if self.schedulers is None else tuple(name.strip() for name in self.schedulers.split(","))
        standard = standard_methods(MAN, (CONCEPT,), guidance_scale=self.guidance_scale, auto_scale=1.0)
        methods = [method for method in standard if method.name in METHODS]
        claims: list[Claim] = []
        for scheduler in names:
            labelled = [replace(method, label=f"{scheduler}: {method.label}") for method in methods]
            study = self.study(labelled, (CONCEPT,), scheduler)
            model = study.model.load()
            images = self.images(model, study, folder / scheduler, on_stage)
            made = {method.name: pixels for method, pixels in images}
            claims += _claims(scheduler, made, PortraitJudge(model.folder or Path(), MAN, CONCEPT))
            found = self.benchmark(model, claims, scheduler="each of the named schedulers")
            found.save(folder / f"{self.name}.json")
        return found


def _claims(scheduler: str, made: dict[str, torch.Tensor], judge: PortraitJudge) -> list[Claim]:
    seen = {name: judge.see(images) for name, images in made.items()}
    found = {name: judge.measure(one) for name, one in seen.items()}
    had = shows(CONCEPT, seen["cfg"].shown).bool()
    rates = {name: found[name][CONCEPT] for name in METHODS}
    shifts = {name: found[name]["collateral_shift"] for name in METHODS}
    distances = {name: found[name]["frechet"] for name in METHODS}
    ours = METHODS[-1]
    claims = [
        at_most(f"{scheduler}: {CONCEPT} under the dynamic negative, against {LEFT:g} of CFG's ({_told(rates)})",
                LEFT * rates["cfg"].value, rates[ours]),
        at_most(f"{scheduler}: Fréchet distance of the dynamic negative, against the negative prompt's ({_told(distances)}; "
                f"collateral shift, less chance: {_told(shifts)})", distances["negative"].value, distances[ours]),
    ]  # fmt: skip
    if had.any() and not had.all():
        moved = {name: moved_ratio(made[name], made["cfg"], had) for name in METHODS[1:]}
        claims.append(at_most(
            f"{scheduler}: how far the dynamic negative moved images without the concept, as a share of those with it, "
            f"against the negative prompt's", moved["negative"].value, moved[ours],
        ))  # fmt: skip
    return claims


def _told(measured: dict[str, Measurement]) -> str:
    return ", ".join(f"{name} {one.value:.3f}" for name, one in measured.items())


def moved_ratio(images: torch.Tensor, reference: torch.Tensor, had: torch.Tensor) -> Measurement:
    """Mean pixel change of images without the concept over that of images with it: 0 is best, 1 is blind.

    Args:
        images, reference: uint8, ``[n, 3, height, width]``, of the same seeds.
        had: whether the reference shows the concept, ``[n]``; both must occur.

    Returns:
        The ratio, with a bootstrap interval over images (without resamples that lack one kind).
    """
    change = (images.double() - reference.double()).abs().flatten(1).mean(1)
    counts = bootstrap_counts(len(change))
    without, with_it = ((counts * group) @ change / (counts @ group) for group in ((~had).double(), had.double()))
    ratios = without / with_it
    low, high = percentile_interval(ratios[ratios.isfinite()])
    value = float(change[~had].mean() / change[had].mean())
    return Measurement(value=value, low=low, high=high, interval="bootstrap")
