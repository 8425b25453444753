"""Who says that an image shows what a negative prompt names, for images that are drawn again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.errors import PromptError, UnsupportedModel
from ...core.laboratory import Asked, Judge, Laboratory
from ...core.redrawing import Redrawing
from ..negatives import Negatives
from ..surroundings import decoder, folder_of
from .evaluation import Steering
from .selecting import Batch


@dataclass(frozen=True)
class SteeredModel:
    """What a laboratory may know of a pipeline; see :class:`~steerclear.core.laboratory.Judged`."""

    name: str
    folder: Path | None
    pipe: Any


@dataclass(frozen=True)
class Flagging:
    """The judges of a call's images.

    Attributes:
        judges: one per image of the call.
        pixels: the images of an output -> uint8, as they are saved.
    """

    judges: tuple[Judge, ...]
    pixels: Callable[[Any], Tensor]

    @property
    def knows(self) -> bool:
        """Whether any judge knows any of the concepts."""
        return any(_concepts(judge) for judge in self.judges)

    @torch.no_grad()
    def probability(self, images: Any, rows: Sequence[int]) -> Tensor:
        """Of each image: that it shows a concept that the negative prompts name, ``[n]`` in [0, 1].

        Args:
            images: of an output.
            rows: where they are in the call.
        """
        pixels, found = self.pixels(images), torch.zeros(len(rows), dtype=torch.float64)
        places: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            places.setdefault(id(self.judges[row]), []).append(place)
        for own in places.values():
            judge = self.judges[rows[own[0]]]
            names = _concepts(judge)
            if names:
                sure = judge.see(pixels[own]).probabilities
                found[own] = torch.stack([sure[name].double().cpu() for name in names]).amax(0)
        return found


def _concepts(judge: Judge) -> list[str]:
    return [column.name for column in judge.columns() if column.role == "concept"]


def flagging_of(
    pipe: Any, redrawing: Redrawing, steering: Steering, negatives: Negatives, told: Mapping[str, Any], batch: Batch
) -> Flagging | None:
    """The judges of a call; None where an evidence flags.

    Args:
        pipe: the pipeline.
        redrawing: how images are drawn again.
        steering: what ``steer`` was asked for.
        negatives: the negative prompts of the call.
        told: the arguments of the call.
        batch: its images.

    Raises:
        PromptError: there is no negative prompt, or a laboratory cannot read it.
        UnsupportedModel: nobody flags, or the laboratory cannot judge these images.
    """
    if not len(negatives):
        raise PromptError(
            "redraw draws images again that show what a negative prompt names, and there is none; give "
            "steer(..., negative_prompt=...), or another guidance"
        )
    if redrawing.by_evidence:
        return None
    size = told.get("height"), told.get("width")
    pixels = _pixels_of(pipe, decoder(pipe, size, steering.max_batch))
    if redrawing.judge is not None:
        model = SteeredModel(
            str(getattr(pipe, "name_or_path", None) or type(pipe).__name__), folder_of(pipe, steering.files), pipe
        )
        asked = [Asked(*texts, *size) for texts in _questions(pipe, negatives, told, batch.prompts)]
        known = {one: _judge(redrawing.judge, model, one) for one in dict.fromkeys(asked)}
        return Flagging(tuple(known[one] for one in asked for _ in range(batch.each)), pixels)
    if steering.judge is None:
        raise UnsupportedModel(
            "nobody says which images are to be drawn again: give steer(..., judge=...) a judge, or Redraw(..., judge=...) a "
            "laboratory, or Redraw(..., evidence=...) an evidence"
        )
    return Flagging((steering.judge,) * batch.images, pixels)


def _judge(laboratory: Laboratory, model: SteeredModel, asked: Asked) -> Judge:
    refusal = laboratory.refuses(model, asked)
    if refusal is not None:
        raise UnsupportedModel(
            f"the laboratory {laboratory.name}, which should flag the images, cannot judge those of {model.name!r}: {refusal}"
        )
    return laboratory.judge(model, asked)


def _questions(
    pipe: Any, negatives: Negatives, told: Mapping[str, Any], prompts: int
) -> list[tuple[str, tuple[str, ...]]]:
    """Prompt and negative prompts of each prompt, as texts."""
    if negatives.labels:
        names = {number: name for name, number in (getattr(pipe, "labels", None) or {}).items()}

        def name_of(label: int) -> str:
            return names.get(label, str(label))

        return [(name_of(label), tuple(map(name_of, negatives.labels))) for label in told["class_labels"]]
    each = [negatives.for_prompts(index, prompts) for index in range(len(negatives.texts))]
    known = [own for own in each if own is not None]
    if len(known) < len(each):
        raise PromptError(
            "the negative prompt is given as embeddings, so a laboratory cannot read what it should look for; give it as a text, "
            "or give steer(..., judge=...) a judge that knows"
        )
    prompt = told.get("prompt")
    texts = [prompt] if isinstance(prompt, str) else list(prompt or [""] * prompts)
    return [(text, tuple(own[place] for own in known)) for place, text in enumerate(texts)]


def _pixels_of(pipe: Any, decode: Callable[[Tensor], Tensor] | None) -> Callable[[Any], Tensor]:
    """Images of an output, of any type, as uint8 ``[n, 3, height, width]``: rounded as ``numpy_to_pil`` does."""

    def pixels(images: Any) -> Tensor:
        if isinstance(images, list):
            plain = np.stack(
                [np.array(image.convert("RGB")) if hasattr(image, "convert") else image for image in images]
            )
        elif isinstance(images, Tensor):
            if images.ndim != 4 or images.shape[1] != 3:  # latents
                assert decode is not None  # latents can be decoded
                images = decode(images)
            plain = images.float().permute(0, 2, 3, 1).cpu().numpy()
        else:
            plain = images
        if plain.dtype != np.uint8:
            plain = (plain * 255).round().astype("uint8")
        return torch.from_numpy(plain).permute(0, 3, 1, 2)

    return pixels
