"""Averages of the weights over a training, so that one of any length can be had afterwards.

Karras et al. (2024, arXiv 2312.02696, section 3): the average after t steps weighs step tau in proportion to tau^gamma,

    avg_t = beta_t avg_(t-1) + (1 - beta_t) theta_t,    beta_t = (1 - 1/t)^(gamma + 1)

so its width is always the same share of the training, the relative standard deviation

    sigma_rel = sqrt(gamma + 1) / ((gamma + 2) sqrt(gamma + 3))

Two such averages are kept at even steps; any other is nearly a linear combination of the kept ones.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...core.errors import InvalidSetting, UnsupportedModel
from ...core.saving import save_whole
from ...core.sums import sha256

KEPT_WIDTHS = (0.05, 0.1)
"""Relative standard deviations of the kept averages, those of the paper."""
DIGEST = 16
"""Characters of a digest."""
WIDEST = 0.28
"""Of the average with the equal weights, gamma = 0, it is 12^-1/2 = .289."""


def exponent_of(width: float) -> float:
    """gamma of a relative standard deviation, the largest root of the equation above.

    Args:
        width: sigma_rel, in (0, 0.28].

    Raises:
        InvalidSetting: it is outside of that.

    >>> round(exponent_of(0.1), 2), round(exponent_of(0.05), 2)
    (6.94, 16.97)
    """
    if not 0 < width <= WIDEST:
        raise InvalidSetting("width of an average", width, f"more than 0 and at most {WIDEST}")
    inverse = max(width, 1e-9) ** -2  # narrower than a step of any training is all the same
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


class PowerAverages:
    """The averages of parameters that are kept while they are trained.

    Args:
        parameters: trained.
        widths: relative standard deviations, one an average.
    """

    def __init__(self, parameters: Iterable[Tensor], widths: Sequence[float] = KEPT_WIDTHS) -> None:
        self.parameters, self.widths = list(parameters), tuple(widths)
        self.exponents = [exponent_of(width) for width in widths]
        self.averages = [[value.detach().clone() for value in self.parameters] for _ in widths]

    def step(self, done: int) -> None:
        """Take in the parameters after ``done`` optimizer steps, from 1 on."""
        values = [value.detach() for value in self.parameters]
        for exponent, average in zip(self.exponents, self.averages, strict=True):
            torch._foreach_lerp_(average, values, 1 - (1 - 1 / done) ** (exponent + 1))


@dataclass(frozen=True)
class Snapshot:
    """The averages after a step.

    Args:
        path: of its file.
        step: optimizer steps done.
        widths: relative standard deviations of its averages.
    """

    path: Path
    step: int
    widths: tuple[float, ...]

    @classmethod
    def write(cls, path: Path, step: int, names: Sequence[str], averages: PowerAverages) -> None:
        """In float32: a combination of averages takes differences of them."""
        tensors = {
            f"{number}.{name}": value.detach().cpu().contiguous()
            for number, average in enumerate(averages.averages)
            for name, value in zip(names, average, strict=True)
        }
        widths = " ".join(str(width) for width in averages.widths)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_whole(path, lambda to: save_file(tensors, to, metadata={"step": str(step), "widths": widths}))

    @classmethod
    def read(cls, path: Path) -> "Snapshot":
        """The snapshot of a file, without its weights.

        Raises:
            UnsupportedModel: the file is damaged, or no snapshot.
        """
        try:
            with safe_open(path, "pt") as file:
                about, names = file.metadata() or {}, list(file.keys())
            found = cls(path, int(about["step"]), tuple(float(width) for width in about["widths"].split()))
            found._check(names)
            return found
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise UnsupportedModel(
                f"the snapshot {path} cannot be read ({error}); remove it, or give the folder of another training."
            ) from error

    def _check(self, names: Sequence[str]) -> None:
        """Raises :class:`ValueError` if it says something that cannot be, or lacks weights of an average."""
        if self.step < 1 or not self.widths or not all(0 < width <= WIDEST for width in self.widths):
            raise ValueError(f"it says to be of step {self.step} with the widths {self.widths}")
        own = [{name[len(f"{at}.") :] for name in names if name.startswith(f"{at}.")} for at in range(len(self.widths))]
        if not own[0] or any(one != own[0] for one in own):
            raise ValueError("its averages are not of the same weights")

    def average(self, number: int) -> dict[str, Tensor]:
        """The weights of its average ``number``, by name."""
        prefix = f"{number}."
        with safe_open(self.path, "pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 - safe_open is not a dict
            return {name.removeprefix(prefix): file.get_tensor(name) for name in names}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the weights, by name; reads none of them."""
        with safe_open(self.path, "pt") as file:
            names = [name for name in file.keys() if name.startswith("0.")]  # noqa: SIM118 - safe_open is not a dict
            return {name.removeprefix("0."): tuple(file.get_slice(name).get_shape()) for name in names}


