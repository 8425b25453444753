"""What the laboratories have in common that ask a model of images and texts by pairs of statements."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from ...core.errors import UnsupportedModel
from ...core.laboratory import Asked, Judged, Laboratory
from ...core.settings import finite, whole
from .pairs import Calibration, Link, PairJudge
from .towers import load_towers

LINKS: dict[Link, str] = {"softmax": "CLIP", "sigmoid": "SigLIP"}
"""What kind of model answers in which way."""


@dataclass(frozen=True)
class PairLaboratory(Laboratory):
    """Asks a model for each thing by pairs of statements. What derives from it says which kind of model, and which one.

    Args:
        model: a folder or hub id, safetensors only.
        threshold: above this probability a thing counts as seen, between 0 and 1.
        temperature: what the evidence is divided by; None for the calibration beside the weights, or 1 without one.
        device: where the model runs.
        batch: images that it sees at once.

    Raises:
        InvalidSetting: a value out of range.
    """

    by_default: ClassVar[bool] = False
    link: ClassVar[Link]

    model: str = ""
    threshold: float = 0.5
    temperature: float | None = None
    device: str = "cpu"
    batch: int = 32

    def __post_init__(self) -> None:
        finite("threshold", self.threshold, low=0.0, high=1.0)
        if self.temperature is not None:
            finite("temperature", self.temperature, low=1e-6)
        whole("batch", self.batch, low=1)

    def refuses(self, model: Judged, asked: Asked) -> str | None:
        return None

    def asking(self, place: str, asked: Asked, called: str | None = None) -> PairJudge:
        """The judge that asks the model in a folder or of a hub id.

        Args:
            place: the folder or hub id.
            asked: the question.
            called: the model's name for people; None for its place.

        Raises:
            UnsupportedModel: it is a model of the other kind, or see :func:`~steerclear.laboratories.shared.towers.load_towers`.
        """
        towers = load_towers(place, self.device)
        found: Link = "softmax" if towers.bias is None else "sigmoid"
        if found != self.link:
            kind = LINKS[found]
            raise UnsupportedModel(
                f"the model {place!r} is a {kind}; ask for the judge {kind.lower()}:model={place} instead."
            )
        towers = towers if called is None else replace(towers, name=called)
        judge = PairJudge(towers, self.link, asked, self.threshold, self._calibration(place), self.batch)
        judge.prepare()
        return judge

    def _calibration(self, place: str) -> Calibration:
        """That in the model's folder; a temperature that is given replaces that of all words, and has no offset."""
        calibration = Calibration.read(Path(place).expanduser())
        if self.temperature is None:
            return calibration
        return Calibration(self.temperature, watch=calibration.watch)
