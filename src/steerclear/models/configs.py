"""Check a model's configuration files before diffusers reads them, with clear errors for values that cannot work."""

import inspect
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from ..core.errors import SteerclearError, SteerclearWarning, UnsupportedModel, first_line, lacks_memory, shown
from .files import NETWORK_CONFIG, SCHEDULER_CONFIG, UNLOADABLE, WEAK_FOLDER, read_json

TRIAL_STEPS = 4
MOST_DROPPED = 2
"""How many settings of a scheduler another scheduler's defaults may replace."""

OF_THE_MODEL = frozenset({
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type", "rescale_betas_zero_snr",
    "sigma_min", "sigma_max", "sigma_data", "shift", "flow_shift", "use_flow_sigmas", "use_dynamic_shifting",
})  # fmt: skip
"""Scheduler settings that say how the model was trained; another scheduler's defaults cannot replace them."""

Size = Annotated[int, Field(ge=1)]
Beta = Annotated[float, Field(ge=0, le=1)]
Prediction = Literal["epsilon", "sample", "v_prediction", "flow_prediction", "original_sample", "trigflow"]
"""All types that diffusers' schedulers know. Those that steerclear cannot steer are refused later, with the reason."""


class NetworkConfig(BaseModel):
    """Types and ranges of the settings of diffusers' networks that every run computes with."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    sample_size: Size | list[Size] | None = None
    in_channels: Size | list[Size] | None = None
    out_channels: Size | list[Size] | None = None
    cross_attention_dim: Size | list[Size] | None = None
    scaling_factor: Annotated[float, Field(gt=0)] | None = None


class SchedulerConfig(BaseModel):
    """Types and ranges of the settings of diffusers' schedulers."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    num_train_timesteps: Size = 1000
    beta_start: Beta | None = None
    beta_end: Beta | None = None
    trained_betas: list[Beta] | None = None
    prediction_type: Prediction | None = None

    @field_validator("trained_betas")
    @classmethod
    def _one_per_timestep(cls, betas: list[float] | None, others: ValidationInfo) -> list[float] | None:
        if betas is not None and len(betas) < others.data.get("num_train_timesteps", 1):
            raise ValueError("fewer than num_train_timesteps")
        return betas


CHECKED: dict[str, type[BaseModel]] = {NETWORK_CONFIG: NetworkConfig, SCHEDULER_CONFIG: SchedulerConfig}
SIZES = "a whole number of at least 1, a list of them or null"
ALLOWED = dict.fromkeys(("sample_size", "in_channels", "out_channels", "cross_attention_dim"), SIZES) | {
    "scaling_factor": "a number above 0 or null", "num_train_timesteps": "a whole number of at least 1",
    "beta_start": "a number from 0 to 1 or null", "beta_end": "a number from 0 to 1 or null",
    "trained_betas": "a list with a number from 0 to 1 for each of num_train_timesteps, or null",
    "prediction_type": f"one of {', '.join(get_args(Prediction))} or null",
}  # fmt: skip


def check_configs(what: str, folder: Path) -> None:
    """Check the configuration files of all parts of a pipeline (``what``, in the error) in its folder.

    Raises:
        UnsupportedModel: a file is not a JSON object, or a setting has the wrong type or is out of range; names it.
    """
    for path in sorted(folder.glob("*/*config.json")):
        if path.parent.name == WEAK_FOLDER:
            continue
        config = read_json(path)
        if "_class_name" not in config:  # transformers' own, which checks what it reads
            continue
        try:
            if path.name in CHECKED:
                CHECKED[path.name].model_validate(config)
        except ValidationError as error:
            name = str(error.errors()[0]["loc"][0])
            raise UnsupportedModel(
                f"{what} cannot be loaded: {name} in {path.relative_to(folder).as_posix()} is {shown(config[name])}, but must "
                f"be {ALLOWED[name]}. Copy the file again."
            ) from error


def converted_scheduler(kind: Any, current: Any, settings: Mapping[str, Any] | None = None) -> Any:
    """A new scheduler with the settings of the current one, as far as it accepts them.

    diffusers' schedulers share the names of their settings but not all values: DEIS does not know the algorithm
    "sde-dpmsolver++". A setting that the new scheduler refuses keeps its default.

    Args:
        kind: the class of the new scheduler.
        current: the scheduler whose settings are copied.
        settings: replace the current ones.

    Raises:
        UnsupportedModel: the new scheduler refuses settings that say how the model was trained, or more than two others.

    Warns:
        SteerclearWarning: settings were left out; names them.
    """
    own, wanted = inspect.signature(kind.__init__).parameters, settings or {}
    optional = [
        name for name, value in current.config.items()
        if name in own and name not in (OF_THE_MODEL | wanted.keys()) and value != own[name].default
    ]  # fmt: skip
    first: Exception | None = None
    for count in range(MOST_DROPPED + 1):
        for dropped in combinations(optional, count):
            try:
                kept = {name: value for name, value in current.config.items() if name not in dropped}
                made = _tried(kind, kept | dict(wanted))
            except UNLOADABLE as error:
                first = first or error
                continue
            if dropped:
                taken = "; ".join(
                    f"{name} is {shown(made.config[name])} instead of {shown(current.config[name])}" for name in dropped
                )
                warnings.warn(
                    f"{kind.__name__} does not accept all settings of the model's {type(current).__name__}: {taken}",
                    SteerclearWarning,
                    stacklevel=4,
                )
            return made
    assert first is not None
    raise UnsupportedModel(
        f"{kind.__name__} does not accept the settings of the model's {type(current).__name__}: {first_line(first)}. Use "
        f"another scheduler, or leave it out to use the model's own."
    ) from first


def _tried(kind: Any, config: dict[str, Any]) -> Any:
    """The scheduler with these settings, after a trial: it can compute its timesteps."""
    trial = kind.from_config(config)
    if not getattr(trial.config, "use_dynamic_shifting", False):  # its timesteps depend on the image size
        trial.set_timesteps(TRIAL_STEPS)
    return kind.from_config(config)


@contextmanager
def failures_of_libraries() -> Iterator[None]:
    """Within the block a model runs; an error whose innermost frame is in a library becomes :class:`UnsupportedModel`.

    A model can load with a configuration that no run can compute with, and each library fails in its own way.
    """
    try:
        yield
    except (SteerclearError, OSError, MemoryError, Warning):
        raise
    except Exception as error:
        if lacks_memory(error):
            raise
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).startswith(__name__.partition(".")[0]):
            raise
        raise UnsupportedModel(
            f"the model cannot generate images with these settings: {type(error).__name__} in "
            f"{frame.f_globals.get('__name__')}, {first_line(error)}. Try another number of steps or another scheduler; if it "
            f"fails again, the model's configuration is damaged, so copy the model again."
        ) from error
