"""The branches of one evaluation of a steered pipeline: where their inputs come from, and running them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core.calibration import Calibration
from ...core.denoiser import MAIN, Branch, Point
from ...core.errors import UnsupportedModel
from ...core.guidance import Guidance
from ...core.laboratory import Judge
from ...core.network import Forward
from ...core.records import Trace
from ..branches import Inputs, NetworkCall, Source, channel_axis, is_prompt, output_tensor, positional_names, spans
from ..families import POSITIVE, UNCONDITIONAL, Family, prediction_channels
from ..negatives import Negatives
from ..networks import Attached
from .controlnet import ControlNetCall
from .labels import Labels
from .texts import PipelineTexts


@dataclass(repr=False)
class Run:
    """What happened in the last call of a steered pipeline.

    Attributes:
        trace: what the guidance did to every image at every step. Of images that were drawn again it shows the draw that is
            kept, and the evaluations of all.
        forwards: how often a network ran, each time on a batch of branches and images.
        draws: how often each image was drawn, ``[batch]``; None under a guidance that draws once.
        flagged: images that could not be cleared, bool ``[batch]``; None as ``draws``.
    """

    trace: Trace = field(default_factory=Trace)
    forwards: int = 0
    draws: Tensor | None = None
    flagged: Tensor | None = None

    def __repr__(self) -> str:
        again = "" if self.draws is None else f", {int(self.draws.sum())} draws of {len(self.draws)} images"
        return f"Run({self.forwards} forwards{again}, {self.trace!r})"

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
    attached: Attached
    max_batch: int | None
    run: Run
    judge: Judge | None = None
    files: str | Path | None = None
    calibrations: tuple[Calibration, ...] = ()
    checked: bool = False


class Steered:
    """A pipeline in one call: what is the same in all of its evaluations.

    Args:
        pipe: the pipeline.
        steering: how it is steered.
        negatives: the negative prompts of this call.
        arguments: of this call, with its defaults.
    """

    def __init__(self, pipe: Any, steering: Steering, negatives: Negatives, arguments: Mapping[str, Any]) -> None:
        self.pipe, self.steering, self.negatives, self.arguments = pipe, steering, negatives, arguments
        self.family, self.name = steering.family, type(pipe).__name__
        self.network = getattr(pipe, self.family.network)
        self.controlnet = getattr(pipe, "controlnet", None)
        self.names = positional_names(self.network)
        self.channels = prediction_channels(self.network)
        self.texts = PipelineTexts(pipe, self.family, negatives, arguments)
        self.condition_names = tuple(text.argument for text in self.family.texts)
        self.condition: Callable[[str, NetworkCall], Inputs] = lambda condition, call: self.texts.inputs(condition)
        if self.family.class_labels is not None:
            self.condition_names = (self.family.class_labels,)
            self.condition = Labels(pipe, self.family, self.family.class_labels, negatives).inputs

    @property
    def parts(self) -> tuple[str, ...]:
        """Of the batch that the pipeline now makes."""
        return self.family.parts if self.family.has_unconditional(self.pipe, self.arguments) else (POSITIVE,)

    def latents(self, tensor: Tensor) -> Tensor:
        """Without what lies behind the latents: a mask and a picture on input, a variance on output."""
        axis = channel_axis(tensor)
        return tensor if tensor.shape[axis] == self.channels else tensor.narrow(axis, 0, self.channels)

    def own_part(self, condition: str, call: NetworkCall) -> str | None:
        """The part of the pipeline's own batch that has a condition, if one has."""
        if condition == "positive":
            return POSITIVE
        return UNCONDITIONAL if UNCONDITIONAL in call.parts and condition == self.negatives.unconditional else None

    def inputs(self, condition: str, call: NetworkCall) -> Inputs:
        """The network's arguments that hold a condition which is not among the pipeline's own.

        Raises:
            PromptError: there is no such prompt, or it cannot be encoded.
            UnsupportedModel: the call has a picture beside each of its prompts, and none for this one.
        """
        if UNCONDITIONAL not in call.parts and not is_prompt(condition):
            remedy = "give the call a guidance_scale above 1"
            if self.family.sequential:
                remedy = "use a guidance that asks for no more than the prompt and the conjunction"
            for path in ("added_cond_kwargs.image_embeds", "joint_attention_kwargs.ip_adapter_image_embeds"):
                if call.argument(path) is not None:
                    raise UnsupportedModel(
                        f"the guidance asks for the branch {condition!r}, and with an IP-Adapter this call of "
                        f"{self.name} has no picture for it, only the prompt's; {remedy}"
                    )
        return self.condition(condition, call)


