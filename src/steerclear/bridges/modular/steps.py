"""One run of a modular pipeline under a guider, from its first step to its last."""

import math
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from ...core.denoiser import MAIN, Branch, Point
from ...core.engine import GuidedDenoiser, check_noise_level
from ...core.errors import SteerclearWarning, UnsupportedModel
from ...core.guidance import Guidance, conditions_of, networks_of
from ...core.laboratory import Judge
from ...core.network import Forward, Network
from ...core.records import Trace
from ...core.schedulers import is_stochastic, point, prediction_type
from ...guidance.unguided import Unguided
from ..branches import NetworkCall, is_prompt, map_tensors, positional_names
from ..families import FAMILIES, POSITIVE
from ..negatives import Negatives
from ..networks import Attached, of_idle
from ..surroundings import surroundings_of
from ..takeover import routed_call
from .conditions import Fields
from .running import Loop
from .texts import StateTexts

CONTROLS = frozenset(name for family in FAMILIES for name in family.controls)
"""What a ControlNet gives the network, which belongs to the sampler's own point."""


@dataclass(frozen=True)
class Evaluation:
    """A branch, the images that it is needed for (None for all), and where."""

    branch: Branch
    rows: Tensor | None
    point: Point

    @property
    def key(self) -> Any:
        """The same for the same evaluation when the guidance starts again."""
        return self.branch, None if self.rows is None else tuple(self.rows.tolist()), self.point.elsewhere


class Missing(Exception):
    """A guidance asks for branches that the loop has not run yet."""

    def __init__(self, evaluations: list[Evaluation]) -> None:
        super().__init__(str(evaluations))
        self.evaluations = evaluations


