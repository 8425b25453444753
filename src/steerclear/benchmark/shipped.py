"""The quality of the shipped model: fidelity, the effect of negations in the prompt, and its parts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..core.laboratory import Measurement
from ..guidance.classifier_free import ClassifierFreeGuidance
from ..guidance.negative_prompt import NegativePromptGuidance
from ..guidance.unguided import Unguided
from ..laboratories.portraits import PortraitJudge
from ..metrics.rates import rate
from ..models.loading import Model
from ..study.methods import Method
from ..testbeds.portraits import attribute_rates, indicators, posterior, true_portraits
from ..training.autoencoder import decode, encode, peak_signal_to_noise
from ..training.data import to_pixels
from .claims import Benchmark, Claim, OnStage, at_least, at_most
from .portraits import MAN, PortraitExperiment

WITH, HAT = "portrait photo of a man with a mustache", "a woman wearing a red hat"
CONCEPT, SCALE = "mustache", 3.0
HELD_OUT_SEED, HELD_OUT = 4_000_000_000, 1024
REQUIRED = {
    "rate_error": 0.06, "precision": 0.85, "recall": 0.75, "psnr": 29.0, "classifier": 0.98, "classifier_mustache": 0.97,
    "red_hat": 0.95, "woman": 0.97, "with_mustache": 0.90, "without_adds": 0.15, "negative_halves": 0.5,
}  # fmt: skip


@dataclass(frozen=True)
class Shipped(PortraitExperiment):
    """The shipped model: fidelity at scale 1, effect of "without" and of the negative prompt, its parts."""

    name = "shipped"

    def measure(self, folder: Path, on_stage: OnStage) -> Benchmark:
        study = self.study([
            Method("unguided", "unguided", MAN, (), Unguided()),
            Method("red-hat", "a red hat", HAT, (), Unguided()),
            Method("with-mustache", "with a mustache", WITH, (), Unguided()),
            Method("cfg", "CFG", MAN, (), ClassifierFreeGuidance(SCALE)),
            Method("without", "without", f"{MAN} without {CONCEPT}", (), ClassifierFreeGuidance(SCALE)),
            Method("negative", "negative prompt", MAN, (CONCEPT,), NegativePromptGuidance(SCALE)),
        ])  # fmt: skip
        model = study.model.load()
        found = self.measured(model, study, [MAN, HAT, WITH], folder, on_stage)
        parts = _parts(model, PortraitJudge(model.folder or Path(), MAN))
        return self.benchmark(model, [*_fidelity(found, len(study.seeds)), *_story(found), *parts])


def _fidelity(found: dict[str, dict[str, Measurement]], images: int) -> list[Claim]:
    claims = []
    for name, prompt in (("unguided", MAN), ("red-hat", HAT), ("with-mustache", WITH)):
        truth = attribute_rates(prompt)
        errors = {key: found[name][f"rate:{key}"].value - share for key, share in truth.items()}
        worst = max(errors, key=lambda key: abs(errors[key]))
        shown = found[name][f"rate:{worst}"]
        claims.append(at_most(
            f'"{prompt}", scale 1: largest distance of an attribute\'s rate from its exact truth '
            f"({worst}: {shown.value:.3f} [{shown.low:.3f}, {shown.high:.3f}], truth {truth[worst]:.3f}; as many true portraits "
            f"would have {largest_distance_by_chance(prompt, images):.3f})",
            REQUIRED["rate_error"], abs(errors[worst]),
        ))  # fmt: skip
    plain = found["unguided"]
    claims += [
        at_least(f'"{MAN}", scale 1: precision', REQUIRED["precision"], plain["precision"]),
        at_least(f'"{MAN}", scale 1: recall', REQUIRED["recall"], plain["recall"]),
        at_least(f'"{HAT}", scale 1: a red hat', REQUIRED["red_hat"], found["red-hat"]["rate:hat_color:red"]),
        at_least(f'"{HAT}", scale 1: a hat', REQUIRED["red_hat"], found["red-hat"]["rate:hat"]),
        at_most(f'"{HAT}", scale 1: a man', 1 - REQUIRED["woman"], found["red-hat"]["rate:man"]),
        at_least(f'"{WITH}", scale 1: a mustache', REQUIRED["with_mustache"], found["with-mustache"]["rate:mustache"]),
    ]
    return claims


def largest_distance_by_chance(prompt: str, images: int, draws: int = 200) -> float:
    """The expected largest error of an attribute's rate among this many true portraits.

    It is above 0, because rates of finitely many portraits differ from the truth by chance.
    """
    attributes, probability = posterior(prompt)
    drawn = torch.multinomial(probability, draws * images, replacement=True, generator=torch.Generator().manual_seed(0))
    drawn = drawn.view(draws, images)
    truth = attribute_rates(prompt)
    distances = [(shown.double()[drawn].mean(1) - truth[name]).abs() for name, shown in indicators(attributes).items()]
    return float(torch.stack(distances).amax(0).mean())


def _story(found: dict[str, dict[str, Measurement]]) -> list[Claim]:
    rates = {name: found[name][f"rate:{CONCEPT}"] for name in ("cfg", "without", "negative")}
    shown = ", ".join(f"{name} {rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}]" for name, rate in rates.items())
    return [
        at_least(f'CFG {SCALE:g}: mustaches that "without mustache" adds to the plain prompt ({shown})',
                 REQUIRED["without_adds"], rates["without"].value - rates["cfg"].value),
        at_most(f"CFG {SCALE:g}: mustaches under the negative prompt, as a share of the plain prompt's",
                REQUIRED["negative_halves"], rates["negative"].value / max(rates["cfg"].value, 1e-9)),
    ]  # fmt: skip


def _parts(model: Model, judge: PortraitJudge) -> list[Claim]:
    """The autoencoder's fidelity, and the classifier's accuracy on its output, on held-out portraits."""
    seeds = range(HELD_OUT_SEED, HELD_OUT_SEED + HELD_OUT)
    images, attributes = true_portraits("", seeds)
    rebuilt = through_autoencoder(model.pipe.vae, images)
    signal = float(peak_signal_to_noise(images, rebuilt).mean())
    claims = [at_least("autoencoder: mean peak signal to noise, dB", REQUIRED["psnr"], signal)]
    read = judge.see(rebuilt).shown
    for name, column in attributes.items():
        rows = attributes["hat"] == 1 if name == "hat_color" else torch.ones_like(column, dtype=torch.bool)
        right = rate((read[name] == column)[rows]).measured()
        told = f"classifier through the autoencoder: {name} right{', on hats' * (name == 'hat_color')}"
        claims.append(at_least(told, REQUIRED["classifier"], right))
    right = rate((read[CONCEPT] == attributes[CONCEPT])[attributes["man"] == 1]).measured()
    told = "classifier through the autoencoder: mustache right, on men"
    return [*claims, at_least(told, REQUIRED["classifier_mustache"], right)]


def through_autoencoder(vae: Any, images: torch.Tensor) -> torch.Tensor:
    """uint8 images as an autoencoder gives them back, uint8."""
    return to_pixels(decode(vae, encode(vae, images.to(vae.device)))).cpu()
