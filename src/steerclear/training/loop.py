"""One training loop for all networks: progress, checkpoints, resuming, averaged weights.

Each step draws from a generator seeded by (seed, step), so a resumed run gives the same numbers as an uninterrupted one.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..core.errors import TrainingDiverged
from ..core.saving import save_whole
from ..networks.shared.averages import PowerAverages, Snapshot

CHECKPOINT_EVERY_SECONDS = 60.0
STEP_SEED_STRIDE = 1_000_003
LARGEST_GRADIENT = 1.0
AT_ONCE = 2048
"""Portraits per part of a preparation."""


@dataclass(frozen=True)
class Schedule:
    """Length and rates of the training of one network.

    Args:
        steps: optimizer steps.
        batch_size: images per step.
        learning_rate: AdamW's learning rate after the warm-up.
        warmup_steps: steps over which the rate rises linearly from 0.
        decay: final fraction of the steps, over which the rate falls linearly to 0.
        ema_decay: decay of the running average of the weights, which is the result.
        weight_decay: AdamW's weight decay.
        snapshots: how many times, evenly, averages of the weights are kept (see ``averages``), in
            ``snapshots/<stage>``; 0 keeps none.
        stop: steps after which the training ends before its last, with the rates and snapshots of the whole; None for all.

    >>> Schedule(5000, 64, 1e-3, stop=1250).last, Schedule(5000, 64, 1e-3).last
    (1250, 5000)
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int = 100
    decay: float = 0.5
    ema_decay: float = 0.998
    weight_decay: float = 1e-3
    snapshots: int = 0
    stop: int | None = None

    @property
    def last(self) -> int:
        """Optimizer steps that are made."""
        return self.steps if self.stop is None else min(self.stop, self.steps)

    def keeps(self, done: int) -> bool:
        """Whether averages are kept after ``done`` steps."""
        return (done * self.snapshots) // self.steps > ((done - 1) * self.snapshots) // self.steps

    def rate(self, step: int) -> float:
        rising = min(1.0, (step + 1) / max(1, self.warmup_steps))
        left = (self.steps - step) / max(1.0, self.steps * self.decay)
        return self.learning_rate * rising * min(1.0, left)


@dataclass(frozen=True)
class Progress:
    """The progress of a stage.

    Args:
        stage: name of the stage.
        step, steps: finished and total optimizer steps; in a preparation, finished and total portraits.
        images_per_second: speed since the stage was started or resumed.
        loss: loss of the step; None in a preparation.
    """

    stage: str
    step: int
    steps: int
    images_per_second: float
    loss: float | None = None


Report = Callable[[Progress], None]


def in_parts(stage: str, count: int, report: Report) -> Iterator[Tensor]:
    """The indices of ``count`` portraits in parts; reports the progress of a preparation after each part."""
    began = time.monotonic()
    for rows in torch.arange(count).split(AT_ONCE):
        yield rows
        done = int(rows[-1]) + 1
        report(Progress(stage, done, count, done / (time.monotonic() - began)))


def step_generator(seed: int, step: int) -> torch.Generator:
    """The generator of one step."""
    return torch.Generator().manual_seed(seed * STEP_SEED_STRIDE + step)


def computes_in_bfloat16(device: str) -> bool:
    """Whether the device has bfloat16 instructions; a CPU without them emulates it, many times slower than float32.

    A torch version that cannot tell gives False, since float32 works everywhere.
    """
    if device != "cpu":
        return True
    if not hasattr(torch.cpu, "get_capabilities"):
        return False
    return any(there for name, there in torch.cpu.get_capabilities().items() if name.endswith("bf16"))


