"""Schedulers by short name: the names of web interfaces and papers, in addition to diffusers' class names."""

import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import InvalidSetting, UnknownName
from .files import SCHEDULER_CONFIG, read_json


@dataclass(frozen=True)
class Sampler:
    """Short names (without case, blanks, punctuation), diffusers' class, and the settings that the names imply."""

    names: tuple[str, ...]
    scheduler: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def _multistep(order: int, algorithm: str) -> dict[str, Any]:
    return {"algorithm_type": algorithm, "solver_order": order}


ODE, SDE = "dpmsolver++", "sde-dpmsolver++"
SAMPLERS = (
    Sampler(("euler", "k euler"), "EulerDiscreteScheduler"),
    Sampler(("euler", "flow euler", "flow match euler"), "FlowMatchEulerDiscreteScheduler"),
    Sampler(("euler a", "euler ancestral", "k euler a"), "EulerAncestralDiscreteScheduler"),
    Sampler(("heun", "k heun"), "HeunDiscreteScheduler"),
    Sampler(("lms", "k lms"), "LMSDiscreteScheduler"),
    Sampler(("dpm2", "kdpm2", "k dpm 2"), "KDPM2DiscreteScheduler"),
    Sampler(("dpm2 a", "dpm 2 ancestral", "kdpm2 a", "kdpm2 ancestral", "k dpm 2 a"), "KDPM2AncestralDiscreteScheduler"),
    Sampler(("dpm++ 2m", "dpm++"), "DPMSolverMultistepScheduler", _multistep(2, ODE)),
    Sampler(("dpm++ 2m sde",), "DPMSolverMultistepScheduler", _multistep(2, SDE)),
    Sampler(("dpm++ 3m",), "DPMSolverMultistepScheduler", _multistep(3, ODE)),
    Sampler(("dpm++ 3m sde",), "DPMSolverMultistepScheduler", _multistep(3, SDE)),
    Sampler(("dpm++ 2s",), "DPMSolverSinglestepScheduler", _multistep(2, ODE)),
    Sampler(("dpm++ sde",), "DPMSolverSinglestepScheduler", _multistep(2, SDE)),
    Sampler(("unipc", "uni pc"), "UniPCMultistepScheduler"),
    Sampler(("deis",), "DEISMultistepScheduler", {"algorithm_type": "deis"}),
    Sampler(("ddim",), "DDIMScheduler"),
    Sampler(("ddpm",), "DDPMScheduler"),
    Sampler(("pndm",), "PNDMScheduler"),
    Sampler(("plms",), "PNDMScheduler", {"skip_prk_steps": True}),
    Sampler(("lcm",), "LCMScheduler"),
    Sampler(("tcd",), "TCDScheduler"),
    Sampler(("sa solver",), "SASolverScheduler", {"algorithm_type": "data_prediction"}),
)  # fmt: skip
"""A name may be listed several times: the first scheduler that is compatible with the model is used."""

KARRAS, EXPONENTIAL, BETA = "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"
SPACINGS = {"karras": KARRAS, "exponential": EXPONENTIAL, "beta": BETA, "normal": None}
"""Last word of a short name -> the noise spacing setting that it turns on; the others are off."""

PAIR = re.compile(r"[, ]*(\w+)=")
"""A setting's name, up to its value."""

AS_DDIM = ("LCMScheduler", "TCDScheduler", "SASolverScheduler")
"""They accept DDIM's settings, although diffusers does not list them as compatible."""

REFUSED = {"DPMSolverSDEScheduler", "EDMEulerScheduler"}
"""Accepted by name, so that the refusal can say why, but not listed: DPMSolverSDE cannot draw its noise per image, and
EDMEuler is for networks trained in EDM's own way."""


