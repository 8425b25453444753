"""The image vectors of CLIP."""

from dataclasses import dataclass

from ..core.shapes import Float, Tensor, UInt8
from .shared.network import NetworkFeatures, pooled


@dataclass(frozen=True)
class ClipFeatures(NetworkFeatures):
    """Image embeddings of a CLIP, of unit length: what its texts are compared with.

    Radford et al., Learning transferable visual models from natural language supervision, 2021, arXiv:2103.00020. As features
    for distances of sets: Jayasumana et al., Rethinking FID, 2024, arXiv:2401.09603.

    Args:
        model: a folder that ``save_pretrained`` wrote, or a hub id.
    """

    name = "clip"

    model: str = "openai/clip-vit-large-patch14"

    @property
    def described(self) -> str:
        return f"unit vectors of images by the CLIP {self.model}"

    def vectors(self, images: UInt8[Tensor, "n 3 height width"]) -> Float[Tensor, "n numbers"]:
        found = pooled(self.run(images, "get_image_features"))
        return found / found.norm(dim=1, keepdim=True)
