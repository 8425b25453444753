"""What ``compare`` found, as data: the schema of results.json (exported to docs/results.schema.json)."""

from typing import Any

from ..core.laboratory import Column, Frozen, Measurement
from ..models.loras import LoRA
from ..models.networks import NetworkSource

SCHEMA_VERSION = "2.0"


class ImageResult(Frozen):
    """One image.

    Attributes:
        seed: its seed.
        file: its path, relative to results.json.
        shown: attribute -> what the classifier sees in it (empty without a classifier).
        probability: concept -> how sure the classifier is that it is there, in [0, 1].
        trace: name -> the guidance's number at every step; null at steps that did not show it.
    """

    seed: int
    file: str
    shown: dict[str, int]
    probability: dict[str, float] = {}
    trace: dict[str, list[float | None]]


class MethodResult(Frozen):
    """One way of saying it.

    Attributes:
        name: unique key; also the folder of its images.
        label: for people.
        prompt, negative_prompts: what the model was given.
        guidance: the guidance's plain values.
        recipe_digest: the hash of all settings.
        evaluations: network evaluations per image, on average.
        noise_levels: sigma / alpha at every step; null at pure noise, where it is infinite, and where the scheduler does
            not say it.
        branches: which branches ran at every step.
        measurements: name -> number with interval, in the order of :attr:`Results.columns`.
        images: one per seed.
        warnings: what had no effect, and why.
    """

    name: str
    label: str
    prompt: str
    negative_prompts: list[str]
    guidance: dict[str, Any]
    recipe_digest: str
    evaluations: float
    noise_levels: list[float | None]
    branches: list[list[str]]
    measurements: dict[str, Measurement]
    images: list[ImageResult]
    warnings: list[str]


class Results(Frozen):
    """Everything that a comparison found.

    Attributes:
        schema_version: of this schema; a change that breaks readers raises the first number.
        steerclear_version, versions: of the program and of the libraries that it stands on.
        command: how to repeat it.
        prompt, negative_prompts: the question.
        model, model_digest, config, loras, scheduler, num_inference_steps, height, width, dtype: the settings
            shared by all methods, as in :class:`~steerclear.study.recipe.Recipe`.
        device, offload: where the images were made, and where the weights waited meanwhile.
        networks: the networks that the methods may ask for beside the model's own, by name.
        seeds: as written on the command line.
        judge: the laboratory that judged the images, as plain values; None where nobody did.
        columns: the measurements, in order.
        target: in words, what the images are compared with; None without a known truth.
        notes: what a reader should know (classifier error, deterministic scheduler, ...).
        methods: one per row.
    """

    schema_version: str = SCHEMA_VERSION
    steerclear_version: str
    versions: dict[str, str]
    command: str
    prompt: str
    negative_prompts: list[str]
    model: str
    model_digest: str
    config: str | None = None
    loras: list[LoRA] = []
    scheduler: str
    num_inference_steps: int
    height: int | None = None
    width: int | None = None
    dtype: str
    device: str = "cpu"
    offload: str = "none"
    networks: dict[str, NetworkSource] = {}
    seeds: str
    judge: dict[str, Any] | None = None
    columns: list[Column]
    target: str | None
    notes: list[str]
    methods: list[MethodResult]