@contextmanager
def fast_arithmetic(device: str) -> Iterator[None]:
    """bfloat16 where it is safe and fast. (On a CPU the plain attention trains fastest.)"""
    attention = sdpa_kernel(SDPBackend.MATH) if device == "cpu" else nullcontext()
    with torch.autocast(device, torch.bfloat16, enabled=computes_in_bfloat16(device)), attention:
        yield


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
        self.kept = PowerAverages(self.parameters) if schedule.snapshots else None

    def step(self, step: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(step)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        decay = min(self.schedule.ema_decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.average, [parameter.detach() for parameter in self.parameters], 1 - decay)
        if self.kept:
            self.kept.step(step + 1)

    def keep(self, folder: Path, done: int, *, again: bool = True) -> None:
        """Write the snapshot after ``done`` steps, if there is to be one; one that is there is written ``again``, or stays."""
        path = folder / f"{done:07d}.safetensors"
        if self.kept and done and self.schedule.keeps(done) and (again or not path.exists()):
            Snapshot.write(path, done, self.names, self.kept)

    @property
    def averages(self) -> dict[str, list[Tensor]]:
        """All averages by their prefix in a checkpoint."""
        kept = self.kept.averages if self.kept else []
        return {"average": self.average} | {f"kept{number}": average for number, average in enumerate(kept)}

    def save(self, path: Path, step: int) -> None:
        tensors: dict[str, Tensor] = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for prefix, average in self.averages.items():
            tensors |= {f"{prefix}.{name}": value for name, value in zip(self.names, average, strict=True)}
        for name, parameter in zip(self.names, self.parameters, strict=True):
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer.{key}.{name}"] = value
        kept = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        save_whole(path, lambda to: save_file(kept, to, metadata={"step": str(step)}))

    def load(self, path: Path) -> int:
        with safe_open(path, "pt") as file:
            stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - safe_open is not a dict
            step = int(file.metadata()["step"])
        model = {key.removeprefix("model."): value for key, value in stored.items() if key.startswith("model.")}
        self.model.load_state_dict(model)
        for prefix, average in self.averages.items():
            for name, value in zip(self.names, average, strict=True):
                value.copy_(stored[f"{prefix}.{name}"])
        for name, parameter in zip(self.names, self.parameters, strict=True):
            self.optimizer.state[parameter] = {  # all on the device: the fused AdamW keeps its step count there
                key: stored[f"optimizer.{key}.{name}"].to(parameter.device) for key in ("step", "exp_avg", "exp_avg_sq")
            }
        return step

    @torch.no_grad()
    def use_average(self) -> None:
        for parameter, average in zip(self.parameters, self.average, strict=True):
            parameter.copy_(average)


def train(
    stage: str, model: nn.Module, loss_of: Callable[[int, torch.Generator], Tensor], schedule: Schedule, folder: Path,
    *, seed: int, report: Report,
) -> nn.Module:  # fmt: skip
    """Train ``model`` in place and leave the averaged weights in it.

    Args:
        stage: the network's name; its checkpoint is ``folder/checkpoints/<stage>.safetensors``.
        loss_of: (step, generator of that step) -> a scalar loss.
        schedule: length and rates.
        folder: parent of the checkpoint's folder; training resumes from a checkpoint that exists.
        seed: determines all randomness of the steps.
        report: called after every step.

    Raises:
        TrainingDiverged: the loss or its gradient is not finite; the last good checkpoint is kept.
    """
    checkpoint = folder / "checkpoints" / f"{stage}.safetensors"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    state = _Averaged(model, schedule)
    start = state.load(checkpoint) if checkpoint.exists() else 0
    state.keep(folder / "snapshots" / stage, start, again=False)  # a run may be stopped before it writes them
    model.train()
    device = next(model.parameters()).device.type
    saved = began = time.monotonic()
    done, whole = start, True
    try:
        for step in range(start, schedule.last):
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
            report(Progress(stage, done, schedule.last, (done - start) * schedule.batch_size / (now - began), value))
            state.keep(folder / "snapshots" / stage, done)
            if now - saved > CHECKPOINT_EVERY_SECONDS:
                state.save(checkpoint, done)
                saved = now
    except KeyboardInterrupt:
        # otherwise it interrupted an update or came before the first; then the last checkpoint stays
        if whole and done > start:
            state.save(checkpoint, done)
        raise
    if start < schedule.last:
        state.save(checkpoint, schedule.last)
    state.use_average()
    return model.eval()
