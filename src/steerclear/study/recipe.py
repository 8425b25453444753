"""One run as data: everything that decides how an image looks; checked, hashed, to JSON and back."""

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
from .calibrations import CalibrationSource

HASH_LENGTH = 16
HALVES = re.compile("[\ud800-\udfff]")
"""Characters that stand for bytes that Python could not decode."""

MOST_STEPS, SMALLEST, LARGEST = 1000, 8, 16_384
"""Most steps of a run; smallest and largest height and width of an image, in pixels."""
NOT_ASKED = frozenset({"config", "device", "offload", "version"})
"""Fields that say where and by what an image was made, not what was asked for; the configuration is in the model's digest."""


class Recipe(BaseModel):
    """How an image is made, except its seed.

    Attributes:
        model: a shipped model's name, a local folder or file, or a hub id.
        config: the model whose configuration a single file uses; None if not named.
        model_digest: hash of the model's files, so that a changed folder is another recipe.
        prompt, negative_prompts: as given to the text encoder.
        guidance: the guidance's plain values.
        networks: further networks that the guidance uses, by name.
        loras: the LoRAs added to the model, in order.
        calibrations: what was measured of the negative prompts, as far as the guidance reads it.
        scheduler: the scheduler's class name, and those of its settings that differ from the model's.
        num_inference_steps: in [1, 1000].
        height, width: of the image in pixels, from 8 to 16,384; None for the model's default.
        dtype: of the network's weights.
        device, offload: where the networks ran, and where idle weights waited.
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
    calibrations: tuple[CalibrationSource, ...] = ()
    scheduler: str
    num_inference_steps: int = Field(default=30, ge=1, le=MOST_STEPS)
    height: int | None = Field(default=None, ge=SMALLEST, le=LARGEST)
    width: int | None = Field(default=None, ge=SMALLEST, le=LARGEST)
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
        """What was asked for, as plain values: all fields except :data:`NOT_ASKED`; calibrations by their digests."""
        plain = self.model_dump(mode="json", exclude={*NOT_ASKED, "calibrations"})
        digests = [one.digest for one in self.calibrations]
        return plain | ({"calibrations": digests} if digests else {})

    def digest(self) -> str:
        """A short hash of what was asked for: equal digests and seeds give equal images (up to rounding on other devices).

        >>> Recipe(model="m", model_digest="d", prompt="p", guidance={}, scheduler="s").digest()
        'a8f51dd6380c0b94'
        """
        plain = json.dumps(self.asked(), sort_keys=True)
        return hashlib.sha256(plain.encode()).hexdigest()[:HASH_LENGTH]


def decoded(text: str, errors: str = "strict") -> str:
    """A text that Python read in a locale without UTF-8 (LC_ALL=POSIX), decoded as UTF-8.

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
        PromptError: it is empty, or not a text.
    """
    stripped = check_text(what, decoded(prompt) if isinstance(prompt, str) else prompt).strip()
    if not stripped:
        should = "should not" if "negative" in what else "should"
        raise PromptError(f"the {what} is empty ({shown(prompt)}); say in a few words what the image {should} show.")
    return stripped


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds as people type them: ``0-63``, ``1,5,9``, ``0-3,10``.

    Raises:
        InvalidSetting: not a seed, a decreasing range, or a seed given twice.

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
            raise InvalidSetting("seeds", text, "an increasing range, like 0-63")
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