def scheduler_by_name(name: str, current: Any) -> tuple[str, dict[str, Any]]:
    """The diffusers class for a name, and the settings that the name implies.

    Args:
        name: a class name, with or without "Scheduler", or a short name, optionally followed by a word of :data:`SPACINGS`;
            or as :func:`scheduler_text` writes it, with settings in parentheses.
        current: the model's own scheduler; the returned class is compatible with it.

    Raises:
        UnknownName: no compatible scheduler has that name; suggests the nearest.
        InvalidSetting: the name is not a text, or it gives a spacing for a scheduler with only one.
    """
    if not isinstance(name, str):
        raise InvalidSetting("scheduler", name, "a name, such as 'euler a' or 'DDIMScheduler'")
    if "(" in name:
        return _with_settings(name, current)
    known = {kind.__name__ for kind in current.compatibles} | {type(current).__name__}
    if "DDIMScheduler" in known:
        known.update(AS_DDIM)
    wanted = scheduler_key(name)
    fitting = [sampler for sampler in SAMPLERS if sampler.scheduler in known]
    for spacing in ("", *SPACINGS):
        short = wanted.removesuffix(spacing)
        for sampler in fitting:
            if wanted.endswith(spacing) and short in map(scheduler_key, sampler.names):
                return sampler.scheduler, {**sampler.settings, **_spaced(name, sampler.scheduler, spacing)}
    for kind in known:
        if wanted in (scheduler_key(kind), scheduler_key(kind.removesuffix("Scheduler"))):
            return kind, {}
    short_names = {sampler.names[0] for sampler in fitting}
    listed = (known - REFUSED) | {type(current).__name__}
    raise UnknownName("scheduler", name, listed | short_names, "for this model")


def _with_settings(text: str, current: Any) -> tuple[str, dict[str, Any]]:
    """For ``Class(setting=value, ...)``, where values are JSON."""
    import diffusers

    name, _, inside = text.partition("(")
    kind, settings = scheduler_by_name(name, current)
    known = inspect.signature(getattr(diffusers, kind)).parameters
    allowed = "a name, perhaps with settings as in 'DDIMScheduler(clip_sample=false)'"
    rest = inside
    while found := PAIR.match(rest):
        if found[1] not in known:
            raise UnknownName(f"setting of {kind}", found[1], known)
        try:
            value, end = json.JSONDecoder().raw_decode(rest, found.end())
        except (ValueError, RecursionError):
            break
        settings[found[1]], rest = value, rest[end:]
    if rest != ")":
        raise InvalidSetting("scheduler", text, allowed)
    return kind, settings


def scheduler_key(name: str) -> str:
    """A scheduler's name without case, blanks and punctuation.

    >>> scheduler_key("DPM++ 2M_SDE Karras"), scheduler_key("dpmpp_2m_sde_karras")
    ('dpmpp2msdekarras', 'dpmpp2msdekarras')
    """
    return "".join(character for character in name.lower().replace("++", "pp") if character.isalnum())


def _spaced(name: str, kind: str, spacing: str) -> dict[str, bool]:
    if not spacing:
        return {}
    import diffusers

    if KARRAS not in inspect.signature(getattr(diffusers, kind)).parameters:
        remedy = f"{kind} has only one spacing of noise levels"
        raise InvalidSetting("scheduler", name, f"a name without {spacing!r}", remedy)
    return {setting: setting == SPACINGS[spacing] for setting in (KARRAS, EXPONENTIAL, BETA)}


def scheduler_text(scheduler: Any, folder: Path | None) -> str:
    """A scheduler as recipes name it: its class, and the settings that differ from the model's.

    Args:
        scheduler: the scheduler in use.
        folder: the model's; if it has no scheduler configuration, only the class is named. None for a model without files:
            the settings that differ from the class's defaults.

    >>> from diffusers import DDIMScheduler
    >>> scheduler_text(DDIMScheduler(), Path("nowhere"))
    'DDIMScheduler'
    """
    kind = type(scheduler)
    config = None if folder is None else folder / "scheduler" / SCHEDULER_CONFIG
    if config is not None and not config.is_file():
        return kind.__name__
    models = _as_the_model_has_it(kind, {} if config is None else read_json(config))
    different = [
        f"{name}={_plain(scheduler.config[name])}"
        for name in sorted(inspect.signature(kind).parameters.keys() & models.keys() & scheduler.config.keys())
        if _plain(scheduler.config[name]) != _plain(models[name])
    ]
    return f"{kind.__name__}({', '.join(different)})" if different else kind.__name__


def own_scheduler(folder: Path | None) -> str | None:
    """What :func:`scheduler_text` says of the scheduler that a model's files name; None without such files."""
    config = folder and folder / "scheduler" / SCHEDULER_CONFIG
    return str(read_json(config).get("_class_name")) if config and config.is_file() else None


def _as_the_model_has_it(kind: Any, config: dict[str, Any]) -> Mapping[str, Any]:
    """The model's settings as this class stores them: a class may rewrite settings of another class."""
    try:
        return kind.from_config(config).config
    except (NotImplementedError, ValueError, TypeError):  # it cannot be built from these alone
        given, _, _ = kind.extract_init_dict(config)
        return {name: one.default for name, one in inspect.signature(kind).parameters.items()} | given


def _plain(value: Any) -> str:
    return json.dumps(value, default=lambda other: getattr(other, "tolist", lambda: repr(other))())
