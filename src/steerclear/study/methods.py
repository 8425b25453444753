"""Methods, ways of saying "no", as data: the standard ones of ``compare``, and any guidance with any settings."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator

from ..core.errors import GivenTwice, InvalidSetting, UnknownName, in_words_of, typed
from ..core.evidence import Evidence
from ..core.guidance import Guidance, guidances, networks_of
from ..core.parsing import changed_by, name_and_settings, parse_part
from ..core.schedulers import is_flow
from ..core.settings import Configurable
from ..evidence.preview import PreviewEvidence
from ..evidence.transition import TransitionEvidence
from ..guidance.auto import AutoGuidance
from ..guidance.classifier_free import ClassifierFreeGuidance
from ..guidance.dynamic_negative import DynamicNegativeGuidance
from ..guidance.negative_prompt import NegativePromptGuidance
from ..guidance.redraw import Redraw
from ..guidance.unguided import Unguided
from ..models.defaults import Default

WITHOUT_NEGATIVE, WITH_NEGATIVE = "cfg", ("dynamic-negative", "negative")
"""Default guidances. With a negative prompt: the first that accepts the settings; for models that take classes the last,
because the dynamic negative needs a conjunction of prompts."""

NEED_NO_NEGATIVE = ("unguided", "cfg", "autoguidance")
TAKE_SCALE = {
    "guidance_scale": ("without", "cfg", "negative", "dynamic-negative", "looking", "redraw"),
    "auto_scale": ("autoguidance", "autoguidance-dynamic-negative"),
}
"""Scale -> the standard methods that have it."""
SCALES = {"guidance_scale": 3.0, "auto_scale": 2.0}
"""Default scales of a comparison."""

FOLDER_NAME = re.compile(r"\w[\w.+-]{0,79}", re.ASCII)
"""Allowed names of a method, which name a folder."""
LONGEST_NAME = 60


def _guidance(value: object) -> Guidance:
    found = Guidance.from_config(value) if isinstance(value, Mapping) else value
    if not isinstance(found, Guidance):
        raise InvalidSetting("the guidance of a method", value, "a guidance")
    return found


@dataclass(frozen=True)
class Method:
    """One way of saying "no".

    Attributes:
        name: unique key, and the folder of its images.
        label: for people.
        prompt, negative_prompts: what the model is given; no negatives for methods that do not use them.
        guidance: its settings that are None are set for each model.
        optional: left out, with a note, if the model lacks a network that the guidance uses, or who sees its images.
    """

    name: str
    label: str
    prompt: str
    negative_prompts: tuple[str, ...]
    guidance: Annotated[Guidance, PlainValidator(_guidance), PlainSerializer(lambda guidance: guidance.to_config())]
    optional: bool = False


def standard_methods(
    prompt: str, negative_prompts: Sequence[str], *, guidance_scale: float, auto_scale: float
) -> list[Method]:
    """The standard methods in the order of the table; arguments as for :func:`~steerclear.study.study.comparison`."""
    negatives = tuple(negative_prompts)
    dynamic, inside = DynamicNegativeGuidance(guidance_scale), DynamicNegativeGuidance(1.0)
    looking = DynamicNegativeGuidance(guidance_scale, evidence=PreviewEvidence())
    drawn = Unguided() if guidance_scale == 1 else ClassifierFreeGuidance(guidance_scale)
    without = f"{prompt} without {' and without '.join(negatives)}"
    together = (", ".join(negatives),) if negatives else ()  # Stable Diffusion has room for one text
    methods = [
        Method("unguided", "unguided", prompt, (), Unguided()),
        Method("without", '"without" in the prompt', without, (), ClassifierFreeGuidance(guidance_scale)),
        Method("cfg", "classifier-free guidance", prompt, (), ClassifierFreeGuidance(guidance_scale)),
        Method("negative", "negative prompt", prompt, together, NegativePromptGuidance(guidance_scale)),
        Method("dynamic-negative", "dynamic negative", prompt, negatives, dynamic),
        Method("looking", "looking", prompt, negatives, looking),
        Method("redraw", "drawn again", prompt, negatives, Redraw(drawn)),
        Method("autoguidance", "autoguidance", prompt, (), AutoGuidance(auto_scale)),
        Method("autoguidance-dynamic-negative", "autoguidance + dynamic negative", prompt, negatives,
               AutoGuidance(auto_scale, inside)),
    ]  # fmt: skip
    return [method for method in methods if negatives or method.name != "without"]


def by_model(methods: Sequence[Method], defaults: Mapping[str, Default]) -> list[Method]:
    """Standard methods as a model's own defaults have them; one that is better left off is unchanged, see :func:`left_off`."""
    own = {name: default.guidance for name, default in defaults.items() if default.guidance is not None}
    return [
        replace(method, guidance=parse_part(own[method.name], Guidance))
        if method.name in own and at_default_scale(method)
        else method
        for method in methods
    ]


def left_off(method: Method, defaults: Mapping[str, Default]) -> str | None:
    """Why a standard method is left out by a model's own defaults, in a sentence; None if it is not, or has another scale."""
    own = defaults.get(method.name)
    if own is None or own.guidance is not None or not at_default_scale(method):
        return None
    again = in_words_of(f"methods={method.name!r}", f"--methods {method.name}")
    return f"{_beginning(method.label)} is left out: {own.why.rstrip('.')}. To see it, take {again}."


