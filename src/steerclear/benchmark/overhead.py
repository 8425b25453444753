"""What steering costs on the shipped model."""

from pathlib import Path

import torch

from ..bridges.diffusers.asking import takes_classes
from ..bridges.diffusers.steer import steer
from ..bridges.families import family_of
from ..core.errors import UnsupportedModel
from ..guidance.classifier_free import ClassifierFreeGuidance
from ..models.loading import Model
from .claims import Benchmark, at_most
from .timing import OnProgress, clock, time_ratio

PROMPT, SCALE, BOUND = "portrait photo of a man", 3.0, 1.05


def benchmark_overhead(
    model: Model,
    folder: Path,
    *,
    images: int = 4,
    steps: int = 20,
    pairs: int = 31,
    on_progress: OnProgress | None = None,
) -> Benchmark:
    """Time of ``steer`` with CFG over the plain pipeline: the median of alternating runs in one process.

    Args:
        model: the pipeline.
        folder: writes ``overhead.json``.
        images, steps: of one run.
        pairs: alternating pairs of runs.
        on_progress: called as runs are done.

    Raises:
        UnsupportedModel: a model that takes classes for prompts.
    """
    pipe = model.pipe
    if takes_classes(pipe):
        raise UnsupportedModel(
            f"the model {model.name!r} is a {type(pipe).__name__}, which takes classes, and what is timed is a prompt; give "
            f"another model"
        )
    scale = {family_of(pipe).scale: SCALE}

    def run() -> None:
        generators = [torch.Generator().manual_seed(seed) for seed in range(images)]
        pipe(PROMPT, num_images_per_prompt=images, num_inference_steps=steps, generator=generators, output_type="latent",
             **scale)  # fmt: skip

    def steered() -> None:
        with steer(pipe, ClassifierFreeGuidance(SCALE)):
            run()

    ratio = time_ratio(run, steered, pairs, model.device, on_progress)
    claim = at_most(
        f"{clock(model.device)} of steer with CFG over the plain pipeline, median of {pairs} pairs", BOUND, ratio
    )
    result = Benchmark(
        model=model.name, model_digest=model.digest, scheduler=type(pipe.scheduler).__name__,
        num_inference_steps=steps, seeds=f"0-{images - 1}", claims=[claim],
    )  # fmt: skip
    result.save(folder / "overhead.json")
    return result
