"""Portraits of which the same is said, and what they tell of a noisy portrait together."""

import torch
from torch import Tensor

REFERENCES = 128
"""Portraits that each target is computed over, its own among them."""


class SameMeaning:
    """Draws, for a caption, portraits that have a caption which says the same.

    Args:
        meanings: a number for what each caption of every portrait says, integers of shape ``[portraits, each]``.

    >>> same = SameMeaning(torch.tensor([[0, 1], [1, 1], [2, 0]]))
    >>> rows, which = torch.tensor([0, 2]), torch.tensor([1, 0])  # captions that say 1 and 2
    >>> drawn = same.draw(rows, which, torch.tensor([False, False]), 50, torch.Generator().manual_seed(0))
    >>> sorted(set(drawn[0].tolist())), sorted(set(drawn[1].tolist()))
    ([0, 1], [2])
    """

    def __init__(self, meanings: Tensor) -> None:
        self.portraits, each = meanings.shape
        self._meanings = meanings
        self._count = meanings.flatten().bincount()
        self._first = self._count.cumsum(0) - self._count
        self._by_meaning = meanings.flatten().argsort(stable=True) // each

    def draw(self, rows: Tensor, which: Tensor, unsaid: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Independent draws, with repetition.

        Args:
            rows: portraits, integers of shape ``[batch]``.
            which: the caption of each that is meant, ``[batch]``.
            unsaid: where no caption is told, bool of shape ``[batch]``: there any portrait will do.
            count: how many to draw for each.

        Returns:
            Portraits, ``[batch, count]``.
        """
        meaning = self._meanings[rows, which]
        uniform = torch.rand((len(rows), count), generator=generator, dtype=torch.float64)
        place = self._first[meaning, None] + (uniform * self._count[meaning, None]).long()
        return torch.where(unsaid[:, None], (uniform * self.portraits).long(), self._by_meaning[place])


def expected_latents(sample: Tensor, alpha: Tensor, sigma: Tensor, references: Tensor) -> Tensor:
    """E[x_0 | x_t] over references: the stable target field of Xu, Tong and Jaakkola (2023, arXiv 2302.00670).

        E[x_0 | x_t] = sum over r of w_r x_r,   w_r = softmax over r of -|x_t - alpha x_r|^2 / (2 sigma^2)

    A denoiser that learns it in the place of its own x_0 has the same optimum with less variance: when the references
    are x_0 and independent draws of the same distribution, x_0 is any of them, so the mean over them is the mean of x_0
    given x_t and the references, whose mean given x_t alone is E[x_0 | x_t].

    Args:
        sample: x_t, ``[batch, ...]``.
        alpha, sigma: of each, broadcasting over ``sample``.
        references: ``[batch, count, ...]``, of which one made the sample.

    >>> sample, references = torch.zeros(1, 2), torch.tensor([[[1.0, 0.0], [-1.0, 0.0], [0.0, 9.0]]])
    >>> expected_latents(sample, torch.tensor([[0.6]]), torch.tensor([[0.8]]), references).abs().max() < 1e-6
    tensor(True)
    """
    flat, ratio, variance = references.flatten(2), alpha.flatten(1), sigma.flatten(1).square()
    with torch.autocast(sample.device.type, enabled=False):  # bfloat16 would not tell near references apart
        agreement = (flat @ sample.flatten(1)[:, :, None]).squeeze(2)
        energy = torch.linalg.vector_norm(flat, dim=2).square()
        weight = torch.softmax((ratio * agreement - ratio.square() * energy / 2) / variance, dim=1)
        return (weight[:, None] @ flat).view_as(sample)
