"""alpha and sigma of a diffusers scheduler's current step, and the space in which its network predicts.

Reads what the scheduler object itself keeps (``alphas_cumprod``, ``sigmas``, ``step_index``); imports no diffusers.

    DDIM, DDPM, PNDM, LCM, TCD, ...    alpha^2 = alphas_cumprod[t]
    Euler, Heun, LMS, KDPM2, ...       alpha = 1, sigma = sigmas[i]
    DPM-Solver++, UniPC, DEIS, SA      alpha = 1 / sqrt(1 + sigmas[i]^2), sigma = sigmas[i] * alpha
    flow matching                      alpha = 1 - sigmas[i], sigma = sigmas[i]

Each is checked in the tests against what the scheduler's own ``add_noise`` or ``scale_noise`` does, and against the
denoised image that its own ``step`` works with.
"""

import copy
import inspect
import math
from functools import cache, lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from .denoiser import Point
from .errors import InvalidSetting, UnsupportedModel, in_words_of, shortened
from .noise import PREDICTION_TYPES, check_prediction_type

FLOW_NAMES = ("FlowMatch",)
"""Schedulers that know one space only, the flow, and have no ``prediction_type`` to say so."""
ANOTHER_SCHEDULER = "use another scheduler, such as DPMSolverMultistepScheduler"
UNCLIPPED_NAMES = ("TCD", "CogVideoX")
"""Schedulers that take ``clip_sample`` or ``thresholding`` and never do it."""
STOCHASTIC_NAMES = (
    "DDPM", "EulerAncestral", "KDPM2Ancestral", "DPMSolverSDE", "LCM", "TCD", "SASolver", "CMStochastic",
    "CosineDPMSolver", "CogVideoXDPM", "UnCLIP", "RePaint",
)  # fmt: skip


def unreadable(scheduler: Any) -> str | None:
    """Why the noise level of a step, and so the denoised prediction, cannot be read off a scheduler; None where it can.

    A guidance that needs neither, such as classifier-free guidance, works with every scheduler.
    """
    name = type(scheduler).__name__
    if preconditions(scheduler):
        return (
            f"{name} scales its network's output by itself (EDM's c_skip and c_out), which steerclear does not convert"
        )
    has_sigmas = getattr(scheduler, "sigmas", None) is not None and hasattr(scheduler, "step_index")
    if not has_sigmas and getattr(scheduler, "alphas_cumprod", None) is None:
        return f"{name} keeps neither sigmas nor alphas_cumprod, so the noise level of a step is unknown"
    if not (hasattr(scheduler, "add_noise") or hasattr(scheduler, "scale_noise")):
        return f"{name} does not say how it adds noise to an image, so the noise level of a step is unknown"
    if own_setting(scheduler, "stages") is not None:
        return f"{name} goes through stages of several sizes, and between them the pipeline adds noise by itself"
    kind = own_setting(scheduler, "prediction_type", "flow_prediction" if _is_named(scheduler, FLOW_NAMES) else None)
    if kind is None:
        return f"{name} does not say what its network predicts"
    if kind not in PREDICTION_TYPES:
        return f"{name} takes predictions of a kind that steerclear does not convert, {kind!r}"
    # diffusers converts these two as if the levels were of the other kind, so what it steps with is not denoised
    flow_levels = bool(own_setting(scheduler, "use_flow_sigmas")) or hasattr(scheduler, "scale_noise")
    if flow_levels != (kind == "flow_prediction") and kind in ("flow_prediction", "v_prediction"):
        return f"{name} has prediction_type={kind!r} and use_flow_sigmas={flow_levels}, which do not go together"
    return None


def preconditions(scheduler: Any) -> bool:
    """Whether a scheduler scales its network's output by itself, as EDM and consistency models do."""
    return hasattr(scheduler, "precondition_outputs") or hasattr(scheduler, "get_scalings")


def noise_level(scheduler: Any, timestep: Any) -> tuple[float, float]:
    """(alpha, sigma) with x_t = alpha * x_0 + sigma * noise, in the scheduler's own scaling of x_t.

    Args:
        scheduler: a diffusers scheduler after ``set_timesteps``.
        timestep: the one about to be made.

    Raises:
        UnsupportedModel: the noise level cannot be read; see :func:`unreadable`.
    """
    reason = unreadable(scheduler)
    if reason is not None:
        raise UnsupportedModel(f"{reason}; {ANOTHER_SCHEDULER}")
    return _noise_level(scheduler, timestep)


