"""``with steer(pipe, guidance) as run:`` puts a guidance into an unmodified diffusers pipeline."""

import functools
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...core.calibration import Calibration
from ...core.engine import check_noise_level
from ...core.errors import InvalidSetting, PromptError, SteerclearWarning, UnsupportedModel
from ...core.guidance import Guidance
from ...core.laboratory import Judge
from ...core.network import Network
from ...core.settings import whole
from ...guidance.redraw import Redraw
from ...guidance.rescaled import RescaledGuidance
from ...networks.shared.naming import as_networks
from .. import effects
from ..calibrations import Checked, as_calibrations, of_call, texts_of
from ..families import Family, family_of
from ..negatives import Negatives, check_complete, check_readable, chosen, given_to_call, given_to_steer
from ..networks import Attached, check_given, of_idle, of_unasked
from ..surroundings import check_looking
from ..takeover import replaced_methods, routed_call
from .call import FIRST, OneDraw, PipelineCall, current, handler
from .evaluation import Run, Steered, Steering
from .labels import class_numbers
from .redraw import check_redrawing, until_clear
from .selecting import batch_of
from .texts import Encoding

_steered: dict[int, Steering] = {}
"""id of each pipeline inside of a ``with steer`` block -> how it is steered. Only :func:`steer` writes here."""

CALLER, ENTERED = 3, 4
"""Stack levels: of the line that called the pipeline, from :func:`_steered_call`; of the ``with``, from :func:`_checked`."""


@contextmanager
def steer(
    pipe: Any, guidance: Guidance, negative_prompt: str | Sequence[str] | None = None,
    weak: torch.nn.Module | Network | None = None, *, networks: Mapping[str, torch.nn.Module | Network] | None = None,
    negative_class_labels: int | str | Sequence[int | str] | None = None, max_batch: int | None = None,
    judge: Judge | None = None, files: str | Path | None = None,
    calibration: Calibration | str | Path | Sequence[Calibration | str | Path] | Checked | None = None,
) -> Iterator[Run]:  # fmt: skip
    """Steer every call of a pipeline inside the block; afterwards the pipeline is as it was.

    The guidance replaces the pipeline's own: the scale of the call (``true_cfg_scale`` on Flux) has no effect; its
    ``guidance_rescale`` is applied. Schedulers, several prompts, embeddings, LoRA, ControlNets and callbacks work as before.
    Plain classifier-free guidance is bit-identical to diffusers' own.

    Args:
        pipe: a diffusers pipeline of :data:`~steerclear.bridges.families.FAMILIES`: Stable Diffusion 1, 2, XL and 3, Flux,
            PixArt, DiT, and their image-to-image, inpainting and ControlNet forms.
        guidance: how predictions become one.
        negative_prompt: what must not be there, in all images; a list names several concepts, each a branch of its own. The
            pipeline's call may have it instead.
        weak: a worse network to push away from: one of the same shape, or a kind that is made from the pipeline's own.
        networks: other networks by name, as ``{"perturbed": DroppedLayers(...)}``; ``weak`` means ``{"weak": ...}``.
        negative_class_labels: ``negative_prompt`` of pipelines that have classes: numbers, or names where there are some.
        max_batch: run at most so many images and branches in one forward, to save memory; None for all at once.
        judge: who says what an image shows, for an evidence that asks, and for :class:`~steerclear.guidance.redraw.Redraw`; see
            :class:`~steerclear.core.laboratory.Judge`.
        files: the folder of the files that an evidence asks for; None for the folder that the pipeline was loaded from.
        calibration: what ``steerclear calibrate`` measured, a file or read already, or a list: one per negative prompt.

    An evidence that leaves its prior open takes the calibration's, else 0.5. Random numbers (of some networks and evidences)
    for image k come from the seed of image k: that of the k-th generator of the call; with one generator or none it is that
    one's seed (or 0) + k, so only a list of generators makes images independent of their batch. Under
    :class:`~steerclear.guidance.redraw.Redraw`, which needs a list, further calls of the pipeline follow for flagged images.

    Yields:
        What happened in the last call of the pipeline: the trace and the number of network evaluations, of all draws.

    Raises:
        UnsupportedModel: an unknown kind of pipeline, one that is being steered already, a network that is missing or does
            not fit; within a call, a scheduler without a noise level under a guidance that needs it, or nobody who flags images
            that are to be drawn again.
        PromptError: a negative prompt that is empty, too long, not a text, given twice, or not one per prompt.
        UnknownName, InvalidSetting: a class that the pipeline does not have; an argument of another kind or out of range.
        NotFiniteError: within a call, when a network or the guidance gives NaN or infinity.

    Warns:
        SteerclearWarning: a setting has no effect, or a surprising one; says which, and why.
    """
    check_looking(judge, files)
    calibrations = as_calibrations(calibration)
    given = as_networks(weak, networks)
    steering = _checked(pipe, guidance, negative_prompt, given, negative_class_labels, max_batch)
    checked = isinstance(calibration, Checked)
    steering = replace(steering, judge=judge, files=files, calibrations=calibrations, checked=checked)
    name = f"this {type(pipe).__name__}"
    with closing(steering.attached), replaced_methods(pipe, _pipeline_methods, name):
        _steered[id(pipe)] = steering
        try:
            yield steering.run
        finally:
            del _steered[id(pipe)]


