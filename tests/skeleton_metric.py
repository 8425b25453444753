"""A metric in one file: how far the images are spread in feature space."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from steerclear.core.laboratory import Measurement
from steerclear.core.metric import FeatureMetric
from steerclear.metrics.estimates import mean_estimate


@dataclass(frozen=True)
class Spread(FeatureMetric):
    """Mean squared distance of an image's features from the mean of true images.

    Equation:
        mean over images of |f - m|^2,   m = mean of the features of true images
    """

    name: ClassVar[str] = "spread"
    label: ClassVar[str] = "spread"
    meaning: ClassVar[str] = "mean squared distance from the mean of true images, in feature space"
    better = "truth"  # nearer to that of as many true images

    def of(self, features: Tensor, reference: Tensor) -> Measurement:
        return mean_estimate((features - reference.mean(0)).square().sum(1)).measured("jackknife")
