"""Portraits of which the same is said, and what they tell of a noisy portrait together."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

REFERENCES = 64
"""Families that each target is computed over, the portrait's own among them."""


@dataclass(frozen=True)
class Families:
    """Every training portrait with its siblings: the same looks with other attributes.

    Args:
        latents: of the portrait itself and of its siblings, ``[portraits, members, ...]``.
        meanings: a number for what each caption of every portrait says, integers of shape ``[portraits, each]``.
        told: log probability of each member among its family, given what a caption of the portrait says, ``[portraits, each, members]``.
        unsaid: the same given nothing, ``[portraits, members]``.
    """

    latents: Tensor
    meanings: Tensor
    told: Tensor
    unsaid: Tensor

    @cached_property
    def _by_meaning(self) -> tuple[Tensor, Tensor, Tensor]:
        """Places of all captions, sorted by meaning; and where each meaning begins, and how many captions have it."""
        count = self.meanings.flatten().bincount()
        return self.meanings.flatten().argsort(stable=True), count.cumsum(0) - count, count

    def draw(
        self, rows: Tensor, which: Tensor, unsaid: Tensor, count: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The portrait's own family, and others of which the same is said: independent draws, with repetition.

        Args:
            rows: portraits, integers of shape ``[batch]``.
            which: the caption of each that is meant, ``[batch]``.
            unsaid: where no caption is told, bool of shape ``[batch]``: there any portrait will do.
            count: how many families.

        Returns:
            Latents, ``[batch, count * members, ...]``, and their log probabilities before anything is seen, but for a
            constant, ``[batch, count * members]``.

        >>> numbers, even = torch.arange(4.0).view(4, 1, 1), torch.zeros(4, 1)
        >>> families = Families(numbers, torch.tensor([[0], [1], [0], [1]]), even[:, None], even)
        >>> latents, _ = families.draw(torch.tensor([2]), torch.tensor([0]), torch.tensor([False]), 30, torch.Generator())
        >>> float(latents[0, 0]), sorted(set(latents.flatten().tolist()))
        (2.0, [0.0, 2.0])
        """
        portraits, each = self.meanings.shape
        order, first, size = self._by_meaning
        meaning = self.meanings[rows, which, None]
        uniform = torch.rand((len(rows), count - 1), generator=generator, dtype=torch.float64)
        alike = order[first[meaning] + (uniform * size[meaning]).long()]
        anyone = (uniform * portraits).long() * each
        captions = torch.cat([(rows * each + which)[:, None], torch.where(unsaid[:, None], anyone, alike)], dim=1)
        drawn = captions // each
        log_weight = torch.where(unsaid[:, None, None], self.unsaid[drawn], self.told.flatten(0, 1)[captions])
        return self.latents[drawn].flatten(1, 2), log_weight.flatten(1).to(self.latents.device)


def expected_latents(sample: Tensor, alpha: Tensor, sigma: Tensor, references: Tensor, log_weight: Tensor) -> Tensor:
    """E[x_0 | x_t] over references: the stable target field of Xu, Tong and Jaakkola (2023, arXiv 2302.00670).

        E[x_0 | x_t] = sum over r of w_r x_r,   w_r = softmax over r of log p_r - |x_t - alpha x_r|^2 / (2 sigma^2)

    A denoiser that learns it in the place of its own x_0 has the same optimum with less variance: when x_0 was drawn from
    the references with the probabilities p_r, this is the mean of x_0 given x_t and the references, whose mean given x_t
    alone is E[x_0 | x_t].

    Args:
        sample: x_t, ``[batch, ...]``.
        alpha, sigma: of each, broadcasting over ``sample``.
        references: ``[batch, count, ...]``, of which one made the sample.
        log_weight: log p_r, ``[batch, count]``, but for a constant.

    >>> sample, references = torch.zeros(1, 2), torch.tensor([[[1.0, 0.0], [-1.0, 0.0], [0.0, 9.0]]])
    >>> thrice = torch.tensor([[3.0, 1.0, 1.0]]).log()
    >>> expected = expected_latents(sample, torch.tensor([[0.6]]), torch.tensor([[0.8]]), references, thrice)
    >>> [round(float(place), 6) for place in expected[0]]
    [0.5, 0.0]
    """
    flat, scale, variance = references.flatten(2), alpha.flatten(1), sigma.flatten(1).square()
    with torch.autocast(sample.device.type, enabled=False):  # bfloat16 would not tell near references apart
        agreement = (flat @ sample.flatten(1)[:, :, None]).squeeze(2)
        energy = torch.linalg.vector_norm(flat, dim=2).square()
        weight = torch.softmax(log_weight + (scale * agreement - scale.square() * energy / 2) / variance, dim=1)
        return (weight[:, None] @ flat).view_as(sample)
