"""A SigLIP as a judge of anything that has a name, on any pipeline."""

from dataclasses import dataclass
from typing import ClassVar

from ..core.errors import UnsupportedModel
from ..core.laboratory import Asked, Judged, Laboratory
from .clip import check_asking, read_calibration
from .shared.pairs import PairJudge
from .shared.towers import load_towers

SIGLIP = "google/siglip2-base-patch16-224"


@dataclass(frozen=True)
class Siglip(Laboratory):
    """A SigLIP asked for each thing by pairs of statements: a photo of it, and the same photo without a word on it.

    A SigLIP gives every statement a probability of its own that it belongs to the image. Of a pair, the statement with the thing
    has the share q / (q + r) of both, with q its probability and r that of the statement without it; pairs are averaged as log odds.
    The concepts are the negative prompts, split at commas; the other columns are what is watched. Nothing is known of the truth.

    Args:
        model: a folder or hub id of a SigLIP or SigLIP 2 in transformers' layout, safetensors only.
        threshold: above this probability a thing counts as seen, between 0 and 1.
        temperature: what the evidence is divided by; None for the calibration beside the weights, or 1 without one.
        device: where the SigLIP runs.
        batch: images that it sees at once.
    """

    name = "siglip"
    by_default: ClassVar[bool] = False

    model: str = SIGLIP
    threshold: float = 0.5
    temperature: float | None = None
    device: str = "cpu"
    batch: int = 32

    def __post_init__(self) -> None:
        check_asking(self.threshold, self.temperature, self.batch)

    def refuses(self, model: Judged, asked: Asked) -> str | None:
        return None

    def judge(self, model: Judged, asked: Asked) -> PairJudge:
        towers = load_towers(self.model, self.device)
        if towers.bias is None:
            raise UnsupportedModel(
                f"the model {self.model!r} is a CLIP; ask for the judge clip:model={self.model} instead."
            )
        calibration = read_calibration(self.model, self.temperature)
        judge = PairJudge(towers, "sigmoid", asked, self.threshold, calibration, self.batch)
        judge.prepare()
        return judge
