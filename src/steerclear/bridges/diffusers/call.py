"""One call of a steered pipeline, from its first step to its last."""

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core.denoiser import MAIN, Branch, Point
from ...core.engine import GuidedDenoiser, of_schedule
from ...core.errors import SteerclearWarning, UnsupportedModel
from ...core.guidance import Guidance
from ...core.laboratory import Judge
from ...core.network import WeakCall, WeakNetwork, WeakRunner
from ...core.records import Trace
from ...core.schedulers import input_scale, point, prediction_type
from ..branches import Inputs, NetworkCall, Source, channel_axis, output_tensor, spans
from ..families import POSITIVE, UNCONDITIONAL, Family, prediction_channels
from ..negatives import Negatives
from ..surroundings import surroundings_of
from .controlnet import ControlNetCall
from .labels import Labels
from .texts import Texts


@dataclass(repr=False)
class Run:
    """What happened in the last call of a steered pipeline.

    Attributes:
        trace: what the guidance did to every image at every step.
        forwards: how often a network ran, each time on a batch of branches and images.
    """

    trace: Trace = field(default_factory=Trace)
    forwards: int = 0

    def __repr__(self) -> str:
        return f"Run({self.forwards} forwards, {self.trace!r})"

    @property
    def evaluations(self) -> Tensor:
        """Network evaluations of each image, all branches and steps together, ``[batch]``."""
        return self.trace.evaluations


@dataclass(frozen=True)
class Steering:
    """What a ``with steer(...)`` block was asked for, and what it keeps until its end."""

    family: Family
    guidance: Guidance
    negatives: Negatives
    weak: WeakNetwork | None
    max_batch: int | None
    run: Run
    judge: Judge | None = None
    files: str | Path | None = None
    attached: ExitStack = field(default_factory=ExitStack)
    runners: dict[int, WeakRunner] = field(default_factory=dict)

    def weak_runner(self, pipe: Any, network: Any) -> WeakRunner:
        """What runs the weak network beside a network of the pipeline."""
        if self.weak is None:
            raise UnsupportedModel("the guidance asks for a weak network, and none was given to steer")
        if id(network) not in self.runners:  # the pipeline's network may be replaced inside of the block
            self.runners[id(network)] = self.attached.enter_context(self.weak.attached(pipe, network))
        return self.runners[id(network)]


current: ContextVar["PipelineCall | None"] = ContextVar("steerclear_pipeline_call", default=None)
"""The steered pipeline call that this thread and context is inside of."""


