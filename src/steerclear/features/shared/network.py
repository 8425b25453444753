"""Features that a network of transformers gives: fetched by hub id or folder, kept per image on the disk."""

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

import torch

from ...core.errors import InvalidSetting, NotFiniteError, UnsupportedModel, shown
from ...core.features import Features
from ...core.shapes import Float, Tensor, UInt8
from .cache import cached
from .hub import Network, folder_key, load_network, network_folder

BATCH = 32
"""Images in one forward."""
PREPARED = "1"
"""Version of what happens to an image before the network; part of each key."""


def prepared(processor: Any, images: UInt8[Tensor, "n 3 height width"]) -> dict[str, Tensor]:
    """Images as a processor of transformers gives them to its network, by the network's arguments."""
    each = [image.numpy() for image in images.cpu()]
    return dict(processor(images=each, return_tensors="pt", input_data_format="channels_first"))


@dataclass(frozen=True)
class NetworkFeatures(Features):
    """What derives from it says which vector of the network is meant.

    Class attributes:
        libraries: whose versions determine the features too.

    Args:
        model: a folder that ``save_pretrained`` wrote, or a hub id.
    """

    libraries: ClassVar[tuple[str, ...]] = ("transformers",)

    model: str

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model.strip():
            raise InvalidSetting("model", self.model, "a folder or a hub id like owner/model")

    @property
    def what(self) -> str:
        """For errors."""
        return f"the network of the features {self.name}"

    @property
    def key(self) -> str:
        digest = folder_key(network_folder(self.what, self.model))
        decides = [type(self).__name__, PREPARED, digest, *map(_version, self.libraries)]
        return hashlib.sha256(" ".join(decides).encode()).hexdigest()[:32]

    def network(self) -> Network:
        """The network, loaded at its first use."""
        return load_network(self.what, self.model)

    def of(self, images: UInt8[Tensor, "n 3 height width"]) -> Float[Tensor, "n numbers"]:
        return cached(self.key, images, self._computed) if len(images) else self._computed(images)

    @torch.no_grad()
    def _computed(self, images: Tensor) -> Tensor:
        if not len(images):
            return torch.empty(0, self.width())
        parts = [self._finite(self.vectors(some)) for some in images.split(BATCH)]
        return torch.cat(parts)

    def width(self) -> int:
        """Numbers per image."""
        return self._computed(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)).shape[1]

    def _finite(self, vectors: Tensor) -> Tensor:
        if not bool(vectors.isfinite().all()):
            raise NotFiniteError(
                f"the output of {shown(self.model)}", "for these images", "Its weights are damaged; copy them again."
            )
        return vectors.float().cpu()

    @abstractmethod
    def vectors(self, images: UInt8[Tensor, "n 3 height width"]) -> Float[Tensor, "n numbers"]:
        """Features of a few images."""

    def run(self, images: UInt8[Tensor, "n 3 height width"], method: str = "__call__") -> Any:
        """What a method of the network gives for images.

        Raises:
            UnsupportedModel: the network has no such method, or cannot see images of this size.
        """
        network = self.network()
        if not hasattr(network.model, method):
            raise UnsupportedModel(
                f"{self.what} is a {type(network.model).__name__} in {shown(self.model)}, which has no {method}; name a network of "
                f"this kind, or use features=vision for any network of images."
            )
        try:
            pixels = prepared(network.processor, images)["pixel_values"]
            return getattr(network.model, method)(pixel_values=pixels)
        except (ValueError, RuntimeError, TypeError) as error:
            sizes = " x ".join(str(side) for side in images.shape[-2:])
            raise UnsupportedModel(
                f"{self.what} cannot see images of {sizes}: {str(error).splitlines()[0][:200]}."
            ) from error


def _version(library: str) -> str:
    """A library and its version: another one may compute other features from the same files."""
    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:  # what needs it says so when it computes
        return f"{library} absent"


def pooled(output: Any, among: Sequence[str] = ("pooler_output", "last_hidden_state")) -> Tensor:
    """One vector per image: the pooled output, or the mean over the places of the last layer where there is none."""
    for name in among:
        value = output if isinstance(output, Tensor) else getattr(output, name, None)
        if value is not None:
            tokens = value.ndim == 3
            return value.mean(1) if tokens else value.flatten(2).mean(2) if value.ndim == 4 else value
    raise UnsupportedModel(f"a {type(output).__name__} has none of {', '.join(among)}; name a network of images.")
