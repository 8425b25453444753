"""The vector of an image that DINOv2 learned without labels."""

from dataclasses import dataclass

from ..core.shapes import Float, Tensor, UInt8
from .shared.network import NetworkFeatures, pooled


@dataclass(frozen=True)
class Dinov2Features(NetworkFeatures):
    """The class token of DINOv2's last layer, normalized as the network ends with it.

    It was trained without labels or texts, and follows people's judgment of diverse images better than Inception: Oquab et al.,
    DINOv2, 2023, arXiv:2304.07193; Stein et al., Exposing flaws of generative model evaluation metrics, 2023, arXiv:2306.04675.

    Args:
        model: a folder that ``save_pretrained`` wrote, or a hub id.
    """

    name = "dinov2"

    model: str = "facebook/dinov2-base"

    @property
    def described(self) -> str:
        return f"the class token of the DINOv2 {self.model}"

    def vectors(self, images: UInt8[Tensor, "n 3 height width"]) -> Float[Tensor, "n numbers"]:
        return pooled(self.run(images), ("pooler_output",))
