"""A ControlNet may read the prompt too; then it runs again for a branch whose text is not the pipeline's own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...core.denoiser import Point
from ..branches import Inputs, NetworkCall, Source, map_tensors, spans
from ..families import POSITIVE


@dataclass(frozen=True)
class ControlNetCall:
    """One call of a pipeline's ControlNet.

    Args:
        call: as the pipeline made it; in guess mode of the positive part alone.
        output: what it returned.
        arguments: the network's arguments that take the outputs, in order.
    """

    call: NetworkCall
    output: Any
    arguments: Sequence[str]

    @property
    def only_positive(self) -> bool:
        """In guess mode a ControlNet acts on the prompt's prediction alone."""
        return bool(self.call.argument("guess_mode"))

    def at(self, point: Point, scheduler: Any, timestep_scale: float) -> "ControlNetCall":
        """See :meth:`NetworkCall.at`. It has not run there yet: :meth:`again` does."""
        return replace(self, call=self.call.at(point, scheduler, timestep_scale))

    def followed(self, network: NetworkCall, paths: Sequence[str]) -> frozenset[str]:
        """Which of the network's text arguments the ControlNet is given unchanged."""

        def same(path: str) -> bool:
            ours, theirs = self.call.argument(path), network.argument(path)
            if not isinstance(ours, Tensor):
                return False
            mine = self.call.part(ours, self.call.parts.index(POSITIVE))
            return torch.equal(mine, network.part(theirs, network.parts.index(POSITIVE)))

        return frozenset(path for path in paths if same(path))

    def again(self, part: str, conditions: Inputs, rows: Tensor | None, max_batch: int | None) -> Inputs:
        """Its outputs under other conditions, as arguments of the network.

        Args:
            part: whose picture to take, where the parts' differ.
            conditions: in place of the ControlNet's own.
            rows: the images that are needed; None for all.
            max_batch: how many images may run at once; None for all.
        """
        source = Source(self.call.parts.index(part) if part in self.call.parts else 0, conditions)
        pieces = []
        for span in spans(self.call.batch_size if rows is None else len(rows), max_batch):
            args, kwargs = self.call.inputs([source], rows, span)
            pieces.append(self._flat(self.call.network(*args, **kwargs)))
        return {path: torch.cat([piece[path] for piece in pieces]) for path in pieces[0]}

    def none(self, rows: Tensor | None) -> Inputs:
        """No control at all."""
        size = self.call.batch_size if rows is None else len(rows)
        return {path: tensor.new_zeros(size, *tensor.shape[1:]) for path, tensor in self._flat(self.output).items()}

    def _flat(self, output: Any) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}

        def note(path: str, tensor: Tensor) -> Tensor:
            return found.setdefault(path, tensor)

        values = tuple(output) if isinstance(output, tuple) else tuple(output.to_tuple())
        for name, value in zip(self.arguments, values, strict=True):
            map_tensors(note, value, name)
        return found
