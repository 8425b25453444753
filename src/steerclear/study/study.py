"""A question as data: model, methods with their settings, prompts, seeds, judge."""

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ..core.errors import GivenTwice, InvalidSetting, SteerclearError, SteerclearWarning
from ..core.seeds import checked_seeds
from ..core.settings import finite, whole
from ..core.values import described, fitted, frozen, parse_object
from ..models import loading
from ..models.defaults import defaults_of
from .calibrations import CalibrationSource
from .judging import REFERENCE_METHOD, Kind, checked_judges
from .methods import FOLDER_NAME, SCALES, TAKE_SCALE, Method, by_model, chosen_methods, standard_methods
from .recipe import HASH_LENGTH, LARGEST, MOST_STEPS, NOT_ASKED, SMALLEST, checked_prompt

STUDY_FILE = "study.json"
SHIPPED = "portraits"
"""The model that is used where none is named."""


@dataclass(frozen=True)
class ModelAsked:
    """Which model makes the images; see :func:`~steerclear.models.loading.load_model`.

    Attributes:
        name: a shipped model's name, a local folder or file, or a hub id.
        networks: (name, source) of further networks, such as "weak"; without it the model's own weak network.
        config: the model whose configuration a single file uses.
        loras: files, folders or hub ids, with ``:SCALE`` for a scale other than 1.
        scheduler: None for the model's own.
        dtype: "float32", "float16" or "bfloat16".
        device: a torch device.
        offload: "none", "model", "sequential" or "group".

    Raises:
        InvalidSetting: a value of another type.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str = SHIPPED
    networks: tuple[tuple[str, str], ...] = ()
    config: str | None = None
    loras: tuple[str, ...] = ()
    scheduler: str | None = None
    dtype: str = "float32"
    device: str = "cpu"
    offload: str = "none"

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            value = getattr(self, name)
            plain = tuple(value.items()) if name == "networks" and isinstance(value, Mapping) else value
            try:
                value = fitted(frozen(plain), kind)
            except ValueError:
                raise InvalidSetting(f"{name} of the model", value, described(kind)) from None
            object.__setattr__(self, name, value)

    def load(self) -> loading.Model:
        """The model; errors as :func:`~steerclear.models.loading.load_model`."""
        return loading.load_model(
            self.name, networks=dict(self.networks), loras=self.loras, device=self.device, dtype=self.dtype,
            offload=self.offload, scheduler=self.scheduler, config=self.config,
        )  # fmt: skip

    def identity(self) -> dict[str, Any]:
        """Its settings as plain values, equal for equal models whatever the spelling."""
        networks = dict(self.networks)
        return loading.asked_to_load(self.name, None, self.loras, self.scheduler, self.dtype, networks, self.config)


@dataclass(frozen=True)
class Study:
    """One question: the same seeds under several methods.

    Attributes:
        prompt: what the images should show.
        negative_prompts: what they should not.
        methods: at least one, with different names.
        seeds: one per image, the same for every method.
        num_inference_steps: of every method, from 1 to 1000.
        height, width: of every image in pixels, from 8 to 16,384; None for the model's own.
        judge: a laboratory's name, with settings as "name:key=value"; "none" for no judge; None for the first laboratory
            that can judge the images.
        model: the model.
        calibrations: what was measured of the negative prompts.
        second_judge: another laboratory, with whom the judge is compared, as ``judge``; None for nobody.
        watch: what else the judge looks for, in words; None for what it looks for by itself.
        truth: "exact", known to the judge; "redrawn", from other images of the model in which the judge sees no concept;
            "none"; or None: exact where the judge knows it, else redrawn if the judge has features or ``features`` is given.
        reference_images: images that are drawn for a redrawn truth, from 8 to 1,000,000; None for twice the seeds.
        reference_method: the method that draws them, which uses no negative prompt.
        features: in what the images are compared with a redrawn truth: a name on the shelf ``features``, with settings as
            "name:key=value"; None for the judge's own, and pixels for a judge without any.

    Raises:
        InvalidSetting, PromptError, UnknownName: a value of the wrong type, out of range, or unknown.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    prompt: str
    negative_prompts: tuple[str, ...]
    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    num_inference_steps: int = 30
    height: int | None = None
    width: int | None = None
    judge: str | None = None
    model: ModelAsked = field(default_factory=ModelAsked)
    calibrations: tuple[CalibrationSource, ...] = ()
    second_judge: str | None = None
    watch: tuple[str, ...] | None = None
    truth: Kind | None = None
    reference_images: int | None = None
    reference_method: str = REFERENCE_METHOD
    features: str | None = None

    def __post_init__(self) -> None:
        self._set("prompt", checked_prompt("prompt", self.prompt))
        self._set("negative_prompts", checked_negatives(self.negative_prompts))
        self._set("seeds", checked_seeds(self.seeds))
        for name, value in checked_numbers(self.num_inference_steps, self.height, self.width).items():
            self._set(name, value)
        self._set("methods", _checked_methods(self.methods))
        for name, value in checked_judges(self).items():
            self._set(name, value)
        if not isinstance(self.model, ModelAsked):
            raise InvalidSetting("model", self.model, "a ModelAsked")
        sources = self.calibrations
        if not isinstance(sources, tuple) or not all(isinstance(one, CalibrationSource) for one in sources):
            raise InvalidSetting("calibrations", sources, "a tuple of CalibrationSource")

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def to_json(self) -> str:
        """The content of ``study.json``."""
        return _adapter().dump_json(self, indent=1).decode() + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Study":
        """The inverse of :meth:`to_json`.

        Raises:
            InvalidSetting: not the JSON of a study; the message says where.
            SteerclearError: see :class:`Study`.
        """
        try:
            text = text if isinstance(text, str) else text.decode()
            parse_object(text)
            return _adapter().validate_json(text, strict=True)
        except ValidationError as error:
            wrong = error.errors()[0]
            if isinstance(cause := wrong.get("ctx", {}).get("error"), SteerclearError):
                raise cause from error
            where = ".".join(map(str, wrong["loc"])) or "all of it"
            raise InvalidSetting("the content of a study", where, f"valid in {STUDY_FILE}: {wrong['msg']}") from error
        except ValueError as error:
            if isinstance(error, SteerclearError):
                raise
            raise InvalidSetting("the content of a study", "damaged", f"a JSON object ({error})") from error

    def digest(self) -> str:
        """A short hash of what is asked for, independent of the device."""
        plain = json.loads(self.to_json())
        plain["model"] = {name: value for name, value in plain["model"].items() if name not in NOT_ASKED}
        calibrations = [one["digest"] for one in plain.pop("calibrations")]
        plain |= {"calibrations": calibrations} if calibrations else {}
        plain = {name: value for name, value in plain.items() if name not in LOOKING or value != LOOKING[name]}
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:HASH_LENGTH]


