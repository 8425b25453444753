"""What a feature extractor promises: a vector per image, in which images are compared."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from .settings import Configurable


class Features(Configurable, ABC):
    """The contract: a frozen dataclass; one file on the shelf ``features`` is one entry.

    Class attributes:
        name: on the command line, for ``--features``.
    """

    shelf: ClassVar[str] = "features"
    kind: ClassVar[str] = "features"
    name: ClassVar[str]

    @property
    @abstractmethod
    def described(self) -> str:
        """What the features are, in words: the network, and which of its layers."""

    @property
    @abstractmethod
    def key(self) -> str:
        """A digest of all that determines the features: the network's weights, what happens to an image before."""

    @abstractmethod
    def of(self, images: Tensor) -> Tensor:
        """Features of uint8 images, ``[n, 3, height, width]``: float32, ``[n, width]``. Image k does not depend on its neighbors.

        Raises:
            UnsupportedModel: the network cannot be loaded, or cannot see images of this size.
            NotFiniteError: it gives NaN or infinity.
        """
