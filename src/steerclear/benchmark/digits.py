"""Real images with classes: how near the unconditional samples of a model are to them, and how good its classifier is."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..core.errors import InvalidSetting, UnsupportedModel, keeping
from ..core.laboratory import Measurement
from ..core.saving import clear_partials, save_whole
from ..core.seeds import image_generators
from ..core.settings import whole
from ..features.label_classifier import LABEL_CLASSIFIER, LabelClassifier, classify
from ..metrics.frechet import frechet_distance
from ..metrics.rates import rate
from ..models.loading import Model, load_model
from ..models.samplers import scheduler_text
from ..study.folders import working_folder
from ..testbeds.labelled_images import read_labelled, world_named
from .claims import Benchmark, Claim, Experiment, OnProgress, OnStage, at_least, at_most

REQUIRED = {"frechet_over_floor": 1.5, "balance": 0.02, "accuracy": 0.99}
DIGEST = 12


@dataclass(frozen=True)
class Digits(Experiment):
    """The shipped model of digits: its unconditional samples beside real ones, and its classifier.

    Args:
        model: a model with named classes: "digits", a local folder, or a hub id.
        data: folder with the data set's parquet files; none loads them from the Hugging Face hub.
        world: "digits" or "cifar10".
        images: how many samples; the floor is that of as many real test images, where there are so many.
        num_inference_steps: of every sample.
        batch_size: images per forward pass.
        scheduler: another sampler than the model's own, such as "dpm++ 2m karras"; none for its own.
        device: where the networks run.
    """

    name = "digits"

    model: str = "digits"
    data: str | None = None
    world: str = "digits"
    images: int = 10_000
    num_inference_steps: int = 50
    batch_size: int = 250
    scheduler: str | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("images", "num_inference_steps", "batch_size"):
            whole(name, getattr(self, name), low=1)
        world_named(self.world)

    def measure(self, folder: Path, on_stage: OnStage) -> Benchmark:
        """Measure all claims; features of finished batches are kept.

        Raises:
            InvalidSetting: the data or a setting.
            UnsupportedModel: the model has no classes with names, or no classifier of these images.
            FolderConflict: another process is using the folder.
        """
        train, test = (read_labelled(world_named(self.world), split, self.data) for split in ("train", "test"))
        model = load_model(self.model, scheduler=self.scheduler, device=self.device)
        classifier = self._classifier(model, len(world_named(self.world).classes))
        half = classify(classifier, train.first(len(train) // 2).images)[1]
        probabilities, real = classify(classifier, test.images)
        with working_folder(folder), keeping(lambda: folder):
            clear_partials(folder)
            features, seen = self._samples(model, classifier, folder, on_stage(f"{self.images:,} samples"))
        floor = frechet_distance(real[: self.images], half)
        accuracy = rate(probabilities.argmax(1) == test.labels).measured()
        return Benchmark(
            model=model.name, model_digest=model.digest, scheduler=scheduler_text(model.pipe.scheduler, model.folder),
            num_inference_steps=self.num_inference_steps, seeds=f"0-{self.images - 1}",
            claims=_claims(features, seen, half, floor, min(self.images, len(real)), train.labels, accuracy),
        )  # fmt: skip

    def _classifier(self, model: Model, classes: int) -> LabelClassifier:
        if model.folder is None or not hasattr(model.pipe, "class_number"):
            raise UnsupportedModel(
                f"the model {model.name!r} is a {type(model.pipe).__name__}, and this benchmark needs one with named classes; "
                f"make one with `steerclear train digits`."
            )
        if len(model.pipe.classes) != classes:
            raise InvalidSetting("world", self.world, f"the one that the model {model.name!r} was trained on")
        return LabelClassifier.load(model.folder / LABEL_CLASSIFIER)

    def _samples(
        self, model: Model, classifier: LabelClassifier, folder: Path, on_progress: OnProgress
    ) -> tuple[Tensor, Tensor]:
        """Features of the samples, ``[images, width]``, and the class that the classifier sees in each."""
        text = scheduler_text(model.pipe.scheduler, model.folder)
        made = f"{model.digest} {text} {self.num_inference_steps} {self.batch_size}"
        place = folder / "features" / hashlib.sha256(made.encode()).hexdigest()[:DIGEST]
        place.mkdir(parents=True, exist_ok=True)
        found = []
        for first in range(0, self.images, self.batch_size):
            seeds = range(first, min(first + self.batch_size, self.images))
            path = place / f"{seeds[0]}-{seeds[-1]}.safetensors"
            if not path.is_file():
                tensors = _seen(classifier, sampled(model, seeds, self.num_inference_steps))
                save_whole(path, lambda to, tensors=tensors: save_file(tensors, to))  # type: ignore[misc]
            found.append(load_file(path))
            on_progress(seeds[-1] + 1, self.images)
        return torch.cat([one["features"] for one in found]), torch.cat([one["seen"] for one in found])


def sampled(model: Model, seeds: Sequence[int], num_inference_steps: int, prompt: str = "") -> Tensor:
    """Images of a class, or of any, without guidance, uint8 ``[n, 3, height, width]``."""
    images = model.pipe(
        prompt, num_images_per_prompt=len(seeds), generator=image_generators(seeds), guidance_scale=1.0,
        num_inference_steps=num_inference_steps, output_type="pt",
    ).images  # fmt: skip
    return (images.cpu() * 255).round().to(torch.uint8)


def _seen(classifier: LabelClassifier, images: Tensor) -> dict[str, Tensor]:
    probabilities, features = classify(classifier, images)
    return {"features": features.contiguous(), "seen": probabilities.argmax(1)}


def _claims(
    features: Tensor, seen: Tensor, half: Tensor, floor: float, of: int, labels: Tensor, accuracy: Measurement
) -> list[Claim]:
    """The figures of samples; ``floor`` is the distance of ``of`` real test images."""
    distance = frechet_distance(features, half)
    claims = [
        at_most(
            f"Fréchet distance of the samples to half of the training images over that of {of:,} real test images: "
            f"{distance:.4g} over {floor:.4g}",
            REQUIRED["frechet_over_floor"], distance / floor,
        ),
        at_least("accuracy of the classifier on real test images", REQUIRED["accuracy"], accuracy),
    ]  # fmt: skip
    for number in labels.unique().tolist():
        share, real = rate(seen == number).measured(), float((labels == number).double().mean())
        apart = abs(share.value - real)
        claims.append(
            at_most(
                f"class {number}: {share.value:.2%} of the samples, {real:.2%} of real images",
                REQUIRED["balance"],
                apart,
            )
        )
    return claims
