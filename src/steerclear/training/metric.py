"""Which errors of the latents count: those of attributes more than their share of a portrait."""

import torch
from torch.nn.functional import normalize

from ..core.shapes import Float, Int, Tensor

ATTRIBUTE_PLACES = 64
"""As how many places of the latents an attribute counts, beside the one that any direction counts as."""


def error_metric(
    apart: Float[Tensor, "siblings *shape"], attribute: Int[Tensor, " siblings"]
) -> Float[Tensor, "places places"]:
    """M of the squared error e' M e, in which an error counts more that takes a portrait for its sibling.

        M = (I + k A / mean of d' A d) / n,   A = mean over attributes of the mean of d d' over the siblings that differ in it

    with n places, d the direction from sibling to portrait, of length 1, and k = :data:`ATTRIBUTE_PLACES`. e' I e / n is
    the mean squared error; along d an error counts as k + 1 places do, in the mean over all siblings. As M is positive
    definite and the same for all portraits, the best prediction is E[x_0 | x_t], as it is without A.

    Args:
        apart: latents of portraits less those of their siblings, ``[siblings, ...]``, none of them zero.
        attribute: in which one they differ, by a number, integers of shape ``[siblings]``.

    Returns:
        ``[n, n]``, symmetric and positive definite.

    >>> error_metric(torch.tensor([[0.0, 3.0], [0.0, -1.0]]), torch.tensor([5, 5])).tolist()
    [[0.5, 0.0], [0.0, 32.5]]
    """
    direction = normalize(apart.flatten(1), dim=1)
    kinds = [direction[attribute == kind] for kind in attribute.unique().tolist()]
    subspace = torch.stack([some.T @ some / len(some) for some in kinds]).mean(0)
    along = (subspace * (direction.T @ direction)).sum() / len(direction)
    places = direction.shape[1]
    return (torch.eye(places, device=apart.device) + ATTRIBUTE_PLACES * subspace / along) / places