@dataclass
class Asking:
    """Within a call of the network: the guidance asks for branches.

    Args:
        steered: the pipeline.
        call, control: of the network and of the ControlNet (None where there is none), as the pipeline made them.
        seeds: one per image.
        index: how many evaluations were made before.
        dtype: of the last forward, before this evaluation or in an earlier draw: the pipeline is given back what its network
            would give, under autocast too; None where none ran yet.
    """

    steered: Steered
    call: NetworkCall
    control: ControlNetCall | None
    seeds: tuple[int, ...]
    index: int
    dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        self.dtype = self.call.sample.dtype if self.dtype is None else self.dtype

    def predict(self, point: Point, branches: tuple[Branch, ...], rows: Tensor | None) -> list[Tensor]:
        """See :class:`~steerclear.core.denoiser.Denoiser`."""
        call, control, family = self.call, self.control, self.steered.family
        if point.elsewhere:
            there = point, self.steered.pipe.scheduler, family.timestep_scale
            call, control = call.at(*there), control and control.at(*there)
        sources = [self._source(branch, call, control, rows, bool(point.elsewhere)) for branch in branches]
        groups: dict[Any, list[int]] = {}
        for index, (branch, source) in enumerate(zip(branches, sources, strict=True)):
            apart = index if family.sequential else None
            shapes = call.shapes(source, self.steered.condition_names) if len(branches) > 1 else ()
            groups.setdefault((branch.network, shapes, apart), []).append(index)
        predictions: dict[int, Tensor] = {}
        for (network, _, _), indices in groups.items():
            with self._cache_of(branches[indices[0]], point.elsewhere):
                joined = self._forward(call, network, [sources[index] for index in indices], rows)
            predictions.update(zip(indices, joined.chunk(len(indices)), strict=True))
        return [predictions[index] for index in range(len(branches))]

    def _source(
        self, branch: Branch, call: NetworkCall, control: ControlNetCall | None, rows: Tensor | None, elsewhere: bool
    ) -> Source:
        """Where a branch's inputs come from; elsewhere a ControlNet's outputs are others for the pipeline's own texts too."""
        own = self.steered.own_part(branch.condition, call)
        if own is not None:
            controls = self._controls(control, own, own == POSITIVE, {}, rows, True) if elsewhere else {}
            return Source(call.parts.index(own), controls=controls)
        # a conjunction has what else belongs to the prompt's part, such as sizes; the others have the other part's
        conditional = is_prompt(branch.condition)
        part = UNCONDITIONAL if UNCONDITIONAL in call.parts and not conditional else POSITIVE
        conditions = self.steered.inputs(branch.condition, call)
        controls = self._controls(control, part, conditional, conditions, rows, elsewhere)
        return Source(call.parts.index(part), conditions, controls)

    def _controls(
        self, control: ControlNetCall | None, part: str, conditional: bool, conditions: Inputs, rows: Tensor | None,
        always: bool,
    ) -> Inputs:  # fmt: skip
        """What the ControlNet gives for a branch whose text is not the pipeline's own, or always."""
        reads = self.steered.family.control_reads_text
        if control is None or not (reads or always):
            return {}
        if control.only_positive and not conditional:
            return control.none(rows)
        of_text = self._followed if reads and conditions else frozenset()
        read = {path: tensor for path, tensor in conditions.items() if path in of_text}
        return control.again(part, read, rows, self.steered.steering.max_batch) if read or always else {}

    @cached_property
    def _followed(self) -> frozenset[str]:
        """The text arguments that the ControlNet is given as well."""
        return frozenset() if self.control is None else self.control.followed(self.call, self.steered.condition_names)

    def _forward(self, call: NetworkCall, network: str, sources: Sequence[Source], rows: Tensor | None) -> Tensor:
        steering = self.steered.steering
        runner = None
        if network != MAIN:
            runner = steering.attached.runner(network, self.steered.pipe, self.steered.network)
        seeds = self.seeds if rows is None else tuple(self.seeds[row] for row in rows.tolist())
        parts = []
        for span in spans(len(seeds) * len(sources), steering.max_batch):
            if rows is None and call.is_own(sources) and span == slice(0, len(call.sample)):
                args, kwargs = call.args, dict(call.kwargs)  # exactly the pipeline's call
            else:
                args, kwargs = call.inputs(sources, rows, span)
            if runner is None:
                output = call.network(*args, **kwargs)
            else:
                output = runner(Forward(call.network, args, kwargs, (seeds * len(sources))[span], self.index))
            parts.append(self.steered.latents(output_tensor(output)))
            self.dtype = parts[-1].dtype
            steering.run.forwards += 1
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _cache_of(self, branch: Branch, elsewhere: int) -> AbstractContextManager[None]:
        """Where diffusers' caches are on, what is kept of one branch or point is not for another."""
        network = self.steered.network
        if not self.steered.family.sequential or not getattr(network, "is_cache_enabled", False):
            return nullcontext()
        own = {"positive": "cond", self.steered.negatives.unconditional: "uncond"}
        name = own.get(branch.condition, branch.condition)
        name = name if branch.network == MAIN else f"{branch.network}:{name}"
        return network.cache_context(f"{name}@{elsewhere}" if elsewhere else name)
