"""A pipeline of Stable Diffusion 1.5's size and a SigLIP of real size, with random weights, as folders of files."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import Module

from ..models.loading import quiet
from ..training.tokenizer import learn
from .networks import LATENT_CHANNELS, STABLE_DIFFUSION, VAE_FACTOR, Size, network_settings, noise_schedule

LONGEST = 77
"""Tokens that the pipeline's text encoder reads."""


@dataclass(frozen=True)
class TransformerSize:
    """The size of a transformer.

    Attributes:
        width, inner: of a token, and inside its perceptron.
        layers, heads: their numbers.
    """

    width: int
    inner: int
    layers: int
    heads: int

    def settings(self) -> dict[str, int]:
        """As transformers names them."""
        return {
            "hidden_size": self.width, "intermediate_size": self.inner, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
        }  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """The sizes of a whole question: who makes the images, and who judges them.

    Attributes:
        network: of the denoiser.
        text, vocabulary: the pipeline's text encoder, and rows of its table of tokens.
        autoencoder: channels per level.
        judge: both towers of the SigLIP.
        judge_vocabulary, judge_longest: rows of its table of tokens, and tokens that it reads.
        judge_side, judge_patch: of the images that it sees, and of a token of them, in pixels.
    """

    network: Size
    text: TransformerSize
    vocabulary: int
    autoencoder: tuple[int, ...]
    judge: TransformerSize
    judge_vocabulary: int
    judge_longest: int
    judge_side: int
    judge_patch: int


REAL = Sizes(
    network=STABLE_DIFFUSION, text=TransformerSize(768, 3072, 12, 12), vocabulary=49_408, autoencoder=(128, 256, 512, 512),
    judge=TransformerSize(768, 3072, 12, 12), judge_vocabulary=32_000, judge_longest=64, judge_side=224, judge_patch=16,
)  # fmt: skip
"""Stable Diffusion 1.5's, and those of google/siglip-base-patch16-224."""


def parts(sizes: Sizes) -> dict[str, Module]:
    """The networks, by name, on the meta device: without memory. The judge is "judge", the others are a pipeline's."""
    quiet()
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, SiglipConfig, SiglipModel

    text = CLIPTextConfig(
        vocab_size=sizes.vocabulary, max_position_embeddings=LONGEST, hidden_act="quick_gelu",
        bos_token_id=sizes.vocabulary - 2, eos_token_id=sizes.vocabulary - 1, pad_token_id=sizes.vocabulary - 1,
        **sizes.text.settings(),
    )  # fmt: skip
    levels = len(sizes.autoencoder)
    tower = sizes.judge.settings()
    words = {"vocab_size": sizes.judge_vocabulary, "max_position_embeddings": sizes.judge_longest, "bos_token_id": None, "eos_token_id": None}  # fmt: skip
    seen = {"image_size": sizes.judge_side, "patch_size": sizes.judge_patch}
    with torch.device("meta"):
        return {
            "unet": UNet2DConditionModel(**network_settings(sizes.network)),
            "text_encoder": CLIPTextModel(text),
            "vae": AutoencoderKL(
                block_out_channels=sizes.autoencoder, layers_per_block=2, latent_channels=LATENT_CHANNELS,
                norm_num_groups=min(32, sizes.autoencoder[0]), down_block_types=("DownEncoderBlock2D",) * levels,
                up_block_types=("UpDecoderBlock2D",) * levels, sample_size=sizes.network.latents * VAE_FACTOR,
            ),
            "judge": SiglipModel(SiglipConfig(text_config={**tower, **words}, vision_config={**tower, **seen})),
        }  # fmt: skip


def write_networks(sizes: Sizes, model: Path, judge: Path) -> dict[str, int]:
    """Write both folders, with weights in float16; seed 0. Returns the number of parameters of each network.

    Both have a small tokenizer of their own, because no vocabulary of the real ones ships: the tables of tokens have their
    real size, and only some of their rows are used.
    """
    from diffusers import StableDiffusionPipeline
    from transformers import SiglipImageProcessorPil, SiglipProcessor

    networks = parts(sizes)
    generator = torch.Generator().manual_seed(0)
    made: dict[str, Any] = {name: _filled(network, generator) for name, network in networks.items()}
    count = {name: sum(one.numel() for one in network.parameters()) for name, network in made.items()}
    seeing = SiglipImageProcessorPil(size={"height": sizes.judge_side, "width": sizes.judge_side})
    made["judge"].save_pretrained(judge)
    SiglipProcessor(image_processor=seeing, tokenizer=learn([])).save_pretrained(judge)
    del made["judge"]
    pipe = StableDiffusionPipeline(
        **made, tokenizer=learn([]), scheduler=noise_schedule(), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(model)
    return count


def _filled(network: Module, generator: torch.Generator) -> Module:
    """With random weights in float16 that keep the size of what goes through; a SigLIP's scale is 1 and its bias 0."""
    network = network.half().to_empty(device="cpu")
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim > 1:
                weight.normal_(std=1 / math.sqrt(weight[0].numel()), generator=generator)
            else:
                weight.fill_(1.0 if name.endswith("weight") else 0.0)
    return network
