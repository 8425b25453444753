"""Tiny modular pipelines with random weights: those of :mod:`tiny`, put together by Modular Diffusers."""

import types
from collections.abc import Callable
from typing import Any

import diffusers
import torch
from diffusers.modular_pipelines import StableDiffusionXLAutoBlocks, WanBlocks
from diffusers.modular_pipelines.stable_diffusion_3 import StableDiffusion3AutoBlocks
from diffusers.modular_pipelines.wan import encoders as wan_encoders
from transformers import UMT5Config, UMT5EncoderModel

import tiny

# the cleaning of Wan's prompts calls it whether it is installed or not
wan_encoders.ftfy = types.SimpleNamespace(fix_text=lambda text: text)

SIZE = {"height": 16, "width": 16}
CALLS: dict[str, dict[str, Any]] = {
    "sdxl": SIZE,
    "sd3": {**SIZE, "max_sequence_length": 32},
    "wan": {**SIZE, "max_sequence_length": 32, "num_frames": 5},
}
"""Every kind of modular pipeline here, and what its calls need besides a prompt."""

NETWORK = {"sdxl": "unet", "sd3": "transformer", "wan": "transformer"}
IMAGES_PER_PROMPT = {"sdxl": "num_images_per_prompt", "sd3": "num_images_per_prompt", "wan": "num_videos_per_prompt"}


def network(name: str, seed: int = 3) -> Any:
    """The denoising network of a kind of pipeline."""
    torch.manual_seed(seed)
    if name == "sdxl":
        return tiny.unet(seed, **tiny.XL_NETWORK)
    if name == "sd3":
        return diffusers.SD3Transformer2DModel(in_channels=16, **tiny.SD3_NETWORK).eval()
    return diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=tiny.TEXT_WIDTH,
        freq_dim=16,
        ffn_dim=16,
        num_layers=1,
        rope_max_seq_len=32,
    ).eval()


def _wan_parts() -> dict[str, Any]:
    torch.manual_seed(4)
    config = UMT5Config(vocab_size=64, d_model=tiny.TEXT_WIDTH, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return {"text_encoder": UMT5EncoderModel(config).eval(), "tokenizer": tiny.t5_tokenizer()}


def pipeline(
    name: str, scheduler: Any = None, *, without: tuple[str, ...] = ("decode",), blocks: Any = None, **components: Any
) -> Any:
    """A modular pipeline.

    Args:
        name: see :data:`CALLS`.
        scheduler: None for the family's own.
        without: blocks that it shall not have.
        blocks: another class of its blocks.
        components: further ones, or others in the place of its own.
    """
    kinds: dict[str, tuple[Callable[[], Any], Callable[[], dict[str, Any]], Any]] = {
        "sdxl": (StableDiffusionXLAutoBlocks, lambda: tiny.FAMILIES["sdxl"].parts(None), tiny.scheduler("euler")),
        "sd3": (StableDiffusion3AutoBlocks, lambda: tiny.FAMILIES["sd3"].parts(None), tiny.scheduler("flow-euler")),
        "wan": (WanBlocks, _wan_parts, diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        )),
    }  # fmt: skip
    own_blocks, parts, own_scheduler = kinds[name]
    blocks = (blocks or own_blocks)()
    for block in without:
        blocks.sub_blocks.pop(block)
    _quiet(blocks)
    pipe = blocks.init_pipeline()
    given = {NETWORK[name]: network(name), **parts(), "scheduler": scheduler or own_scheduler, **components}
    pipe.update_components(**{part: value for part, value in given.items() if part in pipe.component_names})
    return pipe


def _quiet(block: Any) -> None:
    if hasattr(block, "set_progress_bar_config"):
        block.set_progress_bar_config(disable=True)
    for part in getattr(block, "sub_blocks", {}).values():
        _quiet(part)


def latents(pipe: Any, name: str, prompt: Any = "a red hat", *, seeds: tuple[int, ...] = (0,), **settings: Any) -> Any:
    """The latents at the end of a run, one image (or video) a seed; several prompts share the seeds out."""
    count = len(seeds) // len(prompt) if isinstance(prompt, list) else len(seeds)
    own = {
        **CALLS[name],
        "num_inference_steps": 3,
        "generator": tiny.generators(*seeds),
        IMAGES_PER_PROMPT[name]: count,
    }
    if prompt is not None:
        own["prompt"] = prompt
    return pipe(**{**own, **settings}, output="latents")
