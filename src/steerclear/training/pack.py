"""Write the trained networks into one folder that ``DiffusionPipeline.from_pretrained`` loads."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffusers import StableDiffusionPipeline
from transformers import CLIPTokenizer

from ..core.saving import PARTIAL, clear_partials, is_partial, save_whole
from ..core.sums import write_sums
from ..features.portrait_classifier import CLASSIFIER
from ..models.files import PIPELINE_INDEX, WEAK_FOLDER
from .diffusion import build_scheduler
from .portraits import Workshop

READABLE = 0o644


def pack(workshop: Workshop, outdir: Path) -> Path:
    """Write the pipeline, the weak denoiser and the classifier, completely or not at all; returns the folder.

    The denoisers are stored in float16, which halves the folder's size.
    """
    unet, text_encoder = workshop.denoiser
    # train everything before writing anything
    weak, classifier = workshop.weak, workshop.classifier
    # a fresh one: a tokenizer stores how it was last called
    tokenizer = CLIPTokenizer.from_pretrained(workshop.tokenizer.name_or_path)
    pipe = StableDiffusionPipeline(
        vae=workshop.autoencoder, text_encoder=text_encoder, tokenizer=tokenizer, unet=_stored(unet),
        scheduler=build_scheduler(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip

    def save(folder: Path) -> None:
        pipe.save_pretrained(folder, safe_serialization=True)
        _stored(weak).save_pretrained(folder / WEAK_FOLDER, safe_serialization=True)
        classifier.save(folder / CLASSIFIER)

    return write_folder(outdir, save)


def write_folder(outdir: Path, save: Callable[[Path], None]) -> Path:
    """What ``save`` writes into a folder, and the digests of its weights: completely or not at all; returns the folder."""

    def whole(folder: Path) -> None:
        save(folder)
        for path in folder.rglob("config.json"):
            _forget_origin(path)
        for path in folder.rglob("*.safetensors"):
            path.chmod(READABLE)  # safetensors makes files that only their owner can read
        write_sums(folder)

    if not outdir.exists():
        clear_partials(outdir.resolve().parent, outdir.resolve().name)
        save_whole(outdir, whole)
        return outdir
    within = outdir / PARTIAL  # an existing empty folder is kept: it may be a mount or a current directory
    for left in filter(is_unpacked, list(outdir.iterdir())):
        shutil.rmtree(left)
    save_whole(within, whole)
    for path in sorted(within.iterdir(), key=lambda path: path.name == PIPELINE_INDEX):
        path.rename(outdir / path.name)
    within.rmdir()
    return outdir


def is_unpacked(path: Path) -> bool:
    """Whether :func:`pack` left this in a folder when its process was killed."""
    return path.name == PARTIAL or is_partial(path)


def _forget_origin(path: Path) -> None:
    """Remove the folder that diffusers stores as the network's origin; it means nothing on another machine."""
    config = json.loads(path.read_text())
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _stored(network: Any) -> Any:
    """The network in float16, half the size on disk; diffusers loads it as float32."""
    return network.half()