class GuiderRun:
    """The denoiser that a modular pipeline is to the engine.

    The loop runs the network, one condition after another, and a guidance asks for predictions in the middle of its own
    code. So a guidance runs up to the first branch that is not known yet; the loop gets its condition, and the guidance
    starts again. It has no hidden state, so this costs a little arithmetic and changes nothing.

    Args:
        loop: the pipeline's loop.
        guidance, negatives: the guidance and the negative prompts.
        networks: the networks beside the loop's own, by name.
        trace: where the guidance records what it did.
        judge, files: see :func:`~steerclear.bridges.diffusers.steer.steer`.
    """

    def __init__(
        self, loop: Loop, guidance: Guidance, negatives: Negatives, networks: Mapping[str, Network], trace: Trace,
        judge: Judge | None = None, files: str | Path | None = None,
    ) -> None:  # fmt: skip
        self.pipe, self.scheduler = loop.pipe, loop.pipe.scheduler
        self.prediction_type = prediction_type(self.scheduler)
        self.negatives, self.trace = negatives, trace
        self.texts = StateTexts(loop, negatives)
        images = len(loop.block.latents)
        surroundings = surroundings_of(self.pipe, loop.state.get, images, negatives, judge=judge, files=files)
        self.seeds = surroundings.seeds
        self.engine = GuidedDenoiser(self, guidance, surroundings, trace, stochastic=is_stochastic(self.scheduler))
        self.engine.declared += (Branch.parse("positive"),)  # steps at which the guider is not active ask for it
        self.guidance = self.engine.guidance  # as it was fitted to the run
        self.known: dict[Any, Tensor] = {}
        self.running: Evaluation | None = None
        self.guided: Tensor | None = None
        self.last_index = -1
        self.total = len(loop.block.timesteps)
        self._block = weakref.ref(loop.block)
        self._takeover = ExitStack()
        self._attached = Attached(networks)

    def is_of(self, loop: Loop) -> bool:
        """Whether this is that loop's run."""
        return self._block() is loop.block

    def check(self, fields: Fields) -> None:
        """Raises for a condition or a noise level that some step may need and that is not available."""
        check_noise_level(self.guidance, self.scheduler)
        for condition in conditions_of(self.guidance, len(self.negatives)):
            self._inputs(fields, condition)

    def step(self, fields: Fields, block: Any, index: int, timestep: Any, active: bool) -> Iterator[Any]:
        """One step: yields what the loop is to run, and finds its result there as ``noise_pred``.

        Args:
            fields: inputs of the network.
            block: what the blocks of the loop share.
            index, timestep: how many evaluations were made before, and the timestep of this one.
            active: False for the plain conditional prediction.
        """
        self.last_index, self.timestep = index, float(timestep)
        self.known, self.guided = {}, None
        here = point(self.scheduler, block.latents, timestep, index, self.total)
        self.engine.guidance = self.guidance if active else Unguided()
        try:
            while missing := self._advance(here):
                # all at once: a text that cannot be encoded is refused before anything runs
                batches = [self._inputs(fields, evaluation.branch.condition) for evaluation in missing]
                for evaluation, batch in zip(missing, batches, strict=True):
                    self.running = evaluation
                    yield batch
                    if not hasattr(batch, "noise_pred"):
                        raise UnsupportedModel(
                            f"the loop of {type(self.pipe).__name__} asked for the next condition before it had run the "
                            f"last one, so there is nothing that the guidance could choose by; use a pipeline whose loop "
                            f"runs its network within `for batch in guider.prepare_inputs(...)`"
                        )
                    self.known[evaluation.key] = batch.noise_pred
                    self.running = None
        except BaseException:  # also when the loop breaks off: then the generator is closed
            self.running = None
            self.close()
            raise

    def _advance(self, point: Point) -> list[Evaluation]:
        """Run the guidance as far as it gets; returns what is missing.

        Prompts come first: a ControlNet in guess mode takes the shapes of the other branches' residuals from theirs.
        """
        try:
            self.guided = self.engine.predict(point)
        except Missing as missing:
            return sorted(missing.evaluations, key=lambda evaluation: not is_prompt(evaluation.branch.condition))
        self.guided = self.guided.to(next(iter(self.known.values())).dtype)
        return []

    def predict(self, point: Point, branches: tuple[Branch, ...], rows: Tensor | None) -> list[Tensor]:
        """See :class:`~steerclear.core.denoiser.Denoiser`."""
        asked = [Evaluation(branch, rows, point) for branch in branches]
        missing = [evaluation for evaluation in asked if evaluation.key not in self.known]
        if missing:
            raise Missing(missing)
        return [self.known[evaluation.key] for evaluation in asked]

    def prediction(self, *names: str) -> Tensor | None:
        """The prediction of the first of these branches that ran in this step for all images."""
        keys = [(Branch.parse(name), None, 0) for name in names]
        return next((self.known[key] for key in keys if key in self.known), None)

    def _inputs(self, fields: Fields, condition: str) -> Any:
        own = self.negatives.unconditional
        if condition == "positive" or (condition == own and fields.has_negative):
            return fields.under(condition, None)
        return fields.under(condition, self.texts.inputs(condition))

    def take_over(self, network: Module, is_ours: Callable[[], bool]) -> None:
        """Before the loop calls its network: put another one in its place, or pick the images, where that is asked for.

        It is for one call, and undone when that call comes; if something fails before, it is undone with the generator.

        Args:
            network: the loop's.
            is_ours: whether a call comes from the loop.

        Raises:
            UnsupportedModel: a network that the guidance asks for cannot be made from it.
        """
        assert self.running is not None
        branch, rows, point = self.running.branch, self.running.rows, self.running.point
        self._attach(network)  # at once: what does not fit is refused before anything runs
        if branch.network == MAIN and rows is None and not point.elsewhere:
            return
        other = None if branch.network == MAIN else self._attached.runner(branch.network, self.pipe, network)
        chosen = list(range(len(self.seeds))) if rows is None else rows.tolist()

        def of_rows(path: str, tensor: Tensor) -> Tensor:
            return tensor[rows] if rows is not None and tensor.ndim and len(tensor) == len(self.seeds) else tensor

        def run(original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            self.release()
            if point.elsewhere:
                call = NetworkCall(original, positional_names(network), args, kwargs, (POSITIVE,))
                moved = self._moved(call, point)
                args, kwargs = moved.args, dict(moved.kwargs)
            args, kwargs = map_tensors(of_rows, args, ""), map_tensors(of_rows, kwargs, "")
            if other is None:
                return original(*args, **kwargs)
            return other(Forward(original, args, kwargs, tuple(self.seeds[row] for row in chosen), self.last_index))

        self._takeover.enter_context(routed_call(network, lambda module: run if is_ours() else None))

    def _moved(self, call: NetworkCall, point: Point) -> NetworkCall:
        """A call of the network at a point that a guidance chose.

        Raises:
            UnsupportedModel: steerclear does not understand what the network is told of the sampler's own point.
        """
        told = float(torch.as_tensor(call.argument("timestep")).flatten()[0])
        unit = next((unit for unit in (1.0, 1000.0) if math.isclose(told * unit, self.timestep, rel_tol=1e-2)), None)
        if unit is None or any(call.argument(name) is not None for name in CONTROLS):
            raise UnsupportedModel(
                f"the guidance looks at another noise level, and the network of {type(self.pipe).__name__} is told a time "
                f"of its own or has a ControlNet; use steerclear.steer on a pipeline that is not modular"
            )
        return call.at(point, self.scheduler, unit)

    def release(self) -> None:
        """Leave the network as it was."""
        self._takeover.close()

    def close(self) -> None:
        """At the end of the run: leave the other networks too."""
        self.release()
        self._attached.close()

    def _attach(self, network: Module) -> None:
        asked = networks_of(self.guidance, len(self.negatives))
        new = [name for name in asked if not self._attached.has(name, network)]
        if not new:
            return  # a pipeline may have one network for the noisy steps and one for the others
        for name in new:
            self._attached.networks[name].check(self.pipe, network)
        for message in of_idle(self.guidance, len(self.negatives), self._attached.networks, network):
            warnings.warn(message, SteerclearWarning, stacklevel=2)
        for name in new:
            self._attached.runner(name, self.pipe, network)
