"""How well each evidence knows, at each noise level, what the finished image will show."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.calibration import Calibration
from ..core.evidence import Evidence
from ..core.laboratory import Asked, Measurement
from ..core.logistic import auc
from ..core.numerics import logit
from ..core.shapes import Bool, PerImage
from ..evidence.constant import ConstantEvidence
from ..guidance.unguided import Unguided
from ..metrics.estimates import bootstrap_counts, percentile_interval
from ..models.loading import Model
from ..study.calibrate import calibrate, labelled, observed_of, single
from ..study.folders import working_folder
from ..study.gallery import write_text
from ..study.measure import find_judge
from ..study.methods import Method
from ..study.observing import Sight, Watched, observe, runnable
from ..study.recipe import parse_seeds
from ..study.run import recipe_of
from ..telling.figures.areas import Areas, draw_areas
from ..telling.figures.base import save
from .claims import Benchmark, Claim, OnStage, at_least, at_most
from .portraits import MAN, PortraitExperiment

CONCEPT = "mustache"
SAMPLERS = ("dpm++ 2m sde", "dpm++ 2m")
"""One that draws noise in its steps, the model's own, and one that draws none."""
LEVELS = (13.0, 8.0, 5.0, 3.0, 1.5)
"""sigma / alpha; of a run's steps the nearest are taken."""
BINS = 10
CHANCE, TRUSTED = 0.5, 0.1
"""Bounds: an area under the curve above chance, and the expected calibration error."""


@dataclass(frozen=True)
class EvidenceQuality(PortraitExperiment):
    """How well every evidence ranks images by what they will show, how right its probability is, and what it costs.

    Calibrated on one set of seeds, measured on another, on unguided images. The finished image is judged by the first
    laboratory; who calibrates is its second one.

    Args:
        calibrated_on: seeds of the calibration.
        samplers: names, separated by commas; default: one that draws noise, one that does not.
    """

    name = "evidence"

    seeds: str = "0-255"
    calibrated_on: str = "1000000-1000255"
    samplers: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_seeds(self.calibrated_on)

    def measure(self, folder: Path, on_stage: OnStage) -> Benchmark:
        """Images go to ``<sampler>/calibrated`` and ``<sampler>/measured``; reliability, and the areas at every step, to
        ``evidence-by-level.json`` and ``evidence.png``.
        """
        names = SAMPLERS if self.samplers is None else tuple(name.strip() for name in self.samplers.split(","))
        claims: list[Claim] = []
        reliability: dict[str, Any] = {}
        for sampler in names:
            model = self.study([Method("unguided", "unguided", MAN, (), Unguided())], (), sampler).model.load()
            found, bins = self._of_sampler(model, sampler, folder / sampler.replace(" ", "-"), on_stage)
            claims += found
            reliability[sampler] = bins
            benchmark = self.benchmark(model, claims, scheduler="each of the named samplers")
            benchmark.save(folder / f"{self.name}.json")
            write_text(folder / f"{self.name}-by-level.json", json.dumps(reliability, indent=1) + "\n")
            save(draw_areas({own: _areas(found) for own, found in reliability.items()}), folder / f"{self.name}.png")
        return benchmark

    def _of_sampler(
        self, model: Model, sampler: str, folder: Path, on_stage: OnStage
    ) -> tuple[list[Claim], dict[str, Any]]:
        kept = calibrate(
            model, MAN, CONCEPT, folder / "calibrated", folder / f"{CONCEPT}.safetensors",
            seeds=parse_seeds(self.calibrated_on), num_inference_steps=self.num_inference_steps,
            batch_size=self.batch_size, on_progress=on_stage(f"{sampler}: calibrating"),
        ).calibration  # fmt: skip
        sights, shown = self._seen(model, kept, folder / "measured", on_stage(f"{sampler}: measuring"))
        observed = observed_of(sights, shown, sights[0].log_odds)
        claims: list[Claim] = []
        bins: dict[str, Any] = {}
        for name, log_odds in observed.log_odds.items():
            said = log_odds.nan_to_num(nan=logit(kept.prior))  # where nothing is known, a guidance has the prior
            spent = sum(one.evaluations[name] for one in sights) / len(sights)
            claims += _claims(f"{sampler}: {name}", said, observed.levels, shown)
            told = f"{sampler}: {name}: further network evaluations per image, against one per step"
            claims.append(at_most(told, self.num_inference_steps, spent))
            bins[name] = {
                "reliability": {
                    f"{observed.levels[index]:.4g}": reliability_bins(said[:, index].sigmoid(), shown)
                    for index in nearest(observed.levels)
                },
                "auc": [
                    (float(f"{level:.6g}"), round(auc(said[:, index], shown), 4))
                    for index, level in enumerate(observed.levels.tolist())
                    if math.isfinite(level)
                ],
            }
        return claims, bins

    def _seen(self, model: Model, kept: Calibration, folder: Path, on_progress: Any) -> tuple[list[Sight], Tensor]:
        """What every evidence says of fresh seeds, and what the finished images show."""
        plain = Method("unguided", "unguided", MAN, (), Unguided())
        recipe = recipe_of(model, plain, self.num_inference_steps)
        with working_folder(folder):
            able, _ = runnable(model, Watched(recipe, CONCEPT, dict(watchable()), kept))
            watched = Watched(recipe, CONCEPT, able, kept)
            sights, pictures = observe(
                model, watched, parse_seeds(self.seeds), folder, batch_size=self.batch_size, on_progress=on_progress
            )
        judging = find_judge(None, model, Asked(MAN, (CONCEPT,)))
        assert judging.judge is not None  # the calibration had one
        concepts = [column.name for column in judging.judge.columns() if column.role == "concept"]
        return sights, labelled(judging.judge, concepts, pictures)