def tuned_notes(methods: Sequence[Method], defaults: Mapping[str, Default]) -> list[str]:
    """Which standard methods have settings that were found for the model, in sentences."""
    found = []
    for method in methods:
        own = defaults.get(method.name)
        if method.optional and own and own.guidance and method.guidance == parse_part(own.guidance, Guidance):
            found.append(
                f"{_beginning(method.label)} runs as {own.guidance}, this model's default: {own.why.rstrip('.')}."
            )
    return found


def at_default_scale(method: Method) -> bool:
    """Whether a standard method has the default scales, so that nobody asked for others."""
    plain = {one.name: one for one in standard_methods(method.prompt, method.negative_prompts, **SCALES)}
    return method.name in plain and plain[method.name].guidance == method.guidance


def _beginning(label: str) -> str:
    return f"{label[0].upper()}{label[1:]}"


def unmeasured(scheduler: Any, guidance: Guidance) -> list[str]:
    """What has not been measured of a guidance under a scheduler, in sentences."""
    if not is_flow(scheduler) or not any(isinstance(part, TransitionEvidence) for part in guidance.parts()):
        return []
    said = (
        "The tracking of the dynamic negative has been measured under the schedulers of Stable Diffusion (docs/measured.md), and "
        "not under flow matching. To push without tracking, hold the posterior constant: --guidance dynamic-negative --set "
        "evidence=constant."
    )
    return [said]


def chosen_methods(
    names: Sequence[str] | None, standard: Sequence[Method], prompt: str, negatives: Sequence[str]
) -> list[Method]:
    """The methods with these names: standard ones or any guidance on the shelf, with optional settings after a colon.

    Args:
        names: such as "cfg" or "dynamic-negative:negative_scale=2, evidence.prior=0.3"; None for the standard ones, without
            negatives only those that need none.
        standard: what :func:`standard_methods` returned.
        prompt, negatives: of methods that are not standard ones.

    Raises:
        UnknownName: an unknown name or setting; the message names the nearest.
        InvalidSetting: an empty name, one given twice, or a setting that is refused.
    """
    if names is None:
        fitting = [method for method in standard if negatives or method.name in NEED_NO_NEGATIVE]
        needs = [networks_of(method.guidance, len(method.negative_prompts)) for method in fitting]
        return [
            replace(method, optional=bool(some) or needs_to_see(method.guidance))
            for method, some in zip(fitting, needs, strict=True)
        ]
    if "" in names:
        remedy = "there is an empty name between commas" if len(names) > 1 else "the name is empty"
        raise InvalidSetting("methods", ",".join(names), "names of methods, separated by commas", remedy)
    known = {method.name: method for method in standard}
    chosen = []
    for text in names:
        name, settings = name_and_settings(text, "method")
        if name not in known.keys() | guidances().keys():
            raise UnknownName("method", name, known.keys() | guidances().keys())
        plain = known.get(name) or Method(name, name, prompt, tuple(negatives), guidances()[name]())
        chosen.append(with_settings(plain, settings) if settings else plain)
    again = [method.name for method in chosen if Counter(one.name for one in chosen)[method.name] > 1]
    if again:
        raise GivenTwice(f"the method {again[0]!r}")
    return chosen


def with_settings(method: Method, settings: str) -> Method:
    """The method with other settings ("key=value, evidence.prior=0.3"), which its label and folder name."""
    guidance = changed_by(method.guidance, settings)
    differences = list(_differences(method.guidance, guidance))
    if not differences:
        return method
    written = ", ".join(f"{key} {value}" for key, value in differences)
    plain = re.sub(r"[^\w.+-]+", "-", "-".join(f"{key}-{value}" for key, value in differences), flags=re.ASCII)
    name = f"{method.name}-{plain}".rstrip("-")
    if len(name) > LONGEST_NAME or not written.isascii():
        name = f"{name[:LONGEST_NAME]}-{hashlib.sha256(written.encode()).hexdigest()[:8]}"
    return replace(method, name=name, label=f"{method.label} ({written})", guidance=guidance)


def _differences(before: Configurable, after: Configurable, where: str = "") -> Iterator[tuple[str, str]]:
    """Dotted key and typed value of each setting that differs."""
    for key in after.parameters():
        old, new = getattr(before, key), getattr(after, key)
        if old == new:
            continue
        if isinstance(new, Configurable):
            if type(old) is not type(new):
                old = type(new)()
                yield f"{where}{key}", new.name
            yield from _differences(old, new, f"{where}{key}.")
        else:
            yield f"{where}{key}", typed(new)


def needs_to_see(guidance: Guidance) -> bool:
    """Whether somebody has to say what images show before they are finished, or before they are kept."""
    looks = any(isinstance(part, Evidence) and part.needs_judge for part in guidance.parts())
    return looks or guidance.redrawing() is not None


def method_texts(methods: Sequence[Method], standard: Sequence[Method]) -> tuple[str, ...] | None:
    """A study's methods as people type them; None if it has the default ones.

    ``standard`` is what :func:`standard_methods` returned for its question.
    """
    if any(method.optional for method in methods):
        return None
    known = {method.name: method.guidance for method in standard}
    known = {name: cls() for name, cls in guidances().items()} | known
    texts = []
    for method in methods:
        bases = [name for name in known if method.name == name or method.name.startswith(f"{name}-")]
        fitting = [name for name in bases if type(known[name]) is type(method.guidance)]
        if not fitting:
            raise InvalidSetting("the name of a method", method.name, "that of a guidance, with its settings")
        base = max(fitting, key=len)
        settings = ", ".join(f"{key}={value}" for key, value in _differences(known[base], method.guidance))
        texts.append(f"{base}:{settings}" if settings else base)
    return tuple(texts)
