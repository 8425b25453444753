"""Weights that make the portraits of one meaning show each attribute as often as the meaning implies.

Of 60,000 portraits, a few hundred are described as "a woman wearing a red hat", and by chance too many of them wear
glasses. A network would learn this chance excess; the weights remove it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from ..testbeds.portraits.attributes import Attributes
from ..testbeds.portraits.truth import attribute_rates, indicators
from .data import by_meaning

FEWEST = 100
"""With fewer captions of one meaning, all have equal weight: so few cannot show every attribute as often as they should."""
RIDGE = 10.0


def calibrated(shown: Tensor, truth: Tensor) -> Tensor:
    """Weights of mean 1, as even as possible, for which the weighted mean of ``shown`` is ``truth``.

    Entropy balancing (Hainmueller 2012, Political Analysis 20), with a ridge that keeps deviations explained by chance in
    a small group. It is solved by its dual, which is convex:

        w_i = n softmax_i(t . x_i),   t = argmin of log sum_i exp(t . x_i) - t . truth + RIDGE |t|^2 / (2 n)

    Args:
        shown: x, what each portrait shows, in [0, 1], ``[n, attributes]``.
        truth: the mean to reach, ``[attributes]``.

    >>> weights = calibrated(torch.tensor([[0.0], [1.0]]).repeat(5000, 1), torch.tensor([0.25]))
    >>> [round(float(weight), 2) for weight in weights[:2]]
    [1.5, 0.5]
    """
    shown, truth = shown.double(), truth.double()
    ridge = RIDGE / len(shown)

    def dual(tilt: np.ndarray) -> tuple[float, np.ndarray]:
        t = torch.from_numpy(tilt)
        scores = shown @ t
        value = torch.logsumexp(scores, 0) - t @ truth + ridge / 2 * t @ t
        return float(value), (torch.softmax(scores, 0) @ shown - truth + ridge * t).numpy()

    def curvature(tilt: np.ndarray) -> np.ndarray:
        share = torch.softmax(shown @ torch.from_numpy(tilt), 0)
        spread = shown - share @ shown
        return (spread.T @ (share[:, None] * spread) + ridge * torch.eye(len(truth), dtype=torch.float64)).numpy()

    start = np.zeros(len(truth))
    best = minimize(dual, start, jac=True, hess=curvature, method="trust-exact", options={"gtol": 1e-9})
    return len(shown) * torch.softmax(shown @ torch.from_numpy(best.x), 0)


def caption_weights(members: Sequence[Attributes], captions: list[list[str]], meanings: Tensor, told: Tensor) -> Tensor:
    """How often to draw the family of each caption, relative to the others of its meaning; ``[portraits, each]``, float64.

    Args:
        members: attributes of all portraits, then of their siblings.
        captions: the captions of every portrait.
        meanings: the number of each caption's meaning, ``[portraits, each]``.
        told: log probability of each member given each caption, ``[portraits, each, members]``.

    Returns:
        Weights with mean 1 over the captions of each meaning.
    """
    flat, share = [text for row in captions for text in row], told.flatten(0, 1).exp()
    each = meanings.shape[1]
    order, count = by_meaning(meanings)
    columns = [torch.stack(list(indicators(attributes).values()), dim=1).double() for attributes in members]
    weights = torch.ones(meanings.numel(), dtype=torch.float64)
    for places in order.split(count.tolist()):
        if len(places) >= FEWEST:
            shown = sum(share[places, k, None] * column[places // each] for k, column in enumerate(columns))
            truth = torch.tensor(list(attribute_rates(flat[places[0]]).values()))
            weights[places] = calibrated(torch.as_tensor(shown), truth)
    return weights.view_as(meanings)
