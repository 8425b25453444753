"""Whether the dynamic negative works on a scheduler: what it leaves of the concept, and what else it changes."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..core.laboratory import Measurement
from ..laboratories.portraits import PortraitLaboratory
from ..metrics.estimates import bootstrap_counts, percentile_interval
from ..models.loading import Model
from ..study.compare import Started
from ..study.methods import standard_methods
from ..study.recipe import format_seeds
from ..testbeds.portraits import shows
from .claims import Benchmark, Claim, at_most
from .portraits import MAN, made_images

CONCEPT = "mustache"
METHODS = ("cfg", "negative", "dynamic-negative")
SCHEDULERS = (
    "dpm++ 2m sde", "dpm++ 2m", "euler", "euler_a", "unipc", "ddim", "ddpm", "pndm", "lms", "deis", "heun",
)  # fmt: skip
"""Those that people use, by the names that they use."""

LEFT = 0.5
"""It works where it leaves at most this share of CFG's concept, and no greater a distance than the negative prompt."""


def benchmark_tracking(
    load: Callable[[str], Model], schedulers: Sequence[str], seeds: Sequence[int], folder: Path, *,
    guidance_scale: float = 3.0, num_inference_steps: int = 30, batch_size: int = 16,
    on_method: Started | None = None, on_progress: Callable[[int, int], None] | None = None,
) -> Benchmark:  # fmt: skip
    """Hold the dynamic negative, with its defaults, against CFG and the negative prompt on several schedulers.

    Args:
        load: gives the model under a scheduler of this name.
        schedulers: names as ``load`` takes them.
        seeds: of every method.
        folder: images go to ``<scheduler>/images/<method>``; those that are there are not made again; writes
            ``tracking.json``, anew after each scheduler.
        guidance_scale: of all three methods.
        num_inference_steps, batch_size: of every method.
        on_method, on_progress: called as methods begin and as steps are made.

    Raises:
        UnsupportedModel: a model without a classifier of portraits, so that nothing can be measured.
        InvalidSetting: too few seeds for a Fréchet distance.
    """
    standard = standard_methods(MAN, (CONCEPT,), guidance_scale=guidance_scale, auto_scale=1.0)
    methods = [method for method in standard if method.name in METHODS]
    claims: list[Claim] = []
    for scheduler in schedulers:
        model = load(scheduler)
        images = made_images(
            model, [replace(method, label=f"{scheduler}: {method.label}") for method in methods], seeds, folder / scheduler,
            num_inference_steps=num_inference_steps, batch_size=batch_size, on_method=on_method, on_progress=on_progress,
        )  # fmt: skip
        made = dict(zip(METHODS, images, strict=True))
        claims += _claims(scheduler, made, PortraitLaboratory(model.folder or Path(), MAN, CONCEPT))
        result = Benchmark(
            model=model.name, model_digest=model.digest, scheduler="each of the named schedulers",
            num_inference_steps=num_inference_steps, seeds=format_seeds(seeds), claims=claims,
        )  # fmt: skip
        result.save(folder / "tracking.json")
    return result


def _claims(scheduler: str, made: dict[str, torch.Tensor], laboratory: PortraitLaboratory) -> list[Claim]:
    seen = {name: laboratory.see(images) for name, images in made.items()}
    found = {name: laboratory.measure(one) for name, one in seen.items()}
    had = shows(CONCEPT, seen["cfg"].attributes).bool()
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
        moved = {name: selectivity(made[name], made["cfg"], had) for name in METHODS[1:]}
        claims.append(at_most(
            f"{scheduler}: how far the dynamic negative moved images without the concept, as a share of those with it, "
            f"against the negative prompt's", moved["negative"].value, moved[ours],
        ))  # fmt: skip
    return claims


def _told(measured: dict[str, Measurement]) -> str:
    return ", ".join(f"{name} {one.value:.3f}" for name, one in measured.items())


def selectivity(images: torch.Tensor, reference: torch.Tensor, had: torch.Tensor) -> Measurement:
    """How far images moved that had nothing to remove, as a share of those that had: 0 is best, 1 is blind.

    Args:
        images, reference: uint8, ``[n, 3, height, width]``, of the same seeds.
        had: whether the reference shows the concept, ``[n]``; some do and some do not.

    Returns:
        The ratio of the mean pixel changes, with a bootstrap interval over images (resamples without one of the two
        kinds are left out).
    """
    change = (images.double() - reference.double()).abs().flatten(1).mean(1)
    counts = bootstrap_counts(len(change))
    without, with_it = ((counts * group) @ change / (counts @ group) for group in ((~had).double(), had.double()))
    ratios = without / with_it
    low, high = percentile_interval(ratios[ratios.isfinite()])
    value = float(change[~had].mean() / change[had].mean())
    return Measurement(value=value, low=low, high=high, interval="bootstrap", better="lower")
