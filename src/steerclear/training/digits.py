"""The networks of labelled images: one denoiser for every class and for none, and a classifier.

The denoiser predicts v of images with mean 0 and standard deviation 1. That is the preconditioning of EDM (Karras et al.
2022, arXiv 2206.00364): with sigma_data = 1, s = sigma / alpha and x = x_t / alpha,

    D(x; s) = x / (s^2 + 1)  +  s / sqrt(s^2 + 1) F(x / sqrt(s^2 + 1)),    F = -v

and x / sqrt(s^2 + 1) is x_t itself. EDM's loss weight makes the loss that of F with weight 1, which is that of v.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from diffusers import UNet2DModel
from torch.nn import functional as F

from ..core.shapes import Float, Int, Tensor, UInt8
from ..features.label_classifier import LABEL_CLASSIFIER, LabelClassifier, pixels_of
from ..laboratories.digits import REFERENCE, write_reference
from ..models.class_conditional import ClassConditionalPipeline
from ..testbeds.labelled_images import Labelled, World, read_labelled
from .diffusion import build_scheduler
from .loop import Report, Schedule, train
from .pack import write_folder

PATCH = 2
"""Pixels of a patch, each way, that become the channels of one place of the network's input: a quarter of the work."""
NO_CLASS = 0.4
"""Share of images that are shown without their class."""
LOG_NOISE = (-0.5, 1.2)
"""Mean and standard deviation of the log of sigma / alpha while training: EDM's -1.2 and 1.2, at a deviation of the data of 1
for its .5."""


@dataclass(frozen=True)
class LabelledCourse:
    """Sizes and lengths.

    Args:
        channels: of the denoiser, from fine to coarse.
        denoiser, classifier: schedules.
    """

    channels: tuple[int, ...] = (64, 96)
    denoiser: Schedule = field(
        default_factory=lambda: Schedule(
            12_000, 128, 1.2e-3, warmup_steps=400, decay=0.6, ema_decay=0.9995, weight_decay=1e-4, snapshots=24
        )
    )
    classifier: Schedule = field(
        default_factory=lambda: Schedule(1500, 128, 2e-3, decay=0.8, ema_decay=0.99, weight_decay=1e-2)
    )


COURSE = LabelledCourse()
COURSES = {
    "cpu": COURSE,
    "brief": LabelledCourse(
        (32, 64),
        Schedule(2000, 128, 1.5e-3, warmup_steps=100, decay=0.6, ema_decay=0.998, weight_decay=1e-4, snapshots=16),
        Schedule(500, 128, 2e-3, decay=0.8, ema_decay=0.98, weight_decay=1e-2),
    ),
    "gpu": LabelledCourse(
        (128, 192),
        Schedule(40_000, 512, 1e-3, warmup_steps=500, decay=0.4, ema_decay=0.9995, weight_decay=1e-4),
        Schedule(6000, 256, 2e-3, decay=0.8, ema_decay=0.995, weight_decay=1e-2),
    ),
    "narrow": LabelledCourse(
        (32, 48), Schedule(4000, 128, 1.2e-3, warmup_steps=200, decay=0.6, ema_decay=0.998, weight_decay=1e-4, snapshots=32)
    ),
}  # fmt: skip
"""The courses by the name of a preset; "narrow" makes a sister of "cpu" to be its weak network."""


def build_denoiser(world: World, channels: tuple[int, ...], seed: int) -> UNet2DModel:
    """A UNet of patches; class ``len(world.classes)`` stands for no class."""
    torch.manual_seed(seed)
    return UNet2DModel(
        sample_size=world.size // PATCH, in_channels=world.channels * PATCH**2, out_channels=world.channels * PATCH**2,
        layers_per_block=1, block_out_channels=channels, norm_num_groups=8, attention_head_dim=32,
        down_block_types=("DownBlock2D",) * len(channels), up_block_types=("UpBlock2D",) * len(channels),
        num_class_embeds=len(world.classes) + 1,
    )  # fmt: skip


@dataclass(frozen=True)
class Scaled:
    """Pixels with mean 0 and standard deviation 1, as patches.

    Args:
        mean, deviation: of the pixels of the training images, in [-1, 1].
    """

    mean: float
    deviation: float

    @classmethod
    def of(cls, images: UInt8[Tensor, "n channels size size"]) -> "Scaled":
        values = images.double() / 127.5 - 1
        return cls(float(values.mean()), float(values.std()))

    def patches(self, images: UInt8[Tensor, "n channels size size"]) -> Float[Tensor, "n places height width"]:
        return F.pixel_unshuffle((pixels_of(images) - self.mean) / self.deviation, PATCH)


def noise_level_timesteps(
    batch: int, alphas_cumprod: Float[Tensor, " timesteps"], generator: torch.Generator
) -> Int[Tensor, " batch"]:
    """Timesteps whose log noise level is normal, ``LOG_NOISE``; evenly spread quantiles from a random offset."""
    quantile = (torch.arange(batch) + torch.rand(1, generator=generator)) / batch
    mean, deviation = LOG_NOISE
    level = mean + deviation * math.sqrt(2) * torch.erfinv((2 * quantile - 1).clamp(-0.999999, 0.999999))
    known = ((1 - alphas_cumprod) / alphas_cumprod).sqrt().log()
    return torch.searchsorted(known, level).clamp(max=len(known) - 1)


