"""One image by plain classifier-free guidance, by the pipeline alone or by steering: both give the same.

``python -m steerclear.benchmark.one_run SETTINGS`` makes it in its own process and prints the peak memory.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from ..bridges.diffusers.steer import steer
from ..guidance.classifier_free import ClassifierFreeGuidance
from .memory import peak_bytes
from .networks import Size, random_pipeline

PROMPT, SCALE, SEED = "a portrait", 5.0, 0

GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "131072"}
"""Every tensor gets its own pages; otherwise glibc keeps freed memory, a different amount in every run."""

OnStepEnd = Callable[..., dict[str, Any]]


def plain_run(pipe: Any, steps: int, on_step_end: OnStepEnd | None = None) -> torch.Tensor:
    """The latents of one image under the pipeline's own guidance."""
    generator = torch.Generator().manual_seed(SEED)
    return pipe(PROMPT, num_inference_steps=steps, guidance_scale=SCALE, generator=generator, output_type="latent",
                callback_on_step_end=on_step_end).images  # fmt: skip


def steered_run(pipe: Any, steps: int, on_step_end: OnStepEnd | None = None) -> torch.Tensor:
    """The same latents, by steering."""
    with steer(pipe, ClassifierFreeGuidance(SCALE)):
        return plain_run(pipe, steps, on_step_end)


def peak_of_a_fresh_process(size: Size, steps: int, device: str, *, steered: bool) -> int:
    """Peak memory, in bytes, of a process that does only one run."""
    settings = {"size": asdict(size), "steps": steps, "device": device, "steered": steered}
    command = [sys.executable, "-W", "ignore", "-m", __name__, json.dumps(settings)]
    done = subprocess.run(command, env=os.environ | GIVE_BACK, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.split()[-1])


def main(size: dict[str, Any], steps: int, device: str, steered: bool) -> None:
    torch.set_num_threads(1)
    pipe = random_pipeline(Size(**size), device)
    (steered_run if steered else plain_run)(pipe, steps)
    print(peak_bytes(device))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
