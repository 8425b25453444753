"""One call of a steered pipeline, from its first step to its last."""

import warnings
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...core.denoiser import Branch, Point
from ...core.engine import GuidedDenoiser, of_schedule
from ...core.errors import SteerclearWarning, UnsupportedModel
from ...core.guidance import Guidance, conditions_of
from ...core.records import Trace
from ...core.redrawing import Redrawing, Rewound, latest_step
from ...core.schedulers import is_stochastic, noise_to_signal, point, prediction_type
from ..branches import NetworkCall, positional_names
from ..calibrations import matched, texts_of
from ..families import POSITIVE
from ..surroundings import seeds_of_images, surroundings_of
from .controlnet import ControlNetCall
from .evaluation import Asking, Steered


class NotBegun:
    """The pipeline has not called its network yet, so the number of images is not known."""


@dataclass(frozen=True)
class Moved:
    """The scheduler has moved on, and the network was not called since.

    Attributes:
        unscaled: the noisy sample of all parts, as the scheduler has it; None where it does not scale its input.
        control: how the ControlNet ran; None where it did not.
    """

    unscaled: Tensor | None = None
    control: ControlNetCall | None = None


@dataclass(frozen=True)
class Answered:
    """The network was called, and the pipeline has the guided prediction.

    Attributes:
        first: the first of the calls.
        prediction: which every call is given.
        calls: how many there were.
    """

    first: NetworkCall
    prediction: Tensor
    calls: int = 1


@dataclass(frozen=True)
class OneDraw:
    """Which draw of its images a call of a pipeline is.

    Attributes:
        number: 0 for the first.
        seeds: one per image; () for those of the call's generators.
        rewound: where a further draw begins anew; None for one from the start.
        begin: the first point -> the sample that a rewound draw begins with, in place of the pipeline's own noise.
        keeps: how the images may be drawn again afterwards; None if they are not.
        generators: whose noise tells whether the sampler is stochastic, where ``keeps`` is given.
        dtype: of what the first draw gave the pipeline back; None for the first.
    """

    number: int = 0
    seeds: tuple[int, ...] = ()
    rewound: Rewound | None = None
    begin: Callable[[Point], Tensor] | None = None
    keeps: Redrawing | None = None
    generators: tuple[torch.Generator, ...] = ()
    dtype: torch.dtype | None = None


FIRST = OneDraw()


