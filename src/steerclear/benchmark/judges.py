"""The judge clip with the portraits' CLIP against the model's classifier and the exact truth: the generic way, tested."""

from dataclasses import dataclass
from pathlib import Path

from ..core.laboratory import Asked, Measurement
from ..core.logistic import auc
from ..laboratories.clip import Clip
from ..laboratories.portraits import SHOWN_ATTRIBUTES, PortraitJudge
from ..metrics.rates import rate
from ..study.study import ModelAsked
from ..testbeds.portraits import attribute_rates, true_portraits
from .claims import Benchmark, Claim, OnStage, at_least, at_most
from .portraits import MAN, PortraitExperiment
from .shipped import through_autoencoder

FIRST_PORTRAIT = 4_200_000_000
"""Seed of the first true portrait: nothing was trained or calibrated on it."""
CONCEPTS = ("mustache", "hat", "glasses", "beard")
NEAR, RANKED = 0.03, 0.98


@dataclass(frozen=True)
class Judges(PortraitExperiment):
    """The judge clip on true portraits, as drawn and through the model's autoencoder, and its ranking of them.

    Args:
        portraits: how many true portraits are seen.
    """

    name = "judges"

    seeds: str = "0-0"
    portraits: int = 1000

    def measure(self, folder: Path, on_stage: OnStage) -> Benchmark:
        model = ModelAsked(self.model, device=self.device).load()
        claims: list[Claim] = []
        for prompt in ("", MAN):
            on_progress = on_stage(f'portraits of "{prompt}"')
            images, shown = true_portraits(prompt, range(FIRST_PORTRAIT, FIRST_PORTRAIT + self.portraits))
            truth, own = attribute_rates(prompt), PortraitJudge(model.folder or Path(), prompt)
            words = [word for word in SHOWN_ATTRIBUTES if word not in prompt]
            judge = Clip().judge(model, Asked(prompt, watch=tuple(words)))
            views = {"as drawn": images, "through the autoencoder": through_autoencoder(model.pipe.vae, images)}
            for done, (view, pixels) in enumerate(views.items(), 1):
                seen, read = judge.see(pixels), own.see(pixels).shown
                where = f'"{prompt}", true portraits {view}'
                for word in words:
                    found, other = rate(seen.shown[word]).measured(), rate((read[word] > 0).long()).measured()
                    claims += _near(
                        f"{where}: rate of {word}", found, {"exact truth": truth[word], "classifier": other.value}
                    )
                    if word in CONCEPTS:
                        area = auc(seen.probabilities[word], shown[word] == 1)
                        claims.append(at_least(f"{where}: AUC of {word}", RANKED, area))
                on_progress(done, len(views))
        return self.benchmark(model, claims)


def _near(told: str, found: Measurement, others: dict[str, float]) -> list[Claim]:
    """The distance of a rate by the judge to the same rate by others."""
    return [
        at_most(f"{told} by clip, {found.value:.3f}: distance to that of the {who}, {value:.3f}", NEAR, abs(found.value - value))
        for who, value in others.items()
    ]  # fmt: skip
