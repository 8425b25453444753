"""Tiny pipelines with random weights, built without a network: what the tests of the bridges steer."""

from collections.abc import Callable
from functools import cache
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

TEXT_WIDTH = 16
LONGEST_PROMPT = 77

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCALED = {**BETAS, "steps_offset": 1}
UNCLIPPED = {**SCALED, "clip_sample": False}

SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {**UNCLIPPED, "set_alpha_to_one": False}),
    "ddim-zero-snr": ("DDIMScheduler", {**UNCLIPPED, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}),
    "ddpm": ("DDPMScheduler", UNCLIPPED),
    "pndm": ("PNDMScheduler", {**SCALED, "skip_prk_steps": True}),
    "lcm": ("LCMScheduler", UNCLIPPED),
    "tcd": ("TCDScheduler", UNCLIPPED),
    "euler": ("EulerDiscreteScheduler", SCALED),
    "euler-karras": ("EulerDiscreteScheduler", {**SCALED, "use_karras_sigmas": True}),
    "euler-ancestral": ("EulerAncestralDiscreteScheduler", SCALED),
    "heun": ("HeunDiscreteScheduler", SCALED),
    "lms": ("LMSDiscreteScheduler", SCALED),
    "kdpm2": ("KDPM2DiscreteScheduler", SCALED),
    "kdpm2-ancestral": ("KDPM2AncestralDiscreteScheduler", SCALED),
    "dpm-sde": ("DPMSolverSDEScheduler", {**SCALED, "noise_sampler_seed": 0}),
    "dpm++": ("DPMSolverMultistepScheduler", SCALED),
    "dpm++-karras": ("DPMSolverMultistepScheduler", {**SCALED, "use_karras_sigmas": True}),
    "dpm++-sde": ("DPMSolverMultistepScheduler", {**SCALED, "algorithm_type": "sde-dpmsolver++"}),
    "dpm++-flow": (
        "DPMSolverMultistepScheduler",
        {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0},
    ),
    "dpm++-singlestep": ("DPMSolverSinglestepScheduler", BETAS),
    "deis": ("DEISMultistepScheduler", SCALED),
    "unipc": ("UniPCMultistepScheduler", SCALED),
    "sa": ("SASolverScheduler", SCALED),
}
"""Every scheduler that the Stable Diffusion pipelines take, in settings that models use: name -> class and settings."""


def scheduler(name: str, **settings: Any) -> Any:
    """One of :data:`SCHEDULERS`, with some settings changed."""
    class_name, own = SCHEDULERS[name]
    return getattr(diffusers, class_name)(**{**own, **settings})


@cache
def tokenizer() -> CLIPTokenizer:
    """One token a letter: CLIP's byte alphabet without a single merge."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    letters = [chr(code) for code in printable]
    letters += [chr(256 + count) for count in range(256 - len(letters))]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=LONGEST_PROMPT)


def text_encoder(seed: int = 1) -> CLIPTextModel:
    torch.manual_seed(seed)
    words = len(tokenizer())
    config = CLIPTextConfig(
        vocab_size=words,
        hidden_size=TEXT_WIDTH,
        intermediate_size=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LONGEST_PROMPT,
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        pad_token_id=words - 1,
    )
    return CLIPTextModel(config).eval()


def autoencoder(seed: int = 2) -> AutoencoderKL:
    torch.manual_seed(seed)
    return AutoencoderKL(
        block_out_channels=(8, 8),
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    ).eval()


def unet(seed: int = 3, channels: tuple[int, ...] = (8, 16), **settings: Any) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    defaults = {
        "block_out_channels": channels,
        "layers_per_block": 1,
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": TEXT_WIDTH,
        "norm_num_groups": 4,
        "attention_head_dim": 4,
    }
    return UNet2DConditionModel(**{**defaults, **settings}).eval()


def stable_diffusion(
    name: str = "ddim", kind: Callable[..., Any] = StableDiffusionPipeline, network: Any = None, **settings: Any
) -> Any:
    """A pipeline of the Stable Diffusion family.

    Args:
        name: of its scheduler, see :data:`SCHEDULERS`.
        kind: the pipeline's class.
        network: its UNet; None for a tiny one.
        settings: of the scheduler.
    """
    pipe = kind(
        vae=autoencoder(),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(),
        unet=network if network is not None else unet(),
        scheduler=scheduler(name, **settings),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generators(*seeds: int) -> list[torch.Generator]:
    """One generator an image."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]
