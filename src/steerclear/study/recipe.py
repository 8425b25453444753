"""One run as data: everything that decides how an image looks, validated, hashed, and back from JSON."""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from .. import __version__
from ..core.errors import InvalidSetting, PromptError, shown
from ..core.guidance import Guidance
from ..core.prompts import check_text
from ..core.seeds import checked_seeds
from ..models.loras import LoRA
from ..models.networks import NetworkSource

HASH_LENGTH = 16
HALVES = re.compile("[\ud800-\udfff]")
"""What Python makes of bytes that it cannot decode."""

MOST_STEPS, SMALLEST = 1000, 8
"""Of a run; and of the sides of an image, in pixels."""
NOT_ASKED = frozenset({"config", "device", "offload", "version"})
"""Fields that say where and by what an image was made, and not what was asked for. What a configuration says is part of the
model's digest."""


class Recipe(BaseModel):
    """How one image is made, but for its seed.

    Attributes:
        model: the shipped model's name, a local folder or file, or a hub id.
        config: the model whose configuration a single file has; None where nobody named one.
        model_digest: what the model's files are, so that a changed folder is another recipe.
        prompt, negative_prompts: as they are given to the text encoder.
        guidance: the guidance's plain values.
        networks: the networks that the guidance asks for beside the model's own, by name.
        loras: what was added to the model, in order.
        scheduler: the scheduler's class name, and its settings where they are not the model's own.
        num_inference_steps: at least 1.
        height, width: of the image in pixels; None for the model's own.
        dtype: of the network's weights.
        device, offload: where it was made, and where its weights waited meanwhile.
        version: of steerclear.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: str
    model_digest: str
    config: str | None = None
    prompt: str
    negative_prompts: tuple[str, ...] = ()
    guidance: dict[str, Any]
    networks: dict[str, NetworkSource] = {}
    loras: tuple[LoRA, ...] = ()
    scheduler: str
    num_inference_steps: int = Field(default=30, ge=1, le=MOST_STEPS)
    height: int | None = Field(default=None, ge=SMALLEST)
    width: int | None = Field(default=None, ge=SMALLEST)
    dtype: str = "float32"
    device: str = "cpu"
    offload: str = "none"
    version: str = __version__

    @field_validator("prompt")
    @classmethod
    def _not_empty(cls, prompt: str) -> str:
        return checked_prompt("prompt", prompt)

    @field_validator("negative_prompts")
    @classmethod
    def _none_empty(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(checked_prompt("negative prompt", prompt) for prompt in prompts)

    def built_guidance(self) -> Guidance:
        return Guidance.from_config(self.guidance)

    def asked(self) -> dict[str, Any]:
        """What was asked for, as plain values: every field but :data:`NOT_ASKED`."""
        return self.model_dump(mode="json", exclude=set(NOT_ASKED))

    def digest(self) -> str:
        """A short hash of what was asked for: equal digests and seeds make equal images (to rounding, on another device).

        >>> Recipe(model="m", model_digest="d", prompt="p", guidance={}, scheduler="s").digest()
        'a8f51dd6380c0b94'
        """
        plain = json.dumps(self.asked(), sort_keys=True)
        return hashlib.sha256(plain.encode()).hexdigest()[:HASH_LENGTH]


def decoded(text: str, errors: str = "strict") -> str:
    """A text as its bytes say in UTF-8, where Python read them in a locale that is not (LC_ALL=POSIX).

    >>> decoded("caf\\udcc3\\udca9"), decoded("café")
    ('café', 'café')
    """
    try:
        return text if HALVES.search(text) is None else os.fsencode(text).decode(errors=errors)
    except UnicodeError:
        return text


def checked_prompt(what: str, prompt: str) -> str:
    """The prompt without surrounding blanks.

    Raises:
        PromptError: nothing is left, or it is not a text.
    """
    stripped = check_text(what, decoded(prompt) if isinstance(prompt, str) else prompt).strip()
    if not stripped:
        shall = "shall not" if "negative" in what else "shall"
        raise PromptError(f"the {what} is empty ({shown(prompt)}); say in a few words what the image {shall} show.")
    return stripped


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds as people write them: ``0-63``, ``1,5,9``, ``0-3,10``.

    Raises:
        InvalidSetting: not a seed, a range that runs backwards, a seed given twice.

    >>> parse_seeds("0-3,10")
    (0, 1, 2, 3, 10)
    """
    seeds: list[int] = []
    for part in text.replace(" ", "").split(","):
        match = re.fullmatch(r"(\d{1,19})(?:-(\d{1,19}))?", part)
        if match is None:
            raise InvalidSetting("seeds", text, "like 0-63 or 1,5,9", "seeds are whole numbers of at least 0")
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        if last < first:
            raise InvalidSetting("seeds", text, "a range that runs upwards, like 0-63")
        if last - first >= 1_000_000:
            raise InvalidSetting("seeds", text, "at most a million seeds")
        seeds.extend(range(first, last + 1))
    return checked_seeds(seeds)


def format_seeds(seeds: Sequence[int]) -> str:
    """The inverse of :func:`parse_seeds`.

    >>> format_seeds([0, 1, 2, 3, 10])
    '0-3,10'
    """
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][1] + 1:
            runs[-1][1] = seed
        else:
            runs.append([seed, seed])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
