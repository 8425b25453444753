"""The effect of autoguidance with the shipped weak network on precision, recall and Fréchet distance."""

from dataclasses import dataclass
from pathlib import Path

from ..core.errors import UnsupportedModel
from ..core.laboratory import Measurement
from ..guidance.auto import AutoGuidance
from ..guidance.unguided import Unguided
from ..networks.shared.naming import WEAK
from ..study.methods import Method
from .claims import Benchmark, Claim, OnStage, at_least, at_most
from .portraits import MAN, PortraitExperiment

SCALES = (1.1, 1.25, 1.5)


@dataclass(frozen=True)
class Autoguidance(PortraitExperiment):
    """Autoguidance with the shipped weak network, against no guidance, at the scale with the least Fréchet distance."""

    name = "autoguidance"

    def measure(self, folder: Path, on_stage: OnStage) -> Benchmark:
        plain = Method("unguided", "unguided", MAN, (), Unguided())
        guided = [Method(f"auto-{one:g}", f"autoguidance {one:g}", MAN, (), AutoGuidance(one)) for one in SCALES]
        study = self.study([plain, *guided])
        model = study.model.load()
        if WEAK not in model.networks:
            raise UnsupportedModel(f"the model {model.name!r} has no weak network; measure a shipped model")
        found = self.measured(model, study, [MAN], folder, on_stage)
        return self.benchmark(model, _against_unguided(found), weak_digest=model.networks[WEAK].source.digest)


def _against_unguided(found: dict[str, dict[str, Measurement]]) -> list[Claim]:
    best = min(SCALES, key=lambda scale: found[f"auto-{scale:g}"]["frechet"].value)
    ours, plain = found[f"auto-{best:g}"], found["unguided"]
    swept = ", ".join(f"{scale:g}: {found[f'auto-{scale:g}']['frechet'].value:.2f}" for scale in SCALES)
    truth = ours["frechet"].truth
    return [
        at_least(f"autoguidance {best:g}: precision, against unguided's", plain["precision"].value, ours["precision"]),
        at_least(f"autoguidance {best:g}: recall, against unguided's", plain["recall"].value, ours["recall"]),
        at_most(f"autoguidance {best:g}: Fréchet distance, against unguided's (swept {swept}; as many true portraits {truth:.2f})",
                plain["frechet"].value, ours["frechet"]),
    ]  # fmt: skip
