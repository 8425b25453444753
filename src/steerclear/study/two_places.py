"""The two texts of a step and what becomes of each way to fill their places: the data of a schematic, from a model.

A sampler asks the network twice at each step, under two texts of as many tokens. In one place stands the prompt; in the
other the empty text, or a negative prompt. Neither needs the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import UnsupportedModel
from ..core.settings import whole
from ..core.shapes import Tensor, UInt8
from ..guidance.classifier_free import ClassifierFreeGuidance
from ..guidance.negative_prompt import NegativePromptGuidance
from ..models.loading import Model, load_model
from .sampling_space import Asking, drawn


@dataclass(frozen=True)
class Slot:
    """One of the two texts.

    Args:
        title: for people.
        text: "" for the empty one.
        words: tokens of the text itself, without start, end and filling.
        places: tokens that the text encoder sees.
    """

    title: str
    text: str
    words: int
    places: int


@dataclass(frozen=True)
class Way:
    """One way to fill the two places.

    Args:
        prompt, negative: "" for the empty text.
        meaning: what it does, in a sentence.
        images: uint8, ``[n, 3, height, width]``, of the same seeds in every way.
    """

    prompt: str
    negative: str
    meaning: str
    images: UInt8[Tensor, "n 3 height width"]


@dataclass(frozen=True)
class Places:
    """The two texts of the flow, and the ways.

    Args:
        prompt, negative: the texts.
        ways: of filling the two places.
        steps: of the sampler.
    """

    prompt: Slot
    negative: Slot
    ways: tuple[Way, ...]
    steps: int


def slot_of(pipe: Any, title: str, text: str) -> Slot:
    """The tokens of a text, as a pipeline's CLIP tokenizer makes them.

    Raises:
        UnsupportedModel: the pipeline has no tokenizer with a fixed number of places.
    """
    tokenizer = getattr(pipe, "tokenizer", None)
    places = getattr(tokenizer, "model_max_length", None)
    if tokenizer is None or not isinstance(places, int) or places > 10_000:
        raise UnsupportedModel(
            f"a {type(pipe).__name__} has no tokenizer with a fixed number of tokens; give a model like Stable Diffusion"
        )
    numbers = tokenizer(text, truncation=True, max_length=places).input_ids
    return Slot(title, text, len(numbers) - 2, places)


def two_places(
    prompt: str = "portrait photo of a man", negative: str = "mustache", *, guidance_scale: float = 3.0,
    seeds: Sequence[int] = (0, 1, 2, 3, 4), num_inference_steps: int = 30, model: Model | None = None,
) -> Places:  # fmt: skip
    """The four ways to fill the places with a prompt and a negative prompt, each with images of the same seeds.

    Args:
        prompt, negative: the two texts.
        guidance_scale: w of every way.
        seeds: of the images.
        num_inference_steps: of every way.
        model: with a tokenizer of a fixed number of tokens; None for the portraits that ship.

    Raises:
        UnsupportedModel: see :func:`slot_of`.
        InvalidSetting: steps out of range.
    """
    whole("num_inference_steps", num_inference_steps, low=1)
    model = load_model("portraits") if model is None else model
    slots = slot_of(model.pipe, "the prompt", prompt), slot_of(model.pipe, "the other place", negative)
    asked = (
        (prompt, "", "classifier-free guidance: away from what any image is"),
        (prompt, negative, "the negative prompt has taken the place of the empty text"),
        ("", negative, "a negative prompt without a prompt: any image, away from the negative"),
        ("", "", "both predictions are the same, and w changes nothing"),
    )
    ways = []
    for own, other, meaning in asked:
        guidance = NegativePromptGuidance(guidance_scale) if other else ClassifierFreeGuidance(guidance_scale)
        images = drawn(model, Asking(meaning, own, other, guidance), seeds, num_inference_steps)
        ways.append(Way(own, other, meaning, images))
    return Places(*slots, tuple(ways), num_inference_steps)
