"""Images of several methods on a model of portraits, measured against the exact truth."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..core.errors import InvalidSetting, UnsupportedModel, keeping
from ..core.laboratory import Measurement
from ..core.saving import clear_partials
from ..features.portrait_classifier import CLASSIFIER
from ..laboratories.portraits import PortraitJudge, has_classifier
from ..metrics.frechet import Frechet
from ..metrics.rates import rate
from ..models.loading import Model
from ..study.folders import working_folder
from ..study.gallery import Picture
from ..study.measure import pixels
from ..study.methods import Method
from ..study.recipe import format_seeds, parse_seeds
from ..study.run import make, recipe_of
from ..study.study import ModelAsked, Study
from ..testbeds.portraits import indicators
from .claims import Benchmark, Claim, Experiment, OnProgress, OnStage

MAN = "portrait photo of a man"


@dataclass(frozen=True)
class PortraitExperiment(Experiment):
    """A benchmark of a model of portraits.

    Args:
        model: a shipped model, a local folder, or a hub id.
        seeds: of every method, such as "0-999".
        num_inference_steps, batch_size: of every method.
        device: where the networks run.
    """

    model: str = "portraits"
    seeds: str = "0-999"
    num_inference_steps: int = 30
    batch_size: int = 16
    device: str = "cpu"

    def __post_init__(self) -> None:
        parse_seeds(self.seeds)

    def study(self, methods: Sequence[Method], negatives: tuple[str, ...] = (), scheduler: str | None = None) -> Study:
        asked = ModelAsked(self.model, scheduler=scheduler, device=self.device)
        seeds = parse_seeds(self.seeds)
        return Study(MAN, negatives, tuple(methods), seeds, self.num_inference_steps, model=asked)

    def benchmark(self, model: Model, claims: list[Claim], **other: Any) -> Benchmark:
        settings = {"scheduler": type(model.pipe.scheduler).__name__} | other
        return Benchmark(
            model=model.name, model_digest=model.digest, num_inference_steps=self.num_inference_steps,
            seeds=format_seeds(parse_seeds(self.seeds)), claims=claims, **settings,
        )  # fmt: skip

    def measured(
        self, model: Model, study: Study, prompts: Sequence[str], folder: Path, on_stage: OnStage
    ) -> dict[str, dict[str, Measurement]]:
        """Method -> its measurements, and the rate of every attribute as "rate:NAME"; errors as :meth:`images`.

        Args:
            model, study, folder, on_stage: see :meth:`images`.
            prompts: a method is compared with true portraits of its own prompt if that is one of these, else of the first.
        """
        judges = {prompt: PortraitJudge(model.folder or Path(), prompt) for prompt in prompts}
        found: dict[str, dict[str, Measurement]] = {}
        for method, images in self.images(model, study, folder, on_stage):
            judge = judges.get(method.prompt, judges[prompts[0]])
            seen = judge.see(images)
            rates = {f"rate:{name}": rate(shown).measured() for name, shown in indicators(seen.shown).items()}
            found[method.name] = judge.measure(seen) | rates
        return found

    def images(
        self, model: Model, study: Study, folder: Path, on_stage: OnStage
    ) -> Iterator[tuple[Method, torch.Tensor]]:
        """The pixels of each method's images; arguments and errors as of :meth:`pictures`."""
        return ((method, pixels(made)) for method, made in self.pictures(model, study, folder, on_stage))

    def pictures(
        self, model: Model, study: Study, folder: Path, on_stage: OnStage
    ) -> Iterator[tuple[Method, list[Picture]]]:
        """Each method's images, one method after another.

        Args:
            model, study: the model and the methods.
            folder: images go to ``images/<method>``; existing ones are kept.
            on_stage: called with a method's label when it begins.

        Raises:
            UnsupportedModel: the model has no classifier of portraits.
            InvalidSetting: too few seeds for a Fréchet distance.
            FolderConflict: another process is using the folder.
        """
        if not has_classifier(model):
            raise UnsupportedModel(
                f"the model {model.name!r} has no {CLASSIFIER}, which recognizes what portraits show; measure a shipped model, or "
                f"one made by steerclear train"
            )
        if len(study.seeds) < Frechet.fewest:
            remedy = "fewer give no Fréchet distance"
            raise InvalidSetting("seeds", format_seeds(study.seeds), f"at least {Frechet.fewest}", remedy)
        recipes = {method.name: recipe_of(model, method, study.num_inference_steps) for method in study.methods}
        progress: list[OnProgress] = []

        def begin(method: Method, place: int, total: int) -> None:
            progress.append(on_stage(method.label))
            progress[-1](1, 1)  # full if no image is missing

        done: list[str] = []
        with working_folder(folder / "images"), keeping(lambda: done):
            clear_partials(folder / "images")
            for method, pictures in make(
                model, study.methods, recipes, study.seeds, folder, self.batch_size, begin,
                lambda made, total: progress[-1](made, total),
            ):  # fmt: skip
                done.append(method.name)
                yield method, pictures
