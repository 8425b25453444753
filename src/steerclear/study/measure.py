"""Statistics of finished images that no laboratory is needed for, and what laboratories know of a run before it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..core.evidence import Circumstances
from ..core.laboratory import Measurement
from ..laboratories.measured import measured
from ..laboratories.portrait_classifier import CLASSIFIER
from ..laboratories.portraits import PortraitLaboratory
from ..metrics.estimates import mean_estimate
from ..models.loading import Model
from .gallery import Picture


def circumstances(model: Model, prompt: str, negatives: Sequence[str]) -> Circumstances:
    """What is known of a run with these prompts: on the portraits' model, how often true portraits show each negative."""
    if not negatives or model.folder is None or not (model.folder / CLASSIFIER).is_file():
        return Circumstances()
    priors = tuple(PortraitLaboratory(model.folder, prompt, negative).prior() for negative in negatives)
    return Circumstances(prior=priors[0] if len(priors) == 1 else priors)


def pixels(pictures: Sequence[Picture]) -> Tensor:
    """uint8, ``[n, 3, height, width]``."""
    return torch.stack([torch.from_numpy(np.array(picture.open())).permute(2, 0, 1) for picture in pictures])


def pixel_change(images: Tensor, reference: Tensor) -> Measurement:
    """Mean absolute difference to other images of the same seeds, as a fraction of the full range; Student's interval."""
    each = (images.double() - reference.double()).abs().flatten(1).mean(1) / 255
    return measured(mean_estimate(each), "jackknife", better="lower")