def _noise_level(scheduler: Any, timestep: Any) -> tuple[float, float]:
    if getattr(scheduler, "sigmas", None) is not None and hasattr(scheduler, "step_index"):
        return _from_sigma(scheduler, _current_sigma(scheduler, timestep))
    alpha_squared = float(scheduler.alphas_cumprod[int(timestep)])
    return alpha_squared**0.5, (1 - alpha_squared) ** 0.5


def next_noise_level(scheduler: Any, timestep: Any) -> tuple[float, float]:
    """(alpha, sigma) of what the scheduler's step makes of a sample, in its own scaling.

    After the last step it is (1, 0), unless the scheduler stops short of it: DDIM and PNDM with ``set_alpha_to_one=False``
    and DPM-Solver, DEIS and SA-Solver with ``final_sigmas_type="sigma_min"`` do, and TCD: they stop at timestep 0.

    Args:
        scheduler: readable (see :func:`unreadable`), after ``set_timesteps``.
        timestep: the one about to be made.

    Returns:
        The level; NaN where the pipeline, and not the scheduler, chooses it.
    """
    if getattr(scheduler, "sigmas", None) is not None and hasattr(scheduler, "step_index"):
        return _from_sigma(scheduler, _next_sigma(scheduler, _current_index(scheduler, timestep)))
    following = _next_timestep(scheduler, int(timestep))
    if following is None:
        return math.nan, math.nan
    if following >= 0:
        alpha_squared = float(scheduler.alphas_cumprod[following])
    else:
        alpha_squared = 1.0 if hasattr(scheduler, "previous_timestep") else float(scheduler.final_alpha_cumprod)
    return alpha_squared**0.5, (1 - alpha_squared) ** 0.5


def _next_sigma(scheduler: Any, index: int) -> float:
    following, first = float(scheduler.sigmas[index + 1]), getattr(scheduler, "state_in_first_order", None)
    if first is False:
        return float(scheduler.sigmas[index])
    if hasattr(scheduler, "sigmas_interpol"):
        return float(scheduler.sigmas_interpol[index + (not hasattr(scheduler, "sigmas_down"))])
    if hasattr(scheduler, "mid_point_sigma"):  # halfway in log sigma
        return math.sqrt(float(scheduler.sigmas[index]) * following)
    return following


