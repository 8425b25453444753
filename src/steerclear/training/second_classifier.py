"""The second classifier of portraits: other portraits, another seed, another network than the first (see its laboratory)."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from ..core.saving import clear_partials, save_whole
from ..core.seeds import image_generators
from ..core.shapes import Tensor
from ..core.sums import write_sums
from ..laboratories.second_classifier import SECOND_CLASSIFIER, SecondClassifier
from ..testbeds.portraits.streams import PortraitStream
from . import autoencoder, data
from .classifier import classifier_loss
from .loop import Report, Schedule, in_parts, train
from .pack import READABLE

FIRST_PORTRAIT = 2_500_000_000
"""Seed of its first portrait: the first classifier was trained on seeds below two millions, references begin at 3e9."""
LATENT_NOISE = 0.25
"""Largest standard deviation of the noise of the latents, whose own is 1; each portrait has its own, down to 0."""
FEATURE_SCALE_PORTRAITS = 4096


@dataclass(frozen=True)
class Course:
    """What the second classifier is trained on, and for how long.

    Args:
        portraits: how many it sees as drawn.
        rebuilt: how many of them it also sees through the autoencoder.
        schedule: of its training.
    """

    portraits: int
    rebuilt: int
    schedule: Schedule


COURSE = Course(24_576, 6144, Schedule(1000, 128, 2e-3, warmup_steps=50, decay=0.8, ema_decay=0.99, weight_decay=1e-2))


@dataclass(frozen=True)
class SecondWorkshop:
    """The files of one training of the second classifier.

    Args:
        folder: for checkpoints and portraits; what is there is not made again.
        model: folder of the pipeline through whose autoencoder it sees portraits.
        seed: determines all randomness but that of the portraits.
        device: "cpu" or "cuda".
        report: called after every training step, and after every part of a preparation.
        course: portraits and schedule.
    """

    folder: Path
    model: Path
    seed: int
    device: str
    report: Report
    course: Course = COURSE

    @cached_property
    def drawn(self) -> dict[str, Tensor]:
        """``images`` uint8 and ``attributes.<name>``."""

        return drawn_portraits(self.folder, FIRST_PORTRAIT, self.course.portraits, self.report)

    @cached_property
    def rebuilt(self) -> Tensor:
        """The first portraits as the autoencoder gives them back from noised latents, uint8: soft, as a model's images."""

        images = self.drawn["images"][: self.course.rebuilt]
        return rebuilt_portraits(self.folder, FIRST_PORTRAIT, images, self.model / "vae", self.device, self.report)

    def train(self) -> SecondClassifier:
        """Train it; the result is rounded to float16, as it is stored."""
        torch.manual_seed(self.seed)
        model = SecondClassifier().to(self.device)
        images, schedule = self.drawn["images"], self.course.schedule
        attributes = data.attributes_of(self.drawn)
        loss = classifier_loss(model, images, self.rebuilt, attributes, schedule.batch_size, self.device)
        train("second-classifier", model, loss, schedule, self.folder, seed=self.seed, report=self.report)
        model = model.cpu().half().float()
        model.set_feature_scale(images[:FEATURE_SCALE_PORTRAITS])
        return model

    def pack(self, outdir: Path) -> None:
        """Write the classifier in float16, with its digest, completely or not at all."""
        model = self.train().half()

        def save(folder: Path) -> None:
            folder.mkdir()
            model.save(folder / SECOND_CLASSIFIER)
            (folder / SECOND_CLASSIFIER).chmod(READABLE)
            write_sums(folder)

        clear_partials(outdir.resolve().parent, outdir.resolve().name)
        save_whole(outdir, save)


def latent_noise(seeds: list[int], shape: torch.Size) -> Tensor:
    """Noise of scaled latents, ``[n, *shape]``: of portrait k from its own seed, of a strength of its own."""
    noise = []
    for generator in image_generators(seeds, stream=PortraitStream.SOFTNESS):
        strength = LATENT_NOISE * torch.rand((), generator=generator)
        noise.append(strength * torch.randn(shape, generator=generator))
    return torch.stack(noise)


def drawn_portraits(folder: Path, first: int, count: int, report: Report) -> dict[str, Tensor]:
    """True portraits of seeds from ``first``: ``images`` uint8 and ``attributes.<name>``, kept in the folder."""

    def make() -> dict[str, Tensor]:
        parts = in_parts("portraits", count, report)
        return data.drawn((first + rows).tolist() for rows in parts)

    return data.cached(folder / "portraits.safetensors", make)


def rebuilt_portraits(folder: Path, first: int, images: Tensor, vae: Path, device: str, report: Report) -> Tensor:
    """Portraits of seeds from ``first`` as an autoencoder gives them back from noised latents, uint8, kept in the folder."""

    def make() -> dict[str, Tensor]:
        model = AutoencoderKL.from_pretrained(vae).to(device).eval()
        parts = []
        for rows in in_parts("rebuilt", len(images), report):
            latents = autoencoder.encode(model, images[rows].to(device))
            noise = latent_noise((first + rows).tolist(), latents.shape[1:])
            latents = latents + noise.to(latents) / model.config.scaling_factor
            parts.append(data.to_pixels(autoencoder.decode(model, latents)).cpu())
        return {"images": torch.cat(parts)}

    return data.cached(folder / "rebuilt.safetensors", make)["images"]
