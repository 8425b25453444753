"""Whole trajectories of tiny pipelines of every family, to be compared element by element."""

from typing import Any

import torch
from torch import Tensor

import tiny
from steerclear.bridges.diffusers.steer import steer
from steerclear.guidance.classifier_free import ClassifierFreeGuidance
from steerclear.guidance.negative_prompt import NegativePromptGuidance

STEPS = 3
SCALE = 3.0
PROMPT = "a red hat"
CFG = ClassifierFreeGuidance(SCALE)
NEGATIVE = NegativePromptGuidance(SCALE)


def recorded(pipe: Any, seen: list[Tensor]) -> None:
    """Let a scheduler note what each of its steps reaches: also where the pipeline has no callback."""
    kind = type(pipe.scheduler)

    class Recorded(kind):
        def step(self, *args, **kwargs):
            moved = super().step(*args, **kwargs)
            seen.append(moved[0].clone())
            return moved

    Recorded.__name__ = kind.__name__
    pipe.scheduler.__class__ = Recorded


def trajectory(name: str, variant: str, pipe: Any, *, images: int = 1, seeds=None, **settings: Any) -> list[Tensor]:
    """What every step reached, what the callback then saw (a mask may have been applied), and the end."""
    seen: list[Tensor] = []
    kind, plain = tiny.FAMILIES[name], type(pipe.scheduler)
    recorded(pipe, seen)
    own: dict[str, Any] = {"num_inference_steps": STEPS, **tiny.call_arguments(name, variant)}
    own["generator"] = tiny.generators(*(range(images) if seeds is None else seeds))
    if kind.batch:
        own |= {"output_type": "latent", "num_images_per_prompt": images, "prompt": PROMPT}
    else:
        own |= {"output_type": "np", "class_labels": [3 + 2 * image for image in range(images)]}
    if "callback_on_step_end" in tiny.parameters(pipe):
        own["callback_on_step_end"] = _watched(seen)
    torch.manual_seed(0)  # the autoencoder of a picture, where diffusers gives it no generator
    try:
        end = pipe(**{**own, **settings}).images
    finally:
        pipe.scheduler.__class__ = plain
    return [*seen, torch.as_tensor(end)]


def _watched(seen: list[Tensor]):
    def see(pipe, index, timestep, tensors):
        seen.append(tensors["latents"].clone())
        return tensors

    return see


def steered(name: str, variant: str, pipe: Any, guidance: Any, negative=None, *, steer_settings=(), **settings: Any):
    """The same under a guidance; the run too."""
    with steer(pipe, guidance, **{"negative_prompt": negative, **dict(steer_settings)}) as run:
        found = trajectory(name, variant, pipe, **settings)
    return found, run


def equal(left: list[Tensor], right: list[Tensor]) -> bool:
    """Bit by bit."""
    return len(left) == len(right) and all(torch.equal(*pair) for pair in zip(left, right, strict=True))


def furthest(left: list[Tensor], right: list[Tensor]) -> float:
    """The largest difference, in units of the largest value."""
    assert len(left) == len(right)
    pairs = [((a - b).abs().max() / b.abs().max().clamp(min=1)) for a, b in zip(left, right, strict=True)]
    return float(torch.stack(pairs).max())
