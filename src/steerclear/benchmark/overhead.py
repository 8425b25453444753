"""The cost of steering on the shipped model."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from ..bridges.diffusers.asking import takes_classes
from ..bridges.diffusers.steer import steer
from ..bridges.families import family_of
from ..core.errors import UnsupportedModel
from ..core.settings import whole
from ..guidance.classifier_free import ClassifierFreeGuidance
from ..study.study import ModelAsked
from .claims import Benchmark, Experiment, OnStage, at_most
from .timing import clock, time_ratio

PROMPT, SCALE, BOUND = "portrait photo of a man", 3.0, 1.05


@dataclass(frozen=True)
class Overhead(Experiment):
    """Time of steering with CFG relative to the plain pipeline, in one process: the median over alternating runs.

    Args:
        model: a shipped model, a local folder, or a hub id.
        pairs: alternating pairs of runs.
        images, steps: of each run.
    """

    name = "overhead"
    continues: ClassVar[bool] = False

    model: str = "portraits"
    pairs: int = 31
    images: int = 4
    steps: int = 20

    def __post_init__(self) -> None:
        for name in ("pairs", "images", "steps"):
            whole(name, getattr(self, name), low=1)

    def measure(self, folder: Path, on_stage: OnStage) -> Benchmark:
        model = ModelAsked(self.model).load()
        pipe = model.pipe
        if takes_classes(pipe):
            raise UnsupportedModel(
                f"the model {model.name!r} is a {type(pipe).__name__}, which takes classes, but this benchmark needs a prompt; give "
                f"another model"
            )
        scale = {family_of(pipe).scale: SCALE}

        def run() -> None:
            generators = [torch.Generator().manual_seed(seed) for seed in range(self.images)]
            pipe(PROMPT, num_images_per_prompt=self.images, num_inference_steps=self.steps, generator=generators, output_type="latent",
                 **scale)  # fmt: skip

        def steered() -> None:
            with steer(pipe, ClassifierFreeGuidance(SCALE)):
                run()

        ratio = time_ratio(run, steered, self.pairs, model.device, on_stage("time, in turns"))
        told = f"{clock(model.device)} of steer with CFG over the plain pipeline, median of {self.pairs} pairs"
        return Benchmark(
            model=model.name, model_digest=model.digest, scheduler=type(pipe.scheduler).__name__,
            num_inference_steps=self.steps, seeds=f"0-{self.images - 1}", claims=[at_most(told, BOUND, ratio)],
        )  # fmt: skip
