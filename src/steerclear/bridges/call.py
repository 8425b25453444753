"""One call of a steered pipeline, from its first step to its last."""

import inspect
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..denoiser import MAIN, Branch, Point
from ..engine import GuidedDenoiser
from ..errors import UnsupportedModel
from ..guidance.base import Guidance
from ..records import Trace
from ..schedulers import is_substep, noise_level, prediction_type
from .branches import NetworkCall, Source, output_tensor, spans
from .families import Family
from .negatives import Negatives
from .texts import Texts


@dataclass
class Run:
    """What happened in the last call of a steered pipeline.

    Attributes:
        trace: what the guidance did to every image at every step.
        forwards: how often a network ran, each time on a batch of branches and images.
    """

    trace: Trace = field(default_factory=Trace)
    forwards: int = 0

    @property
    def evaluations(self) -> Tensor:
        """Network evaluations of each image, all branches and steps together, ``[batch]``."""
        return self.trace.evaluations


@dataclass(frozen=True)
class Steering:
    """What a ``with steer(...)`` block was asked for."""

    family: Family
    guidance: Guidance
    negatives: Negatives
    weak: torch.nn.Module | None
    max_batch: int | None
    run: Run


current: ContextVar["PipelineCall | None"] = ContextVar("steerclear_pipeline_call", default=None)
"""The steered pipeline call that this thread and context is inside of."""


