"""Unguided images with evidences that watch: what each said at every step, kept per image so that a run resumes."""

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..bridges.calibrations import Checked
from ..bridges.diffusers.asking import call_arguments
from ..bridges.diffusers.steer import steer
from ..core.calibration import Calibration
from ..core.errors import NotFiniteError, SteerclearWarning, UnsupportedModel
from ..core.evidence import Circumstances, Evidence, Surroundings
from ..core.guidance import Guidance, joined
from ..core.laboratory import Asked
from ..core.laws import Law
from ..core.records import Guided, PerStep, State, Step, Trace
from ..core.saving import save_whole
from ..core.schedulers import is_stochastic
from ..core.seeds import image_generators
from ..core.values import parse_object
from ..core.watching import WatchState, begin_watching, watch, watched_branches
from ..evidence.probe import pooled
from ..models.configs import failures_of_libraries
from ..models.loading import Model
from .gallery import Picture, find_picture, picture_path, write_picture
from .generate import OnProgress, batches_of
from .measure import circumstances, default_judge
from .recipe import HASH_LENGTH, Recipe

IMAGES, SEEN = Path("images", "unguided"), Path("seen")
"""Folders of the images and of what was seen, inside that of the run."""
KEY = "steerclear_seen"
TRIED_STEPS = 3
"""Steps of the run that finds out whether an evidence can run."""


@dataclass(frozen=True, eq=False)
class Sight:
    """What was seen of one image.

    Attributes:
        seed: of the image.
        levels: sigma / alpha at each step, ``[steps]``.
        denoised: the denoised predictions under the prompt, ``[steps, ...]``, see :func:`~steerclear.evidence.probe.pooled`.
        log_odds: what each evidence said, by name, ``[steps]``; NaN where it had nothing to say.
        evaluations: network evaluations that each evidence alone adds to those of an unguided image, by name.
    """

    seed: int
    levels: Tensor
    denoised: Tensor
    log_odds: Mapping[str, Tensor]
    evaluations: Mapping[str, float]


@dataclass(frozen=True)
class Watched:
    """What is watched, and how.

    Attributes:
        recipe: of the images, unguided.
        negative_prompt: the concept.
        evidences: by name.
        calibration: that they read; None without one.
    """

    recipe: Recipe
    negative_prompt: str
    evidences: Mapping[str, Evidence]
    calibration: Calibration | None = None

    def digest(self) -> str:
        """Equal digests and seeds give equal sights."""
        said = [
            self.recipe.digest(), self.negative_prompt, {name: one.to_config() for name, one in self.evidences.items()},
            None if self.calibration is None else self.calibration.digest(),
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:HASH_LENGTH]


def runnable(model: Model, watched: Watched) -> tuple[dict[str, Evidence], dict[str, str]]:
    """The evidences that can run on a model, and of each other one why it cannot. Runs each for a few steps of one image."""
    able: dict[str, Evidence] = {}
    refused: dict[str, str] = {}
    steps = min(TRIED_STEPS, watched.recipe.num_inference_steps)
    for name, evidence in watched.evidences.items():
        recipe = watched.recipe.model_copy(update={"num_inference_steps": steps})
        try:
            _run(model, replace(watched, recipe=recipe, evidences={name: evidence}), [0], lambda size: None)
        except UnsupportedModel as error:
            refused[name] = str(error)
        else:
            able[name] = evidence
    return able, refused


