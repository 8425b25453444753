"""Inception's pooled features, from the hub's safetensors by way of timm."""

import importlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from ..core.errors import MissingPackage, UnsupportedModel, shown
from ..core.shapes import Float, Tensor, UInt8
from .shared.hub import Stamps, loading, network_config, network_folder, stamps
from .shared.network import NetworkFeatures, pooled

SIZE = 299
"""Sides of the images that Inception sees."""
WEIGHTS_FILE = "model.safetensors"
UNUSED = ("fc.", "AuxLogits.")
"""Weights behind the pooled features."""


@dataclass(frozen=True)
class InceptionFeatures(NetworkFeatures):
    """The 2,048 pooled features of Inception v3, of the whole image at 299 x 299.

    Szegedy et al., Rethinking the Inception architecture, 2016, arXiv:1512.00567. The weights are those that TensorFlow
    published, as timm keeps them. The network of published FIDs is another one, of 2015, which exists only as a pickle: compare
    Fréchet distances of these features with one another, not with published ones. Needs timm.

    Args:
        model: a folder with timm's ``config.json`` and ``model.safetensors``, or a hub id.
    """

    name = "inception"
    libraries: ClassVar[tuple[str, ...]] = ("timm",)

    model: str = "timm/inception_v3.tf_in1k"

    @property
    def described(self) -> str:
        return f"the pooled features of the Inception {self.model}"

    def vectors(self, images: UInt8[Tensor, "n 3 height width"]) -> Float[Tensor, "n numbers"]:
        model, mean, deviation = _inception(self.what, self.model)
        seen = F.interpolate(images.float() / 255, (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
        return pooled(model((seen - mean) / deviation))


def _inception(what: str, name: str) -> tuple[Any, Tensor, Tensor]:
    """The network, and the mean and deviation of the pixels that it sees, ``[3, 1, 1]``."""
    try:
        importlib.import_module("timm")
    except ImportError as error:
        raise MissingPackage(what, "timm") from error
    folder = network_folder(what, name)
    return _loaded(what, folder, stamps(folder))


@lru_cache(maxsize=1)
def _loaded(what: str, folder: Path, found: Stamps) -> tuple[Any, Tensor, Tensor]:
    config = network_config(what, folder)
    with loading(what):
        model = importlib.import_module("timm").create_model(config["architecture"], pretrained=False, num_classes=0)
        weights = load_file(folder / WEIGHTS_FILE)
        told = model.load_state_dict(weights, strict=False)
        normal = [torch.tensor(config["pretrained_cfg"][key]).view(3, 1, 1) for key in ("mean", "std")]
    strange = [key for key in told.unexpected_keys if not key.startswith(UNUSED)]
    if wrong := [*told.missing_keys, *strange]:
        raise UnsupportedModel(
            f"{what} cannot be loaded: {shown(str(folder))} is not its network: {wrong[0]} does not fit."
        )
    return model.eval().requires_grad_(False), normal[0], normal[1]
