"""What a pipeline gives to guidances and evidences: its prompts, its seeds, its decoder, its folder."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.calibration import Calibration
from ..core.errors import InvalidSetting, UnsupportedModel
from ..core.evidence import Surroundings
from ..core.laboratory import Judge
from .branches import spans
from .negatives import Negatives


def surroundings_of(
    pipe: Any, told: Callable[[str], Any], images: int, negatives: Negatives, *, judge: Judge | None,
    files: str | Path | None, max_batch: int | None = None, calibrations: tuple[Calibration | None, ...] = (),
) -> Surroundings:  # fmt: skip
    """Of one run.

    Args:
        pipe: the pipeline.
        told: name -> argument of its call: the prompt, the generators, height and width.
        images: how many there are.
        negatives: the negative prompts of the run.
        judge, files: see :func:`~steerclear.bridges.diffusers.steer.steer`.
        max_batch: how many images are decoded at once; None for all.
        calibrations: one per negative prompt, or ().
    """
    prompt, size = told("prompt"), (told("height"), told("width"))
    prompts = [prompt] if isinstance(prompt, str) else list(prompt or ())

    def per_image(texts: Sequence[str] | None) -> tuple[str, ...]:
        return tuple(text for text in texts or () for _ in range(images // len(texts or ())))

    own = [negatives.for_prompts(index, len(prompts) or 1) for index in range(len(negatives.texts))]
    return Surroundings(
        images, len(negatives), seeds_of_images(told("generator"), images), per_image(prompts),
        tuple(per_image(texts) for texts in own), given_judge=judge, folder=folder_of(pipe, files),
        decoder=decoder(pipe, size, max_batch), calibrations=calibrations,
    )  # fmt: skip


def check_looking(judge: Any, files: Any) -> None:
    """Refuse what is not a judge or not a folder. Raises :class:`InvalidSetting`."""
    if not isinstance(judge, Judge | None):
        raise InvalidSetting("judge", judge, "a Judge of steerclear.core.laboratory, or None")
    if files is not None and not (isinstance(files, str | Path) and Path(files).is_dir()):
        raise InvalidSetting("files", files, "a folder that exists, or None")


def folder_of(pipe: Any, files: str | Path | None) -> Path | None:
    """Where a model's files are: the folder that was given, or that the pipeline was loaded from; None if it has none."""
    if files is not None:
        return Path(files)
    known = getattr(pipe, "name_or_path", None)
    return Path(known) if known and Path(known).is_dir() else None


def has_latents(pipe: Any) -> bool:
    """Whether samples are something else than pixels: of an autoencoder, or scaled by the pipeline's own ``decode``."""
    return getattr(pipe, "vae", None) is not None or hasattr(pipe, "decode")


def decoder(pipe: Any, size: tuple[int | None, int | None], max_batch: int | None) -> Callable[[Tensor], Tensor] | None:
    """Latents -> float images in [0, 1], by the pipeline's own autoencoder and its scaling, or by its ``decode``.

    None for a pipeline that has neither.

    Args:
        pipe: the pipeline.
        size: height and width of the images, which packed latents (Flux) do not say; None for the pipeline's own.
        max_batch: see :func:`surroundings_of`.
    """
    if getattr(pipe, "vae", None) is None:
        return getattr(pipe, "decode", None)

    def decode(denoised: Tensor) -> Tensor:
        vae, config = pipe.vae, pipe.vae.config
        latents = denoised.float()
        if latents.ndim == 3 and hasattr(pipe, "_unpack_latents"):
            height, width = (one or pipe.default_sample_size * pipe.vae_scale_factor for one in size)
            latents = pipe._unpack_latents(latents, height, width, pipe.vae_scale_factor)
        if latents.ndim != 4:
            raise UnsupportedModel(
                f"an evidence asks for decoded images, and latents of the shape {tuple(denoised.shape)} of a "
                f"{type(pipe).__name__} are not those of images; use an evidence that looks at predictions alone"
            )
        latents = _unscaled(latents, config)
        upcast = vae.dtype == torch.float16 and config.get("force_upcast", False)  # overflows in half precision
        if upcast:
            vae.to(torch.float32)
        try:
            pieces = [
                vae.decode(latents[span].to(vae.dtype), return_dict=False)[0] for span in spans(len(latents), max_batch)
            ]
        finally:
            if upcast:
                vae.to(torch.float16)
        return (torch.cat(pieces).float() / 2 + 0.5).clamp(0, 1)

    return decode


def _unscaled(latents: Tensor, config: Any) -> Tensor:
    """From the sampler's scaling to the autoencoder's: ``latents * std / scaling_factor + mean``, or ``+ shift_factor``."""

    def each(name: str, otherwise: float) -> Tensor | float:
        value = config.get(name)
        return otherwise if value is None else torch.tensor(value).reshape(1, -1, 1, 1).to(latents)

    shift = each("latents_mean", config.get("shift_factor") or 0.0)
    return latents * each("latents_std", 1.0) / (config.get("scaling_factor") or 1.0) + shift


def seeds_of_images(generator: Any, images: int) -> tuple[int, ...]:
    """The seed of each image: that of its own generator, or the only generator's and its number in the batch.

    >>> import torch
    >>> seeds_of_images([torch.Generator().manual_seed(seed) for seed in (5, 3)], 2)
    (5, 3)
    >>> seeds_of_images(torch.Generator().manual_seed(5), 2), seeds_of_images(None, 2)
    ((5, 6), (0, 1))
    """
    if isinstance(generator, (list, tuple)) and len(generator) == images:
        return tuple(own.initial_seed() for own in generator)
    only = generator[0] if isinstance(generator, (list, tuple)) else generator
    first = 0 if only is None else only.initial_seed()
    return tuple(first + image for image in range(images))
