"""Where the images of a model lie without a prompt, with one, and with a negative one: the plane of a schematic, measured.

Features of an image are many numbers. The plane is that of the two directions in which the images without a prompt differ most
(their principal components), and all images are laid into it.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..bridges.diffusers.steer import steer
from ..core.errors import InvalidSetting, UnsupportedModel, keeping
from ..core.features import Features
from ..core.guidance import Guidance
from ..core.saving import clear_partials, save_whole
from ..core.seeds import image_generators
from ..core.settings import whole
from ..core.shapes import Bool, Float, UInt8
from ..features.portraits import PortraitFeatures
from ..guidance.negative_prompt import NegativePromptGuidance
from ..guidance.unguided import Unguided
from ..laboratories.portraits import PortraitJudge, has_classifier
from ..models.loading import Model, load_model
from .folders import working_folder

FEWEST = 3
"""Fewest images of a region: fewer span no plane."""
DIGEST = 12

Progress = Callable[[str, int, int], None]
"""Called with (title of the region, images done, in all)."""


@dataclass(frozen=True)
class Asking:
    """One way of asking.

    Args:
        title: for people.
        prompt: "" for none.
        negative: the negative prompt; "" for none.
        guidance: how the predictions become one.
    """

    title: str
    prompt: str
    negative: str = ""
    guidance: Guidance = field(default_factory=Unguided)


STORY = (
    Asking("no prompt", ""),
    Asking("“portrait photo of a man”", "portrait photo of a man"),
    Asking("the same, negative prompt “mustache”", "portrait photo of a man", "mustache", NegativePromptGuidance(3.0)),
)
"""The three of the schematic: at scale 1 a prompt is the network's own distribution; a negative prompt needs a scale above 1."""


@dataclass(frozen=True)
class Region:
    """The images of one way of asking, in the plane.

    Args:
        asked: how they were asked for.
        images: uint8, ``[n, 3, height, width]``.
        points: where they lie in the plane, ``[n, 2]``, in the units of the features.
        shows: whether the concept is seen in them, ``[n]``.
    """

    asked: Asking
    images: UInt8[Tensor, "n 3 height width"]
    points: Float[Tensor, "n 2"]
    shows: Bool[Tensor, " n"]


@dataclass(frozen=True)
class Space:
    """The regions of a plane.

    Args:
        regions: the first spans the plane.
        share: of the variance of the first region's features that its plane shows, in [0, 1].
        concept: what ``shows`` is about.
        features: what the images are compared by, in words.
    """

    regions: tuple[Region, ...]
    share: float
    concept: str
    features: str


def plane_of(features: Float[Tensor, "n width"]) -> tuple[Float[Tensor, " width"], Float[Tensor, "2 width"], float]:
    """The middle, the two principal components of length 1, and their share of the variance.

    The sign of a component is such that its number of the largest size is positive, so that a picture is the same each time.

    Raises:
        InvalidSetting: fewer than :data:`FEWEST` images.
    """
    if len(features) < FEWEST:
        raise InvalidSetting("images", len(features), f"at least {FEWEST}", "fewer span no plane")
    middle = features.double().mean(0)
    _, sizes, axes = torch.linalg.svd(features.double() - middle, full_matrices=False)
    first = axes[:2]
    signs = first.gather(1, first.abs().argmax(1, keepdim=True)).sign()
    share = float(sizes[:2].square().sum() / sizes.square().sum())
    return middle.float(), (first * signs).float(), share


def sampling_space(
    folder: Path, *, asked: Sequence[Asking] = STORY, concept: str = "mustache", count: int = 300,
    num_inference_steps: int = 30, batch_size: int = 50, model: Model | None = None, on_progress: Progress | None = None,
) -> Space:  # fmt: skip
    """Draw the images of every way of asking, and lay them into the plane of the first.

    Args:
        folder: finished batches are kept in it; running again continues.
        asked: the ways; the first, without a prompt, spans the plane.
        concept: an attribute of portraits.
        count: images of each, with the seeds 0 to count - 1.
        num_inference_steps, batch_size: of every way.
        model: a model of portraits; None for the one that ships.
        on_progress: called after each batch.

    Raises:
        InvalidSetting: a number out of range.
        UnsupportedModel: the model has no classifier of portraits, or the concept is not one that it knows.
        FolderConflict: another process is using the folder.
    """
    whole("count", count, low=FEWEST)
    whole("batch_size", batch_size, low=1)
    model = load_model("portraits") if model is None else model
    if not has_classifier(model):
        raise UnsupportedModel(f"the model {model.name!r} has no classifier of portraits; give a model of portraits")
    judge, seer = PortraitJudge(model.folder or Path(), asked[0].prompt), PortraitFeatures(str(model.folder))
    regions: list[tuple[Asking, Tensor, Tensor, Tensor]] = []
    with working_folder(folder), keeping(lambda: regions):
        clear_partials(folder)
        for one in asked:
            images = _images(model, one, folder, count, num_inference_steps, batch_size, on_progress)
            shown = judge.see(images).shown
            if concept not in shown:
                raise UnsupportedModel(f"the classifier does not know {concept!r}; it knows {', '.join(shown)}")
            regions.append((one, images, seer.of(images), shown[concept].bool()))
    return _laid_out(regions, concept, seer)


def _laid_out(regions: Sequence[tuple[Asking, Tensor, Tensor, Tensor]], concept: str, seer: Features) -> Space:
    middle, axes, share = plane_of(regions[0][2])
    laid = tuple(Region(one, images, (features - middle) @ axes.T, shows) for one, images, features, shows in regions)
    return Space(laid, share, concept, seer.described)


def _images(
    model: Model, asked: Asking, folder: Path, count: int, steps: int, batch_size: int, on_progress: Progress | None
) -> Tensor:
    """uint8, ``[count, 3, height, width]``; batches that are there are read."""
    made = f"{model.digest} {asked.prompt!r} {asked.negative!r} {asked.guidance.to_config()} {steps} {batch_size}"
    place = folder / hashlib.sha256(made.encode()).hexdigest()[:DIGEST]
    place.mkdir(parents=True, exist_ok=True)
    found = []
    for first in range(0, count, batch_size):
        seeds = range(first, min(first + batch_size, count))
        path = place / f"{seeds[0]}-{seeds[-1]}.safetensors"
        if not path.is_file():
            tensors = {"images": drawn(model, asked, seeds, steps)}
            save_whole(path, lambda to, tensors=tensors: save_file(tensors, to))  # type: ignore[misc]
        found.append(load_file(path)["images"])
        if on_progress is not None:
            on_progress(asked.title, seeds[-1] + 1, count)
    return torch.cat(found)


def drawn(model: Model, asked: Asking, seeds: Sequence[int], steps: int) -> Tensor:
    """Images of these seeds; a study cannot draw them, because it refuses an empty prompt."""
    with steer(model.pipe, asked.guidance, negative_prompt=asked.negative or None):
        images = model.pipe(
            [asked.prompt] * len(seeds), generator=image_generators(seeds), num_inference_steps=steps, output_type="pt"
        ).images  # fmt: skip
    return (images.float().cpu() * 255).round().to(torch.uint8).contiguous()
