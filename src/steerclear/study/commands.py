"""From what was made back to what a person types: options as texts, and commands that make more of it."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ..bridges.calibrations import may_read
from ..core.errors import SteerclearError
from ..core.guidance import Guidance, networks_of
from ..core.parsing import part_text
from ..models.files import WEAK_FOLDER, is_hub_id
from ..models.given import IN_MEMORY
from ..models.loras import LoRA
from ..models.networks import NetworkSource
from .recipe import HALVES, decoded
from .results import MethodResult, Results


def generate_command(results: Results, method: MethodResult) -> str | None:
    """The command that makes a method's images, or more of them with other seeds.

    None for measured folders, if its guidance is not installed, or if the pipeline, or a calibration that it may read, was given in Python and no
    name loads it again.
    """
    if results.model is None or results.model_digest is None:
        return None
    if results.model_digest.startswith(IN_MEMORY) and not is_hub_id(results.model):
        return None
    try:
        guidance = Guidance.from_config(method.guidance)
    except SteerclearError:
        return None
    calibrations = results.calibrations if may_read(guidance) else []
    if not all(one.name for one in calibrations):
        return None
    asked = networks_of(guidance, len(method.negative_prompts))
    networks = {name: source for name, source in given_networks(results.networks).items() if name in asked}
    options: dict[str, Any] = {
        "--negative-prompt": method.negative_prompts, "--guidance": part_text(guidance),
        "--network": [f"{name}={source}" for name, source in networks.items()], "--lora": lora_texts(results.loras),
        "--calibration": [one.name for one in calibrations], "--model": results.model, "--config": results.config, "--scheduler": results.scheduler,
        "--dtype": results.dtype if results.dtype != "float32" else None, "--height": results.height,
        "--width": results.width, "--steps": results.num_inference_steps, "--seeds": results.seeds,
    }  # fmt: skip
    words = ["steerclear", "generate", method.prompt]
    for option, value in options.items():
        values = value if isinstance(value, list) else [] if value is None else [value]
        words += [word for one in values for word in (option, str(one))]
    return shlex.join(words)


def repeat_command(arguments: Sequence[str]) -> str:
    """The command line, quoted for a shell.

    >>> repeat_command(["compare", "a man", "--seeds", "0-3"])
    "steerclear compare 'a man' --seeds 0-3"
    """
    readable = [HALVES.sub("?", decoded(argument, errors="replace")) for argument in arguments]  # it is stored in UTF-8
    return shlex.join(["steerclear", *readable])


def given_networks(networks: Mapping[str, NetworkSource]) -> dict[str, str]:
    """Name -> source of every network except the model's own weak one, which needs no option."""
    return {name: one.source for name, one in networks.items() if one.source != WEAK_FOLDER}


def lora_texts(loras: Sequence[LoRA]) -> list[str]:
    """LoRAs as ``--lora`` takes them.

    >>> lora_texts([LoRA("style.safetensors", 0.8, "d"), LoRA("a:b", 1.0, "d")])
    ['style.safetensors:0.8', 'a:b:1.0']
    """
    return [f"{lora.name}:{lora.scale}" for lora in loras]