def _next_timestep(scheduler: Any, timestep: int) -> int | None:
    """Of schedulers that step along their training timesteps; negative at the end, None where they do not say it."""
    if hasattr(scheduler, "previous_timestep"):
        index = _index_of(scheduler, timestep) + 1
        if index < len(scheduler.timesteps):
            return int(scheduler.timesteps[index])
        return 0 if _is_named(scheduler, ("TCD",)) else -1
    if not hasattr(scheduler, "final_alpha_cumprod") or _is_named(scheduler, ("DDIMInverse",)):
        return None
    stride = scheduler.config.num_train_timesteps // scheduler.num_inference_steps
    if hasattr(scheduler, "prk_timesteps") and scheduler.counter < len(scheduler.prk_timesteps):
        return timestep - (0 if scheduler.counter % 2 else stride // 2)
    if hasattr(scheduler, "prk_timesteps") and _is_pndm_substep(scheduler):
        return timestep
    return timestep - stride


def level_at(scheduler: Any, noise_to_signal: float) -> tuple[float, float, float]:
    """alpha, sigma and the timestep of a noise level of one's own choosing, in the scheduler's scaling and units.

    Timesteps of flows are sigma times ``num_train_timesteps``. Those of other schedulers are read off the training table,
    linearly in log(sigma / alpha) between two entries, and are the nearest entry beyond its ends: as diffusers does for
    levels that are not its own (Karras et al. 2022).

    Args:
        scheduler: readable; see :func:`unreadable`.
        noise_to_signal: sigma / alpha, above 0 and finite.
    """
    steps = scheduler.config.num_train_timesteps
    if is_flow(scheduler):
        sigma = noise_to_signal / (1 + noise_to_signal)
        return 1 - sigma, sigma, sigma * steps
    if getattr(scheduler, "sigmas", None) is not None and hasattr(scheduler, "step_index"):
        alpha, sigma = _from_sigma(scheduler, noise_to_signal)
    else:
        alpha = 1 / math.hypot(1, noise_to_signal)
        sigma = noise_to_signal * alpha
    continuous = own_setting(scheduler, "timestep_type") == "continuous"
    if continuous and own_setting(scheduler, "prediction_type") == "v_prediction":
        return alpha, sigma, 0.25 * math.log(noise_to_signal)
    table = scheduler.alphas_cumprod.double().cpu().clamp(min=1e-12)
    logs, wanted = ((1 - table) / table).log() / 2, math.log(noise_to_signal)
    above = int(torch.searchsorted(logs, wanted).clamp(1, len(logs) - 1))
    low, high = float(logs[above - 1]), float(logs[above])
    share = min(max((wanted - low) / (high - low), 0.0), 1.0)
    return alpha, sigma, above - 1 + share


def input_scale(scheduler: Any, alpha: float, sigma: float) -> float:
    """By how much the network's input is the sample: what ``scale_model_input`` multiplies a sample of this level by."""
    return 1.0 if is_flow(scheduler) else 1 / math.hypot(alpha, sigma)


def point(
    scheduler: Any, sample: Tensor, level_of: Any, evaluation: int, evaluations: int, *, timestep: object = None
) -> Point:
    """Where a sampler stands before an evaluation of its network.

    Args:
        scheduler: a diffusers scheduler after ``set_timesteps``, which has made the evaluations before.
        sample: x_t.
        level_of: the timestep about to be made, in the scheduler's units.
        evaluation: how many evaluations were made, from 0.
        evaluations: how many there will be.
        timestep: what the network is told; None for ``level_of``.
    """
    index, total = steps_begun(scheduler, evaluation + 1) - 1, steps_begun(scheduler, evaluations)
    told = level_of if timestep is None else timestep
    if unreadable(scheduler) is not None:
        return Point(sample, math.nan, math.nan, told, index, total, is_substep(scheduler))
    here, following = _noise_level(scheduler, level_of), next_noise_level(scheduler, level_of)
    levels = partial(level_at, scheduler)
    return Point(sample, *here, told, index, total, is_substep(scheduler), *following, levels)


def steps_begun(scheduler: Any, evaluations: int) -> int:
    """How many steps, of those that ``num_inference_steps`` counts, the first evaluations of a run begin.

    Heun, KDPM2 and DPM-Solver-SDE evaluate twice per step (once in the last); PNDM twice in its first step, or four times
    in each of its first three with ``skip_prk_steps=False``. All others evaluate once per step.
    """
    if hasattr(scheduler, "state_in_first_order"):
        return (evaluations + 1) // 2
    if hasattr(scheduler, "prk_timesteps"):
        if scheduler.config.skip_prk_steps:
            return evaluations - (evaluations > 1)
        runge_kutta = min(evaluations, len(scheduler.prk_timesteps))
        return (runge_kutta + 3) // 4 + evaluations - runge_kutta
    return evaluations


def noise_to_signal(scheduler: Any, first: Any, evaluations: int) -> list[float]:
    """sigma / alpha at the beginning of every step of a run, before its first.

    Args:
        scheduler: a diffusers scheduler after ``set_timesteps``.
        first: the first timestep of the run: image-to-image leaves out some before it.
        evaluations: how many there will be: SDXL's ``denoising_end`` leaves out some behind the last.

    Returns:
        A number per step: NaN where it cannot be read, infinite at pure noise.
    """
    begins = [k for k in range(evaluations) if steps_begun(scheduler, k + 1) > steps_begun(scheduler, k)]
    if unreadable(scheduler) is not None:
        return [math.nan] * len(begins)
    start = min(_index_of(scheduler, first), len(scheduler.timesteps) - evaluations)
    levels = []
    for k in begins:
        if getattr(scheduler, "sigmas", None) is not None and hasattr(scheduler, "step_index"):
            alpha, sigma = _from_sigma(scheduler, float(scheduler.sigmas[start + k]))
        else:
            alpha, sigma = noise_level(scheduler, scheduler.timesteps[start + k])
        levels.append(sigma / alpha if alpha > 0 else math.inf)
    return levels


def altered_denoised(scheduler: Any) -> str | None:
    """Why a scheduler steps with another denoised prediction than the guided one; None where it does not.

    ``clip_sample``, ``clip_denoised`` and ``thresholding`` cut the denoised prediction to the range of pixels, after the
    guidance. That is right for networks of pixels, and wrong for latents, which reach far beyond.
    """
    own = own_settings(scheduler)
    found = [f"{name}=True" for name in ("thresholding", "clip_sample", "clip_denoised") if own.get(name)]
    keeps_it = _is_named(scheduler, UNCLIPPED_NAMES) or getattr(scheduler, "predict_x0", True) is False
    if not found or keeps_it:
        return None
    return (
        f"{type(scheduler).__name__} has {' and '.join(found)}, so each of its steps cuts the denoised prediction to the range "
        f"of pixels after the guidance"
    )


def own_settings(scheduler: Any) -> dict[str, Any]:
    """The settings that a scheduler's class takes.

    ``from_config`` keeps what it finds in another scheduler's configuration, also what has no effect here.
    """
    config = getattr(scheduler, "config", None)
    if not hasattr(scheduler, "from_config"):
        return dict(vars(config)) if config is not None else {}
    kind: Any = type(scheduler)
    taken = _settings_of(kind)
    return {name: value for name, value in scheduler.config.items() if name in taken}


def own_setting(scheduler: Any, name: str, otherwise: Any = None) -> Any:
    """One of :func:`own_settings`, without going through all of them."""
    if not hasattr(scheduler, "from_config"):
        return getattr(getattr(scheduler, "config", None), name, otherwise)
    kind: Any = type(scheduler)
    return scheduler.config.get(name, otherwise) if name in _settings_of(kind) else otherwise


@cache
def _settings_of(kind: Any) -> frozenset[str]:
    return frozenset(name for own in kind.__mro__ for name in inspect.signature(own).parameters)


def _is_named(scheduler: Any, beginnings: tuple[str, ...]) -> bool:
    return any(kind.__name__.startswith(beginnings) for kind in type(scheduler).__mro__)


def is_substep(scheduler: Any) -> bool:
    """Whether the next evaluation is at a point that is not kept: the step starts again from an earlier one.

    Heun, KDPM2 and DPM-Solver-SDE evaluate twice a step; DPM-Solver's single-step form two or three times; PNDM twice
    in its first step (four times in each of its first three, with ``skip_prk_steps=False``).
    """
    if getattr(scheduler, "state_in_first_order", True) is False:
        return True
    if hasattr(scheduler, "prk_timesteps"):
        return _is_pndm_substep(scheduler)
    if hasattr(scheduler, "order_list"):
        return _is_singlestep_substep(scheduler)
    return False


def _is_pndm_substep(scheduler: Any) -> bool:
    if scheduler.config.skip_prk_steps:
        return scheduler.counter == 1
    return scheduler.counter < len(scheduler.prk_timesteps) and scheduler.counter % 4 != 0


def _is_singlestep_substep(scheduler: Any) -> bool:
    if scheduler.step_index is None:
        return False
    order = scheduler.order_list[scheduler.step_index]
    # after an image-to-image start there are too few predictions yet: the scheduler then lowers the order, so do we
    while order > 1 and scheduler.model_outputs[1 - order] is None:
        order -= 1
    return order > 1


def _current_index(scheduler: Any, timestep: Any) -> int:
    index = scheduler.step_index
    if index is None:
        begin = getattr(scheduler, "begin_index", None)
        index = begin if begin is not None else _index_of(scheduler, timestep)
    return int(index)


def _current_sigma(scheduler: Any, timestep: Any) -> float:
    index = _current_index(scheduler, timestep)
    if getattr(scheduler, "state_in_first_order", True) is False:
        if hasattr(scheduler, "sigmas_interpol"):
            # the ancestral form keeps the midpoint at the step it belongs to, the other one at the substep
            return float(scheduler.sigmas_interpol[index - hasattr(scheduler, "sigmas_down")])
        if getattr(scheduler, "mid_point_sigma", None) is not None:
            return float(scheduler.mid_point_sigma)
    return float(scheduler.sigmas[index])


def _index_of(scheduler: Any, timestep: Any) -> int:
    timesteps = scheduler.timesteps.double()
    same = (timesteps == float(timestep)).nonzero().flatten()
    if len(same):
        return int(same[1 if len(same) > 1 else 0])  # diffusers' own rule for image-to-image starts
    return int((timesteps - float(timestep)).abs().argmin())


def _from_sigma(scheduler: Any, sigma: float) -> tuple[float, float]:
    if is_flow(scheduler):
        return 1.0 - sigma, sigma
    if hasattr(scheduler, "_sigma_to_alpha_sigma_t"):
        return _variance_preserving(sigma)
    return 1.0, sigma


@lru_cache(maxsize=1024)
def _variance_preserving(sigma: float) -> tuple[float, float]:
    """In the schedulers' own tensors: Python's square root differs from theirs in the last bit."""
    ratio = torch.as_tensor(sigma, dtype=torch.float64)
    alpha = 1 / ((ratio**2 + 1) ** 0.5)
    return float(alpha), float(ratio * alpha)


def is_flow(scheduler: Any) -> bool:
    """Whether the scheduler interpolates between data and noise, as flow matching does."""
    return (
        hasattr(scheduler, "scale_noise")
        or bool(own_setting(scheduler, "use_flow_sigmas"))
        or own_setting(scheduler, "prediction_type") == "flow_prediction"
    )


def prediction_type(scheduler: Any) -> str:
    """The space in which the scheduler takes predictions.

    Raises:
        InvalidSetting: a space that steerclear does not know.
    """
    # flow-matching schedulers know one space only and have no such setting
    if hasattr(scheduler, "scale_noise"):
        return "flow_prediction"
    kind = own_setting(scheduler, "prediction_type", "epsilon")
    check_prediction_type(kind)
    return kind


def is_stochastic(scheduler: Any) -> bool:
    """Whether a step draws noise, so that its transition has a likelihood that tracking can read.

    DDIM is stochastic only with ``eta`` above 0, which the caller of the pipeline sets: it counts as deterministic.
    """
    settings = own_settings(scheduler)
    if str(settings.get("algorithm_type", "")).startswith("sde") or settings.get("stochastic_sampling", False):
        return True
    return any(name in type(scheduler).__name__ for name in STOCHASTIC_NAMES)


def check_repeatable(scheduler: Any) -> None:
    """Raises :class:`UnsupportedModel` for a scheduler whose noise cannot be an image's own."""
    if is_stochastic(scheduler) and "generator" not in inspect.signature(scheduler.step).parameters:
        raise UnsupportedModel(
            f"{type(scheduler).__name__} draws the noise of its steps from no generator that could be given to it, so an image "
            f"would depend on its batch and on the run; use another, such as EulerAncestralDiscreteScheduler"
        )


def step_arguments(scheduler: Any, generators: list[torch.Generator]) -> dict[str, Any]:
    """Keyword arguments of ``scheduler.step`` that make its noise the images' own."""
    takes = inspect.signature(scheduler.step).parameters
    return {"generator": generators} if "generator" in takes else {}


def check_steps(scheduler: Any, num_inference_steps: int) -> None:
    """Refuse a number of steps that a scheduler cannot make: few have bounds, and each says so in its own way.

    Args:
        scheduler: a diffusers scheduler; it is left as it is.
        num_inference_steps: of a run.

    Raises:
        InvalidSetting: with the scheduler's reason.
    """
    if getattr(scheduler.config, "use_dynamic_shifting", False):
        return  # set by the pipeline, from the size of the image
    try:
        copy.deepcopy(scheduler).set_timesteps(num_inference_steps)
    except (ValueError, TypeError, IndexError, RuntimeError, ArithmeticError) as error:
        raise InvalidSetting(
            in_words_of("num_inference_steps", "--steps"), num_inference_steps,
            f"a number of steps that {type(scheduler).__name__} can make", shortened(str(error).rstrip(".")),
        ) from error  # fmt: skip
