"""Another network: a checkpoint or a snapshot of a training."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch.nn import Module

from ..core.errors import InvalidSetting, UnsupportedModel
from ..core.network import Forward, Network, Runner
from .shared.copies import is_moved, plain

FITTING = (
    "in_channels", "out_channels", "cross_attention_dim", "joint_attention_dim", "pooled_projection_dim", "caption_channels",
    "addition_embed_type", "projection_class_embeddings_input_dim", "num_embeds_ada_norm", "guidance_embeds", "time_cond_proj_dim",
)  # fmt: skip
"""Settings of a network's configuration that decide its inputs and outputs."""

FITTING_CONTROL = ("block_out_channels", "layers_per_block", "num_attention_heads", "attention_head_dim")
"""What else must fit where a ControlNet adds to the inner layers of both."""


@dataclass(frozen=True)
class OtherNetwork(Network):
    """Another network of the same kind: smaller, or less trained. ``steer(..., weak=network)`` means this.

    Args:
        network: a torch module with a diffusers configuration, on the pipeline's device and in its dtype.

    Raises:
        InvalidSetting: not a torch module.
    """

    network: Module

    name: ClassVar[str] = "network"
    memory: ClassVar[str] = "the other network's weights"
    time: ClassVar[str] = "the other network's forward"

    def __post_init__(self) -> None:
        if not isinstance(self.network, Module):
            raise InvalidSetting("network", self.network, "a torch module", "on the command line give its folder alone")

    def to_config(self) -> dict[str, Any]:
        """Always raises :class:`InvalidSetting`: a torch module is not a plain value."""
        raise InvalidSetting("network", type(self.network).__name__, "named by its folder or hub id to be stored")

    @classmethod
    def examples(cls, network: Any) -> tuple[Self, ...]:
        other = copy.deepcopy(network)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.mul_(1.25)
        return (cls(other),)

    def check(self, pipe: Any, network: Any) -> None:
        controlled = getattr(pipe, "controlnet", None) is not None
        for setting in FITTING + FITTING_CONTROL if controlled else FITTING:
            own = getattr(network.config, setting, None)
            other = getattr(getattr(self.network, "config", None), setting, None)
            if own != other:
                raise UnsupportedModel(
                    f"the other network does not fit: its {setting} is {other}, and the pipeline's network has {own}; "
                    f"both must take the same latents and the same text embeddings"
                    + (", and the same residuals of the ControlNet" if setting in FITTING_CONTROL else "")
                )
        dtype = getattr(self.network, "dtype", None)
        if dtype != network.dtype:
            raise UnsupportedModel(
                f"the other network is {dtype} and the pipeline's is {network.dtype}; bring it there with "
                f"network.to({network.dtype})"
            )
        own, other = getattr(pipe, "_execution_device", None), getattr(self.network, "device", None)
        if own is not None and other is not None and own.type != other.type and not is_moved(self.network):
            raise UnsupportedModel(
                f"the other network is on {other} and the pipeline runs on {own}; bring it there with network.to({str(own)!r})"
            )

    def idle(self, network: Any) -> str | None:
        return "it is the pipeline's own network" if _same(plain(network), plain(self.network)) else None

    @contextmanager
    def attached(self, pipe: Any, network: Any) -> Iterator[Runner]:
        def run(call: Forward) -> Any:
            return self.network(*call.args, **call.kwargs)

        yield run


def _same(network: Module, other: Module) -> bool:
    """Whether two networks have the same weights; False where weights are not in memory."""
    own, others = dict(network.named_parameters()), dict(other.named_parameters())
    return network is other or (
        own.keys() == others.keys()
        and not any(weight.is_meta for weight in (*own.values(), *others.values()))
        and all(
            weight.shape == others[path].shape and torch.equal(weight, others[path].to(weight.device))
            for path, weight in own.items()
        )
    )
