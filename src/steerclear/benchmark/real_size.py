"""Memory and time of a whole comparison at real size: SD 1.5's networks and a SigLIP, with random weights, in a process of its own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Module

from ..core.errors import InvalidSetting
from ..core.laboratory import Asked
from ..core.settings import whole
from ..laboratories.shared.towers import load_towers
from ..models.loading import Model
from ..study.generate import generate
from ..study.judging import FEWEST, reference_of
from ..study.measure import find_judge
from ..study.recipe import LARGEST, parse_seeds
from ..study.request import asked_to_compare
from ..study.results import Results
from ..study.run import recipe_of, run
from ..study.study import Study
from ..study.truth import looked, reference_seeds
from ..telling.report import write_all
from .claims import Benchmark, Claim, Experiment, OnStage, at_least, at_most
from .memory import forget_peak, peak_bytes
from .networks import LATENT_CHANNELS, VAE_FACTOR
from .one_run import GIVE_BACK
from .real_networks import REAL, Sizes, write_networks

QUESTION: Mapping[str, Any] = {
    "prompt": "a photo of a garden", "negative_prompts": ("people",), "watch": "trees, flowers, buildings, sky",
    "methods": "unguided,negative", "truth": "redrawn",
}  # fmt: skip
MOST_MEMORY, MOST_ON_DISK, MOST_MILLION = 10.0, 3.0, 2.0
MOST_SECONDS = {"evaluation": 30.0, "decoding": 60.0, "judge": 5.0}
"""Of processor time: per network evaluation of one image, per image that the autoencoder decodes, per image that is judged."""


@dataclass
class Calls:
    """What went through a network.

    Attributes:
        rows: inputs, over all calls.
        seconds: processor time.
        shape: of the output for one input.
    """

    rows: int = 0
    seconds: float = 0.0
    shape: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class RealSize(Experiment):
    """Memory and time of one whole comparison, judged by a SigLIP and with a redrawn truth, at the size of Stable Diffusion 1.5, with
    random weights. Needs 12 GB of memory and 3 GB of disk.

    Args:
        side: height and width of the images, in pixels.
        num_inference_steps: of every image.
        seeds: of the images of each method.
        reference_images: images that are drawn for the truth, from 16; half of them are rejected.
        batch_size: images per forward pass.
        keep: keeps the networks, the images and the report.
    """

    name = "real"
    continues: ClassVar[bool] = False
    sizes: ClassVar[Sizes] = REAL

    side: int = 256
    num_inference_steps: int = 2
    seeds: str = "0-1"
    reference_images: int = 2 * FEWEST
    batch_size: int = 16
    keep: bool = False

    def __post_init__(self) -> None:
        if whole("side", self.side, low=VAE_FACTOR, high=LARGEST) % VAE_FACTOR:
            raise InvalidSetting("side", self.side, f"a multiple of {VAE_FACTOR}")
        parse_seeds(self.seeds)
        whole("reference_images", self.reference_images, low=2 * FEWEST)
        for name in ("num_inference_steps", "batch_size"):
            whole(name, getattr(self, name), low=1)

    def measure(self, folder: Path, on_stage: OnStage) -> Benchmark:
        folder.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix="real-", dir=folder))
        try:
            on_stage("writing the networks")(0, 1)
            parameters = write_networks(self.sizes, place / "model", place / "judge")
            on_disk = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
            on_stage("the whole comparison, in a process of its own")(0, 1)
            found = self._of_a_fresh_process(place)
            results = Results.model_validate_json((place / "run" / "results.json").read_text())
            report = (place / "run" / "report.html").stat().st_size
        finally:
            if not self.keep:
                shutil.rmtree(place)
        claims = [
            *_sizes(parameters, on_disk), *self._shapes(found), *_memory(found), *_times(found), *_answers(results, found, report)
        ]  # fmt: skip
        return Benchmark(
            model="Stable Diffusion 1.5's size, judged by a SigLIP of base size, both with random weights", model_digest=None,
            scheduler="DDIMScheduler", num_inference_steps=self.num_inference_steps, seeds=self.seeds, claims=claims,
        )  # fmt: skip

    def _of_a_fresh_process(self, place: Path) -> dict[str, Any]:
        options = dict(QUESTION) | {
            "model": str(place / "model"), "judge": _judge(place / "judge"),
            "seeds": self.seeds, "num_inference_steps": self.num_inference_steps, "height": self.side, "width": self.side,
            "reference_images": self.reference_images,
        }  # fmt: skip
        settings = {"options": options, "judge_folder": str(place / "judge"), "outdir": str(place / "run"), "batch_size": self.batch_size}  # fmt: skip
        command = [sys.executable, "-W", "ignore", "-m", __name__, json.dumps(settings)]
        done = subprocess.run(command, env=os.environ | GIVE_BACK, stdout=subprocess.PIPE, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    def _shapes(self, found: Mapping[str, Any]) -> list[Claim]:
        latents = self.side // VAE_FACTOR
        wanted = {
            "unet": ("latents of an image", [LATENT_CHANNELS, latents, latents]), "decoder": ("an image", [3, self.side, self.side]),
            "judge": ("features of an image", [self.sizes.judge.width]),
        }  # fmt: skip
        return [
            _exactly(f"numbers in {what}, as {_times_sign(found['calls'][name]['shape'])}", _times_sign(shape), shape, found["calls"][name]["shape"])
            for name, (what, shape) in wanted.items()
        ]  # fmt: skip


def _times_sign(shape: list[int]) -> str:
    return " x ".join(map(str, shape))


def _exactly(told: str, bound: str, wanted: list[int], found: list[int]) -> Claim:
    return Claim(claim=told, value=float(torch.Size(found).numel()), bound=f"= {bound}", met=found == wanted)


def _sizes(parameters: Mapping[str, int], on_disk: int) -> list[Claim]:
    named = {"unet": "denoiser", "text_encoder": "text encoder", "vae": "autoencoder", "judge": "SigLIP"}
    counts = ", ".join(f"{named[name]} {count / 1e6:.1f}" for name, count in parameters.items())
    return [
        at_most(f"thousand million parameters in all (in millions: {counts})", MOST_MILLION, sum(parameters.values()) / 1e9),
        at_most("GB on disk, in float16", MOST_ON_DISK, on_disk / 1e9),
    ]  # fmt: skip


def _memory(found: Mapping[str, Any]) -> list[Claim]:
    """The peak of the process in each stage."""
    return [
        at_most(f"peak memory in GB, networks in float32: {stage}", MOST_MEMORY, one["peak"] / 1e9)
        for stage, one in found["stages"].items()
    ]  # fmt: skip


def _times(found: Mapping[str, Any]) -> list[Claim]:
    calls, stages = found["calls"], found["stages"]
    per = {
        "evaluation": ("network evaluation of one image", calls["unet"]),
        "decoding": ("image that the autoencoder decodes", calls["decoder"]),
        "judge": ("image that the SigLIP sees", calls["judge"]),
    }  # fmt: skip
    claims = [
        at_most(
            f"seconds of processor time per {what}, mean of {one['rows']}",
            MOST_SECONDS[name],
            one["seconds"] / one["rows"],
        )
        for name, (what, one) in per.items()
    ]
    told = ", ".join(f"{stage} {one['seconds']:.1f}" for stage, one in stages.items())
    every = sum(one["seconds"] for one in stages.values())
    bound = sum(MOST_SECONDS[name] * one["rows"] for name, (_, one) in per.items())
    return [*claims, at_most(f"seconds of processor time in all, {found['threads']} threads ({told})", bound, every)]


def _answers(results: Results, found: Mapping[str, Any], report: int) -> list[Claim]:
    truth = results.truth
    drawn, kept = (0, 0) if truth is None else (truth.drawn or 0, truth.kept or 0)
    told = sum((method.evaluations or 0) * len(method.images) for method in results.methods)
    told += drawn * (results.num_inference_steps or 0)  # unguided: one for each step
    rates = [one for method in results.methods for one in method.measurements.values() if one.truth is not None]
    named = [column.name for column in results.columns]
    return [
        at_most("network evaluations that the results do not tell", 0, abs(found["calls"]["unet"]["rows"] - told)),
        at_most("images that were drawn again by a second run in the same folder", 0, found["drawn_again"]),
        at_least(f"images of the redrawn truth, of {drawn} that were drawn", FEWEST, kept),
        at_least(f"measurements that have a truth beside them; columns: {', '.join(named)}", 1, len(rates)),
        at_most("MB of report.html", 20, report / 1e6),
    ]


def _judge(folder: Path, threshold: float = 0.5) -> str:
    return f"siglip:model={folder},threshold={threshold!r}"


def main(options: dict[str, Any], judge_folder: str, outdir: str, batch_size: int) -> None:
    """The path of ``steerclear compare``, in stages; prints what was measured as JSON.

    What is drawn is judged at once, so both are told apart by a second run, which finds all images and only judges them. Its
    threshold is such that half of the images of the truth are rejected.
    """
    stages: dict[str, dict[str, float]] = {}
    study, folder = asked_to_compare(options, folder=Path(outdir))
    with _stage("loading the pipeline", stages):
        model = study.model.load()
    with _stage("loading the SigLIP", stages):
        towers = load_towers(judge_folder, "cpu")  # the study's judge is the same one
    calls = {
        "unet": watched(model.pipe.unet), "decoder": watched(model.pipe.vae.decoder), "judge": watched(towers.model.vision_model),
    }  # fmt: skip
    with _stage("drawing and judging", stages):
        run(study, folder, model=model, batch_size=batch_size)
    drawn = calls["decoder"].rows
    study = replace(study, judge=_judge(Path(judge_folder), _middle(study, model, folder)))
    with _stage("judging alone", stages):
        results = run(study, folder, model=model, batch_size=batch_size)
    with _stage("report", stages):
        write_all(results, folder)
    print(json.dumps({
        "stages": stages, "calls": {name: asdict(one) for name, one in calls.items()},
        "drawn_again": calls["decoder"].rows - drawn, "threads": torch.get_num_threads(),
    }))  # fmt: skip


def _middle(study: Study, model: Model, folder: Path) -> float:
    """The lower median of the probabilities of the concept in the images of the truth: random weights see it everywhere or nowhere."""
    asked = Asked(study.prompt, study.negative_prompts, study.height, study.width, study.watch)
    recipe = recipe_of(model, reference_of(study.prompt, study.reference_method), study.num_inference_steps, study.height, study.width)  # fmt: skip
    seeds = reference_seeds(study.seeds, study.reference_images or 0)
    pictures = generate(model, recipe, seeds, folder / "reference" / study.reference_method)  # all are there
    judge = find_judge(study.judge, model, asked).judge
    assert judge is not None  # a SigLIP judges any images
    return float(looked(judge, pictures).probabilities[study.negative_prompts[0]].median())


@contextmanager
def _stage(name: str, stages: dict[str, dict[str, float]]) -> Iterator[None]:
    forget_peak()
    began = time.process_time()
    yield
    stages[name] = {"seconds": time.process_time() - began, "peak": peak_bytes()}


def watched(network: Module) -> Calls:
    """Count what goes through a network from now on, and the processor time of it."""
    calls, began = Calls(), [0.0]

    def before(network: Module, arguments: Any) -> None:
        began[0] = time.process_time()

    def after(network: Module, arguments: Any, output: Any) -> None:
        calls.seconds += time.process_time() - began[0]
        found = getattr(output, "pooler_output", None)
        found = output if isinstance(output, Tensor) else output[0] if found is None else found
        calls.rows += len(found)
        calls.shape = list(found.shape[1:])

    network.register_forward_pre_hook(before)
    network.register_forward_hook(after)
    return calls


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
