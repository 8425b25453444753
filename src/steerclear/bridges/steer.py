"""``with steer(pipe, guidance) as run:`` puts a guidance into an unmodified diffusers pipeline."""

import functools
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from ..errors import InvalidSetting, SteerclearWarning, UnsupportedModel
from ..guidance.base import Guidance
from .call import PipelineCall, Run, Steering, current, handler
from .families import family_of
from .negatives import Negatives, check_readable, chosen, given_to_call, given_to_steer
from .takeover import replaced_methods, routed_call

_steered: dict[int, Steering] = {}
"""id of each pipeline inside of a ``with steer`` block -> how it is steered. Only :func:`steer` writes here."""

FITTING = ("in_channels", "out_channels", "cross_attention_dim")
"""What a weak network must have in common with the pipeline's own."""

CALLER = 3
"""Where the line that called the pipeline is, seen from :func:`_steered_call`."""


@contextmanager
def steer(
    pipe: Any,
    guidance: Guidance,
    negative_prompt: str | Sequence[str] | None = None,
    weak: torch.nn.Module | None = None,
    *,
    max_batch: int | None = None,
) -> Iterator[Run]:
    """Steer every call of a pipeline inside of the block; afterwards the pipeline is as it was.

    The guidance takes the place of the pipeline's own: scales are set on the guidance, and the ``guidance_scale`` of
    the call has no effect. Everything else of the pipeline works as ever: schedulers, several prompts, several images a
    prompt, embeddings, LoRA, callbacks. Plain classifier-free guidance is bit-identical to diffusers' own.

    Args:
        pipe: a diffusers pipeline of the Stable Diffusion family (text to image, image to image, inpainting).
        guidance: how predictions become one.
        negative_prompt: what shall not be there, for all images; a list names several concepts, each a branch of its
            own. It may be given to the pipeline's call instead, as diffusers has it.
        weak: a worse network of the same shape, for guidances that push away from it.
        max_batch: run at most so many images and branches in one forward, to save memory; None for all at once.

    Yields:
        What happened in the last call of the pipeline: the trace and the number of network evaluations.

    Raises:
        UnsupportedModel: an unknown kind of pipeline, one that is being steered already, or a weak network that is
            missing or does not fit.
        PromptError: a negative prompt that is empty or too long, or given to both ``steer`` and the call.
        InvalidSetting: a guidance that is none, or ``max_batch`` below 1.
        NotFiniteError: within a call, when a network or the guidance gives NaN or infinity.

    Warns:
        SteerclearWarning: a setting has no effect; says which, and why.
    """
    steering = _checked(pipe, guidance, negative_prompt, weak, max_batch)
    name = f"this {type(pipe).__name__}"
    with replaced_methods(pipe, _pipeline_methods, name):
        _steered[id(pipe)] = steering
        try:
            yield steering.run
        finally:
            del _steered[id(pipe)]


def _checked(
    pipe: Any,
    guidance: Guidance,
    negative_prompt: str | Sequence[str] | None,
    weak: torch.nn.Module | None,
    max_batch: int | None,
) -> Steering:
    """Refuse what cannot work, and warn of what has no effect, before anything is changed."""
    if not isinstance(guidance, Guidance):
        raise InvalidSetting("guidance", guidance, "a guidance", "such as ClassifierFreeGuidance(guidance_scale=3.0)")
    if max_batch is not None and (not isinstance(max_batch, int) or max_batch < 1):
        raise InvalidSetting("max_batch", max_batch, "a whole number of at least 1", "leave it out for no limit")
    family = family_of(pipe)
    negatives = given_to_steer(negative_prompt)
    for text in negatives.all_texts():
        check_readable(pipe, text)
    _check_weak(getattr(pipe, family.network), guidance, weak)
    for message in (_negative_without_effect(guidance, negatives), _weak_without_effect(guidance, weak)):
        _warn(message, stacklevel=4)  # the line of the `with`: beyond steer and contextlib
    return Steering(family, guidance, negatives, weak, max_batch, Run())


def _warn(message: str | None, stacklevel: int) -> None:
    if message is not None:
        warnings.warn(message, SteerclearWarning, stacklevel=stacklevel + 1)


def _negative_without_effect(guidance: Guidance, negatives: Negatives) -> str | None:
    reason = guidance.negative_has_no_effect() if len(negatives) else None
    return None if reason is None else f"the negative prompt has no effect: {reason}"


def _weak_without_effect(guidance: Guidance, weak: torch.nn.Module | None) -> str | None:
    if weak is None or guidance.needs_weak():
        return None
    return f"the weak network has no effect: {guidance.name} with these settings never asks for it"


