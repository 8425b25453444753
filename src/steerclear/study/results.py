"""What ``compare`` or ``measure`` found, as data: the schema of results.json (exported to docs/results.schema.json)."""

from typing import Any, Literal

from pydantic import field_validator
from pydantic_core import PydanticCustomError

from ..core.laboratory import Column, Frozen, Measurement
from ..models.loras import LoRA
from ..models.networks import NetworkSource
from .calibrations import CalibrationSource
from .disagreement import Disagreement

SCHEMA_VERSION = "2.2"
RESULTS_FILE = "results.json"


class ImageResult(Frozen):
    """One image.

    Attributes:
        seed: its seed; of images without seeds a number, the same for images that belong together.
        label: what it is called, where it has no seed; None otherwise.
        file: its path, relative to results.json.
        shown: attribute -> what the judge sees (empty without a judge).
        probability: concept -> the judge's probability that the image shows it, in [0, 1].
        trace: name -> the guidance's number per step; null at steps without it.
        draws: how often it was drawn; 1 unless its guidance draws images again.
        flagged: whether it shows the concept still, in the eyes of who flagged it.
    """

    seed: int
    label: str | None = None
    file: str
    shown: dict[str, int]
    probability: dict[str, float] = {}
    trace: dict[str, list[float | None]]
    draws: int = 1
    flagged: bool = False

    @property
    def called(self) -> str:
        """Its seed, or what it is called without one."""
        return f"seed {self.seed}" if self.label is None else self.label


class Comparison(Frozen):
    """A two-sample test: one method against another.

    Attributes:
        column: what is compared; "features" for the sets of feature vectors.
        with_method: the other method's name.
        difference: this method's number less the other's.
        low, high: its 95 % interval; None without one.
        p: probability of at least this difference if there is none, in [0, 1].
        paired: whether images of one seed were compared with one another.
        test: its name.
    """

    column: str
    with_method: str
    difference: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    paired: bool
    test: str


class TruthResult(Frozen):
    """What the images are compared with, and where it comes from.

    Attributes:
        kind: "exact", known to the judge; "redrawn", measured on images of the same model in which the judge sees no concept;
            "reference", on such images of a folder.
        target: in words.
        method: the method that drew the images, or the folder of a reference; None for an exact truth, as for the numbers below.
        drawn: images that were drawn.
        kept: those in which the judge sees no concept.
        unsure: those kept of which the judge is unsure.
        seeds: of the images drawn, as on the command line.
        rates: how often each thing shows, in [0, 1], by name.
    """

    kind: Literal["exact", "redrawn", "reference"]
    target: str
    method: str | None = None
    drawn: int | None = None
    kept: int | None = None
    unsure: int | None = None
    seeds: str | None = None
    rates: dict[str, float] = {}


class MethodResult(Frozen):
    """One method, or one folder of images: what has no model has none of its settings.

    Attributes:
        name: unique key; also the folder of its images.
        label: for people.
        prompt, negative_prompts: what the model was given.
        guidance: the guidance's plain values.
        recipe_digest: hash of all settings.
        evaluations: mean number of network evaluations per image.
        noise_levels: sigma / alpha per step; null at pure noise, where it is infinite, and where the scheduler does not
            report it.
        branches: the branches that ran, per step.
        measurements: name -> number with interval, in the order of :attr:`Results.columns`.
        images: one per seed.
        warnings: what had no effect, and why.
        comparisons: two-sample tests against the first method.
    """

    name: str
    label: str
    prompt: str = ""
    negative_prompts: list[str] = []
    guidance: dict[str, Any] = {}
    recipe_digest: str | None = None
    evaluations: float | None = None
    noise_levels: list[float | None] = []
    branches: list[list[str]] = []
    measurements: dict[str, Measurement]
    images: list[ImageResult]
    warnings: list[str]
    comparisons: list[Comparison] = []


class Results(Frozen):
    """Everything that a comparison found.

    Attributes:
        schema_version: of this schema; a change that breaks readers raises the first number.
        steerclear_version, versions: of the program, and of the libraries that it uses.
        command: how to repeat it.
        prompt, negative_prompts: the question. Of measured folders, the prompt may be empty, and the others are the concepts.
        folders: the folders that were measured, as given; empty for a comparison of methods. They have no model, no seeds
            and none of the settings below.
        model, model_digest, config, loras, scheduler, num_inference_steps, height, width, dtype, device, offload: settings
            shared by all methods, see :class:`~steerclear.study.recipe.Recipe`.
        networks: further networks that the methods may use, by name.
        calibrations: what was measured of the negative prompts before.
        seeds: as written on the command line.
        judge: the laboratory that judged the images, as plain values; None without one.
        columns: the measurements, in order.
        target: in words, what the images are compared with; None without a known truth.
        truth: where the truth comes from; None without one.
        features: in which features the images are compared, in words; None without any.
        watched: what else the judge was asked to look for, in words; empty for what it looks for by itself.
        judge_errors: how often the judge errs, in [0, 1], by column, where that is known.
        judge_error_source: on what that was measured, in words.
        second_judge: another laboratory that judged the images, as plain values; None without one.
        disagreements: where the two judges differ, by column.
        notes: what a reader should know (an unsure judge, a deterministic scheduler, ...).
        methods: one per row.
    """

    schema_version: str = SCHEMA_VERSION
    steerclear_version: str
    versions: dict[str, str]
    command: str
    prompt: str
    negative_prompts: list[str]
    folders: list[str] = []
    model: str | None = None
    model_digest: str | None = None
    config: str | None = None
    loras: list[LoRA] = []
    scheduler: str | None = None
    num_inference_steps: int | None = None
    height: int | None = None
    width: int | None = None
    dtype: str | None = None
    device: str = "cpu"
    offload: str = "none"
    networks: dict[str, NetworkSource] = {}
    calibrations: list[CalibrationSource] = []
    seeds: str | None = None
    judge: dict[str, Any] | None = None
    columns: list[Column]
    target: str | None
    truth: TruthResult | None = None
    features: str | None = None
    watched: list[str] = []
    judge_errors: dict[str, float] = {}
    judge_error_source: str = ""
    second_judge: dict[str, Any] | None = None
    disagreements: list[Disagreement] = []
    notes: list[str]
    methods: list[MethodResult]

    @field_validator("schema_version")
    @classmethod
    def _readable(cls, version: str) -> str:
        first = SCHEMA_VERSION.partition(".")[0]
        if version.partition(".")[0] != first:
            raise PydanticCustomError("version", f"it is {version[:20]!r}, and this version reads {first}.x")
        return version
