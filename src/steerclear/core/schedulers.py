"""alpha and sigma of a diffusers scheduler's current step, and the space in which its network predicts.

Reads the scheduler object's own state (``alphas_cumprod``, ``sigmas``, ``step_index``); does not import diffusers.

    DDIM, DDPM, PNDM, LCM, TCD, ...    alpha^2 = alphas_cumprod[t]
    Euler, Heun, LMS, KDPM2, ...       alpha = 1, sigma = sigmas[i]
    DPM-Solver++, UniPC, DEIS, SA      alpha = 1 / sqrt(1 + sigmas[i]^2), sigma = sigmas[i] * alpha
    flow matching                      alpha = 1 - sigmas[i], sigma = sigmas[i]

The tests check each against the scheduler's own ``add_noise`` or ``scale_noise``, and against the denoised image that its
``step`` works with.
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
"""Schedulers of flows alone, which have no ``prediction_type``."""
ANOTHER_SCHEDULER = "use another scheduler, such as DPMSolverMultistepScheduler"
UNCLIPPED_NAMES = ("TCD", "CogVideoX")
"""Schedulers that accept ``clip_sample`` or ``thresholding`` and ignore it."""
STOCHASTIC_NAMES = (
    "DDPM", "EulerAncestral", "KDPM2Ancestral", "DPMSolverSDE", "LCM", "TCD", "SASolver", "CMStochastic",
    "CosineDPMSolver", "CogVideoXDPM", "UnCLIP", "RePaint",
)  # fmt: skip


def unreadable(scheduler: Any) -> str | None:
    """Why the noise level of a step, and so the denoised prediction, cannot be read off a scheduler; None if it can.

    A guidance that needs neither, such as classifier-free guidance, works with every scheduler.
    """
    name = type(scheduler).__name__
    if preconditions(scheduler):
        return (
            f"{name} scales its network's output by itself (EDM's c_skip and c_out), which steerclear does not convert"
        )
    if not _has_sigmas(scheduler) and getattr(scheduler, "alphas_cumprod", None) is None:
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
    # diffusers converts these two as if the levels were of the other kind, so its "denoised" prediction is not denoised
    flow_levels = bool(own_setting(scheduler, "use_flow_sigmas")) or hasattr(scheduler, "scale_noise")
    if flow_levels != (kind == "flow_prediction") and kind in ("flow_prediction", "v_prediction"):
        return f"{name} has prediction_type={kind!r} and use_flow_sigmas={flow_levels}, which do not go together"
    return None


def preconditions(scheduler: Any) -> bool:
    """Whether a scheduler scales its network's output by itself, as EDM and consistency models do."""
    return hasattr(scheduler, "precondition_outputs") or hasattr(scheduler, "get_scalings")


def _has_sigmas(scheduler: Any) -> bool:
    return getattr(scheduler, "sigmas", None) is not None and hasattr(scheduler, "step_index")


def noise_level(scheduler: Any, timestep: Any) -> tuple[float, float]:
    """(alpha, sigma) with x_t = alpha * x_0 + sigma * noise, in the scheduler's own scaling of x_t.

    Args:
        scheduler: a diffusers scheduler after ``set_timesteps``; readable, see :func:`unreadable`.
        timestep: of the next step.
    """
    if _has_sigmas(scheduler):
        return _from_sigma(scheduler, _current_sigma(scheduler, timestep))
    alpha_squared = float(scheduler.alphas_cumprod[int(timestep)])
    return alpha_squared**0.5, (1 - alpha_squared) ** 0.5