def observe(
    model: Model, watched: Watched, seeds: Sequence[int], folder: Path, *, batch_size: int = 16,
    on_progress: OnProgress | None = None,
) -> tuple[list[Sight], list[Picture]]:  # fmt: skip
    """Sights and images of these seeds, in their order; what is in the folder already is kept.

    Image k depends only on seed k, up to rounding in batches of another size.

    Args:
        model: the model that the recipe names.
        watched: see :class:`Watched`.
        seeds: one per image, all different.
        folder: of the run.
        batch_size: images per forward pass.
        on_progress: called with (image-steps done, image-steps in all).

    Raises:
        UnsupportedModel: an evidence cannot run here.
        NotFiniteError: a network returned NaN; what was finished is kept.

    Warns:
        SteerclearWarning: files are damaged, or of other settings; they are made again.
    """
    digest, report = watched.digest(), on_progress or (lambda done, total: None)
    todo = [seed for seed in seeds if not _is_there(folder, seed, watched.recipe, digest)]
    paths = {seed: _sight_path(folder, seed) for seed in todo}
    lost = [seed for seed, path in paths.items() if path.exists() and _read(path, seed, digest) is None]
    if lost:
        names = ", ".join(_sight_path(folder, seed).name for seed in lost[:4]) + ", ..." * (len(lost) > 4)
        text = f"files in {folder / SEEN} are damaged or of other settings, and are made again: {names}"
        warnings.warn(text, SteerclearWarning, stacklevel=2)
    batches = [batch for batch in batches_of(seeds, batch_size) if not set(batch).isdisjoint(todo)]
    done, total = 0, sum(map(len, batches)) * watched.recipe.num_inference_steps
    for batch in batches:

        def after_step(size: int) -> None:
            nonlocal done
            done = min(done + size, total)
            report(done, total)

        decoded, trace, denoised = _run(model, watched, batch, after_step)
        for row, seed in enumerate(batch):
            if seed in todo:
                _keep(model, watched, folder, seed, decoded[row], trace, denoised[:, row], row)
    sights = [_read(_sight_path(folder, seed), seed, digest) for seed in seeds]
    pictures = [find_picture(folder / IMAGES, seed, watched.recipe) for seed in seeds]
    return [one for one in sights if one is not None], [one for one in pictures if one is not None]


@failures_of_libraries()
def _run(
    model: Model, watched: Watched, seeds: Sequence[int], on_step: Callable[[int], None]
) -> tuple[Any, Trace, Tensor]:
    """The decoded images of a batch, its trace, and the denoised predictions ``[steps, batch, ...]``."""
    recipe, negatives = watched.recipe, (watched.negative_prompt,)
    known = circumstances(model, recipe.prompt, negatives, (watched.calibration,) if watched.calibration else ())
    known = replace(known, stochastic=is_stochastic(model.pipe.scheduler))
    evidences = tuple(one.fitted(known) for one in watched.evidences.values())
    denoised: list[Tensor] = []
    watching = _Watching(tuple(watched.evidences), evidences, denoised.append)
    judge = default_judge(model, Asked(recipe.prompt, negatives, recipe.height, recipe.width))
    folder = model.folder if model.folder and model.folder.is_dir() else None
    checked = Checked((watched.calibration,) if watched.calibration else ())
    arguments = call_arguments(
        model.pipe, recipe.prompt, image_generators(seeds), num_inference_steps=recipe.num_inference_steps,
        height=recipe.height, width=recipe.width, on_step=lambda: on_step(len(seeds)),
    )  # fmt: skip
    with steer(
        model.pipe, watching, watched.negative_prompt, judge=judge, files=folder, calibration=checked
    ) as run:  # fmt: skip
        images = model.pipe(**arguments).images
    return images, run.trace, torch.stack(denoised)


def _keep(
    model: Model, watched: Watched, folder: Path, seed: int, decoded: Any, trace: Trace, denoised: Tensor, row: int
) -> None:
    """Write the sight and the image of one seed."""
    if not np.isfinite(decoded).all():
        remedy = "Try float32 instead of a half precision."
        raise NotFiniteError("the image that the autoencoder decoded", f"for seed {seed}", remedy)
    tensors = {"levels": torch.tensor(trace.levels, dtype=torch.float64), "denoised": denoised.contiguous()}
    for name in watched.evidences:
        tensors[f"log_odds.{name}"] = trace.table(f"log_odds:{name}")[:, row].double().contiguous()
        spent = sum(_spent(step, name, row) for step in trace.steps)
        tensors[f"evaluations.{name}"] = torch.tensor([float(spent)])
    path, recipe = _sight_path(folder, seed), watched.recipe
    path.parent.mkdir(parents=True, exist_ok=True)
    said = {KEY: json.dumps({"digest": watched.digest(), "seed": seed})}
    save_whole(path, lambda to: save_file(tensors, to, metadata=said))
    if find_picture(folder / IMAGES, seed, recipe) is None:
        levels = [level if math.isfinite(level) else None for level in trace.levels]
        evaluations = sum(1 + len(step.further) for step in trace.steps)
        image = model.pipe.numpy_to_pil(decoded)[0]
        branches = [["positive"]] * len(levels)
        where = picture_path(folder / IMAGES, seed)
        write_picture(image, recipe, Picture(seed, where, {}, levels, branches, float(evaluations)))