def snapshots_in(folder: Path) -> list[Snapshot]:
    """The snapshots of a folder, from the first step on."""
    return sorted((Snapshot.read(path) for path in folder.glob("*.safetensors")), key=lambda snapshot: snapshot.step)


def digest_of(snapshots: Sequence[Snapshot]) -> str:
    """A hash of the files of snapshots."""
    return hashlib.sha256("".join(sha256(one.path) for one in snapshots).encode()).hexdigest()[:DIGEST]


def _overlap(step: np.ndarray, exponent: np.ndarray, other_step: np.ndarray, other_exponent: np.ndarray) -> np.ndarray:
    """The inner product of two averages' weights over the steps: of a t^gamma each, normalised, up to its own last step."""
    first = np.minimum(step, other_step)
    # in logarithms: a step to the power of 17 overflows soon
    log = (exponent + other_exponent + 1) * np.log(first) - (exponent + 1) * np.log(step)
    log = log - (other_exponent + 1) * np.log(other_step)
    return (exponent + 1) * (other_exponent + 1) / (exponent + other_exponent + 1) * np.exp(log)


def combination(kept: Sequence[tuple[int, float]], step: int, width: float) -> np.ndarray:
    """The factors of kept averages whose sum is nearest to the average of ``width`` after ``step``.

    Args:
        kept: step and width of each.
        step: of the wanted average, at most the last kept one.
        width: relative standard deviation of the wanted average.

    Least squares of the weights over the steps: A c = b with A and b the inner products.
    """
    steps = np.array([float(at) for at, _ in kept])
    exponents = np.array([exponent_of(one) for _, one in kept])
    between = _overlap(steps[:, None], exponents[:, None], steps[None], exponents[None])
    wanted = _overlap(steps, exponents, np.array(float(step)), np.array(exponent_of(width)))
    # two averages of near steps are nearly one: the least norm keeps the factors small
    factors = np.linalg.lstsq(between, wanted, rcond=1e-9)[0]
    return factors / factors.sum()


def average_of(snapshots: Sequence[Snapshot], step: int, width: float) -> dict[str, Tensor]:
    """The weights of the average of a relative standard deviation after a step, made from kept ones.

    Args:
        snapshots: of one training, not after ``step`` alone.
        step: in (0, the last snapshot's].
        width: sigma_rel, in (0, 0.28]; below the narrowest kept one it is not well known.

    Raises:
        InvalidSetting: no snapshot is at or before ``step``, or the last one is before it.
        UnsupportedModel: they are not of one network.
    """
    used = [snapshot for snapshot in snapshots if snapshot.step <= step]
    if not used or snapshots[-1].step < step:
        there = ", ".join(str(snapshot.step) for snapshot in snapshots) or "none"
        raise InvalidSetting("step of an average", step, f"between the first and the last of the snapshots ({there})")
    parts = [(snapshot, number) for snapshot in used for number in range(len(snapshot.widths))]
    if any(snapshot.shapes() != used[0].shapes() for snapshot in used[1:]):
        raise UnsupportedModel(
            f"the snapshots in {used[0].path.parent} are of different networks; give the folder of one training."
        )
    factors = combination([(one.step, one.widths[number]) for one, number in parts], step, width)
    total: dict[str, Tensor] = {}
    for (snapshot, number), factor in zip(parts, factors, strict=True):
        for name, value in snapshot.average(number).items():
            total[name] = total[name] + float(factor) * value if name in total else float(factor) * value
    return total
