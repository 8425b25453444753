"""The arguments of a pipeline's call for some of its images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.errors import InvalidSetting, UnsupportedModel

PICTURES = ("image", "mask_image", "masked_image_latents", "control_image", "control_mask")
CONTROLS = ("control_image", "control_mask")
"""Pictures of a ControlNet, repeated for each image of a prompt; the others go round the images in turn, as in diffusers."""
CHANGED = ("generator", "latents", "num_images_per_prompt")
"""Arguments that are others in a further draw, or left out: it begins with noise of its own."""


@dataclass(frozen=True)
class Batch:
    """One call of a pipeline, as far as it says which image is of which prompt.

    Attributes:
        given: the arguments that were not left at their defaults, by name.
        prompts: how many prompts, embeddings or classes it has.
        each: images per prompt.
        controlled: whether its ``image`` is the ControlNet's.
    """

    given: Mapping[str, Any]
    prompts: int
    each: int
    controlled: bool

    @property
    def images(self) -> int:
        return self.prompts * self.each

    def of_rows(self, rows: Sequence[int]) -> dict[str, Any]:
        """The arguments of the same call for these images alone, without generators and latents."""
        kept = {name: value for name, value in self.given.items() if name not in CHANGED}
        if self.prompts == 1:  # one text, however many images: said once
            own: dict[str, Any] = {} if self.images == 1 else {"num_images_per_prompt": len(rows)}
        else:
            own = {"num_images_per_prompt": 1} if "num_images_per_prompt" in self.given else {}
            of_prompt = [row // self.each for row in rows]
            own |= {name: _chosen(value, of_prompt) for name, value in kept.items() if _is_per_prompt(name)}
        pictures = {name: self._pictures(name, kept[name], rows) for name in PICTURES if name in kept}
        return kept | own | pictures

    def _pictures(self, name: str, value: Any, rows: Sequence[int]) -> Any:
        control = name in CONTROLS or (name == "image" and self.controlled)
        count = _pictures_in(value)
        if count == 1 or (control and self.prompts == 1):  # a list for one prompt is of several ControlNets
            return value
        return _chosen(value, [row // self.each if control else row % count for row in rows])


def batch_of(pipe: Any, given: Mapping[str, Any], arguments: Mapping[str, Any], classes: str | None) -> Batch | None:
    """What a call asks for; None where it has no prompt, which the pipeline refuses by itself.

    Args:
        pipe: the pipeline.
        given: the arguments of the call that were not left at their defaults.
        arguments: all of them.
        classes: the argument that holds classes; None where prompts do.

    Raises:
        UnsupportedModel: pictures that cannot be divided among the images.
    """
    plain = {name: value for name, value in given.items() if name not in ("self", "kwargs")} | given.get("kwargs", {})
    said = [arguments[name] for name in (classes or "prompt", "prompt_embeds") if name in arguments]
    told = next((one for one in said if one is not None), None)
    prompts = _prompts_in(told)
    if not prompts:
        return None
    controlled = getattr(pipe, "controlnet", None) is not None and "control_image" not in arguments
    batch = Batch(plain, prompts, arguments.get("num_images_per_prompt") or 1, controlled)
    if prompts > 1:
        _refuse_undivided(pipe, plain)
    return batch


def _refuse_undivided(pipe: Any, given: Mapping[str, Any]) -> None:
    adapters = [name for name, value in given.items() if "ip_adapter" in name and value is not None]
    several = hasattr(getattr(pipe, "controlnet", None), "nets")
    if adapters or several:
        what = adapters[0] if adapters else "several ControlNets"
        raise UnsupportedModel(
            f"images are drawn again one by one, and with several prompts in a call it is unclear which pictures of {what} belong "
            f"to which; call the pipeline once for each prompt"
        )


def check_generators(generator: Any, images: int) -> tuple[torch.Generator, ...]:
    """One generator per image: images that are drawn again have no other noise of their own.

    Raises:
        InvalidSetting: there is none, or another number of them.
    """
    own = tuple(generator) if isinstance(generator, list | tuple) else (() if generator is None else (generator,))
    if len(own) != images:
        allowed = f"{images}, one for each image, because images are drawn again from their own noise"
        seeds = f"[torch.Generator().manual_seed(seed) for seed in range({images})]"
        raise InvalidSetting("the number of generators", len(own), allowed, f"give the call generator={seeds}")
    return own


def _is_per_prompt(name: str) -> bool:
    return name == "class_labels" or ("prompt" in name and name != "num_images_per_prompt")


def _prompts_in(value: Any) -> int:
    return 1 if isinstance(value, str | int) else 0 if value is None else len(value)


def _pictures_in(value: Any) -> int:
    if isinstance(value, Tensor | np.ndarray):
        return len(value) if value.ndim == 4 else 1
    return len(value) if isinstance(value, list | tuple) else 1


def _chosen(value: Any, rows: list[int]) -> Any:
    if isinstance(value, list | tuple):
        return [value[row] for row in rows]
    return value[rows] if isinstance(value, Tensor | np.ndarray) else value
