"""A SigLIP as a judge of anything that has a name, on any pipeline."""

from dataclasses import dataclass
from typing import ClassVar

from ..core.laboratory import Asked, Judged
from .shared.pair_laboratory import PairLaboratory
from .shared.pairs import Link, PairJudge

SIGLIP = "google/siglip2-base-patch16-224"


@dataclass(frozen=True)
class Siglip(PairLaboratory):
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
    link: ClassVar[Link] = "sigmoid"

    model: str = SIGLIP

    def judge(self, model: Judged, asked: Asked) -> PairJudge:
        return self.asking(self.model, asked)