def _check_weak(network: Any, guidance: Guidance, weak: torch.nn.Module | None) -> None:
    if weak is None:
        if guidance.needs_weak():
            raise UnsupportedModel(
                f"{guidance.name} pushes away from a weak network, and none is given; give steer(..., weak=...) a "
                f"smaller or less trained network of the same shape"
            )
        return
    for setting in FITTING:
        own, other = getattr(network.config, setting, None), getattr(getattr(weak, "config", None), setting, None)
        if own != other:
            raise UnsupportedModel(
                f"the weak network does not fit: its {setting} is {other}, and the pipeline's network has {own}; both "
                f"must take the same latents and the same text embeddings"
            )
    if getattr(weak, "dtype", None) != network.dtype:
        raise UnsupportedModel(
            f"the weak network is {getattr(weak, 'dtype', None)} and the pipeline's is {network.dtype}; bring it there "
            f"with weak.to({network.dtype})"
        )


def _pipeline_methods(original: type) -> Mapping[str, Callable[..., Any]]:
    """What a steered pipeline does instead of its class's own methods."""
    signature_of_call = inspect.signature(original.__call__)
    signature_of_encode = inspect.signature(original.encode_prompt)  # type: ignore[attr-defined]

    @functools.wraps(original.__call__)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = signature_of_call.bind(self, *args, **kwargs).arguments
        return _steered_call(self, given, lambda: original.__call__(self, *args, **kwargs))

    @functools.wraps(original.encode_prompt)  # type: ignore[attr-defined]
    def encode_prompt(self: Any, *args: Any, **kwargs: Any) -> Any:
        encode = functools.partial(original.encode_prompt, self)  # type: ignore[attr-defined]
        encoded = encode(*args, **kwargs)
        inside = current.get()
        if inside is not None and inside.pipe is self:
            given = dict(signature_of_encode.bind(self, *args, **kwargs).arguments)
            del given["self"]
            inside.texts.remember(encode, {**given, **given.pop("kwargs", {})}, encoded)
        return encoded

    return {"__call__": call, "encode_prompt": encode_prompt}


def _steered_call(pipe: Any, given: Mapping[str, Any], original: Callable[[], Any]) -> Any:
    """One call of the pipeline: its scheduler and its network are taken over from beginning to end."""
    steering = _steered[id(pipe)]
    negatives = _negatives_of_call(pipe, steering, given)
    _warn(_negative_without_effect(steering.guidance, negatives) if negatives.from_call else None, CALLER)
    _warn(_rescale_without_effect(given), CALLER)
    _warn(_scale_without_effect(steering.guidance, given), CALLER)
    call = PipelineCall(pipe, steering, negatives)
    with ExitStack() as stack:
        # the scheduler and the network of this moment: they may have been replaced since the block began
        stack.enter_context(
            replaced_methods(pipe.scheduler, _scheduler_methods, f"the scheduler of {type(pipe).__name__}")
        )
        stack.enter_context(routed_call(call.network, handler))
        token = current.set(call)
        stack.callback(current.reset, token)
        return original()


def _negatives_of_call(pipe: Any, steering: Steering, given: Mapping[str, Any]) -> Negatives:
    of_call = given_to_call(given.get("negative_prompt"), given.get("negative_prompt_embeds"))
    for text in of_call.all_texts():
        check_readable(pipe, text)
    return chosen(steering.negatives, of_call)


def _rescale_without_effect(given: Mapping[str, Any]) -> str | None:
    """The pipeline's own guidance is the identity on what we hand it, so its settings do nothing."""
    rescale = given.get("guidance_rescale")
    if not rescale:
        return None
    return (
        f"guidance_rescale={rescale} of the pipeline's call has no effect under steer; set it on the guidance, as in "
        f"ClassifierFreeGuidance(guidance_rescale={rescale})"
    )


def _scale_without_effect(guidance: Guidance, given: Mapping[str, Any]) -> str | None:
    scale = _scale_of(guidance)
    if given.get("guidance_scale", scale) == scale:
        return None
    return (
        f"guidance_scale={given['guidance_scale']} of the pipeline's call has no effect under steer: the guidance "
        f"{guidance.name} has {scale}; set it there"
    )


def _scale_of(guidance: Guidance) -> float:
    inner = getattr(guidance, "inner", None)
    return getattr(guidance, "guidance_scale", 1.0) if inner is None else _scale_of(inner)


def _scheduler_methods(original: type) -> Mapping[str, Callable[..., Any]]:
    """What a scheduler does while its pipeline is inside of a steered call."""

    def call_of(scheduler: Any) -> PipelineCall | None:
        call = current.get()
        return call if call is not None and call.pipe.scheduler is scheduler else None

    @functools.wraps(original.step)  # type: ignore[attr-defined]
    def step(self: Any, model_output: Any, *args: Any, **kwargs: Any) -> Any:
        call = call_of(self)
        if call is None:
            return original.step(self, model_output, *args, **kwargs)  # type: ignore[attr-defined]
        moved = original.step(self, call.before_step(model_output), *args, **kwargs)  # type: ignore[attr-defined]
        call.after_step()
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