def _checked(
    pipe: Any, guidance: Guidance, negative_prompt: str | Sequence[str] | None, networks: Mapping[str, Network],
    negative_class_labels: int | str | Sequence[int | str] | None, max_batch: int | None,
) -> Steering:  # fmt: skip
    """Refuse what cannot work, and warn of what has no effect, before anything is changed."""
    if not isinstance(guidance, Guidance):
        raise InvalidSetting("guidance", guidance, "a guidance", "such as ClassifierFreeGuidance(guidance_scale=3.0)")
    if max_batch is not None:
        whole("max_batch", max_batch, low=1)
    family = family_of(pipe)
    for part in (family.network, "scheduler"):
        if getattr(pipe, part, None) is None:
            raise UnsupportedModel(f"this {type(pipe).__name__} has no {part}; load it with one to steer it")
    negatives = _negatives_of_block(pipe, family, negative_prompt, negative_class_labels)
    network, count = getattr(pipe, family.network), len(negatives) or 1  # one may come with the call
    check_given(guidance, count, networks, "steer")
    for other in networks.values():
        other.check(pipe, network)
    _warn(effects.of_negatives(guidance, negatives), ENTERED)
    _warn(of_unasked(guidance, count, networks), ENTERED)
    _warn(of_idle(guidance, count, networks, network), ENTERED)
    return Steering(family, guidance, negatives, Attached(networks), max_batch, Run())


def _warn(messages: Iterator[str], stacklevel: int) -> None:
    for message in messages:
        warnings.warn(message, SteerclearWarning, stacklevel=stacklevel + 1)


def _negatives_of_block(
    pipe: Any,
    family: Family,
    negative_prompt: str | Sequence[str] | None,
    negative_class_labels: int | str | Sequence[int | str] | None,
) -> Negatives:
    wrong, right = "negative_class_labels", "negative_prompt"
    misplaced = negative_class_labels
    if family.class_labels is not None:
        wrong, right, misplaced = right, wrong, negative_prompt
    if misplaced is not None:
        raise PromptError(
            f"{wrong} is {misplaced!r}, and {type(pipe).__name__} does not have it; give {right} in its place"
        )
    if family.class_labels is not None:
        return Negatives(labels=class_numbers(pipe, family, negative_class_labels))
    negatives = given_to_steer(negative_prompt)
    if "max_sequence_length" not in inspect.signature(type(pipe).__call__).parameters:
        _check_readable(pipe, family, negatives, None)  # else the call says how much is read
    return negatives


def _check_readable(pipe: Any, family: Family, negatives: Negatives, longest: int | None) -> None:
    for text in negatives.all_texts():
        check_readable(pipe, text, family, longest)


def _pipeline_methods(original: type) -> Mapping[str, Callable[..., Any]]:
    """What a steered pipeline does in place of its class's methods."""
    signature_of_call = inspect.signature(original.__call__)

    @functools.wraps(original.__call__)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = signature_of_call.bind(self, *args, **kwargs)
        given = dict(bound.arguments)
        bound.apply_defaults()
        first = functools.partial(original.__call__, self, *args, **kwargs)

        def again(changed: Mapping[str, Any]) -> Any:
            return original.__call__(self, **changed)

        return _steered_call(self, given, bound.arguments, first, again)

    encode_prompt = getattr(original, "encode_prompt", None)
    return {"__call__": call} if encode_prompt is None else {"__call__": call, "encode_prompt": _noted(encode_prompt)}


def _noted(original: Callable[..., Any]) -> Callable[..., Any]:
    """An ``encode_prompt`` that tells the steered call what it was asked, and what it gave."""
    signature = inspect.signature(original)

    @functools.wraps(original)
    def encode_prompt(self: Any, *args: Any, **kwargs: Any) -> Any:
        encode = functools.partial(original, self)
        encoded = encode(*args, **kwargs)
        inside = current.get()
        if inside is not None and inside.steered.pipe is self:
            given = dict(signature.bind(self, *args, **kwargs).arguments)
            del given["self"]
            inside.steered.texts.remember(Encoding(encode, {**given, **given.pop("kwargs", {})}, encoded))
        return encoded

    return encode_prompt


