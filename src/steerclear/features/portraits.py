"""What the classifier that ships with the portraits sees."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..core.errors import UnsupportedModel
from ..core.features import Features
from ..core.shapes import Float, Tensor, UInt8
from ..core.sums import sha256
from .portrait_classifier import CLASSIFIER, PortraitClassifier, read
from .shared.cache import file_stamp

SHIPPED = Path(__file__).parents[1] / "models" / "portraits"
SIDE = 64


@dataclass(frozen=True)
class PortraitFeatures(Features):
    """The last layer of the portraits' attribute classifier: 128 numbers whose mean variance over true portraits is 1.

    Args:
        folder: of a model that ships such a classifier; none for the one that comes with steerclear.
    """

    name = "portraits"

    folder: str | None = None

    @property
    def _file(self) -> Path:
        return (SHIPPED if self.folder is None else Path(self.folder).expanduser()) / CLASSIFIER

    @property
    def described(self) -> str:
        return "what the classifier of portraits sees in an image"

    @property
    def key(self) -> str:
        _classifier(self._file, file_stamp(self._file))  # says what is wrong with its file
        return sha256(self._file)[:32]

    def of(self, images: UInt8[Tensor, "n 3 height width"]) -> Float[Tensor, "n numbers"]:
        if images.shape[-2:] != (SIDE, SIDE):
            sizes = " x ".join(str(side) for side in images.shape[-2:])
            raise UnsupportedModel(
                f"the features portraits see only images of {SIDE} x {SIDE}, and these are {sizes}; use others."
            )
        return read(_classifier(self._file, file_stamp(self._file)), images)[1]


@lru_cache(maxsize=2)
def _classifier(path: Path, stamp: tuple[int, int] | None) -> PortraitClassifier:
    return PortraitClassifier.load(path)
