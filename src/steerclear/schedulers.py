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
from typing import Any

import torch

from .errors import InvalidSetting, UnsupportedModel, in_words_of, shortened
from .noise import check_prediction_type

STOCHASTIC_NAMES = ("DDPM", "EulerAncestral", "KDPM2Ancestral", "DPMSolverSDE", "LCM", "TCD", "SASolver")


def noise_level(scheduler: Any, timestep: Any) -> tuple[float, float]:
    """(alpha, sigma) with x_t = alpha * x_0 + sigma * noise, in the scheduler's own scaling of x_t.

    Args:
        scheduler: a diffusers scheduler after ``set_timesteps``.
        timestep: the one about to be made.

    Raises:
        UnsupportedModel: the scheduler keeps neither ``sigmas`` nor ``alphas_cumprod``, or preconditions its network.
    """
    if hasattr(scheduler, "precondition_outputs"):
        raise UnsupportedModel(
            f"{type(scheduler).__name__} scales its network's output by itself (EDM's c_skip and c_out), which is none "
            f"of the spaces that steerclear converts; use EulerDiscreteScheduler or DPMSolverMultistepScheduler with "
            f"use_karras_sigmas=True"
        )
    if getattr(scheduler, "sigmas", None) is not None and hasattr(scheduler, "step_index"):
        return _from_sigma(scheduler, _current_sigma(scheduler, timestep))
    if getattr(scheduler, "alphas_cumprod", None) is not None:
        alpha_squared = float(scheduler.alphas_cumprod[int(timestep)])
        return alpha_squared**0.5, (1 - alpha_squared) ** 0.5
    raise UnsupportedModel(
        f"{type(scheduler).__name__} keeps neither sigmas nor alphas_cumprod, so the noise level of a step is unknown; "
        f"use another scheduler, such as DPMSolverMultistepScheduler"
    )


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


def _current_sigma(scheduler: Any, timestep: Any) -> float:
    index = scheduler.step_index
    if index is None:
        begin = getattr(scheduler, "begin_index", None)
        index = begin if begin is not None else _index_of(scheduler, timestep)
    if getattr(scheduler, "state_in_first_order", True) is False:
        if hasattr(scheduler, "sigmas_interpol"):
            # the ancestral form keeps the midpoint at the step it belongs to, the other one at the substep
            return float(scheduler.sigmas_interpol[int(index) - hasattr(scheduler, "sigmas_down")])
        if getattr(scheduler, "mid_point_sigma", None) is not None:
            return float(scheduler.mid_point_sigma)
    return float(scheduler.sigmas[int(index)])


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
        alpha, scaled = scheduler._sigma_to_alpha_sigma_t(torch.as_tensor(sigma, dtype=torch.float64))
        return float(alpha), float(scaled)
    return 1.0, sigma


def is_flow(scheduler: Any) -> bool:
    """Whether the scheduler interpolates between data and noise, as flow matching does."""
    return (
        hasattr(scheduler, "scale_noise")
        or bool(getattr(scheduler.config, "use_flow_sigmas", False))
        or getattr(scheduler.config, "prediction_type", "") == "flow_prediction"
    )


def prediction_type(scheduler: Any) -> str:
    """The space in which the scheduler takes predictions.

    Raises:
        InvalidSetting: a space that steerclear does not know.
    """
    # flow-matching schedulers know one space only and have no such setting
    default = "flow_prediction" if hasattr(scheduler, "scale_noise") else "epsilon"
    kind = getattr(scheduler.config, "prediction_type", default)
    check_prediction_type(kind)
    return kind


def is_stochastic(scheduler: Any) -> bool:
    """Whether a step draws noise, so that its transition has a likelihood that tracking can read.

    DDIM is stochastic only with ``eta`` above 0, which the caller of the pipeline sets: it counts as deterministic.
    """
    # a scheduler made from another's config keeps that one's settings, so only its own parameters count
    own = inspect.signature(type(scheduler).__init__).parameters
    settings = {name: value for name, value in scheduler.config.items() if name in own}
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