class PipelineCall:
    """The denoiser that a pipeline is to the engine, and the events that the pipeline's loop brings.

    In each step they come in this order: ``before_network`` (x_t, before its scaling), ``on_controlnet`` (where there is
    one), ``on_network`` (the pipeline asks for a prediction and is given the guided one), ``before_step`` and
    ``after_step`` (the scheduler moves on).

    Args:
        pipe: the pipeline.
        steering: how it is steered.
        guidance: the guidance of this call.
        negatives: the negative prompts of this call.
        arguments: of this call, with its defaults.
    """

    def __init__(
        self, pipe: Any, steering: Steering, guidance: Guidance, negatives: Negatives, arguments: Mapping[str, Any]
    ) -> None:
        self.pipe, self.steering, self.guidance, self.negatives = pipe, steering, guidance, negatives
        self.family, self.arguments = steering.family, arguments
        self.network = getattr(pipe, self.family.network)
        self.controlnet = getattr(pipe, "controlnet", None)
        self.prediction_type = prediction_type(pipe.scheduler)
        self.texts = Texts(pipe, self.family, negatives, arguments)
        labels = self.family.class_labels
        self.conditions: Texts | Labels = self.texts if labels is None else Labels(pipe, self.family, negatives)
        self.condition_names = (labels,) if labels is not None else tuple(text.argument for text in self.family.texts)
        self.channels = prediction_channels(self.network)
        self.names = positional_names(network_kind(self.network))
        self.seeds: tuple[int, ...] = ()
        self.guided: GuidedDenoiser | None = None
        self.asking: NetworkCall | None = None
        self.answered: NetworkCall | None = None
        self.control: ControlNetCall | None = None
        self.control_reads: frozenset[str] | None = None
        self.unscaled: Tensor | None = None
        self.prediction: Tensor | None = None
        self.dtype: torch.dtype | None = None
        self.index = self.calls = 0  # of evaluations, and of the network's calls in this one
        steering.run.forwards = 0
        steering.run.trace = Trace()

    def before_network(self, unscaled: Tensor) -> None:
        """The noisy sample of all parts, as the scheduler has it."""
        self.unscaled = unscaled

    def on_controlnet(self, network: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the ControlNet as ever, and remember how."""
        output = network(*args, **kwargs)
        names = positional_names(network_kind(self.controlnet))
        call = NetworkCall(network, names, args, kwargs, self._parts(), self.family.shared)
        if call.argument("guess_mode"):
            call = NetworkCall(network, names, args, kwargs, (POSITIVE,), self.family.shared)
        self.control = ControlNetCall(call, output, self.family.controls)
        return output

    def on_network(self, network: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the guidance; its prediction goes back in all parts, on which the pipeline's own is the identity."""
        self.calls += 1
        if self.calls > self.family.calls_a_step:
            raise self._stray(f"{self.calls} times")
        call = NetworkCall(network, self.names, args, kwargs, self._parts(), self.family.shared)
        if self.prediction is not None:
            self._check_same_point(call)
            return self._given_back(self.prediction, kwargs)
        self.asking = self.answered = call
        try:
            if self.guided is None:
                self.guided = self._begin(call)
            elif call.batch_size != self.guided.surroundings.batch_size:
                raise UnsupportedModel(
                    f"the batch changed from {self.guided.surroundings.batch_size} to {call.batch_size} images within one call"
                )
            guided = self.guided.predict(self._point(call))
        finally:
            self.asking = None
        self.prediction = guided.to(self.dtype)
        return self._given_back(repeated(self.prediction, len(call.parts)), kwargs)

    def before_step(self, prediction: Tensor) -> Tensor:
        """The exact guided prediction: what the pipeline made of it may have been rounded or rescaled."""
        if self.prediction is None:
            return prediction
        return repeated(self.prediction, len(prediction) // len(self.prediction))  # DiT steps all parts of its batch

    def after_step(self) -> None:
        """The scheduler has moved on."""
        if self.prediction is not None:
            self.index += 1
        self.prediction = self.unscaled = self.control = self.answered = None
        self.calls = 0

    def predict(self, point: Point, branches: tuple[Branch, ...], rows: Tensor | None) -> list[Tensor]:
        """The engine's door (:class:`~steerclear.core.denoiser.Denoiser`): inside of :meth:`on_network` only."""
        call, control = self.asking, self.control
        assert call is not None
        if point.elsewhere:
            told = point.timestep / self.family.timestep_scale  # type: ignore[operator]  # a number, by Levels
            there = input_scale(self.pipe.scheduler, point.alpha, point.sigma) * point.sample, told
            call, control = call.at(*there), control and control.at(*there)
        sources = [self._source(branch, call, control, rows, bool(point.elsewhere)) for branch in branches]
        groups: dict[Any, list[int]] = {}
        for index, (branch, source) in enumerate(zip(branches, sources, strict=True)):
            apart = index if self.family.sequential else None
            shapes = call.shapes(source, self.condition_names) if len(branches) > 1 else ()
            groups.setdefault((branch.network, shapes, apart), []).append(index)
        predictions: dict[int, Tensor] = {}
        for (network, _, _), indices in groups.items():
            with self._cache_of(branches[indices[0]], point.elsewhere):
                joined = self._forward(call, network, [sources[index] for index in indices], rows)
            predictions.update(zip(indices, joined.chunk(len(indices)), strict=True))
        return [predictions[index] for index in range(len(branches))]

    def _parts(self) -> tuple[str, ...]:
        return self.family.parts if self.family.has_unconditional(self.pipe, self.arguments) else (POSITIVE,)

    def _begin(self, call: NetworkCall) -> GuidedDenoiser:
        """Look at the pipeline's first network call, before anything is evaluated."""
        sample = call.sample
        if len(sample) % len(call.parts) or not torch.equal(
            call.part(sample, 0), call.part(sample, len(call.parts) - 1)
        ):
            raise UnsupportedModel(
                f"{type(self.pipe).__name__} calls its network on a batch of {len(sample)} that is not "
                f"{len(call.parts)} times the same images, so steerclear cannot tell which part of it is which branch"
            )
        for path in self.condition_names:
            if not isinstance(call.argument(path), Tensor):
                raise UnsupportedModel(
                    f"{type(self.pipe).__name__} gives its network no {path}, so it has no prompt to steer"
                )
        self.seeds = seeds_of_images(self.arguments.get("generator"), call.batch_size)
        guided = GuidedDenoiser(self, self.guidance, surroundings_of(
            self.pipe, self.arguments.get("prompt"), self.negatives, self.seeds,
            (self.arguments.get("height"), self.arguments.get("width")),
            judge=self.steering.judge, files=self.steering.files, max_batch=self.steering.max_batch,
        ))  # fmt: skip
        for condition in self.guidance.further_conditions(len(self.negatives)):
            if self._own_part(condition, call) is None:
                self._inputs(condition, call)
        self.steering.run.trace = guided.trace
        for message in of_schedule(self.guidance, self.pipe.scheduler, self._timestep(call), self._evaluations()):
            warnings.warn(message, SteerclearWarning, stacklevel=2)
        return guided

    def _evaluations(self) -> int:
        """How many timesteps the pipeline goes through: an image-to-image start leaves the first ones out."""
        return getattr(self.pipe, "num_timesteps", None) or len(self.pipe.scheduler.timesteps)

    def _check_same_point(self, call: NetworkCall) -> None:
        """A further call before a step asks for another branch at the same point: it has the answer already."""
        assert self.answered is not None
        first, rows = self.answered, self.answered.batch_size
        timesteps = [torch.as_tensor(each.argument("timestep")).flatten()[0] for each in (first, call)]
        if not torch.equal(*timesteps) or not torch.equal(call.sample[:rows], first.sample[:rows]):
            raise self._stray("at two points")

    def _stray(self, how: str) -> UnsupportedModel:
        return UnsupportedModel(
            f"the network of {type(self.pipe).__name__} was called {how} before a step of the scheduler, which no "
            f"pipeline of the family {self.family.name} does, so it is unclear which call to guide; a callback that "
            f"runs the network, or replaces the scheduler, cannot be steered: do so before or after the pipeline's call"
        )

    def _point(self, call: NetworkCall) -> Point:
        sample = call.part(call.sample if self.unscaled is None else self.unscaled, 0)
        return point(
            self.pipe.scheduler, self._latents(sample), self._timestep(call), self.index, self._evaluations(),
            timestep=call.argument("timestep"),
        )  # fmt: skip

    def _timestep(self, call: NetworkCall) -> Any:
        """In the scheduler's units."""
        told = call.argument("timestep")
        one = told.flatten()[0] if isinstance(told, Tensor) and told.ndim else told
        return one * self.family.timestep_scale if self.family.timestep_scale != 1 else one

    def _latents(self, tensor: Tensor) -> Tensor:
        """Without what lies behind the latents: a mask and a picture on input, a variance on output."""
        axis = channel_axis(tensor)
        return tensor if tensor.shape[axis] == self.channels else tensor.narrow(axis, 0, self.channels)

    def _given_back(self, prediction: Tensor, kwargs: Mapping[str, Any]) -> Any:
        """In the form of the network's own output."""
        whole = getattr(self.network.config, "out_channels", None)
        if whole == 2 * self.channels and prediction.ndim == 4:
            prediction = torch.cat([prediction, prediction], dim=1)  # where the variance was, which no pipeline reads
        return (prediction,) if kwargs.get("return_dict", True) is False else _network_output(prediction)

    def _source(
        self, branch: Branch, call: NetworkCall, control: ControlNetCall | None, rows: Tensor | None, elsewhere: bool
    ) -> Source:
        """Where a branch's inputs come from; elsewhere a ControlNet's outputs are others for the pipeline's own texts too."""
        own = self._own_part(branch.condition, call)
        if own is not None:
            controls = self._controls(call, control, own, own == POSITIVE, {}, rows, True) if elsewhere else {}
            return Source(call.parts.index(own), controls=controls)
        # a conjunction is a prompt, and has what else belongs to the prompt's part; the others have the other's
        together = _is_together(branch.condition)
        part = UNCONDITIONAL if UNCONDITIONAL in call.parts and not together else POSITIVE
        conditions = self._inputs(branch.condition, call)
        controls = self._controls(call, control, part, together, conditions, rows, elsewhere)
        return Source(call.parts.index(part), conditions, controls)

    def _own_part(self, condition: str, call: NetworkCall) -> str | None:
        """The part of the pipeline's own batch that has a condition, if one has."""
        if condition == "positive":
            return POSITIVE
        return UNCONDITIONAL if UNCONDITIONAL in call.parts and condition == self.negatives.unconditional else None

    def _inputs(self, condition: str, call: NetworkCall) -> Inputs:
        if UNCONDITIONAL not in call.parts and not _is_together(condition):
            self._check_pictures(call, condition)
        return self.conditions.inputs(condition, call)

    def _check_pictures(self, call: NetworkCall, condition: str) -> None:
        remedy = "give the call a guidance_scale above 1"
        if self.family.sequential:
            remedy = "use a guidance that asks for no more than the prompt and the conjunction"
        for path in ("added_cond_kwargs.image_embeds", "joint_attention_kwargs.ip_adapter_image_embeds"):
            if call.argument(path) is not None:
                raise UnsupportedModel(
                    f"the guidance asks for the branch {condition!r}, and with an IP-Adapter this call of "
                    f"{type(self.pipe).__name__} has no picture for it, only the prompt's; {remedy}"
                )

    def _controls(
        self, call: NetworkCall, control: ControlNetCall | None, part: str, conditional: bool, conditions: Inputs,
        rows: Tensor | None, always: bool,
    ) -> Inputs:  # fmt: skip
        """What the ControlNet gives for a branch whose text is not the pipeline's own, or always."""
        if control is None or not (self.family.control_reads_text or always):
            return {}
        if control.only_positive and not conditional:
            return control.none(rows)
        if self.control_reads is None:
            self.control_reads = control.followed(call, self.condition_names)
        of_text = self.control_reads if self.family.control_reads_text else frozenset()
        read = {path: tensor for path, tensor in conditions.items() if path in of_text}
        return control.again(part, read, rows, self.steering.max_batch) if read or always else {}

    def _forward(self, call: NetworkCall, network: str, sources: Sequence[Source], rows: Tensor | None) -> Tensor:
        runner = None if network == MAIN else self._other_network(network)
        size = call.batch_size if rows is None else len(rows)
        parts = []
        for span in spans(size * len(sources), self.steering.max_batch):
            if rows is None and call.is_own(sources) and span == slice(0, len(call.sample)):
                args, kwargs = call.args, dict(call.kwargs)  # exactly the pipeline's call
            else:
                args, kwargs = call.inputs(sources, rows, span)
            if runner is None:
                output = call.network(*args, **kwargs)
            else:
                seeds = self.seeds if rows is None else tuple(self.seeds[row] for row in rows.tolist())
                output = runner(WeakCall(call.network, args, kwargs, (seeds * len(sources))[span], self.index))
            parts.append(self._latents(output_tensor(output)))
            self.dtype = parts[-1].dtype  # the pipeline is given back what its network would have given
            self.steering.run.forwards += 1
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _cache_of(self, branch: Branch, elsewhere: int) -> AbstractContextManager[None]:
        """Where diffusers' caches are on, what is kept of one branch or point is not for another."""
        if not self.family.sequential or not getattr(self.network, "is_cache_enabled", False):
            return nullcontext()
        own = {"positive": "cond", self.negatives.unconditional: "uncond"}
        name = own.get(branch.condition, branch.condition)
        name = name if branch.network == MAIN else f"{branch.network}:{name}"
        return self.network.cache_context(f"{name}@{elsewhere}" if elsewhere else name)

    def _other_network(self, name: str) -> WeakRunner:
        if name != "weak":
            raise UnsupportedModel(f"the guidance asks for a network {name!r} that was not given to steer")
        return self.steering.weak_runner(self.pipe, self.network)


def _is_together(condition: str) -> bool:
    return condition.startswith("conjunction")


def handler(module: Any) -> Callable[..., Any] | None:
    """Who handles a call of a module: the pipeline call that we are inside of, if it is its network that is called."""
    call = current.get()
    if call is None or call.asking is not None:
        return None  # also when the guidance itself runs the network, as its own weak one
    if call.network is module:
        return call.on_network
    return call.on_controlnet if call.controlnet is module else None


def repeated(prediction: Tensor, times: int) -> Tensor:
    """The same prediction for several parts of a batch."""
    return prediction if times == 1 else torch.cat([prediction] * times)


def seeds_of_images(generator: Any, images: int) -> tuple[int, ...]:
    """The seed of each image: that of its own generator, or the only generator's and its number in the batch.

    >>> seeds_of_images([torch.Generator().manual_seed(seed) for seed in (5, 3)], 2)
    (5, 3)
    >>> seeds_of_images(torch.Generator().manual_seed(5), 2), seeds_of_images(None, 2)
    ((5, 6), (0, 1))
    """
    if isinstance(generator, (list, tuple)) and len(generator) == images:
        return tuple(own.initial_seed() for own in generator)
    only = generator[0] if isinstance(generator, (list, tuple)) else generator
    first = 0 if only is None else only.initial_seed()
    return tuple(first + image for image in range(images))


def network_kind(network: Any) -> Any:
    """A network's class, compiled or not."""
    return type(getattr(network, "_orig_mod", network))


@cache
def positional_names(kind: Any) -> tuple[str, ...]:
    """Names of the parameters of a kind of network, in order."""
    return tuple(inspect.signature(kind.forward).parameters)[1:]


def _network_output(prediction: Tensor) -> Any:
    from diffusers.models.modeling_outputs import Transformer2DModelOutput

    return Transformer2DModelOutput(sample=prediction)
