"""What any network of images gives."""

from dataclasses import dataclass
from typing import ClassVar

from ..core.shapes import Float, Tensor, UInt8
from .shared.hub import Network, load_network
from .shared.network import NetworkFeatures, pooled


@dataclass(frozen=True)
class VisionFeatures(NetworkFeatures):
    """The pooled output of any network of images that transformers knows; without one, the mean over the last layer's places.

    Args:
        model: a folder that ``save_pretrained`` wrote, or a hub id.
    """

    name = "vision"
    libraries: ClassVar[tuple[str, ...]] = ("transformers", "timm")  # which has networks for transformers

    @property
    def described(self) -> str:
        return f"the pooled output of {self.model}"

    def network(self) -> Network:
        """The network; classifiers are often kept without the pooling layer, which they do not use."""
        return load_network(self.what, self.model, optional="pooler.")

    def vectors(self, images: UInt8[Tensor, "n 3 height width"]) -> Float[Tensor, "n numbers"]:
        found = self.run(images)
        return pooled(found, ("last_hidden_state",)) if self.network().lacking else pooled(found)