LOOKING: Mapping[str, Any] = {
    "second_judge": None, "watch": None, "truth": None, "reference_images": None, "reference_method": REFERENCE_METHOD,
    "features": None,
}  # fmt: skip
"""Fields of a study that say who looks at its images, beside the judge, and for which truth: name -> default."""


@cache
def _adapter() -> TypeAdapter[Study]:
    return TypeAdapter(Study)


def comparison(
    prompt: str, negative_prompts: Sequence[str], seeds: Sequence[int], num_inference_steps: int = 30,
    guidance_scale: float = 3.0, auto_scale: float = 2.0, methods: Sequence[str] | None = None, height: int | None = None,
    width: int | None = None, *, judge: str | None = None, model: ModelAsked | None = None,
    calibrations: tuple[CalibrationSource, ...] = (), second_judge: str | None = None, watch: Sequence[str] | None = None,
    truth: str | None = None, reference_images: int | None = None, reference_method: str = REFERENCE_METHOD,
    features: str | None = None,
) -> Study:  # fmt: skip
    """The study that ``steerclear compare`` makes of its arguments.

    Args:
        prompt, negative_prompts, seeds, num_inference_steps, height, width, judge, model, calibrations, second_judge, watch,
            truth, reference_images, reference_method, features: see :class:`Study`.
        guidance_scale: of classifier-free guidance and of the negative prompt.
        auto_scale: of autoguidance.
        methods: names with optional settings, see :func:`~steerclear.study.methods.chosen_methods`; None for the standard ones.

    Raises:
        UnknownName: an unknown method.
        InvalidSetting, PromptError: a value of the wrong type or out of range.

    Warns:
        SteerclearWarning: none of the methods takes a given scale.

    >>> [method.label for method in comparison("a man", ["hat"], [0], methods=["cfg", "dynamic-negative:negative_scale=2"]).methods]
    ['classifier-free guidance', 'dynamic negative (negative_scale 2)']
    """
    prompt, negatives = checked_prompt("prompt", prompt), checked_negatives(negative_prompts)
    given = {"guidance_scale": guidance_scale, "auto_scale": auto_scale}
    scales = {name: finite(name, value) for name, value in given.items()}
    standard = standard_methods(prompt, negatives, **scales)
    names, model = _checked_names(methods), model or ModelAsked()
    chosen = chosen_methods(names, standard, prompt, negatives)
    study = Study(
        prompt, negatives, tuple(chosen if names else by_model(chosen, defaults_of(model.name))), seeds,  # type: ignore[arg-type]
        num_inference_steps, height, width, judge, model, calibrations, second_judge,
        watch, truth, reference_images, reference_method, features,  # type: ignore[arg-type]  # checked there
    )  # fmt: skip
    _warn_of_idle_scales(scales, names)
    return study