class PipelineCall:
    """The denoiser that a pipeline is to the engine, and the events that the pipeline's loop brings.

    In each step they come in this order: ``before_network`` (x_t, before its scaling), ``on_controlnet`` (where there is
    one), ``on_network`` (the pipeline asks for a prediction and is given the guided one), ``before_step`` and
    ``after_step`` (the scheduler moves on).

    Args:
        steered: the pipeline in this call.
        guidance: the guidance of this call.
        draw: which draw of the images it is.

    Attributes:
        finished: what the scheduler's last step returned, ``[batch, ...]``; None before.
        began: the noisy sample at the first evaluation, ``[batch, ...]``; None before.
        noise: the states of the generators of ``draw`` there.
        drew: whether they moved on in the steps of the scheduler.
        dtype: of what the pipeline was given back last; None before, unless an earlier draw says.
    """

    def __init__(self, steered: Steered, guidance: Guidance, draw: OneDraw = FIRST) -> None:
        self.steered, self.guidance, self.scheduler = steered, guidance, steered.pipe.scheduler
        self.draw, self.drew, self.dtype = draw, False, draw.dtype
        self.began: Tensor | None = None
        self.finished: Tensor | None = None
        self.noise: list[Tensor] = []
        self.prediction_type = prediction_type(self.scheduler)
        self.index = 0  # of evaluations
        self.guided: NotBegun | GuidedDenoiser = NotBegun()
        self.now: Moved | Asking | Answered = Moved()
        steered.steering.run.forwards, steered.steering.run.trace = 0, Trace()

    def before_network(self, unscaled: Tensor) -> None:
        """The noisy sample of all parts, as the scheduler has it."""
        if isinstance(self.now, Moved):
            self.now = replace(self.now, unscaled=unscaled)

    def on_controlnet(self, network: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the ControlNet unchanged, and remember how."""
        output = network(*args, **kwargs)
        names, family = positional_names(self.steered.controlnet), self.steered.family
        call = NetworkCall(network, names, args, kwargs, self.steered.parts, family.shared)
        if call.argument("guess_mode"):
            call = replace(call, parts=(POSITIVE,))
        if isinstance(self.now, Moved):
            self.now = replace(self.now, control=ControlNetCall(call, output, family.controls))
        return output

    def on_network(self, network: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the guidance. Its prediction goes back in all parts, so that the pipeline's own guidance changes nothing."""
        steered = self.steered
        call = NetworkCall(network, steered.names, args, kwargs, steered.parts, steered.family.shared)
        if isinstance(self.now, Answered):
            self.now = self._answered_again(self.now, call)
            return self._given_back(self.now.prediction, kwargs)
        assert isinstance(self.now, Moved)  # within Asking the network is not ours, see handler
        seeds = self.draw.seeds or seeds_of_images(steered.arguments.get("generator"), call.batch_size)
        before, asking = self.now, Asking(steered, call, self.now.control, seeds, self.index, self.dtype)
        self.now = asking
        if isinstance(self.guided, NotBegun):
            self.guided = self._begin(call)
        elif call.batch_size != self.guided.surroundings.batch_size:
            raise UnsupportedModel(
                f"the batch changed from {self.guided.surroundings.batch_size} to {call.batch_size} images within one call"
            )
        guided = self.guided.predict(self._begun(self._point(call, before.unscaled))).to(asking.dtype)
        self.dtype = guided.dtype
        self.now = Answered(call, guided)
        return self._given_back(repeated(guided, len(call.parts)), kwargs)

    def before_step(self, prediction: Tensor) -> Tensor:
        """The exact guided prediction: what the pipeline made of it may have been rounded or rescaled."""
        if not isinstance(self.now, Answered):
            return prediction
        # DiT steps all parts of its batch
        return repeated(self.now.prediction, len(prediction) // len(self.now.prediction))

    def sample_of_step(self, sample: Tensor) -> Tensor:
        """What the scheduler moves on from: a rewound draw's own beginning in place of the pipeline's noise."""
        if self.index or self.draw.begin is None or self.began is None:
            return sample
        return repeated(self.began.to(sample.dtype), len(sample) // len(self.began))

    def after_step(self, moved: Any) -> None:
        """The scheduler has moved on, and returned this."""
        if isinstance(self.now, Answered):
            self.index += 1
            sample = moved[0] if isinstance(moved, tuple) else moved.prev_sample
            self.finished = sample[: len(self.now.prediction)]  # DiT steps all parts of its batch
            noise = [generator.get_state() for generator in self.draw.generators]
            self.drew = self.drew or not all(map(torch.equal, self.noise, noise))
        self.now = Moved()

    def predict(self, point: Point, branches: tuple[Branch, ...], rows: Tensor | None) -> list[Tensor]:
        """See :class:`~steerclear.core.denoiser.Denoiser`; within :meth:`on_network` only."""
        assert isinstance(self.now, Asking)
        return self.now.predict(point, branches, rows)

    def _begin(self, call: NetworkCall) -> GuidedDenoiser:
        """Look at the pipeline's first network call, before anything is evaluated."""
        steered, sample, last = self.steered, call.sample, len(call.parts) - 1
        if len(sample) % len(call.parts) or not torch.equal(call.part(sample, 0), call.part(sample, last)):
            raise UnsupportedModel(
                f"{steered.name} calls its network on a batch of {len(sample)} that is not {len(call.parts)} times the "
                f"same images, so steerclear cannot tell which part of it is which branch"
            )
        for path in steered.condition_names:
            if not isinstance(call.argument(path), Tensor):
                raise UnsupportedModel(f"{steered.name} gives its network no {path}, so it has no prompt to steer")
        steering, negatives = steered.steering, steered.negatives
        surroundings = surroundings_of(
            steered.pipe, steered.arguments.get, call.batch_size, negatives,
            judge=steering.judge, files=steering.files, max_batch=steering.max_batch,
            calibrations=matched(steering.calibrations, texts_of(negatives)),
        )  # fmt: skip
        draw, self.noise = self.draw, [generator.get_state() for generator in self.draw.generators]
        surroundings = replace(surroundings, seeds=draw.seeds or surroundings.seeds, draw=draw.number)
        guided = GuidedDenoiser(
            self, self.guidance, surroundings, rewound=draw.rewound, keeps_until=self._kept(call),
            stochastic=is_stochastic(self.scheduler, steered.arguments.get("eta")),
        )  # fmt: skip
        for condition in conditions_of(self.guidance, len(negatives)):
            if steered.own_part(condition, call) is None:
                steered.inputs(condition, call)
        steering.run.trace = guided.trace
        schedule = self.scheduler, self._timestep(call), self._evaluations()
        for message in of_schedule(self.guidance, *schedule) if draw.number == 0 else ():
            warnings.warn(message, SteerclearWarning, stacklevel=2)
        return guided

    def _begun(self, here: Point) -> Point:
        """The first point is where a rewound draw begins; the pipeline's own otherwise."""
        if self.index == 0 and self.began is None:
            self.began = here.sample if self.draw.begin is None else self.draw.begin(here)
        if self.index or self.draw.begin is None or self.began is None:
            return here
        return replace(here, sample=self.began.to(here.sample.dtype))

    def _kept(self, call: NetworkCall) -> int:
        """The evaluations of steps up to this one are kept, for a further draw to go through again."""
        if self.draw.keeps is None:
            return -1
        levels = noise_to_signal(self.scheduler, self._timestep(call), self._evaluations())
        return latest_step(self.draw.keeps, levels)

    def _evaluations(self) -> int:
        """How many timesteps the pipeline goes through: an image-to-image start leaves the first ones out."""
        return getattr(self.steered.pipe, "num_timesteps", None) or len(self.scheduler.timesteps)

    def _answered_again(self, answered: Answered, call: NetworkCall) -> Answered:
        """A further call before a step asks for another branch at the same point: it has the answer already."""
        first, calls = answered.first, answered.calls + 1
        if calls > self.steered.family.calls_a_step:
            raise self._stray(f"{calls} times")
        timesteps = [torch.as_tensor(each.argument("timestep")).flatten()[0] for each in (first, call)]
        if not torch.equal(*timesteps) or not torch.equal(call.sample[: first.batch_size], first.part(first.sample, 0)):
            raise self._stray("at two points")
        return replace(answered, calls=calls)

    def _stray(self, how: str) -> UnsupportedModel:
        return UnsupportedModel(
            f"the network of {self.steered.name} was called {how} before a step of the scheduler, which no "
            f"pipeline of the family {self.steered.family.name} does, so it is unclear which call to guide; a callback that "
            f"runs the network, or replaces the scheduler, cannot be steered: do so before or after the pipeline's call"
        )

    def _point(self, call: NetworkCall, unscaled: Tensor | None) -> Point:
        sample = self.steered.latents(call.part(call.sample if unscaled is None else unscaled, 0))
        told = call.argument("timestep")
        return point(self.scheduler, sample, self._timestep(call), self.index, self._evaluations(), timestep=told)

    def _timestep(self, call: NetworkCall) -> Any:
        """In the scheduler's units."""
        told, scale = call.argument("timestep"), self.steered.family.timestep_scale
        one = told.flatten()[0] if isinstance(told, Tensor) and told.ndim else told
        return one * scale if scale != 1 else one

    def _given_back(self, prediction: Tensor, kwargs: dict[str, Any]) -> Any:
        """In the form of the network's own output."""
        from diffusers.models.modeling_outputs import Transformer2DModelOutput

        whole = getattr(self.steered.network.config, "out_channels", None)
        if whole == 2 * self.steered.channels and prediction.ndim == 4:
            prediction = torch.cat([prediction, prediction], dim=1)  # where the variance was, which no pipeline reads
        as_tuple = kwargs.get("return_dict", True) is False
        return (prediction,) if as_tuple else Transformer2DModelOutput(sample=prediction)


current: ContextVar[PipelineCall | None] = ContextVar("steerclear_pipeline_call", default=None)
"""The steered pipeline call that this thread and context is inside of."""


def handler(module: Any) -> Callable[..., Any] | None:
    """Who handles a call of a module: the pipeline call that we are inside of, if it is its network that is called."""
    call = current.get()
    if call is None or isinstance(call.now, Asking):
        return None  # also when the guidance itself runs the network, as its own weak one
    if call.steered.network is module:
        return call.on_network
    return call.on_controlnet if call.steered.controlnet is module else None


def repeated(prediction: Tensor, times: int) -> Tensor:
    """The same prediction for several parts of a batch."""
    return prediction if times == 1 else torch.cat([prediction] * times)
