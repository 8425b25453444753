"""From what was made back to what a person types: settings as ``key=value``, and the command that makes more of it."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ..core.errors import SteerclearError, typed
from ..core.guidance import Guidance, networks_of
from ..core.settings import Configurable
from ..models.files import WEAK_FOLDER
from ..models.loras import LoRA
from .guidance_settings import build_guidance
from .results import MethodResult, Results


def settings_of(part: Configurable) -> dict[str, str]:
    """The settings of a guidance or an evidence that are not its defaults, as ``--set`` takes them.

    >>> settings_of(build_guidance("interval", None, ["inner=negative(guidance_scale=4)", "stop=0.5"]))
    {'inner': 'negative(guidance_scale=4)', 'stop': '0.5'}
    """
    settings = {}
    for name, field in part.parameters().items():
        factory = field.default_factory
        default = field.default if factory is dataclasses.MISSING else factory()
        value = getattr(part, name)
        if value != default:
            settings[name] = _text(value)
    return settings


def _text(value: Any) -> str:
    if not isinstance(value, Configurable):
        return typed(value)
    inside = ", ".join(f"{name}={text}" for name, text in settings_of(value).items())
    return f"{value.name}({inside})" if inside else value.name


def changed_guidance(before: Guidance, guidance_scale: float | None, assignments: Sequence[str]) -> Guidance:
    """A guidance with some of its settings replaced.

    Args:
        before: the guidance.
        guidance_scale: None to keep its own.
        assignments: ``key=value``, see :func:`~steerclear.study.guidance_settings.build_guidance`.

    Raises:
        UnknownName, InvalidSetting: as for :func:`~steerclear.study.guidance_settings.build_guidance`.
    """
    replaced = {assignment.partition("=")[0] for assignment in assignments}
    replaced |= {"guidance_scale"} if guidance_scale is not None else set()
    kept = [f"{name}={text}" for name, text in settings_of(before).items() if name not in replaced]
    return build_guidance(before.name, guidance_scale, [*kept, *assignments])


def generate_command(results: Results, method: MethodResult) -> str | None:
    """What makes this method's images again, and with other seeds more of them; None where its guidance is not installed.

    Args:
        results: what ``compare`` found.
        method: one of its methods.
    """
    try:
        guidance = Guidance.from_config(method.guidance)
    except SteerclearError:
        return None
    words = ["steerclear", "generate", method.prompt]
    words += _repeated("--negative-prompt", method.negative_prompts)
    words += ["--guidance", guidance.name]
    words += _repeated("--set", [f"{name}={text}" for name, text in settings_of(guidance).items()])
    settings: dict[str, Any] = {
        "--model": results.model, "--config": results.config, "--scheduler": results.scheduler,
        "--dtype": results.dtype if results.dtype != "float32" else None, "--height": results.height,
        "--width": results.width, "--steps": results.num_inference_steps, "--seeds": results.seeds,
    }  # fmt: skip
    words += _repeated("--network", _networks(results, guidance, len(method.negative_prompts)))
    words += _repeated("--lora", lora_texts(results.loras))
    words += [word for option, value in settings.items() if value is not None for word in (option, str(value))]
    return shlex.join(words)


def _networks(results: Results, guidance: Guidance, negatives: int) -> list[str]:
    """The networks that a guidance asks for, as ``--network`` takes them; the model's own goes without saying."""
    asked = networks_of(guidance, negatives)
    given = {name: one.source for name, one in results.networks.items() if name in asked}
    return [f"{name}={source}" for name, source in given.items() if source != WEAK_FOLDER]


def _repeated(option: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def lora_texts(loras: Sequence[LoRA | Mapping[str, Any]]) -> list[str]:
    """LoRAs as ``--lora`` takes them.

    >>> lora_texts([LoRA("style.safetensors", 0.8, "d"), LoRA("a:b", 1.0, "d")])
    ['style.safetensors:0.8', 'a:b:1.0']
    """
    plain = [lora if isinstance(lora, LoRA) else LoRA(**lora) for lora in loras]
    return [f"{lora.name}:{lora.scale}" for lora in plain]