def denoiser_loss(
    model: UNet2DModel, data: Labelled, scaled: Scaled, batch_size: int, device: str
) -> Callable[[int, torch.Generator], Tensor]:
    """The loss of a step: the squared error of v = alpha noise - sigma x_0."""
    alphas_cumprod = build_scheduler().alphas_cumprod
    patches = scaled.patches(data.images)
    nothing = model.config.num_class_embeds - 1

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(data), (batch_size,), generator=generator)
        clean, labels = patches[rows], data.captions[rows].clone()
        labels[torch.rand(batch_size, generator=generator) < NO_CLASS] = nothing
        timestep = noise_level_timesteps(batch_size, alphas_cumprod, generator)
        alpha = alphas_cumprod[timestep].sqrt().view(-1, 1, 1, 1)
        sigma = (1 - alphas_cumprod[timestep]).sqrt().view(-1, 1, 1, 1)
        noise = torch.randn(clean.shape, generator=generator)
        sample, target = alpha * clean + sigma * noise, alpha * noise - sigma * clean
        predicted = model(sample.to(device), timestep.to(device), labels.to(device)).sample
        return F.mse_loss(predicted.float(), target.to(device))

    return loss


def label_loss(
    model: LabelClassifier, data: Labelled, batch_size: int, device: str
) -> Callable[[int, torch.Generator], Tensor]:
    """The loss of a step: cross-entropy of images that are shifted by up to two pixels, under a little noise."""

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(data), (batch_size,), generator=generator)
        pixels = F.pad(pixels_of(data.images[rows]), (2, 2, 2, 2), mode="replicate")
        size = data.images.shape[-1]
        down, right = torch.randint(5, (2,), generator=generator).tolist()
        pixels = pixels[:, :, down : down + size, right : right + size]
        strength = 0.1 * torch.rand(batch_size, 1, 1, 1, generator=generator)
        pixels = pixels + strength * torch.randn(pixels.shape, generator=generator)
        return F.cross_entropy(model(pixels.to(device)).float(), data.labels[rows].to(device))

    return loss


@dataclass(frozen=True)
class LabelledWorkshop:
    """The files of one training.

    Args:
        world: which images.
        data: their folder; None for the hub.
        folder: for checkpoints.
        seed: determines all randomness.
        device: "cpu" or "cuda".
        report: called after every training step.
        course: sizes and lengths.
    """

    world: World
    data: Path | None
    folder: Path
    seed: int
    device: str
    report: Report
    course: LabelledCourse = COURSE

    @cached_property
    def images(self) -> Labelled:
        return read_labelled(self.world, "train", self.data)

    @cached_property
    def scaled(self) -> Scaled:
        return Scaled.of(self.images.images)

    @cached_property
    def classifier(self) -> LabelClassifier:
        """Rounded to float16, as it is stored."""
        torch.manual_seed(self.seed)
        model = LabelClassifier(self.world.channels, len(self.world.classes)).to(self.device)
        schedule = self.course.classifier
        loss = label_loss(model, self.images, schedule.batch_size, self.device)
        train("classifier", model, loss, schedule, self.folder, seed=self.seed, report=self.report)
        model = model.cpu().half().float()
        model.set_feature_scale(self.images.images[:10_000])
        return model

    @cached_property
    def denoiser(self) -> UNet2DModel:
        model, schedule = (
            build_denoiser(self.world, self.course.channels, self.seed).to(self.device),
            self.course.denoiser,
        )
        loss = denoiser_loss(model, self.images, self.scaled, schedule.batch_size, self.device)
        return train("denoiser", model, loss, schedule, self.folder, seed=self.seed, report=self.report).cpu()


def pack(workshop: LabelledWorkshop, outdir: Path) -> Path:
    """Write the pipeline, the classifier and the reference, completely or not at all; returns the folder."""
    scaled, test = workshop.scaled, read_labelled(workshop.world, "test", workshop.data)
    return write_model(outdir, workshop.world, workshop.denoiser, workshop.classifier, scaled, test)


def write_model(
    outdir: Path, world: World, denoiser: UNet2DModel, classifier: LabelClassifier, scaled: Scaled, test: Labelled
) -> Path:
    """Write a model of labelled images from its networks; returns the folder.

    Weights are stored in float16. The reference is the classifier's features of real images that no network was trained on.

    Args:
        outdir: for the pipeline, as diffusers lays it out.
        world: which images.
        denoiser, classifier: trained.
        scaled: of the training images.
        test: real images for the reference.
    """
    pipe = ClassConditionalPipeline(
        denoiser.half(), build_scheduler(), world.classes, scaled.mean, scaled.deviation, PATCH, world.channels
    )

    def save(folder: Path) -> None:
        pipe.save_pretrained(folder, safe_serialization=True)
        classifier.half().save(folder / LABEL_CLASSIFIER)
        write_reference(folder / REFERENCE, LabelClassifier.load(folder / LABEL_CLASSIFIER), test)

    return write_folder(outdir, save)
