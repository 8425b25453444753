"""Schedulers by the names that people type: those of web interfaces and of the papers, besides diffusers' classes."""

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
    """A scheduler under its short names.

    Attributes:
        names: as people type them; upper case, blanks and punctuation do not count.
        scheduler: diffusers' class.
        settings: what the name says; everything else stays as the model has it.
    """

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
    Sampler(
        ("dpm2 a", "dpm 2 ancestral", "kdpm2 a", "kdpm2 ancestral", "k dpm 2 a"), "KDPM2AncestralDiscreteScheduler"
    ),
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
)
"""A name may stand for several: the first that goes with the model is meant."""

KARRAS, EXPONENTIAL, BETA = "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"
SPACINGS = {"karras": KARRAS, "exponential": EXPONENTIAL, "beta": BETA, "normal": None}
"""A word behind a short name -> the one setting of the noise levels' spacing that is on."""

PAIR = re.compile(r"[, ]*(\w+)=")
"""A setting's name, up to its value."""

AS_DDIM = ("LCMScheduler", "TCDScheduler", "SASolverScheduler")
"""Take the settings of DDIM, though diffusers does not list them among its compatible ones."""


REFUSED = {"DPMSolverSDEScheduler", "EDMEulerScheduler"}
"""Taken by name, so that their refusal can say why, and not listed: the noise of one cannot be an image's own, the other
is for networks that are trained in its own way."""


def scheduler_by_name(name: str, current: Any) -> tuple[str, dict[str, Any]]:
    """diffusers' class for a name, and the settings that the name says.

    Args:
        name: a class name, with or without "Scheduler", or a short name, with a word of :data:`SPACINGS` behind it; or as
            :func:`scheduler_text` writes it, with settings in parentheses.
        current: the model's own scheduler, which the other must be compatible with.

    Raises:
        UnknownName: no scheduler of that name goes with the model; names the nearest.
        InvalidSetting: no text, or a spacing for a scheduler that has one only.
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
    """Of ``Class(setting=value, ...)``, where values are JSON."""
    name, _, inside = text.partition("(")
    kind, settings = scheduler_by_name(name, current)
    allowed = "a name, perhaps with settings as in 'DDIMScheduler(clip_sample=false)'"
    rest = inside
    while found := PAIR.match(rest):
        if found[1] not in own_settings(kind):
            raise UnknownName(f"setting of {kind}", found[1], own_settings(kind))
        try:
            value, end = json.JSONDecoder().raw_decode(rest, found.end())
        except (ValueError, RecursionError):
            break
        settings[found[1]], rest = value, rest[end:]
    if rest != ")":
        raise InvalidSetting("scheduler", text, allowed)
    return kind, settings


def scheduler_key(name: str) -> str:
    """What of a scheduler's name counts.

    >>> scheduler_key("DPM++ 2M_SDE Karras"), scheduler_key("dpmpp_2m_sde_karras")
    ('dpmpp2msdekarras', 'dpmpp2msdekarras')
    """
    return "".join(character for character in name.lower().replace("++", "pp") if character.isalnum())


def _spaced(name: str, kind: str, spacing: str) -> dict[str, bool]:
    if not spacing:
        return {}
    if KARRAS not in own_settings(kind):
        raise InvalidSetting(
            "scheduler", name, f"a name without {spacing!r}", f"the noise levels of {kind} have one spacing only"
        )
    return {setting: setting == SPACINGS[spacing] for setting in (KARRAS, EXPONENTIAL, BETA)}


def own_settings(kind: str) -> Mapping[str, inspect.Parameter]:
    """The settings that a scheduler of diffusers has itself, by name."""
    import diffusers

    return inspect.signature(getattr(diffusers, kind)).parameters


def scheduler_text(scheduler: Any, folder: Path) -> str:
    """A scheduler as recipes name it: its class, and its settings where they are not the model's own.

    Args:
        scheduler: the one that is used.
        folder: of the model; where it has no scheduler's settings, the class alone is named.

    >>> from diffusers import DDIMScheduler
    >>> scheduler_text(DDIMScheduler(), Path("nowhere"))
    'DDIMScheduler'
    """
    kind = type(scheduler)
    config = folder / "scheduler" / SCHEDULER_CONFIG
    if not config.is_file():
        return kind.__name__
    models = _as_the_model_has_it(kind, read_json(config))
    different = [
        f"{name}={_plain(scheduler.config[name])}"
        for name in sorted(inspect.signature(kind).parameters.keys() & models.keys() & scheduler.config.keys())
        if _plain(scheduler.config[name]) != _plain(models[name])
    ]
    return f"{kind.__name__}({', '.join(different)})" if different else kind.__name__


def _as_the_model_has_it(kind: Any, config: dict[str, Any]) -> Mapping[str, Any]:
    """The settings of a scheduler that was made from the model's: a class rewrites some that are another class's."""
    try:
        return kind.from_config(config).config
    except (NotImplementedError, ValueError, TypeError):  # it cannot be made without others
        given, _, _ = kind.extract_init_dict(config)
        return {name: one.default for name, one in inspect.signature(kind).parameters.items()} | given


def _plain(value: Any) -> str:
    return json.dumps(value, default=lambda other: getattr(other, "tolist", lambda: repr(other))())
