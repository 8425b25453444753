"""The table of the volume term, measured once for a model, a prompt and its negative."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ..core.denoiser import Branch, Denoiser, Point
from ..core.errors import InvalidSetting
from ..core.noise import to_noise
from ..core.numerics import dot, wide
from ..core.seeds import image_generators

PROBE = 0.05  # how far a probe goes, in units of s
RANGE_OF_LOG_P = (-12.0, -1e-3)  # one probe is noisy: no image may count always or never again


def calibrate_volume(
    denoiser: Denoiser,
    levels: Sequence[tuple[float, float, object]],
    seeds: Sequence[int],
    shape: Sequence[int],
    *,
    prior: float,
    concept: str = "conjunction",
) -> tuple[tuple[float, float], ...]:
    """beta(s) = E[s^2 div(score_concept - score_prompt)] along unguided deterministic trajectories.

    Each node costs two evaluations of both branches: at y, and at y + h z with one random z of +-1 and h = 0.05 s;
    s^2 div ~ -s <z, d(y + h z) - d(y)> / h (Hutchinson 1989). Images are weighted by p(1 - p), with p their posterior, which
    the same probes track: dlog p = -<d, dy> / s + (2 b + a + s^2 div) dlog s. The table is smoothed with [1/4, 1/2, 1/4].
    At the lowest levels, where few images are undecided and p is noisy, it is too small.

    Args:
        denoiser: predicts ``positive`` and ``concept``.
        levels: (alpha, sigma, timestep) of each node, noise falling, all above 0; a scheduler's own.
        seeds: one per image; 16 or more.
        shape: of one sample, without the batch.
        prior: how often the concept shows without guidance, in (0, 1).
        concept: the branch of the concept.

    Returns:
        Nodes (s, beta), s rising: what ``TransitionEvidence(volume=...)`` takes.

    Raises:
        InvalidSetting: a level is not above 0, or the levels do not fall.
    """
    ratios = _falling(levels)
    generators = image_generators(seeds)
    start = torch.stack([torch.randn(tuple(shape), generator=generator) for generator in generators])
    y, log_p = start * ratios[0], torch.full((len(seeds),), math.log(prior), dtype=torch.float64)
    means: list[float] = []
    before: Tensor | None = None
    for index, (alpha, sigma, timestep) in enumerate(levels):
        s, following = ratios[index], ratios[min(index + 1, len(ratios) - 1)]

        def noises(where: Tensor) -> tuple[Tensor, Tensor]:
            point = Point(where * alpha, alpha, sigma, timestep, index, len(levels))  # noqa: B023
            return _noises(denoiser, point, concept)

        positive, d = noises(y)
        signs = [torch.randint(0, 2, tuple(shape), generator=generator) for generator in generators]
        probe = torch.stack(signs) * 2.0 - 1
        moved = noises(y + PROBE * s * probe)[1]
        divergence = -dot(probe, moved - d).double() / PROBE
        rate = (2 * dot(positive, d) + dot(d, d)).double() + divergence  # of log p, by log s, at a fixed point
        if before is not None:
            log_p = (log_p + (before + rate) / 2 * math.log(s / ratios[index - 1])).clamp(*RANGE_OF_LOG_P)
        share = log_p.exp() * (1 - log_p.exp())
        means.append(float((share * divergence).sum() / share.sum()))
        step = (following - s) * positive
        log_p, y, before = log_p - dot(step, d).double() / s, y + step, rate
    smooth = [(a + 2 * b + c) / 4 for a, b, c in zip(means[:1] + means, means, means[1:] + means[-1:], strict=False)]
    return tuple(zip(ratios[::-1], smooth[::-1], strict=True))


def _falling(levels: Sequence[tuple[float, float, object]]) -> list[float]:
    """sigma / alpha of each level; raises :class:`InvalidSetting` unless they fall, finite and above 0."""
    ratios = [sigma / alpha if alpha > 0 else math.inf for alpha, sigma, _ in levels]
    falling = all(before > after for before, after in pairwise(ratios))
    if not ratios or not falling or not 0 < ratios[-1] <= ratios[0] < math.inf:
        raise InvalidSetting("levels", ratios, "levels sigma / alpha that fall, finite and above 0")
    return ratios


def _noises(denoiser: Denoiser, point: Point, concept: str) -> tuple[Tensor, Tensor]:
    """The noise prediction under the prompt, and the concept's minus it."""
    branches = (Branch.parse("positive"), Branch.parse(concept))
    with torch.no_grad():
        positive, other = (
            to_noise(wide(prediction), wide(point.sample), point.alpha, point.sigma, denoiser.prediction_type)
            for prediction in denoiser.predict(point, branches, None)
        )
    return positive, other - positive
