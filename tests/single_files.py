"""A Stable Diffusion pipeline as one file, in the layout of the code that trained the first of them."""

import re
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
ENDS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def save_single_file(pipe: Any, path: Path) -> Path:
    """Write the weights of a pipeline into one file; returns its path."""
    weights = {f"model.diffusion_model.{_unet_key(key, pipe.unet)}": one for key, one in pipe.unet.state_dict().items()}
    for key, one in pipe.vae.state_dict().items():
        new = _vae_key(key, len(pipe.vae.config.block_out_channels))
        weights[f"first_stage_model.{new}"] = _as_convolution(one) if "attn_1" in new and "norm" not in new else one
    for key, one in pipe.text_encoder.state_dict().items():
        weights[f"cond_stage_model.transformer.text_model.{key.removeprefix('text_model.')}"] = one
    save_file({key: one.contiguous() for key, one in weights.items()}, path)
    return path


def _unet_key(key: str, unet: Any) -> str:
    layers = unet.config.layers_per_block + 1
    end = next((end for end in ENDS if key.startswith(f"{end}.")), None)
    if end is not None:
        return key.replace(end, ENDS[end])
    where, block, kind, layer, rest = re.fullmatch(r"(\w+?)(?:_blocks\.(\d+)|_block)\.(\w+)\.(\d+)\.(.+)", key).groups()  # type: ignore[union-attr]
    if kind == "resnets":
        name, _, last = rest.partition(".")
        rest = f"{RESNET[name]}.{last}"
    attends = kind == "attentions"
    if where == "mid":
        return f"middle_block.{1 if attends else 2 * int(layer)}.{rest}"
    sides = {"down": "input_blocks", "up": "output_blocks"}
    first = int(block) * layers + (where == "down")
    if kind in ("resnets", "attentions"):
        return f"{sides[where]}.{first + int(layer)}.{int(attends)}.{rest}"
    if kind == "downsamplers":
        return f"input_blocks.{first + layers - 1}.0.{rest.replace('conv', 'op')}"
    attended = "CrossAttn" in unet.config.up_block_types[int(block)]
    return f"output_blocks.{first + layers - 1}.{2 if attended else 1}.{rest}"


def _vae_key(key: str, blocks: int) -> str:
    key = re.sub(r"up_blocks\.(\d+)", lambda found: f"up.{blocks - 1 - int(found[1])}", key)
    key = re.sub(r"down_blocks\.(\d+)", r"down.\1", key)
    key = re.sub(r"mid_block\.resnets\.(\d+)", lambda found: f"mid.block_{int(found[1]) + 1}", key)
    for old, new in {".resnets.": ".block.", "samplers.0.": "sample.", "conv_shortcut": "nin_shortcut",
                     "conv_norm_out": "norm_out"}.items():  # fmt: skip
        key = key.replace(old, new)
    if "mid_block.attentions.0" in key:
        key = key.replace("mid_block.attentions.0", "mid.attn_1")
        for old, new in ATTENTION.items():
            key = key.replace(f".{old}.", f".{new}.")
    return key


def _as_convolution(weight: Tensor) -> Tensor:
    return weight[:, :, None, None] if weight.ndim == 2 else weight
