"""The image vectors of SigLIP."""

from dataclasses import dataclass

from ..core.shapes import Float, Tensor, UInt8
from .shared.network import NetworkFeatures, pooled


@dataclass(frozen=True)
class SiglipFeatures(NetworkFeatures):
    """Image embeddings of a SigLIP, of unit length: what its texts are compared with.

    Zhai et al., Sigmoid loss for language image pre-training, 2023, arXiv:2303.15343.

    Args:
        model: a folder that ``save_pretrained`` wrote, or a hub id.
    """

    name = "siglip"

    model: str = "google/siglip-base-patch16-224"

    @property
    def described(self) -> str:
        return f"unit vectors of images by the SigLIP {self.model}"

    def vectors(self, images: UInt8[Tensor, "n 3 height width"]) -> Float[Tensor, "n numbers"]:
        found = pooled(self.run(images, "get_image_features"))
        return found / found.norm(dim=1, keepdim=True)
