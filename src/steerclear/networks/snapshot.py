"""The network as it was at an earlier step of its training, or with another average of its weights."""

import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ..core.errors import InvalidSetting, UnsupportedModel
from ..core.network import Network, Runner
from ..core.settings import finite, folder_path, whole
from .shared.averages import KEPT_WIDTHS, WIDEST, PowerAverages, Snapshot, average_of, digest_of, snapshots_in
from .shared.copies import plain
from .shared.second_weights import check_weights, making, parameters_by_layer, replaced_weights

PREFIXES = ("", "unet.", "transformer.")
"""What the names of a snapshot may have before those of the network: a training may hold other networks beside it."""
SHOWN = 3
"""How many weights an error names."""
_EXAMPLES: list[tempfile.TemporaryDirectory[str]] = []
"""Folders of :meth:`SnapshotWeights.examples`, removed at the end of the process."""


@dataclass(frozen=True)
class SnapshotWeights(Network):
    """The pipeline's own network at an earlier step of its training, or with a shorter or longer average of its weights.

    Equation:
        W' = sum_tau p(tau) W_tau,   p(tau) ~ tau^gamma for tau <= step,   sigma_rel(gamma) = width

    A power-function average (Karras et al. 2024, arXiv 2312.02696): ``width`` is its relative standard deviation, the same share
    of the training at every step. It is made of the averages that a training keeps (``snapshots/<stage>`` in its folder).
    All weights of the network are replaced; adapters stay as they are, and so does the text encoder, which may have been
    another one at that step.

    Args:
        folder: of the snapshots.
        step: optimizer steps done; none for the last snapshot's.
        width: sigma_rel, above 0 and at most 0.28; the kept ones, .05 and .1, are exact at the steps of snapshots.

    Raises:
        InvalidSetting: out of range, or not a folder.
    """

    folder: str
    step: int | None = None
    width: float = KEPT_WIDTHS[1]

    name: ClassVar[str] = "snapshot"
    memory: ClassVar[str] = "one more copy of the weights"
    time: ClassVar[str] = "one forward; the weights are made once"

    def __post_init__(self) -> None:
        folder_path("folder", self.folder)
        if self.step is not None:
            whole("step", self.step, low=1)
        finite("width", self.width)
        if not 0 < self.width <= WIDEST:
            raise InvalidSetting("width", self.width, f"more than 0 and at most {WIDEST}")

    @classmethod
    def examples(cls, network: Any) -> tuple[Self, ...]:
        own = _named_parameters(network)
        averages = PowerAverages([1.25 * value.detach().float() for value in own.values()])
        folder = tempfile.TemporaryDirectory(prefix="steerclear-snapshots-")
        _EXAMPLES.append(folder)
        Snapshot.write(Path(folder.name) / "0000001.safetensors", 1, list(own), averages)
        return (cls(folder.name),)

    def check(self, pipe: Any, network: Any) -> None:
        check_weights(network)
        last = self._used()[-1]
        wanted = {name: tuple(value.shape) for name, value in _named_parameters(network).items()}
        there = last.shapes()
        prefix = _prefix(wanted, there)
        lacking = [name for name in wanted if prefix + name not in there]
        other = [name for name in wanted if there.get(prefix + name, wanted[name]) != wanted[name]]
        if lacking or other:
            reason = (
                f"lack its {', '.join(lacking[:SHOWN])}"
                if lacking
                else f"have {other[0]} of shape {there[prefix + other[0]]}, where it has {wanted[other[0]]}"
            )
            raise UnsupportedModel(
                f"the snapshots in {self.folder} are of another network than this {type(plain(network)).__name__}: they {reason}; "
                f"give those of its own training."
            )

    def digest(self) -> str:
        """Of all snapshots that are used: without one of them, the average that is made of the others is another."""
        return digest_of(self._used())

    def attached(self, pipe: Any, network: Any) -> AbstractContextManager[Runner]:
        return making(network, lambda: replaced_weights(network, self.weights(network)))

    def weights(self, network: Any) -> dict[str, Tensor]:
        """The average, by the names of a network's parameters; in float32.

        Raises:
            InvalidSetting: the folder has no snapshots, or ``step`` is not between its first and its last.
        """
        snapshots = self._used()
        average = average_of(snapshots, self._step(snapshots), self.width)
        wanted = _named_parameters(network)
        prefix = _prefix(wanted, average)
        return {name: average[prefix + name] for name in wanted}

    def _step(self, snapshots: list[Snapshot]) -> int:
        return snapshots[-1].step if self.step is None else self.step

    def _used(self) -> list[Snapshot]:
        """The snapshots up to the one that is at or after ``step``; refused where there are none, or they end before it."""
        every = snapshots_in(folder_path("folder", self.folder))
        if not every:
            raise InvalidSetting(
                "folder", self.folder, "a folder with snapshots",
                "a training keeps them in snapshots/<stage> of its folder",
            )  # fmt: skip
        step = self._step(every)
        if not every[0].step <= step <= every[-1].step:
            steps = ", ".join(str(snapshot.step) for snapshot in every)
            raise InvalidSetting("step", step, f"between the first and the last of the snapshots ({steps})")
        after = sum(snapshot.step < step for snapshot in every)
        return every[: after + 1]


def _named_parameters(network: Any) -> dict[str, Tensor]:
    """The parameters by their names in a network without adapters."""
    own = plain(network)
    return {
        full: own.get_submodule(path).get_parameter(name)
        for path, names in parameters_by_layer(network).items()
        for name, full in names.items()
    }


def _prefix(wanted: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """What stands before the names of the network in a snapshot: the prefix under which most of them are there."""
    return max(PREFIXES, key=lambda prefix: sum(prefix + name in there for name in wanted))


def with_weights(network: Any, kind: SnapshotWeights) -> Any:
    """The network with the weights of a snapshot for good; see :func:`~.shared.second_weights.replaced_weights`."""
    kind.check(None, network)
    with torch.no_grad():
        return replaced_weights(network, kind.weights(network)).network
