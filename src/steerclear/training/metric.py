"""Weights of errors in the latents: errors in attributes count more than their small area in a portrait."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

ATTRIBUTE_PLACES = 64
"""Extra weight of an attribute's direction, in latent dimensions."""


def error_metric(apart: Tensor, attribute: Tensor) -> Tensor:
    """M of the squared error e' M e, with extra weight for errors that mistake a portrait for its sibling.

        M = (I + k A / mean of d' A d) / n,   A = mean over attributes of the mean of d d' over the siblings that differ in it

    with n latent dimensions, d the unit vector from sibling to portrait, and k = :data:`ATTRIBUTE_PLACES`. e' I e / n is the
    mean squared error; along d an error has the weight of k + 1 dimensions, on average over all siblings. M is positive
    definite and the same for all portraits, so the best prediction is still E[x_0 | x_t].

    Args:
        apart: latents of portraits minus those of their siblings, ``[siblings, ...]``, none of them zero.
        attribute: number of the attribute in which they differ, integers of shape ``[siblings]``.

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
