"""The ways of saying "no" that ``compare`` puts side by side."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import GivenTwice, InvalidSetting, UnknownName
from ..core.guidance import Guidance, guidances
from ..core.schedulers import is_flow
from ..evidence.transition import TransitionEvidence
from ..guidance.auto import AutoGuidance
from ..guidance.classifier_free import ClassifierFreeGuidance
from ..guidance.dynamic_negative import DynamicNegativeGuidance
from ..guidance.negative_prompt import NegativePromptGuidance
from ..guidance.unguided import Unguided

WITHOUT_NEGATIVE, WITH_NEGATIVE = "cfg", ("dynamic-negative", "negative")
"""The guidance that is taken where none is named: of two, the first that takes the settings; the last where classes stand
for prompts, which have no conjunction for the dynamic negative."""

NEED_NO_NEGATIVE = ("unguided", "cfg", "autoguidance")
TAKE_SCALE = {
    "guidance_scale": ("without", "cfg", "negative", "dynamic-negative"),
    "auto_scale": ("autoguidance", "autoguidance-dynamic-negative"),
}
"""Which of the standard methods have which scale of the question."""


@dataclass(frozen=True)
class Method:
    """One way of saying it.

    Attributes:
        name: unique key, and the folder of its images.
        label: for people.
        prompt: what the model is given.
        negative_prompts: the negatives that it is given; empty for methods that say it otherwise or not at all.
        guidance: how.
    """

    name: str
    label: str
    prompt: str
    negative_prompts: tuple[str, ...]
    guidance: Guidance


def standard_methods(
    prompt: str, negative_prompts: Sequence[str], *, guidance_scale: float, auto_scale: float
) -> list[Method]:
    """The field's ways, in the order in which the table shows them; without negatives, "without" has nothing to say.

    Args:
        prompt: what the image shall show.
        negative_prompts: what it shall not.
        guidance_scale: of classifier-free guidance and of the negative prompt.
        auto_scale: of autoguidance.
    """
    negatives = tuple(negative_prompts)
    dynamic, inside = DynamicNegativeGuidance(guidance_scale), DynamicNegativeGuidance(1.0)
    without = f"{prompt} without {' and without '.join(negatives)}"
    together = (", ".join(negatives),) if negatives else ()  # Stable Diffusion has room for one text
    methods = [
        Method("unguided", "unguided", prompt, (), Unguided()),
        Method("without", '"without" in the prompt', without, (), ClassifierFreeGuidance(guidance_scale)),
        Method("cfg", "classifier-free guidance", prompt, (), ClassifierFreeGuidance(guidance_scale)),
        Method("negative", "negative prompt", prompt, together, NegativePromptGuidance(guidance_scale)),
        Method("dynamic-negative", "dynamic negative", prompt, negatives, dynamic),
        Method("autoguidance", "autoguidance", prompt, (), AutoGuidance(auto_scale)),
        Method("autoguidance-dynamic-negative", "autoguidance + dynamic negative", prompt, negatives,
               AutoGuidance(auto_scale, inside)),
    ]  # fmt: skip
    return [method for method in methods if negatives or method.name != "without"]


def unmeasured(scheduler: Any, guidance: Guidance) -> list[str]:
    """What nobody has measured of a guidance under a scheduler, in sentences."""
    if not is_flow(scheduler) or not any(isinstance(part, TransitionEvidence) for part in guidance.parts()):
        return []
    return [
        (
            "The tracking of the dynamic negative has been measured under the schedulers of Stable Diffusion (docs/measured.md), and "
            "not under flow matching. To push without tracking, hold the posterior constant: --guidance dynamic-negative --set "
            "evidence=constant."
        )
    ]


def chosen_methods(
    names: Sequence[str] | None, standard: Sequence[Method], prompt: str, negatives: Sequence[str]
) -> list[Method]:
    """The methods of these names: standard ones, or any guidance on the shelf with its default settings.

    Without names, the standard ones; those that push away from a negative only where there is one.

    Raises:
        UnknownName: neither; the message names the nearest.
        InvalidSetting: a name that is empty or given twice.
    """
    if names is None:
        return [method for method in standard if negatives or method.name in NEED_NO_NEGATIVE]
    if "" in names:
        remedy = "there is an empty name between commas" if len(names) > 1 else "the name is empty"
        raise InvalidSetting("methods", ",".join(names), "names of methods, separated by commas", remedy)
    again = [name for name, times in Counter(names).items() if times > 1]
    if again:
        raise GivenTwice(f"the method {again[0]!r}")
    known = {method.name: method for method in standard}
    chosen = []
    for name in names:
        if name in known:
            chosen.append(known[name])
        elif name in guidances():
            chosen.append(Method(name, name, prompt, tuple(negatives), guidances()[name]()))
        else:
            raise UnknownName("method", name, known.keys() | guidances().keys())
    return chosen