def next_noise_level(scheduler: Any, timestep: Any) -> tuple[float, float]:
    """(alpha, sigma) after the next step; arguments as :func:`noise_level`.

    After the last step it is (1, 0), except for schedulers that stop at timestep 0: DDIM and PNDM with
    ``set_alpha_to_one=False``, DPM-Solver, DEIS and SA-Solver with ``final_sigmas_type="sigma_min"``, and TCD. It is NaN if
    the pipeline, and not the scheduler, chooses the level.
    """
    if _has_sigmas(scheduler):
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
    """For schedulers that step along their training timesteps; negative at the end, None if unknown."""
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
    """alpha, sigma and the timestep of any noise level, in the scheduler's scaling and units.

    Timesteps of flows are sigma times ``num_train_timesteps``. Those of other schedulers are interpolated in the training
    table, linearly in log(sigma / alpha), and constant beyond its ends, as diffusers does for other levels than its own
    (Karras et al. 2022).

    Args:
        scheduler: readable; see :func:`unreadable`.
        noise_to_signal: sigma / alpha, above 0 and finite.
    """
    steps = scheduler.config.num_train_timesteps
    if is_flow(scheduler):
        sigma = noise_to_signal / (1 + noise_to_signal)
        return 1 - sigma, sigma, sigma * steps
    if _has_sigmas(scheduler):
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
    """The factor by which ``scale_model_input`` multiplies a sample of this level."""
    return 1.0 if is_flow(scheduler) else 1 / math.hypot(alpha, sigma)


def point(
    scheduler: Any, sample: Tensor, level_of: Any, evaluation: int, evaluations: int, *, timestep: object = None
) -> Point:
    """Where a sampler stands before an evaluation of its network.

    Args:
        scheduler: a diffusers scheduler after ``set_timesteps`` and the evaluations before this one.
        sample: x_t.
        level_of: timestep of the next step, in the scheduler's units.
        evaluation: index of the evaluation, from 0.
        evaluations: total number.
        timestep: what the network is told; None for ``level_of``.
    """
    index, total = steps_begun(scheduler, evaluation + 1) - 1, steps_begun(scheduler, evaluations)
    told = level_of if timestep is None else timestep
    if unreadable(scheduler) is not None:
        return Point(sample, math.nan, math.nan, told, index, total, is_substep(scheduler))
    here, following = noise_level(scheduler, level_of), next_noise_level(scheduler, level_of)
    levels = partial(level_at, scheduler)
    return Point(sample, *here, told, index, total, is_substep(scheduler), *following, levels)


