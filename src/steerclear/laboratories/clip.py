"""A CLIP as a judge of anything that has a name, on any pipeline."""

from dataclasses import dataclass
from typing import ClassVar

from ..core.laboratory import Asked, Judged
from .portraits import has_classifier
from .second_classifier import WEIGHTS_FOLDER
from .shared.pair_laboratory import PairLaboratory
from .shared.pairs import Link, PairJudge

PORTRAITS_CLIP = WEIGHTS_FOLDER / "clip"
"""The CLIP that comes with steerclear and knows nothing but portraits."""
CLIP = "openai/clip-vit-large-patch14"


@dataclass(frozen=True)
class Clip(PairLaboratory):
    """A CLIP asked for each thing by pairs of statements: a photo of it, and the same photo without a word on it.

    The concepts are the negative prompts, split at commas; the other columns are what is watched. Nothing is known of the truth.
    For a model of portraits the default is the portraits' CLIP, which was calibrated on labelled portraits. Other CLIPs are
    not calibrated: their own ``logit_scale`` is used.

    Args:
        model: a folder or hub id of a CLIP in transformers' layout, safetensors only; "" for the portraits' CLIP on a model of
            portraits and openai/clip-vit-large-patch14 on any other.
        threshold: above this probability a thing counts as seen, between 0 and 1.
        temperature: what the evidence is divided by; None for the calibration beside the weights, or 1 without one.
        device: where the CLIP runs.
        batch: images that it sees at once.
    """

    name = "clip"
    link: ClassVar[Link] = "softmax"

    model: str = ""

    def judge(self, model: Judged, asked: Asked) -> PairJudge:
        of_portraits = model is not None and has_classifier(model)
        place = self.model or (str(PORTRAITS_CLIP) if of_portraits else CLIP)
        return self.asking(place, asked, "the portraits' CLIP" if place == str(PORTRAITS_CLIP) else None)
