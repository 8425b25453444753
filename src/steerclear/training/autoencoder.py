"""The autoencoder: 64 x 64 x 3 pixels to 16 x 16 x 4 latents and back."""

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from .data import to_model

LATENT_CHANNELS = 4
EDGE_WEIGHT, SQUARE_WEIGHT, KL_WEIGHT = 0.5, 4.0, 2e-4
ENCODING_BATCH = 64


def build(channels: tuple[int, ...], seed: int) -> AutoencoderKL:
    """An untrained autoencoder; the resolution halves from each channel count to the next."""
    torch.manual_seed(seed)
    model = AutoencoderKL(
        in_channels=3, out_channels=3, sample_size=64, latent_channels=LATENT_CHANNELS, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels, norm_num_groups=8,
    )  # fmt: skip
    with torch.no_grad():  # start with little noise in the latents, or the decoder learns to ignore them
        model.quant_conv.weight[LATENT_CHANNELS:] *= 0.1
        model.quant_conv.bias[LATENT_CHANNELS:] -= 6
    return model


def _edges(error: Tensor) -> Tensor:
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def _face_weight(size: int) -> Tensor:
    """Weights of up to twice as much for the face, ``[size, size]``: eyes and mustaches are small but matter most."""
    axis = torch.linspace(-1, 1, size)
    weight = 1 + torch.exp(-((axis[:, None] - 0.1) ** 2 + axis[None] ** 2) / 0.15)
    return weight / weight.mean()


def reconstruction_loss(model: AutoencoderKL, images: Tensor, generator: torch.Generator) -> Tensor:
    """L1 + squared + edge error, plus a small KL divergence (of the VAE, Kingma and Welling, arXiv 1312.6114)."""
    pixels = to_model(images)
    posterior = model.encode(pixels).latent_dist
    mean, log_variance = posterior.mean.float(), posterior.logvar.float()
    noise = torch.randn(mean.shape, generator=generator).to(mean)
    error = model.decode(mean + torch.exp(0.5 * log_variance) * noise).sample.float() - pixels
    weight = _face_weight(pixels.shape[-1]).to(error)
    closeness = ((error.abs() + SQUARE_WEIGHT * error**2) * weight).mean()
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
    return closeness + EDGE_WEIGHT * _edges(error) + KL_WEIGHT * kl


@torch.no_grad()
def encode(model: AutoencoderKL, images: Tensor) -> Tensor:
    """uint8 images -> unscaled latents, the posterior means."""
    return torch.cat([model.encode(to_model(some)).latent_dist.mean for some in images.split(ENCODING_BATCH)])


@torch.no_grad()
def decode(model: AutoencoderKL, latents: Tensor) -> Tensor:
    """Unscaled latents -> images in [-1, 1]."""
    return torch.cat([model.decode(some).sample for some in latents.split(ENCODING_BATCH)])


def peak_signal_to_noise(images: Tensor, reconstructed: Tensor) -> Tensor:
    """Decibels per image, for uint8 images: 10 log10(255^2 / mean squared error)."""
    error = F.mse_loss(reconstructed.float(), images.float(), reduction="none").flatten(1).mean(1)
    return 10 * torch.log10(255**2 / error)
