"""Sizes and lengths of the trainings that make the shipped pipeline.

``cpu`` and ``gpu`` train from scratch. ``cpu-further`` and ``cpu-weak`` start from a finished pipeline: the first trains its
denoiser further, the second keeps it and trains only a new weak network. ``cpu-quarter`` trains a denoiser from scratch on
the text encoder of a finished pipeline, with the schedule of ``cpu``, and stops after a quarter of it: a model that has
something left to gain.
"""

from dataclasses import dataclass, replace

from .loop import Schedule


@dataclass(frozen=True)
class Preset:
    """Sizes and schedules of all networks.

    Args:
        images: number of training portraits, drawn from the seeds 0 to images - 1.
        captions_each: captions per portrait.
        autoencoder_channels, denoiser_channels, weak_channels: channels per resolution, from fine to coarse.
        autoencoder, denoiser, weak, classifier: schedules.
        learns_on: needs a finished pipeline to start from. (With 0 steps its denoiser is kept unchanged.)
        anew: the denoiser begins from scratch, and the text encoder of the pipeline to start from is kept, so that all its
            snapshots read the same text.
    """

    images: int
    captions_each: int
    autoencoder_channels: tuple[int, ...]
    denoiser_channels: tuple[int, ...]
    weak_channels: tuple[int, ...]
    autoencoder: Schedule
    denoiser: Schedule
    weak: Schedule
    classifier: Schedule
    learns_on: bool = False
    anew: bool = False


_CPU = Preset(
    images=60_000, captions_each=16, autoencoder_channels=(16, 32, 64), denoiser_channels=(48, 96, 192), weak_channels=(24, 48, 96),
    autoencoder=Schedule(2000, 32, 2.5e-3, warmup_steps=60, decay=0.6, ema_decay=0.995, weight_decay=1e-4),
    denoiser=Schedule(5000, 64, 1e-3, warmup_steps=200, decay=0.5, ema_decay=0.999, snapshots=32),
    weak=Schedule(4000, 64, 1e-3, decay=0.8, ema_decay=0.999, snapshots=32),
    classifier=Schedule(1500, 128, 2e-3, decay=0.9, ema_decay=0.99, weight_decay=1e-2),
)  # fmt: skip

PRESETS = {
    "cpu": _CPU,
    "cpu-further": replace(_CPU, denoiser=Schedule(3800, 64, 8e-4, decay=0.9, ema_decay=0.999, snapshots=32), learns_on=True),
    "cpu-weak": replace(_CPU, denoiser=Schedule(0, 64, 1e-3), learns_on=True),
    "cpu-quarter": replace(
        _CPU, denoiser=replace(_CPU.denoiser, snapshots=64, stop=_CPU.denoiser.steps // 4),
        weak=replace(_CPU.weak, stop=_CPU.weak.steps // 16, snapshots=64), learns_on=True, anew=True,
    ),
    "gpu": Preset(
        images=400_000, captions_each=4, autoencoder_channels=(32, 64, 96), denoiser_channels=(48, 96, 192), weak_channels=(24, 48, 96),
        autoencoder=Schedule(20_000, 128, 2e-3, warmup_steps=200, decay=0.6, ema_decay=0.999, weight_decay=1e-4),
        denoiser=Schedule(60_000, 256, 1e-3, warmup_steps=500, decay=0.4, ema_decay=0.9995, snapshots=32),
        weak=Schedule(3000, 256, 1e-3, ema_decay=0.995, snapshots=32),
        classifier=Schedule(4000, 256, 2e-3, decay=0.9, ema_decay=0.99, weight_decay=1e-2),
    ),
}  # fmt: skip