def checked_negatives(negative_prompts: object) -> tuple[str, ...]:
    if not isinstance(negative_prompts, (tuple, list)):
        remedy = "a single one needs a comma, as ('hat',)"
        raise InvalidSetting("negative_prompts", negative_prompts, "a tuple of texts", remedy)
    return tuple(checked_prompt("negative prompt", text) for text in negative_prompts)


def checked_numbers(num_inference_steps: object, height: object, width: object) -> dict[str, Any]:
    """Steps and sizes as plain numbers, by name."""
    sizes = {"height": height, "width": width}
    return {
        "num_inference_steps": whole("num_inference_steps", num_inference_steps, low=1, high=MOST_STEPS),
        **{
            name: None if size is None else whole(name, size, low=SMALLEST, high=LARGEST)
            for name, size in sizes.items()
        },
    }


def _checked_names(methods: object) -> tuple[str, ...] | None:
    if methods is None:
        return None
    if not isinstance(methods, (tuple, list)) or not all(isinstance(name, str) for name in methods):
        raise InvalidSetting("methods", methods, "names of methods, or None for the standard ones")
    if not methods:
        raise InvalidSetting("methods", methods, "at least one name, or None for the standard ones")
    return tuple(methods)


def _checked_methods(methods: object) -> tuple[Method, ...]:
    if not isinstance(methods, (tuple, list)) or not methods or not all(isinstance(one, Method) for one in methods):
        raise InvalidSetting("methods", methods, "a tuple of at least one Method")
    for method in methods:
        if not isinstance(method.name, str) or not FOLDER_NAME.fullmatch(method.name):
            allowed = "letters, digits and . _ + -, at most 80 and a letter or digit first"
            raise InvalidSetting("the name of a method", method.name, allowed, "it names a folder")
    names = Counter(method.name.casefold() for method in methods)
    again = [method.name for method in methods if names[method.name.casefold()] > 1]
    if again:
        raise GivenTwice(f"the method {again[0]!r}")
    return tuple(methods)


def _warn_of_idle_scales(scales: dict[str, float], names: tuple[str, ...] | None) -> None:
    for name, default in SCALES.items():
        takers = TAKE_SCALE[name]
        if scales[name] != default and names is not None and not {one.partition(":")[0] for one in names} & {*takers}:
            warnings.warn(
                f"{name}={scales[name]:g} has no effect: none of the methods {', '.join(names)} takes it; "
                f"leave it out, or add one of {', '.join(takers)}",
                SteerclearWarning,
                stacklevel=3,
            )  # fmt: skip