def _steered_call(
    pipe: Any, given: Mapping[str, Any], arguments: Mapping[str, Any], first: Callable[[], Any],
    again: Callable[[Mapping[str, Any]], Any],
) -> Any:  # fmt: skip
    """One call of the pipeline, with its scheduler and its network taken over; several where images are drawn again.

    Args:
        pipe: the pipeline.
        given, arguments: of the call: those that were not left at their defaults, and all.
        first: the user's own call.
        again: the same with other arguments.
    """
    steering = _steered[id(pipe)]
    check_noise_level(steering.guidance, pipe.scheduler)
    negatives = _negatives_of_call(pipe, steering, arguments)
    check_given(steering.guidance, len(negatives), steering.attached.networks, "steer")
    guidance, run = _rescaled(steering.guidance, arguments), steering.run
    redrawing, batch, flagging = guidance.redrawing(), None, None
    if redrawing is not None:
        batch = batch_of(pipe, given, arguments, steering.family.class_labels)
    if redrawing is not None and batch is not None:
        flagging = check_redrawing(redrawing, steering, batch, arguments, negatives, pipe)
    _warn(effects.of_call(pipe, steering.family, steering.guidance, negatives, given), CALLER)
    if not steering.checked:
        texts = texts_of(negatives)
        _warn(of_call(steering.guidance, steering.calibrations, texts, pipe, arguments), CALLER)
    run.draws = run.flagged = None

    def once(changed: Mapping[str, Any] | None, told: Run, draw: OneDraw) -> tuple[Any, PipelineCall]:
        if changed is None:
            return _one_call(Steered(pipe, replace(steering, run=told), negatives, arguments), guidance, draw, first)
        own = {**arguments, **changed}
        steered = Steered(pipe, replace(steering, run=told), _negatives_of_call(pipe, steering, own), own)
        return _one_call(steered, guidance, draw, functools.partial(again, changed))

    if redrawing is None or batch is None:
        return once(None, run, FIRST)[0]
    if flagging is not None and not flagging.knows:
        message = "no image is drawn again: the judge knows none of the concepts that the negative prompts name"
        _warn(iter([f"{message}; name them in its words, or give another judge"]), CALLER)
    return until_clear(pipe, redrawing, batch, arguments.get("generator"), flagging, run, once)


def _one_call(
    steered: Steered, guidance: Guidance, draw: OneDraw, original: Callable[[], Any]
) -> tuple[Any, PipelineCall]:
    """What the pipeline's own call returns under a guidance, and how it went."""
    call, pipe = PipelineCall(steered, guidance, draw), steered.pipe
    with ExitStack() as stack:
        # the scheduler and the networks of this moment: they may have been replaced since the block began
        stack.enter_context(replaced_methods(pipe.scheduler, _scheduler_methods, f"the scheduler of {steered.name}"))
        for module in (steered.network, steered.controlnet):
            if module is not None:
                stack.enter_context(routed_call(module, handler))
        token = current.set(call)
        stack.callback(current.reset, token)
        return original(), call


def _negatives_of_call(pipe: Any, steering: Steering, arguments: Mapping[str, Any]) -> Negatives:
    prompts = _prompts(arguments)
    of_call = given_to_call(arguments.get("negative_prompt"), arguments.get("negative_prompt_embeds"), prompts)
    check_complete(of_call, arguments, prompts)
    negatives = chosen(steering.negatives, of_call)
    _check_readable(pipe, steering.family, negatives, arguments.get("max_sequence_length"))
    return negatives


def _prompts(arguments: Mapping[str, Any]) -> int | None:
    """How many prompts a call has, as texts or embeddings; None where it has neither."""
    prompt, embedded = arguments.get("prompt"), arguments.get("prompt_embeds")
    if isinstance(prompt, str):
        return 1
    several = embedded if prompt is None else prompt
    return len(several) if isinstance(several, (list, tuple, torch.Tensor)) else None


def _rescaled(guidance: Guidance, arguments: Mapping[str, Any]) -> Guidance:
    """With the ``guidance_rescale`` of the call; the pipeline, which sees one prediction only, cannot apply it."""
    rescale = arguments.get("guidance_rescale")
    if rescale and isinstance(guidance, Redraw):  # images that were given up have no prediction to rescale
        return guidance.changed(guidance=RescaledGuidance(guidance.guidance, rescale))
    return RescaledGuidance(guidance, rescale) if rescale else guidance


def _scheduler_methods(original: Any) -> Mapping[str, Callable[..., Any]]:
    """What a scheduler does while its pipeline is inside of a steered call."""

    def call_of(scheduler: Any) -> PipelineCall | None:
        call = current.get()
        return call if call is not None and call.scheduler is scheduler else None

    @functools.wraps(original.step)
    def step(self: Any, model_output: Any, *args: Any, **kwargs: Any) -> Any:
        call = call_of(self)
        if call is None:
            return original.step(self, model_output, *args, **kwargs)
        if "sample" in kwargs:
            kwargs = {**kwargs, "sample": call.sample_of_step(kwargs["sample"])}
        else:
            timestep, sample, *others = args
            args = (timestep, call.sample_of_step(sample), *others)
        moved = original.step(self, call.before_step(model_output), *args, **kwargs)
        call.after_step(moved)
        return moved

    methods: dict[str, Callable[..., Any]] = {"step": step}
    if hasattr(original, "scale_model_input"):

        @functools.wraps(original.scale_model_input)
        def scale_model_input(self: Any, sample: Any, *args: Any, **kwargs: Any) -> Any:
            call = call_of(self)
            if call is not None:
                call.before_network(sample)
            return original.scale_model_input(self, sample, *args, **kwargs)

        methods["scale_model_input"] = scale_model_input
    return methods