def _spent(step: Any, name: str, row: int) -> float:
    own = [step, *step.further]
    return sum(float(one.info[f"evaluations:{name}"][row]) for one in own)


def _sight_path(folder: Path, seed: int) -> Path:
    return folder / SEEN / f"{seed:05d}.safetensors"


def _is_there(folder: Path, seed: int, recipe: Recipe, digest: str) -> bool:
    there = _read(_sight_path(folder, seed), seed, digest) is not None
    return there and find_picture(folder / IMAGES, seed, recipe) is not None


def _read(path: Path, seed: int, digest: str) -> Sight | None:
    """A sight from its file; None if it is missing, damaged, or of another seed or other settings."""
    try:
        with safe_open(str(path), framework="pt") as file:
            said = parse_object((file.metadata() or {})[KEY])
            if said != {"digest": digest, "seed": seed}:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        steps = len(tensors["levels"])
        if not all(len(one) == steps for name, one in tensors.items() if not name.startswith("evaluations.")):
            return None
        parts = {name.partition(".")[::2]: value for name, value in tensors.items()}
        return Sight(
            seed, tensors["levels"], tensors["denoised"],
            {name: value for (kind, name), value in parts.items() if kind == "log_odds"},
            {name: float(value) for (kind, name), value in parts.items() if kind == "evaluations"},
        )  # fmt: skip
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError):
        return None


@dataclass(frozen=True)
class _WatchingState(State):
    watched: tuple[WatchState, ...]


@dataclass(frozen=True)
class _Watching(Guidance):
    """The plain conditional prediction, watched by evidences.

    Args:
        names: of the evidences.
        evidences: each as if it were alone.
        keep: is given the denoised predictions of every step, ``[batch, ...]``.
    """

    names: tuple[str, ...]
    evidences: tuple[Evidence, ...]
    keep: Callable[[Tensor], None]

    name: ClassVar[str] = "watching"
    paper: ClassVar[str] = ""
    cost: ClassVar[str] = ""

    def fitted(self, known: Circumstances) -> "_Watching":
        return replace(self, evidences=tuple(one.fitted(known) for one in self.evidences))

    def begin(self, surroundings: Surroundings) -> _WatchingState:
        return _WatchingState(tuple(begin_watching(one, surroundings) for one in self.evidences))

    def branches(self, negatives: int) -> tuple[str, ...]:
        # the conjunction keeps the negative prompt from having no effect, where no evidence reads it
        return joined(("positive", "conjunction"), *(watched_branches(one, negatives) for one in self.evidences))

    def needs_noise_level(self) -> bool:
        return True

    def __call__(self, step: Step, state: State) -> Guided:
        assert isinstance(state, _WatchingState)
        positive = step.predict_one("positive")
        if not step.substep:
            self.keep(pooled(step.denoised(positive)).cpu())
        info: PerStep = {}
        after = []
        for name, one, before in zip(self.names, self.evidences, state.watched, strict=True):
            spent = torch.zeros(step.batch_size)
            (belief,), own = watch(one, _counted(step, spent), before)
            after.append(own)
            unknown = torch.zeros(step.batch_size, dtype=torch.bool) if belief.known is None else ~belief.known.cpu()
            info[f"log_odds:{name}"] = belief.log_odds.detach().cpu().masked_fill(unknown, math.nan)
            info[f"evaluations:{name}"] = spent
        return Guided(positive, _WatchingState(tuple(after)), info)

    @classmethod
    def laws(cls) -> tuple[Law, ...]:
        return ()


def _counted(step: Step, spent: Tensor, known: tuple[str, ...] = ("positive",)) -> Step:
    """The step, which adds to ``spent`` what is evaluated of each image beyond the branches that are known."""
    asked = set(known)

    def ask(names: tuple[str, ...], rows: Tensor | None) -> list[Tensor]:
        fresh = [name for name in dict.fromkeys(names) if name not in asked]
        spent[slice(None) if rows is None else rows.cpu()] += len(fresh)
        asked.update(fresh if rows is None else ())
        return step.ask(names, rows)

    def move(point: Any) -> Step:
        assert step.move is not None
        return _counted(step.move(point), spent, ())

    return replace(step, ask=ask, move=None if step.move is None else move)
