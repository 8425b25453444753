"""What the classifier of digits, or of other labelled images, sees."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..core.features import Features
from ..core.shapes import Float, Tensor, UInt8
from ..core.sums import sha256
from .label_classifier import LABEL_CLASSIFIER, LabelClassifier, classify
from .shared.cache import file_stamp

SHIPPED = Path(__file__).parents[1] / "models" / "digits"


@dataclass(frozen=True)
class DigitFeatures(Features):
    """The last layer of the digits' classifier: 64 numbers whose mean variance over the training images is 1.

    Args:
        folder: of a model of labelled images with its classifier; none for the digits that come with steerclear.
    """

    name = "digits"

    folder: str | None = None

    @property
    def _file(self) -> Path:
        return (SHIPPED if self.folder is None else Path(self.folder).expanduser()) / LABEL_CLASSIFIER

    @property
    def described(self) -> str:
        return "what the classifier of digits sees in an image"

    @property
    def key(self) -> str:
        _classifier(self._file, file_stamp(self._file))  # says what is wrong with its file
        return sha256(self._file)[:32]

    def of(self, images: UInt8[Tensor, "n 3 height width"]) -> Float[Tensor, "n numbers"]:
        return classify(_classifier(self._file, file_stamp(self._file)), images)[1]


@lru_cache(maxsize=2)
def _classifier(path: Path, stamp: tuple[int, int] | None) -> LabelClassifier:
    return LabelClassifier.load(path)
