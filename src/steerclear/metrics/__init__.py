"""Metrics of sets of images: what guidance did to their distribution. One file per metric."""

from .collateral import CollateralShift, collateral_shift
from .diversity import mean_pairwise_distance, vendi_of_kernel, vendi_score
from .energy import energy_distance
from .estimates import Estimate, Rate
from .frechet import frechet_distance, frechet_estimate, frechet_of_gaussians
from .precision_recall import PrecisionRecall, precision_recall
from .rates import rate

__all__ = [
    "CollateralShift",
    "Estimate",
    "PrecisionRecall",
    "Rate",
    "collateral_shift",
    "energy_distance",
    "frechet_distance",
    "frechet_estimate",
    "frechet_of_gaussians",
    "mean_pairwise_distance",
    "precision_recall",
    "rate",
    "vendi_of_kernel",
    "vendi_score",
]