def _areas(found: Mapping[str, Any]) -> Areas:
    return {name: one["auc"] for name, one in found.items()}


def watchable() -> Iterator[tuple[str, Evidence]]:
    """The evidences on the shelf with their defaults, but not those of others together nor the one that never changes."""
    for name, kind in single().items():
        if not issubclass(kind, ConstantEvidence):
            yield name, kind()


def nearest(levels: Tensor) -> list[int]:
    """The steps whose levels are nearest to :data:`LEVELS`, by ratio."""
    logs = levels.clamp(min=1e-12, max=1e12).log()
    return [int((logs - math.log(level)).abs().argmin()) for level in LEVELS]


def _claims(what: str, log_odds: Tensor, levels: Tensor, shown: Tensor) -> list[Claim]:
    claims = []
    for level, index in zip(LEVELS, nearest(levels), strict=True):
        area, error = area_measured(log_odds[:, index], shown), calibration_error(log_odds[:, index].sigmoid(), shown)
        claims.append(at_least(f"{what}: area under the curve at sigma {level:g}", CHANCE, area))
        claims.append(at_most(f"{what}: expected calibration error at sigma {level:g}", TRUSTED, error))
    return claims


def area_measured(scores: PerImage, shown: Bool[Tensor, " batch"]) -> Measurement:
    """The area under the curve, with a bootstrap interval over images (without resamples that lack one kind)."""
    apart = scores[shown].double()[:, None] - scores[~shown].double()[None, :]
    wins = (apart > 0).double() + (apart == 0).double() / 2
    counts = bootstrap_counts(len(scores))
    above, below = counts[:, shown].to(wins), counts[:, ~shown].to(wins)
    each = (above @ wins * below).sum(1) / (above.sum(1) * below.sum(1))
    low, high = percentile_interval(each[each.isfinite()])
    return Measurement(value=auc(scores, shown), low=low, high=high, interval="bootstrap")


def calibration_error(probability: PerImage, shown: Bool[Tensor, " batch"]) -> Measurement:
    """The expected calibration error over :data:`BINS` equal bins: the mean of |predicted - observed|, by images.

    With a bootstrap interval over images. Chance alone makes it larger than 0.
    """
    place = (probability * BINS).long().clamp(max=BINS - 1)
    one_hot = torch.nn.functional.one_hot(place, BINS).double()
    surplus = (probability.double() - shown.double())[:, None] * one_hot
    counts = bootstrap_counts(len(probability)).double()
    each = (counts @ surplus).abs().sum(1) / counts.sum(1)
    low, high = percentile_interval(each)
    value = float(surplus.sum(0).abs().sum()) / len(probability)
    return Measurement(value=value, low=low, high=high, interval="bootstrap")


def reliability_bins(probability: PerImage, shown: Bool[Tensor, " batch"]) -> list[Mapping[str, float]]:
    """Of each bin that has images: the mean probability, how many of its images show the concept, and their number."""
    place = (probability * BINS).long().clamp(max=BINS - 1)
    return [
        {
            "predicted": round(float(probability[own].mean()), 4),
            "observed": round(float(shown[own].double().mean()), 4),
            "images": int(own.sum()),
        }
        for own in (place == index for index in range(BINS))
        if own.any()
    ]
