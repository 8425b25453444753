"""Small networks on points in the plane, trained on exact draws of the fractal world: a good one, and ones that are worse.

The preconditioning, the loss and the noise levels are EDM's (Karras et al. 2022, arXiv 2206.00364), with s = sigma / alpha:

    D(x; s, c) = c_skip x + c_out F(c_in x, log(s) / 4, c),    c_skip = sd^2 / (s^2 + sd^2),    c_out = s sd / sqrt(s^2 + sd^2),
    c_in = 1 / sqrt(s^2 + sd^2),    sd = .5
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from .. import __version__
from ..core.denoiser import MAIN, Branch, Point, kind_and_index
from ..core.errors import InvalidSetting, UnsupportedModel, first_line
from ..core.noise import Level, check_prediction_type, from_denoised, per_image
from ..core.saving import save_whole
from ..core.settings import whole
from ..core.shapes import Float, Int, PerImage
from ..testbeds.fractal import NO_CLASS, Fractal
from .loop import Report, Schedule, train

DEVIATION = 0.5
"""sd above, about that of the world's points."""
LOG_NOISE = (-2.3, 1.5)
"""Mean and standard deviation of log s while training: lower than EDM's, since half of the twigs' detail is below s = .05."""
WITHOUT_CLASS = 0.34
"""Share of the points that are shown without their class: as many as of each class."""


class PointNetwork(nn.Module):
    """A multilayer perceptron that denoises points.

    Args:
        width: of its hidden layers, at least 1.
        layers: how many hidden layers, at least 1.

    Raises:
        InvalidSetting: a number is below its minimum.
    """

    def __init__(self, width: int = 96, layers: int = 4) -> None:
        super().__init__()
        whole("width", width, low=1)
        whole("layers", layers, low=1)
        self.first = nn.Linear(3, width)
        self.classes = nn.Embedding(NO_CLASS + 1, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(layers - 1))
        self.last = nn.Linear(width, 2)
        nn.init.zeros_(self.last.weight)

    def raw(self, scaled: Tensor, log_level: Tensor, label: Tensor) -> Tensor:
        """F above, ``[batch, 2]``."""
        inside = F.silu(self.first(torch.cat([scaled, log_level[:, None] / 4], 1)) + self.classes(label))
        for layer in self.hidden:
            inside = F.silu(layer(inside))
        return self.last(inside)

    def forward(self, points: Float[Tensor, "batch 2"], level: PerImage, label: Int[Tensor, " batch"]) -> Tensor:
        """D(x; s, c), ``[batch, 2]``.

        Args:
            points: x = x_t / alpha.
            level: s, above 0.
            label: 0 or 1, or ``NO_CLASS``.
        """
        total = (level**2 + DEVIATION**2)[:, None]
        raw = self.raw(points / total.sqrt(), level.log(), label)
        return points * DEVIATION**2 / total + level[:, None] * DEVIATION / total.sqrt() * raw


def points_loss(model: PointNetwork, fractal: Fractal, batch_size: int) -> Callable[[int, torch.Generator], Tensor]:
    """The loss of a step, on fresh exact draws, half of each class: the mean square of F's error, which is EDM's."""
    each = batch_size // 2

    def loss(step: int, generator: torch.Generator) -> Tensor:
        clean = torch.cat([one.drawn(each, generator) for one in fractal.classes]).float()
        label = torch.arange(2).repeat_interleave(each)
        label = torch.where(torch.rand(2 * each, generator=generator) < WITHOUT_CLASS, NO_CLASS, label)
        level = (LOG_NOISE[0] + LOG_NOISE[1] * torch.randn(2 * each, generator=generator)).exp()
        noisy = clean + level[:, None] * torch.randn(clean.shape, generator=generator)
        total = level**2 + DEVIATION**2
        with torch.autocast("cpu", enabled=False):  # bfloat16 would round a twig away
            error = (model(noisy, level, label) - clean) * (total.sqrt() / (level * DEVIATION))[:, None]
        return error.square().mean()

    return loss


@dataclass(frozen=True)
class PointsCourse:
    """A network and its training.

    Args:
        width, layers: of the network.
        schedule: of its training.
        fractal: the world.
        seed: determines all randomness.
    """

    width: int = 96
    layers: int = 4
    schedule: Schedule = field(default_factory=lambda: course_of(MAIN_STEPS))
    fractal: Fractal = field(default_factory=Fractal)
    seed: int = 0

    @property
    def digest(self) -> str:
        """What makes two trainings the same, in eight letters."""
        recipe = asdict(self) | {"version": __version__, "noise": LOG_NOISE}
        return sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:8]

    def stage(self, name: str) -> str:
        """The name of its files: a training of another recipe has another."""
        return f"{name}-{self.digest}"

    def built(self) -> PointNetwork:
        """The network before its training."""
        torch.manual_seed(self.seed)
        return PointNetwork(self.width, self.layers)

    def trained(self, name: str, folder: Path, report: Report = lambda progress: None) -> PointNetwork:
        """The network after its training; what is in the folder is not trained again.

        Args:
            name: for its files ``networks/<stage>.safetensors`` and ``snapshots/<stage>``, see :meth:`stage`.
            folder: of the files.
            report: called after every step.

        Raises:
            UnsupportedModel: the file of the network is damaged.
        """
        model, path = self.built(), folder / "networks" / f"{self.stage(name)}.safetensors"
        if path.is_file():
            try:
                model.load_state_dict(load_file(path))
            except (SafetensorError, RuntimeError) as error:
                told = f"the network {path} is damaged ({first_line(error)}); remove it, and it is trained again."
                raise UnsupportedModel(told) from error
            return model.eval()
        loss = points_loss(model, self.fractal, self.schedule.batch_size)
        train(self.stage(name), model, loss, self.schedule, folder, seed=self.seed, report=report)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_whole(path, lambda to: save_file(model.state_dict(), to))
        return model


