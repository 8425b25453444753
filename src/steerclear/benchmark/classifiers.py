"""How often the two classifiers of portraits are right, and how often they see different things in a model's images."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ..core.shapes import Tensor
from ..guidance.unguided import Unguided
from ..laboratories.portraits import PortraitJudge
from ..metrics.rates import rate
from ..models.loading import Model
from ..study.methods import Method
from ..testbeds.portraits import true_portraits
from .claims import Benchmark, Claim, OnStage, at_least, at_most
from .portraits import MAN, PortraitExperiment
from .shipped import through_autoencoder

FRESH_SEED, FRESH = 4_100_000_000, 4096
"""Portraits that neither classifier was trained on, and that are no references."""
CONCEPTS = ("mustache", "hat", "glasses", "beard", "smile")
RIGHT, DIFFERENT = 0.98, 0.03


@dataclass(frozen=True)
class Classifiers(PortraitExperiment):
    """The model's own classifier and the second one: accuracy on true portraits, and where they disagree on images."""

    name = "classifiers"

    seeds: str = "0-255"

    def measure(self, folder: Path, on_stage: OnStage) -> Benchmark:
        study = self.study([Method("unguided", "unguided", MAN, (), Unguided())])
        model = study.model.load()
        ((_, images),) = self.images(model, study, folder, on_stage)
        own, second = (PortraitJudge(model.folder or Path(), MAN, which=which) for which in ("own", "second"))  # type: ignore[arg-type]
        return self.benchmark(model, [*_different(own, second, images), *_accuracies(own, second, model, on_stage)])


def _different(own: PortraitJudge, second: PortraitJudge, images: Tensor) -> list[Claim]:
    """The share of a model's images in which the classifiers see different things, by concept."""
    one, other = own.see(images).shown, second.see(images).shown
    told = f'"{MAN}", scale 1: the classifiers disagree about'
    return [
        at_most(f"{told} {name}", DIFFERENT, rate((one[name] != other[name]).long()).measured()) for name in CONCEPTS
    ]


def _accuracies(own: PortraitJudge, second: PortraitJudge, model: Model, on_stage: OnStage) -> list[Claim]:
    """The share of fresh true portraits that each classifier reads right, by attribute, as drawn and rebuilt."""
    on_progress = on_stage("true portraits")
    images, attributes = true_portraits("", range(FRESH_SEED, FRESH_SEED + FRESH))
    views = {"as drawn": images, "through the autoencoder": through_autoencoder(model.pipe.vae, images)}
    seen = {
        (view, which): judge.see(pixels).shown
        for view, pixels in views.items()
        for which, judge in (("own", own), ("second", second))
    }
    on_progress(1, 1)
    claims = []
    for name, column in attributes.items():
        worn = attributes["hat"] == 1 if name == "hat_color" else torch.ones_like(column, dtype=torch.bool)
        for (view, which), shown in seen.items():
            told = f"{which} classifier, true portraits {view}: {name} right{', on hats' * (name == 'hat_color')}"
            claims.append(at_least(told, RIGHT, rate((shown[name] == column)[worn].long()).measured()))
    return claims
