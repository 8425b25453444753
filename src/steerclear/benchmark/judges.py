"""The judge clip with the portraits' CLIP against the model's classifier and the exact truth: the generic way, tested."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..core.errors import UnsupportedModel
from ..core.laboratory import Asked, Measurement
from ..core.logistic import auc
from ..core.settings import whole
from ..laboratories.clip import Clip
from ..laboratories.portraits import SHOWN_ATTRIBUTES, PortraitJudge, has_classifier
from ..metrics.rates import rate
from ..study.study import ModelAsked
from ..testbeds.portraits import attribute_rates, true_portraits
from .claims import Benchmark, Claim, Experiment, OnStage, at_least, at_most
from .portraits import MAN
from .shipped import through_autoencoder

FIRST_PORTRAIT = 4_200_000_000
"""Seed of the first true portrait: nothing was trained or calibrated on it."""
CONCEPTS = ("mustache", "hat", "glasses", "beard")
NEAR, RANKED = 0.03, 0.98
FEWEST = 64
"""With fewer portraits some would show no beard or no hat, and a rank needs both kinds."""


@dataclass(frozen=True)
class Judges(Experiment):
    """The judge clip on true portraits, as drawn and through the model's autoencoder, and its ranking of them.

    Args:
        model: a shipped model, a local folder, or a hub id.
        portraits: how many true portraits are seen.
        device: where the networks run.
    """

    name = "judges"
    continues: ClassVar[bool] = False

    model: str = "portraits"
    portraits: int = 1000
    device: str = "cpu"

    def __post_init__(self) -> None:
        whole("portraits", self.portraits, low=FEWEST)

    def measure(self, folder: Path, on_stage: OnStage) -> Benchmark:
        model = ModelAsked(self.model, device=self.device).load()
        if not has_classifier(model):
            raise UnsupportedModel(f"the model {self.model!r} is no model of portraits; give --model portraits.")
        claims: list[Claim] = []
        for prompt in ("", MAN):
            on_progress = on_stage(f'portraits of "{prompt}"')
            images, shown = true_portraits(prompt, range(FIRST_PORTRAIT, FIRST_PORTRAIT + self.portraits))
            truth, own = attribute_rates(prompt), PortraitJudge(model.folder or Path(), prompt)
            words = [word for word in SHOWN_ATTRIBUTES if word not in prompt]
            judge = Clip(device=self.device).judge(model, Asked(prompt, watch=tuple(words)))
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
        return Benchmark(
            model=model.name, model_digest=model.digest, scheduler="none", num_inference_steps=0,
            seeds=f"{FIRST_PORTRAIT}-{FIRST_PORTRAIT + self.portraits - 1}", claims=claims,
        )  # fmt: skip


def _near(told: str, found: Measurement, others: dict[str, float]) -> list[Claim]:
    """The distance of a rate by the judge to the same rate by others."""
    return [
        at_most(f"{told} by clip, {found.value:.3f}: distance to that of the {who}, {value:.3f}", NEAR, abs(found.value - value))
        for who, value in others.items()
    ]  # fmt: skip
