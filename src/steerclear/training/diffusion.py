"""The denoiser and its text encoder, trained together, and weak denoisers trained on the same text."""

import math

import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
from diffusers.schedulers.scheduling_dpmsolver_multistep import betas_for_alpha_bar
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ..core.shapes import Float, Int, Prediction, Shaped, Tensor
from .autoencoder import LATENT_CHANNELS
from .references import expected_latents

LATENT_SIZE = 16
TEXT_WIDTH = 128
HEAD_WIDTH = 32
EMPTY_PROMPT = 0.1
"""Share of training portraits with an empty prompt, for guidance."""
DECISIVE = (0.5, 50.0)
"""The range of noise levels sigma / alpha that decides what a portrait shows; half of every batch is drawn there. (Levels
from 50 to the end of the schedule decide hardly anything.)"""
LARGEST_BETA = 0.2
"""Upper limit of the cosine schedule's betas (Nichol and Dhariwal 2021, arXiv 2102.09672, limit them to .999)."""


def build_text_encoder(tokenizer: CLIPTokenizer, seed: int) -> CLIPTextModel:
    torch.manual_seed(seed)
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=TEXT_WIDTH, intermediate_size=2 * TEXT_WIDTH, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=tokenizer.model_max_length, projection_dim=TEXT_WIDTH,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    ))  # fmt: skip


