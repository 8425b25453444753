"""Portraits with captions of the same meaning, and the denoised prediction that they give together."""

from dataclasses import dataclass
from functools import cached_property

import torch

from ..core.shapes import Bool, Float, Int, Prediction, Tensor
from .data import by_meaning

REFERENCES = 192
"""Number of families per training target, including the portrait's own."""


@dataclass(frozen=True)
class Families:
    """Every training portrait with its siblings: the same looks with other attributes.

    Args:
        latents: latents of the portrait itself, then of its siblings, ``[portraits, members, ...]``.
        meanings: number of each caption's meaning, integers of shape ``[portraits, each]``.
        weights: how often the family of each caption is drawn, relative to others of its meaning, ``[portraits, each]``.
        told: log probability of each member within its family given a caption, ``[portraits, each, members]``.
        unsaid: the same without a caption, ``[portraits, members]``.
    """

    latents: Float[Tensor, "portraits members *shape"]
    meanings: Int[Tensor, "portraits each"]
    weights: Float[Tensor, "portraits each"]
    told: Float[Tensor, "portraits each members"]
    unsaid: Float[Tensor, "portraits members"]

    @cached_property
    def _by_meaning(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Indices of all captions, sorted by meaning; the cumulative weights in that order, where the weights of a meaning
        sum to its number of captions; and for each meaning its first position and its number of captions."""
        meanings, weights = self.meanings.flatten(), self.weights.flatten().double()
        order, count = by_meaning(meanings)
        together = torch.zeros(len(count), dtype=torch.float64).index_add(0, meanings, weights)
        cumulative = (weights * count[meanings] / together[meanings])[order].cumsum(0)
        return order, cumulative, count.cumsum(0) - count, count

    def draw(
        self, meanings: Int[Tensor, " batch"], unsaid: Bool[Tensor, " batch"], count: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, "batch drawn *shape"], Float[Tensor, "batch drawn"]]:
        """Draw families with a caption of the given meaning, independently, and one portrait from the first of them.

        Args:
            meanings: number of the meaning, integers of shape ``[batch]``.
            unsaid: True for no caption, bool of shape ``[batch]``; then all portraits are drawn from.
            count: number of families.

        Returns:
            The portrait's latents, ``[batch, ...]``. The latents of all families, ``[batch, count * members, ...]``, and
            their prior log probabilities up to a constant, ``[batch, count * members]``.

        >>> numbers, even = torch.arange(4.0).view(4, 1, 1), torch.zeros(4, 1)
        >>> said, heavy = torch.tensor([[0], [1], [0], [1]]), torch.tensor([[1.0], [1.0], [1.0], [0.0]])
        >>> families = Families(numbers, said, heavy, even[:, None], even)
        >>> draws = [families.draw(torch.tensor([k]), torch.tensor([False]), 30, torch.Generator())[1] for k in (0, 1)]
        >>> [sorted(set(latents.flatten().tolist())) for latents in draws]
        [[0.0, 2.0], [1.0]]
        """
        portraits, each = self.meanings.shape
        order, cumulative, first, size = self._by_meaning
        begin, many = first[meanings, None], size[meanings, None]
        uniform = torch.rand((len(meanings), count), generator=generator, dtype=torch.float64)
        reached = torch.searchsorted(cumulative, begin + uniform * many, right=True)
        alike = order[reached.clamp(begin, begin + many - 1)]  # rounding of the sums may reach just beyond the meaning
        anyone = (uniform * portraits).long() * each
        captions = torch.where(unsaid[:, None], anyone, alike)
        drawn = captions // each
        log_weight = torch.where(unsaid[:, None, None], self.unsaid[drawn], self.told.flatten(0, 1)[captions])
        member = torch.multinomial(log_weight[:, 0].exp(), 1, generator=generator).squeeze(1)
        references = self.latents[drawn].flatten(1, 2)
        log_weight = log_weight.flatten(1).to(self.latents.device)
        return references[torch.arange(len(meanings)), member], references, log_weight


def expected_latents(
    sample: Prediction, alpha: Float[Tensor, "batch *ones"], sigma: Float[Tensor, "batch *ones"],
    references: Float[Tensor, "batch count *shape"], log_weight: Float[Tensor, "batch count"],
) -> Prediction:  # fmt: skip
    """E[x_0 | x_t] over references: the stable target field of Xu, Tong and Jaakkola (2023, arXiv 2302.00670).

        E[x_0 | x_t] = sum over r of w_r x_r,   w_r = softmax over r of log p_r - |x_t - alpha x_r|^2 / (2 sigma^2)

    Training on it instead of the sample's own x_0 has the same optimum with less variance: if x_0 was drawn from the
    references with probabilities p_r, this is the mean of x_0 given x_t and the references, and its mean given x_t alone is
    E[x_0 | x_t].

    Args:
        sample: x_t, ``[batch, ...]``.
        alpha, sigma: noise level per sample, broadcastable to ``sample``.
        references: x_r, ``[batch, count, ...]``; the sample was made from one of them.
        log_weight: log p_r up to a constant, ``[batch, count]``.

    >>> sample, references = torch.zeros(1, 2), torch.tensor([[[1.0, 0.0], [-1.0, 0.0], [0.0, 9.0]]])
    >>> thrice = torch.tensor([[3.0, 1.0, 1.0]]).log()
    >>> expected = expected_latents(sample, torch.tensor([[0.6]]), torch.tensor([[0.8]]), references, thrice)
    >>> [round(float(place), 6) for place in expected[0]]
    [0.5, 0.0]
    """
    flat, scale, variance = references.flatten(2), alpha.flatten(1), sigma.flatten(1).square()
    with torch.autocast(sample.device.type, enabled=False):  # bfloat16 does not distinguish close references
        agreement = (flat @ sample.flatten(1)[:, :, None]).squeeze(2)
        energy = torch.linalg.vector_norm(flat, dim=2).square()
        weight = torch.softmax(log_weight + (scale * agreement - scale.square() * energy / 2) / variance, dim=1)
        return (weight[:, None] @ flat).view_as(sample)
