"""One training loop for every network: progress, checkpoints, resuming, an average of the weights.

Each step draws its randomness from a generator seeded by (seed, step), so a run that was stopped and
resumed makes the same numbers as one that was not.
"""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..core.errors import TrainingDiverged
from ..core.saving import save_whole

CHECKPOINT_EVERY_SECONDS = 60.0
STEP_SEED_STRIDE = 1_000_003
LARGEST_GRADIENT = 1.0


@dataclass(frozen=True)
class Schedule:
    """How long and how fast one network learns.

    Args:
        steps: optimiser steps.
        batch_size: images a step.
        learning_rate: AdamW's, after the warm-up.
        warmup_steps: steps over which the rate rises linearly from 0.
        decay: last fraction of the steps, over which the rate falls linearly to 0.
        ema_decay: decay of the running average of the weights, which is what is kept.
        weight_decay: AdamW's.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int = 100
    decay: float = 0.5
    ema_decay: float = 0.998
    weight_decay: float = 1e-3

    def rate(self, step: int) -> float:
        rising = min(1.0, (step + 1) / max(1, self.warmup_steps))
        left = (self.steps - step) / max(1.0, self.steps * self.decay)
        return self.learning_rate * rising * min(1.0, left)


@dataclass(frozen=True)
class Progress:
    """What a stage reports as it goes on.

    Args:
        stage: its name.
        step, steps: how many optimiser steps are done, and how many there are; of a stage that prepares, how many portraits.
        images_per_second: since the stage was begun or resumed.
        loss: of the step; None where nothing is learnt.
    """

    stage: str
    step: int
    steps: int
    images_per_second: float
    loss: float | None = None


Report = Callable[[Progress], None]


def step_generator(seed: int, step: int) -> torch.Generator:
    """The generator of one step: a resumed run draws what the uninterrupted one drew."""
    return torch.Generator().manual_seed(seed * STEP_SEED_STRIDE + step)


def computes_in_bfloat16(device: str) -> bool:
    """Whether the processor has instructions for it: a CPU without them emulates it, many times slower than float32.

    A torch that cannot tell computes in float32, which is right everywhere.
    """
    if device != "cpu":
        return True
    if not hasattr(torch.cpu, "get_capabilities"):
        return False
    return any(there for name, there in torch.cpu.get_capabilities().items() if name.endswith("bf16"))


def fast_arithmetic(device: str) -> AbstractContextManager:
    """bfloat16 where it is safe and fast. (The plain attention is the fastest one for training on a CPU.)"""

    class Both(AbstractContextManager):
        def __enter__(self) -> None:
            self.cast = torch.autocast(device, torch.bfloat16, enabled=computes_in_bfloat16(device))
            self.attention = sdpa_kernel(SDPBackend.MATH) if device == "cpu" else nullcontext()
            self.cast.__enter__()
            self.attention.__enter__()

        def __exit__(self, *error: Any) -> None:
            self.attention.__exit__(*error)
            self.cast.__exit__(*error)

    return Both()


class _Averaged:
    """AdamW and the running average of the weights, saved and loaded as one safetensors file."""

    def __init__(self, model: nn.Module, schedule: Schedule) -> None:
        self.model, self.schedule = model, schedule
        self.names = [name for name, _ in model.named_parameters()]
        self.parameters = [parameter for _, parameter in model.named_parameters()]
        self.optimizer = torch.optim.AdamW(
            self.parameters, schedule.learning_rate, betas=(0.9, 0.99),
            weight_decay=schedule.weight_decay, fused=True,
        )  # fmt: skip
        self.average = [parameter.detach().clone() for parameter in self.parameters]

    def step(self, step: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(step)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        decay = min(self.schedule.ema_decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.average, [parameter.detach() for parameter in self.parameters], 1 - decay)

    def save(self, path: Path, step: int) -> None:
        tensors: dict[str, Tensor] = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for name, parameter, average in zip(self.names, self.parameters, self.average, strict=True):
            tensors[f"average.{name}"] = average
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer.{key}.{name}"] = value
        kept = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        save_whole(path, lambda to: save_file(kept, to, metadata={"step": str(step)}))

    def load(self, path: Path) -> int:
        with safe_open(path, "pt") as file:
            stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - safe_open is no dict
            step = int(file.metadata()["step"])
        model = {key.removeprefix("model."): value for key, value in stored.items() if key.startswith("model.")}
        self.model.load_state_dict(model)
        for name, parameter, average in zip(self.names, self.parameters, self.average, strict=True):
            average.copy_(stored[f"average.{name}"])
            self.optimizer.state[parameter] = {  # all of it there: the fused AdamW counts its steps on the device
                key: stored[f"optimizer.{key}.{name}"].to(parameter.device) for key in ("step", "exp_avg", "exp_avg_sq")
            }
        return step

    @torch.no_grad()
    def use_average(self) -> None:
        for parameter, average in zip(self.parameters, self.average, strict=True):
            parameter.copy_(average)


def train(
    stage: str,
    model: nn.Module,
    loss_of: Callable[[int, torch.Generator], Tensor],
    schedule: Schedule,
    folder: Path,
    *,
    seed: int,
    report: Report,
) -> nn.Module:
    """Train ``model`` in place and leave the averaged weights in it.

    Args:
        stage: the network's name; its checkpoint is ``folder/checkpoints/<stage>.safetensors``.
        loss_of: (step, generator of that step) -> a scalar loss.
        schedule: length and rates.
        folder: where checkpoints live. A checkpoint that is there is resumed from.
        seed: all randomness of the steps follows from it.
        report: called after every step.

    Raises:
        TrainingDiverged: the loss or its gradient is not finite; the last good checkpoint is kept.
    """
    checkpoint = folder / "checkpoints" / f"{stage}.safetensors"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    state = _Averaged(model, schedule)
    start = state.load(checkpoint) if checkpoint.exists() else 0
    model.train()
    device = next(model.parameters()).device.type
    saved = began = time.monotonic()
    done, whole = start, True
    try:
        for step in range(start, schedule.steps):
            with fast_arithmetic(device):
                loss = loss_of(step, step_generator(seed, step))
            value = float(loss.detach())
            if not math.isfinite(value):
                raise TrainingDiverged(stage, step, value)
            loss.backward()
            norm = float(torch.nn.utils.clip_grad_norm_(state.parameters, LARGEST_GRADIENT))
            if not math.isfinite(norm):
                raise TrainingDiverged(stage, step, norm, "gradient")
            whole = False
            state.step(step)
            done, whole = step + 1, True
            now = time.monotonic()
            report(Progress(stage, done, schedule.steps, (done - start) * schedule.batch_size / (now - began), value))
            if now - saved > CHECKPOINT_EVERY_SECONDS:
                state.save(checkpoint, done)
                saved = now
    except KeyboardInterrupt:
        # else it fell into an update, or before the first: the last checkpoint is the good one
        if whole and done > start:
            state.save(checkpoint, done)
        raise
    if start < schedule.steps:
        state.save(checkpoint, schedule.steps)
    state.use_average()
    return model.eval()