def build_unet(channels: tuple[int, ...], seed: int) -> UNet2DConditionModel:
    """A small UNet with cross-attention to the text at every resolution except the largest."""
    torch.manual_seed(seed)
    coarse = len(channels) - 1
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE, in_channels=LATENT_CHANNELS, out_channels=LATENT_CHANNELS,
        block_out_channels=channels, layers_per_block=1, norm_num_groups=channels[0] // 3,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * coarse,
        up_block_types=("CrossAttnUpBlock2D",) * coarse + ("UpBlock2D",),
        cross_attention_dim=TEXT_WIDTH, use_linear_projection=True,
        attention_head_dim=tuple(max(1, width // HEAD_WIDTH) for width in channels),  # diffusers' name for heads
    )  # fmt: skip


def build_scheduler() -> DPMSolverMultistepScheduler:
    """SDE-DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095) on a cosine schedule with v-prediction.

    It is stochastic, because posterior tracking reads the likelihood ratios in a stochastic sampler's transitions. It uses
    the spacing of Karras et al. (2022, arXiv 2206.00364): with equally spaced timesteps, the first of 30 steps would skip
    the noise levels that decide skin and background.

    The cosine schedule ends at sigma / alpha = 20,291, where nothing of a portrait is left; with ``LARGEST_BETA`` instead
    of .999 it ends at 195. (EDM begins at 160 times the data's standard deviation.) So more of 30 steps fall on the levels
    that decide what is shown: too few steps there lose what is rare (``tests/test_training.py`` shows this in an exact world).
    """
    scheduler = DPMSolverMultistepScheduler(
        num_train_timesteps=1000, trained_betas=betas_for_alpha_bar(1000, LARGEST_BETA).tolist(),
        prediction_type="v_prediction", algorithm_type="sde-dpmsolver++", use_karras_sigmas=True,
        timestep_spacing="trailing", steps_offset=1,
        lambda_min_clipped=-10.0,  # clips nothing; the default, -inf, is not valid JSON
    )  # fmt: skip
    # not a setting of this scheduler, but schedulers built from its config (DDIM, DDPM) would clip the latents
    scheduler.register_to_config(clip_sample=False)
    return scheduler


class TextToLatents(nn.Module):
    """A denoiser and its text encoder as one module to train."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, *, train_text: bool) -> None:
        super().__init__()
        self.unet = unet
        self.train_text = train_text
        if train_text:
            self.text_encoder = text_encoder
        else:
            self.frozen = [text_encoder]  # a list hides it from training and saving

    def encode_text(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length width"]:
        """Hidden states, ``[batch, 77, width]``; equal captions are encoded once."""
        encoder = self.text_encoder if self.train_text else self.frozen[0]
        unique, where = tokens.unique(dim=0, return_inverse=True)
        with torch.set_grad_enabled(self.train_text and torch.is_grad_enabled()):
            return encoder(input_ids=unique).last_hidden_state[where]


def training_timesteps(
    batch: int, alphas_cumprod: Float[Tensor, " timesteps"], generator: torch.Generator
) -> Int[Tensor, " batch"]:
    """Timesteps, ``[batch]``: half of them evenly spaced in log(sigma / alpha) over ``DECISIVE``, half over all timesteps.

    On a cosine schedule hardly one timestep in ten is above sigma / alpha = 8, where skin, hair and background are decided.
    Both halves are evenly spaced from a random offset, which has less variance than independent draws.
    """
    row = torch.arange(batch)
    alike = torch.where(row % 2 == 0, (batch + 1) // 2, batch // 2)
    spread = (row // 2 + torch.rand(1, generator=generator)) / alike
    anywhere = (spread * len(alphas_cumprod)).long()
    ratio = ((1 - alphas_cumprod) / alphas_cumprod).sqrt().log()
    lowest, highest = (math.log(level) for level in DECISIVE)
    decisive = torch.searchsorted(ratio, lowest + (highest - lowest) * spread)
    return torch.where(row % 2 == 0, anywhere, decisive).clamp(max=len(alphas_cumprod) - 1)


def level_weight(ratio: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Weight of an error at a noise level sigma / alpha: 1 + (ratio / 4)^2, at most 4.

    At higher noise the references leave less variance in the target. What remains to be learned there, how often a caption
    means what, is small compared with the gradient noise from lower noise levels. The idea is that of weights inverse to
    the variance of the error (Kendall, Gal and Cipolla 2018, arXiv 1705.07115).

    >>> level_weight(torch.tensor([0.0, 4.0, 100.0])).tolist()
    [1.0, 2.0, 4.0]
    """
    return (1 + (ratio / 4) ** 2).clamp(max=4)


def denoising_loss(
    model: TextToLatents, latents: Prediction, tokens: Shaped[Tensor, "batch *text"],
    references: Float[Tensor, "batch count *shape"], log_weight: Float[Tensor, "batch count"],
    metric: Float[Tensor, "places places"], alphas_cumprod: Float[Tensor, " timesteps"], generator: torch.Generator,
) -> Float[Tensor, ""]:  # fmt: skip
    """Squared error of v = alpha * noise - sigma * x_0 (Salimans and Ho 2022, arXiv 2202.00512), with the expected x_0.

        level_weight(sigma / alpha) e' M e,   e = v predicted - v

    Since x_t = alpha x_0 + sigma noise, v = (alpha x_t - x_0) / sigma; so the mean of v over ``references`` is v of the
    portrait itself minus (E[x_0 | x_t] - x_0) / sigma.

    Args:
        latents: scaled latents x_0, ``[batch, 4, 16, 16]``.
        tokens: the caption of each portrait, ``[batch, 77]``.
        references: latents of portraits with the same meaning, its own among them, ``[batch, count, 4, 16, 16]``.
        log_weight: log probability that each is the portrait, before x_t is seen, ``[batch, count]``.
        metric: weights of errors (:func:`~.metric.error_metric`), ``[places, places]``.
        alphas_cumprod: alpha^2 per training timestep.
    """
    batch, device = len(latents), latents.device
    timestep = training_timesteps(batch, alphas_cumprod, generator)
    alpha = alphas_cumprod[timestep].sqrt().view(-1, 1, 1, 1).to(device)
    sigma = (1 - alphas_cumprod[timestep]).sqrt().view(-1, 1, 1, 1).to(device)
    noise = torch.randn(latents.shape, generator=generator).to(device)
    sample = alpha * latents + sigma * noise
    expected = expected_latents(sample, alpha, sigma, references, log_weight)
    target = alpha * noise - sigma * latents - (expected - latents) / sigma
    predicted = model.unet(sample, timestep.to(device), model.encode_text(tokens)).sample
    error = (predicted.float() - target).flatten(1)
    with torch.autocast(device.type, enabled=False):
        return (level_weight(sigma / alpha).flatten() * ((error @ metric) * error).sum(1)).mean()