class PipelineCall:
    """The denoiser that a pipeline is to the engine, and the events that the pipeline's loop brings.

    In each step they come in this order: ``before_network`` (x_t, before its scaling), ``on_network`` (the pipeline
    asks for a prediction and is given the guided one), ``before_step`` and ``after_step`` (the scheduler moves on).

    Args:
        pipe: the pipeline.
        steering: how it is steered.
        negatives: the negative prompts of this call.
    """

    def __init__(self, pipe: Any, steering: Steering, negatives: Negatives) -> None:
        self.pipe, self.steering, self.negatives = pipe, steering, negatives
        self.network = getattr(pipe, steering.family.network)
        self.prediction_type = prediction_type(pipe.scheduler)
        self.texts = Texts(pipe, steering.family, negatives)
        self.text_arguments = tuple(text.argument for text in steering.family.texts)
        kind: Any = type(getattr(self.network, "_orig_mod", self.network))  # _orig_mod: under torch.compile
        self.names = positional_names(kind)
        self.guided: GuidedDenoiser | None = None
        self.asking: NetworkCall | None = None
        self.unscaled: Tensor | None = None
        self.prediction: Tensor | None = None
        self.dtype: torch.dtype | None = None
        self.index = 0
        steering.run.forwards = 0
        steering.run.trace = Trace()

    def before_network(self, unscaled: Tensor) -> None:
        """The noisy sample of all parts, as the scheduler has it."""
        self.unscaled = unscaled

    def on_network(self, network: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the guidance; its prediction goes back in all parts, on which the pipeline's own is the identity."""
        if self.prediction is not None:
            raise UnsupportedModel(
                f"{type(self.pipe).__name__} called its network twice before a step of its scheduler, which no "
                f"pipeline of the family {self.steering.family.name} does, so it is unclear which one to guide"
            )
        parts = 2 if self.pipe.do_classifier_free_guidance else 1
        self.asking = NetworkCall(network, self.names, args, kwargs, parts)
        point = self._point(self.asking)
        if self.guided is None:
            self.guided = self._begin(self.asking)
        elif self.asking.batch_size != self.guided.batch_size:
            raise UnsupportedModel(
                f"the batch changed from {self.guided.batch_size} to {self.asking.batch_size} images within one call"
            )
        try:
            guided = self.guided.predict(point)
        finally:
            self.asking = None
        self.prediction = guided.to(self.dtype)
        whole = self.prediction if parts == 1 else torch.cat([self.prediction] * parts)
        return (whole,) if kwargs.get("return_dict", True) is False else _network_output(whole)

    def before_step(self, prediction: Tensor) -> Tensor:
        """The exact guided prediction: what the pipeline made of it may have been rounded or rescaled."""
        return prediction if self.prediction is None else self.prediction

    def after_step(self) -> None:
        """The scheduler has moved on."""
        if self.prediction is not None:
            self.index += 1
        self.prediction = self.unscaled = None

    def predict(self, point: Point, branches: tuple[Branch, ...], rows: Tensor | None) -> list[Tensor]:
        """The engine's door (:class:`~steerclear.denoiser.Denoiser`): inside of :meth:`on_network` only."""
        call = self.asking
        assert call is not None
        sources = [self._source(branch, call) for branch in branches]
        groups: dict[Any, list[int]] = {}
        for index, (branch, source) in enumerate(zip(branches, sources, strict=True)):
            key = (branch.network, call.text_shapes(source, self.text_arguments) if len(branches) > 1 else ())
            groups.setdefault(key, []).append(index)
        predictions: dict[int, Tensor] = {}
        for (network, _), indices in groups.items():
            joined = self._forward(call, network, [sources[index] for index in indices], rows)
            predictions.update(zip(indices, joined.chunk(len(indices)), strict=True))
        return [predictions[index] for index in range(len(branches))]

    def _begin(self, call: NetworkCall) -> GuidedDenoiser:
        """Look at the pipeline's first network call, before anything is evaluated."""
        sample = call.sample
        if len(sample) % call.parts or not torch.equal(call.part(sample, 0), call.part(sample, call.parts - 1)):
            raise UnsupportedModel(
                f"{type(self.pipe).__name__} calls its network on a batch of {len(sample)} that is not {call.parts} "
                f"times the same images, so steerclear cannot tell which part of it is which branch"
            )
        for path in self.text_arguments:
            if not isinstance(call.argument(path), Tensor):
                raise UnsupportedModel(
                    f"{type(self.pipe).__name__} gives its network no {path}, so it has no prompt to steer"
                )
        guided = GuidedDenoiser(self, self.steering.guidance, call.batch_size, len(self.negatives))
        self.steering.run.trace = guided.trace
        return guided

    def _point(self, call: NetworkCall) -> Point:
        scheduler = self.pipe.scheduler
        sample = call.sample if self.unscaled is None else self.unscaled
        timestep = call.argument(self.names[1])
        alpha, sigma = noise_level(scheduler, timestep)
        total = getattr(self.pipe, "num_timesteps", None) or len(scheduler.timesteps)
        return Point(call.part(sample, 0), alpha, sigma, timestep, self.index, total, is_substep(scheduler))

    def _source(self, branch: Branch, call: NetworkCall) -> Source:
        positive = call.parts - 1
        if branch.condition == "positive":
            return Source(positive)
        if call.parts == 2 and branch.condition == ("negative" if self.negatives.from_call else "empty"):
            return Source(0)
        # a conjunction is a prompt, and has what else belongs to the prompt's half; the others have the first half's
        part = positive if branch.condition.startswith("conjunction") else 0
        return Source(part, self.texts.inputs(branch.condition))

    def _forward(self, call: NetworkCall, network: str, sources: Sequence[Source], rows: Tensor | None) -> Tensor:
        function = call.network if network == MAIN else self._other_network(network)
        size = call.batch_size if rows is None else len(rows)
        parts = []
        for span in spans(size * len(sources), self.steering.max_batch):
            if rows is None and call.is_own(sources) and span == slice(0, len(call.sample)):
                args, kwargs = call.args, call.kwargs  # exactly the pipeline's call
            else:
                args, kwargs = call.inputs(sources, rows, span)
            parts.append(output_tensor(function(*args, **kwargs)))
            self.dtype = parts[-1].dtype  # the pipeline is given back what its network would have given
            self.steering.run.forwards += 1
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _other_network(self, name: str) -> torch.nn.Module:
        if name != "weak" or self.steering.weak is None:
            raise UnsupportedModel(f"the guidance asks for a network {name!r} that was not given to steer")
        return self.steering.weak


def handler(module: Any) -> Callable[..., Any] | None:
    """Who handles a call of a module: the pipeline call that we are inside of, if it is its network that is called."""
    call = current.get()
    if call is None or call.network is not module or call.asking is not None:
        return None  # also when the guidance itself runs the network, as its own weak one
    return call.on_network


@cache
def positional_names(kind: Any) -> tuple[str, ...]:
    """Names of the parameters of a kind of network, in order."""
    return tuple(inspect.signature(kind.forward).parameters)[1:]


def _network_output(prediction: Tensor) -> Any:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

    return UNet2DConditionOutput(sample=prediction)
