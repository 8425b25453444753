"""Puts the trained networks into one folder that ``DiffusionPipeline.from_pretrained`` loads."""

import json
import shutil
from pathlib import Path
from typing import Any

from diffusers import StableDiffusionPipeline
from transformers import CLIPTokenizer

from ..core.saving import PARTIAL, clear_partials, is_partial, save_whole
from ..laboratories.portrait_classifier import CLASSIFIER
from ..models.files import PIPELINE_INDEX, WEAK_FOLDER, write_sums
from .diffusion import build_scheduler
from .portraits import Workshop

READABLE = 0o644


def pack(workshop: Workshop, outdir: Path) -> Path:
    """Write pipeline, weak denoiser and classifier: all of them, or nothing.

    The denoisers are stored in float16, which halves the folder.
    """
    unet, text_encoder = workshop.denoiser
    # all are there before the first is written: a pipeline is whole
    weak, classifier = workshop.weak, workshop.classifier
    # a tokenizer remembers how it was last called, and would write that down
    tokenizer = CLIPTokenizer.from_pretrained(workshop.tokenizer.name_or_path)
    pipe = StableDiffusionPipeline(
        vae=workshop.autoencoder, text_encoder=text_encoder, tokenizer=tokenizer, unet=_stored(unet),
        scheduler=build_scheduler(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip

    def save(folder: Path) -> None:
        pipe.save_pretrained(folder, safe_serialization=True)
        _stored(weak).save_pretrained(folder / WEAK_FOLDER, safe_serialization=True)
        classifier.save(folder / CLASSIFIER)
        for path in folder.rglob("config.json"):
            _forget_origin(path)
        for path in folder.rglob("*.safetensors"):
            path.chmod(READABLE)  # safetensors leaves its files to their owner alone
        write_sums(folder)

    if not outdir.exists():
        clear_partials(outdir.resolve().parent, outdir.resolve().name)
        save_whole(outdir, save)
        return outdir
    within = outdir / PARTIAL  # an empty folder that is there stays: it may be a mount, or where somebody stands
    for left in filter(is_unpacked, list(outdir.iterdir())):
        shutil.rmtree(left)
    save_whole(within, save)
    for path in sorted(within.iterdir(), key=lambda path: path.name == PIPELINE_INDEX):
        path.rename(outdir / path.name)
    within.rmdir()
    return outdir


def is_unpacked(path: Path) -> bool:
    """Whether this is what :func:`pack` leaves in a folder when its process is killed."""
    return path.name == PARTIAL or is_partial(path)


def _forget_origin(path: Path) -> None:
    """diffusers writes down which folder a network was loaded from; it means nothing on another machine."""
    config = json.loads(path.read_text())
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _stored(network: Any) -> Any:
    """Half the size on disk; diffusers loads it as float32 again."""
    return network.half()
