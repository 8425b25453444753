"""Puts the trained networks into one folder that ``DiffusionPipeline.from_pretrained`` loads."""

from pathlib import Path
from typing import Any

from diffusers import StableDiffusionPipeline

from ..bridges.loading import WEAK_FOLDER
from ..measure import CLASSIFIER
from .diffusion import build_scheduler
from .portraits import Workshop


def pack(workshop: Workshop, outdir: Path) -> Path:
    """Write pipeline, weak denoiser and classifier.

    The denoisers are stored in float16, which halves the folder.
    """
    unet, text_encoder = workshop.denoiser
    pipe = StableDiffusionPipeline(
        vae=workshop.autoencoder, text_encoder=text_encoder, tokenizer=workshop.tokenizer, unet=_stored(unet),
        scheduler=build_scheduler(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(outdir, safe_serialization=True)
    _stored(workshop.weak).save_pretrained(outdir / WEAK_FOLDER, safe_serialization=True)
    workshop.classifier.save(outdir / CLASSIFIER)
    return outdir


def _stored(network: Any) -> Any:
    """Half the size on disk; diffusers loads it as float32 again."""
    return network.half()
