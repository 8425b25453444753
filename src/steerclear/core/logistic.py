"""Ridge logistic regression: how sure a number makes us, learned from a few hundred labelled images."""

import torch

from .shapes import Bool, Float, PerImage, Tensor

STEPS = 50
SMALLEST_STEP = 1e-9


def fit(
    features: Float[Tensor, "batch columns"], shown: Bool[Tensor, " batch"], ridge: float | Tensor
) -> tuple[Float[Tensor, " columns"], float]:
    """The coefficients and the intercept of log p(shown) / p(not shown) = features @ coefficients + intercept.

    Minimizes the sum over images of -log p(label) plus ridge / 2 |coefficients|^2, by Newton's method with halved steps. The
    intercept is not shrunk. With labels of one kind only it would be infinite; half an image of each kind is added to the
    intercept's count, so that it is not.

    Args:
        features: float64.
        shown: the labels.
        ridge: above 0; one number, or one per column.
    """
    inputs = torch.cat([features.double(), torch.ones(len(features), 1, dtype=torch.float64)], 1)
    inputs = torch.cat([inputs, torch.zeros(2, inputs.shape[1], dtype=torch.float64)])
    inputs[-2:, -1] = 1
    labels = torch.cat([shown.double(), torch.tensor([0.0, 1.0], dtype=torch.float64)])
    counts = torch.ones(len(labels), dtype=torch.float64)
    counts[-2:] = 0.5
    shrink = torch.zeros(inputs.shape[1], dtype=torch.float64)
    shrink[:-1] = torch.as_tensor(ridge, dtype=torch.float64)

    def loss(at: Tensor) -> Tensor:
        log_odds = inputs @ at
        each = torch.nn.functional.softplus(log_odds) - labels * log_odds
        return (counts * each).sum() + (shrink * at**2).sum() / 2

    found = torch.zeros(inputs.shape[1], dtype=torch.float64)
    for _ in range(STEPS):
        p = (inputs @ found).sigmoid()
        slope = inputs.mT @ (counts * (p - labels)) + shrink * found
        curvature = inputs.mT @ ((counts * p * (1 - p))[:, None] * inputs) + torch.diag(shrink)
        curvature += 1e-9 * torch.eye(len(found), dtype=torch.float64)
        step = torch.linalg.solve(curvature, slope)
        size = 1.0
        while loss(found - size * step) > loss(found) and size > SMALLEST_STEP:
            size /= 2
        found = found - size * step
        if float((size * step).abs().max()) < SMALLEST_STEP:
            break
    return found[:-1], float(found[-1])


def log_odds(features: Float[Tensor, "batch columns"], coefficients: Tensor, intercept: float) -> PerImage:
    """log p(shown) / p(not shown) of images, float64."""
    return features.double() @ coefficients.double() + intercept


def cross_validated(
    features: Float[Tensor, "batch columns"], shown: Bool[Tensor, " batch"], ridge: float | Tensor, folds: int = 5
) -> PerImage:
    """The log-odds of each image by a fit to the images of the other folds; image k is in fold k % folds."""
    found = torch.zeros(len(features), dtype=torch.float64)
    fold = torch.arange(len(features)) % folds
    for number in range(folds):
        own = fold == number
        if own.any() and not own.all():
            found[own] = log_odds(features[own], *fit(features[~own], shown[~own], ridge))
    return found


def auc(scores: PerImage, shown: Bool[Tensor, " batch"]) -> float:
    """How often an image that shows the concept has the higher score of two; ties count half. NaN without both kinds.

    >>> auc(torch.tensor([0.1, 0.9, 0.4]), torch.tensor([False, True, True]))
    1.0
    """
    with_it, without = scores[shown].double(), scores[~shown].double()
    if not len(with_it) or not len(without):
        return float("nan")
    apart = with_it[:, None] - without[None, :]
    return float(((apart > 0).double() + (apart == 0).double() / 2).mean())
