"""A CLIP as a judge of anything that has a name, on any pipeline."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from ..core.errors import UnsupportedModel
from ..core.laboratory import Asked, Judged, Laboratory
from ..core.settings import finite, whole
from .portraits import has_classifier
from .second_classifier import WEIGHTS_FOLDER
from .shared.pairs import Calibration, PairJudge
from .shared.towers import load_towers

PORTRAITS_CLIP = WEIGHTS_FOLDER / "clip"
"""The CLIP that comes with steerclear and knows nothing but portraits."""
CLIP = "openai/clip-vit-large-patch14"


@dataclass(frozen=True)
class Clip(Laboratory):
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
    by_default: ClassVar[bool] = False

    model: str = ""
    threshold: float = 0.5
    temperature: float | None = None
    device: str = "cpu"
    batch: int = 32

    def __post_init__(self) -> None:
        check_asking(self.threshold, self.temperature, self.batch)

    def refuses(self, model: Judged, asked: Asked) -> str | None:
        return None

    def judge(self, model: Judged, asked: Asked) -> PairJudge:
        of_portraits = model is not None and has_classifier(model)
        place = self.model or (str(PORTRAITS_CLIP) if of_portraits else CLIP)
        towers = load_towers(place, self.device)
        if towers.bias is not None:
            raise UnsupportedModel(f"the model {place!r} is a SigLIP; ask for the judge siglip:model={place} instead.")
        if place == str(PORTRAITS_CLIP):
            towers = replace(towers, name="the portraits' CLIP")
        calibration = read_calibration(place, self.temperature)
        judge = PairJudge(towers, "softmax", asked, self.threshold, calibration, self.batch)
        judge.prepare()
        return judge


def check_asking(threshold: float, temperature: float | None, batch: int) -> None:
    """Raises :class:`InvalidSetting` for values out of range."""
    finite("threshold", threshold, low=0.0, high=1.0)
    if temperature is not None:
        finite("temperature", temperature, low=1e-6)
    whole("batch", batch, low=1)


def read_calibration(place: str, temperature: float | None) -> Calibration:
    """The calibration in a model's folder; a temperature that is given replaces that of all words, and has no offset."""
    calibration = Calibration.read(Path(place).expanduser())
    if temperature is None:
        return calibration
    return Calibration(temperature, watch=calibration.watch)
