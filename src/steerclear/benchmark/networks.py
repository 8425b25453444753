"""Stable Diffusion pipelines with random weights, of any size, built without files."""

from dataclasses import dataclass
from typing import Any

import torch

from ..models.loading import quiet

LATENT_CHANNELS, VAE_FACTOR = 4, 8


@dataclass(frozen=True)
class Size:
    """The size of a network like Stable Diffusion's.

    Attributes:
        channels: per level.
        text_width: of the text embeddings.
        latents: height and width; the image's are eight times these.
        heads: number of attention heads (diffusers calls it ``attention_head_dim``).
    """

    channels: tuple[int, int, int, int]
    text_width: int
    latents: int
    heads: int = 8


MEDIUM = Size((64, 128, 192, 192), 128, 32)
"""More than 20 million parameters."""

STABLE_DIFFUSION = Size((320, 640, 1280, 1280), 768, 64)
"""Stable Diffusion 1.5's own, at 512 x 512: 860 million parameters."""


def random_pipeline(size: Size, device: str = "cpu", seed: int = 0) -> Any:
    """A pipeline whose network has this size; text encoder and autoencoder are tiny. ``seed`` determines the weights."""
    quiet()
    from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(seed)
    tokenizer = CLIPTokenizer(vocab={"<|startoftext|>": 0, "<|endoftext|>": 1}, merges=[], model_max_length=77)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=size.text_width, intermediate_size=size.text_width, num_hidden_layers=1,
        num_attention_heads=1, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    levels = len(size.channels)
    pipe = StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=(4,) * levels, norm_num_groups=1, latent_channels=LATENT_CHANNELS,
            down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels,
            sample_size=size.latents * VAE_FACTOR,
        ),
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(**network_settings(size)),
        scheduler=noise_schedule(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)


def noise_schedule() -> Any:
    """Stable Diffusion's noise levels, in DDIM's sampler."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip


def network_settings(size: Size) -> dict[str, Any]:
    """The network's settings; all others are diffusers' defaults, which are Stable Diffusion 1.5's."""
    return {
        "sample_size": size.latents, "block_out_channels": size.channels, "cross_attention_dim": size.text_width,
        "attention_head_dim": size.heads, "norm_num_groups": min(32, size.channels[0]),
    }  # fmt: skip


def parameters(pipe: Any) -> int:
    """The number of the network's parameters."""
    return sum(parameter.numel() for parameter in pipe.unet.parameters())