def steps_begun(scheduler: Any, evaluations: int) -> int:
    """The number of steps, as ``num_inference_steps`` counts them, that the first ``evaluations`` of a run begin.

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
    """sigma / alpha at the beginning of every step of a run: NaN if it cannot be read, infinite at pure noise.

    Args:
        scheduler: a diffusers scheduler after ``set_timesteps``, before the first step.
        first: the first timestep of the run; image-to-image skips those before it.
        evaluations: their total number; SDXL's ``denoising_end`` skips those after it.
    """
    begins = [k for k in range(evaluations) if steps_begun(scheduler, k + 1) > steps_begun(scheduler, k)]
    if unreadable(scheduler) is not None:
        return [math.nan] * len(begins)
    start = min(_index_of(scheduler, first), len(scheduler.timesteps) - evaluations)
    levels = []
    for k in begins:
        if _has_sigmas(scheduler):
            alpha, sigma = _from_sigma(scheduler, float(scheduler.sigmas[start + k]))
        else:
            alpha, sigma = noise_level(scheduler, scheduler.timesteps[start + k])
        levels.append(sigma / alpha if alpha > 0 else math.inf)
    return levels


def level_at_start(scheduler: Any) -> tuple[float, float]:
    """(alpha, sigma) at the first step; the scheduler is readable, after ``set_timesteps``, before the first step."""
    if _has_sigmas(scheduler):
        return _from_sigma(scheduler, float(scheduler.sigmas[0]))
    return noise_level(scheduler, scheduler.timesteps[0])


def altered_denoised(scheduler: Any) -> str | None:
    """Why a scheduler changes the guided denoised prediction before stepping; None if it does not.

    ``clip_sample``, ``clip_denoised`` and ``thresholding`` cut it to the range of pixels after the guidance. That is right
    for networks of pixels, and wrong for latents, which reach far beyond.
    """
    names = ("thresholding", "clip_sample", "clip_denoised")
    found = [f"{name}=True" for name in names if own_setting(scheduler, name)]
    keeps_it = _is_named(scheduler, UNCLIPPED_NAMES) or getattr(scheduler, "predict_x0", True) is False
    if not found or keeps_it:
        return None
    return (
        f"{type(scheduler).__name__} has {' and '.join(found)}, so each of its steps cuts the denoised prediction to the range "
        f"of pixels after the guidance"
    )


def own_setting(scheduler: Any, name: str, otherwise: Any = None) -> Any:
    """A setting that a scheduler's class takes; ``from_config`` keeps others, of other schedulers, without effect."""
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
    """Whether the next evaluation is at a point that is not kept, because the step starts again from an earlier one.

    See :func:`steps_begun`; DPM-Solver's single-step form has two or three evaluations per step.
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
    # after an image-to-image start there are too few predictions yet: the scheduler lowers the order, and so do we
    while order > 1 and scheduler.model_outputs[1 - order] is None:
        order -= 1
    return order > 1


def _current_index(scheduler: Any, timestep: Any) -> int:
    begin = getattr(scheduler, "begin_index", None) if scheduler.step_index is None else scheduler.step_index
    return _index_of(scheduler, timestep) if begin is None else int(begin)


def _current_sigma(scheduler: Any, timestep: Any) -> float:
    index = _current_index(scheduler, timestep)
    if getattr(scheduler, "state_in_first_order", True) is False:
        if hasattr(scheduler, "sigmas_interpol"):
            # the ancestral form keeps the midpoint at its step, the other one at the substep
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
    """The space in which the scheduler takes predictions. Raises :class:`InvalidSetting` for an unknown one."""
    if hasattr(scheduler, "scale_noise"):  # flow matching, which has no such setting
        return "flow_prediction"
    kind = own_setting(scheduler, "prediction_type", "epsilon")
    check_prediction_type(kind)
    return kind


def is_stochastic(scheduler: Any, eta: float | None = None) -> bool:
    """Whether a step draws noise, so that its transition has a likelihood for tracking.

    Args:
        scheduler: of the pipeline.
        eta: of the pipeline's call; with one above 0, those draw noise whose steps take it (DDIM's).
    """
    if eta and "eta" in inspect.signature(scheduler.step).parameters:
        return True
    if str(own_setting(scheduler, "algorithm_type")).startswith("sde") or own_setting(scheduler, "stochastic_sampling"):
        return True
    return any(name in type(scheduler).__name__ for name in STOCHASTIC_NAMES)


def sampler_kind(scheduler: Any, eta: float | None = None) -> str:
    """ "stochastic" or "deterministic"; arguments as :func:`is_stochastic`."""
    return "stochastic" if is_stochastic(scheduler, eta) else "deterministic"


def check_repeatable(scheduler: Any) -> None:
    """Raises :class:`UnsupportedModel` for a scheduler whose noise cannot depend on an image's seed alone."""
    if is_stochastic(scheduler) and not step_arguments(scheduler, []):
        raise UnsupportedModel(
            f"{type(scheduler).__name__} takes no generator for the noise of its steps, so an image would depend on its batch "
            f"and on the run; use another, such as EulerAncestralDiscreteScheduler"
        )


def step_arguments(scheduler: Any, generators: list[torch.Generator]) -> dict[str, Any]:
    """Keyword arguments of ``scheduler.step`` that draw each image's noise from its own generator."""
    takes = inspect.signature(scheduler.step).parameters
    return {"generator": generators} if "generator" in takes else {}


def check_steps(scheduler: Any, num_inference_steps: int) -> None:
    """Raises :class:`InvalidSetting`, with the scheduler's reason, for a number of steps that it cannot make."""
    if getattr(scheduler.config, "use_dynamic_shifting", False):
        return  # set by the pipeline, from the size of the image
    try:
        copy.deepcopy(scheduler).set_timesteps(num_inference_steps)
    except (ValueError, TypeError, IndexError, RuntimeError, ArithmeticError) as error:
        raise InvalidSetting(
            in_words_of("num_inference_steps", "--steps"), num_inference_steps,
            f"a number of steps that {type(scheduler).__name__} can make", shortened(str(error).rstrip(".")),
        ) from error  # fmt: skip