def course_of(steps: int, snapshots: int = 0) -> Schedule:
    """The schedule of so many steps."""
    return Schedule(
        steps, 2048, 6e-3, warmup_steps=min(100, steps // 8), decay=0.8, ema_decay=0.998 if steps > 1000 else 0.99,
        weight_decay=0, snapshots=snapshots,
    )  # fmt: skip


MAIN_STEPS = 6144
COURSES: Mapping[str, PointsCourse] = {
    "main": PointsCourse(96, 4, course_of(MAIN_STEPS, snapshots=32)),
    "narrow": PointsCourse(32, 4, course_of(MAIN_STEPS)),
    "early": PointsCourse(96, 4, course_of(MAIN_STEPS // 8)),
    "narrow_early": PointsCourse(32, 4, course_of(MAIN_STEPS // 8)),
}
"""The good network, and the weak ones that are trained for themselves: narrow, under-trained, and both."""


@dataclass(frozen=True, eq=False)
class PointsDenoiser:
    """Networks on points in the place of a pipeline; implements :class:`~steerclear.core.denoiser.Denoiser`.

    ``positive`` is the class ``label``, ``empty`` is no class, ``negative`` and ``conjunction`` are the other class, or the
    second, the world's concept, where ``label`` is no class. ``weak:positive`` asks the network "weak", and so on.

    Attributes:
        main: the good network.
        networks: the others by name.
        label: 0 or 1; or ``NO_CLASS`` for the whole.
        prediction_type: the space of its predictions.

    Raises:
        InvalidSetting: an unknown prediction type or label.
    """

    exact: ClassVar[bool] = False

    main: PointNetwork
    networks: Mapping[str, PointNetwork] = field(default_factory=dict)
    label: int = 0
    prediction_type: str = "epsilon"

    def __post_init__(self) -> None:
        check_prediction_type(self.prediction_type)
        if self.label not in (0, 1, NO_CLASS):
            raise InvalidSetting("label", self.label, f"0 or 1, the classes, or {NO_CLASS}, none of them")

    def label_of(self, condition: str) -> int:
        """The class that a condition asks for."""
        kind, index = kind_and_index(condition)
        if index:
            raise InvalidSetting("condition", condition, f"one of 1 {kind}s of this world")
        if kind == "positive":
            return self.label
        return NO_CLASS if kind == "empty" else 1 if self.label == NO_CLASS else 1 - self.label

    def network(self, name: str) -> PointNetwork:
        """The network of this name."""
        if name == MAIN:
            return self.main
        if name not in self.networks:
            raise InvalidSetting("network", name, f"one of {', '.join((MAIN, *self.networks))}")
        return self.networks[name]

    @torch.no_grad()
    def predict(self, point: Point, branches: tuple[Branch, ...], rows: Tensor | None) -> list[Tensor]:
        """One prediction per branch, in the sample's dtype; branches of one network are one batch."""
        sample, alpha, sigma = (_of_rows(value, rows) for value in (point.sample, point.alpha, point.sigma))
        assert isinstance(sample, Tensor)  # _of_rows keeps it
        level = torch.as_tensor(sigma, dtype=torch.float32) / torch.as_tensor(alpha, dtype=torch.float32)
        clean, level = (sample / per_image(alpha, sample)).float(), level.expand(len(sample))
        found: dict[Branch, Tensor] = {}
        for name in dict.fromkeys(branch.network for branch in branches):
            asked = [branch for branch in branches if branch.network == name]
            labels = torch.tensor([self.label_of(branch.condition) for branch in asked])
            many = len(asked)
            parts = self.network(name)(
                clean.repeat(many, 1), level.repeat(many), labels.repeat_interleave(len(sample))
            ).split(len(sample))
            found |= dict(zip(asked, parts, strict=True))
        return [
            from_denoised(found[branch].to(sample), sample, alpha, sigma, self.prediction_type) for branch in branches
        ]


def _of_rows(value: Tensor | Level, rows: Tensor | None) -> Tensor | Level:
    return value if rows is None or not isinstance(value, Tensor) or not value.ndim else value[rows]
