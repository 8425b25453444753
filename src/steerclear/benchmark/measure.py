"""Memory and time of measuring folders of images, each run in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from ..core.settings import whole
from ..study.outside import Outside, measure_folders
from .claims import Benchmark, Experiment, OnStage, at_most
from .memory import peak_bytes
from .one_run import GIVE_BACK

SIZE, FEW = 64, 250
MOST_MEMORY, MOST_GROWTH, MOST_SECONDS = 2.0, 1.5, 60.0
JUDGE, CONCEPT = "portraits:classifier=second", "mustache"


@dataclass(frozen=True)
class Measure(Experiment):
    """Peak memory and time of `steerclear measure` on a folder of images, beside a few of them, with a reference.

    Args:
        images: in the folder and in the reference, at least 500.
        batch_size: images that the judge sees at once.
    """

    name = "measure"

    images: int = 10_000
    batch_size: int = 16

    def __post_init__(self) -> None:
        whole("images", self.images, low=2 * FEW, high=1_000_000)
        whole("batch_size", self.batch_size, low=1)

    def measure(self, folder: Path, on_stage: OnStage) -> Benchmark:
        on_progress, done = on_stage("drawing images"), 0
        for count in (FEW, self.images):
            for first_seed, kind in enumerate(("images", "reference")):
                for _ in _drawn(folder / "measure" / f"{kind}-{count}", count, first_seed * 10**7):
                    on_progress(done := done + 1, 2 * (FEW + self.images))
        on_progress, claims, peaks = on_stage("measuring"), [], []
        for done, count in enumerate((FEW, self.images)):
            on_progress(done, 2)
            peak, seconds = _of_a_fresh_process(folder / "measure", count, self.batch_size)
            peaks.append(peak)
            what = f"{count:,} images of {SIZE} x {SIZE} and as many of a reference"
            claims.append(at_most(f"peak memory in GB of measuring {what}", MOST_MEMORY, peak))
            claims.append(at_most(f"seconds for each 1,000 images read, {what}", MOST_SECONDS, 500 * seconds / count))
        on_progress(2, 2)
        claims.append(at_most(f"GB more for {self.images:,} images than for {FEW}", MOST_GROWTH, peaks[1] - peaks[0]))
        return Benchmark(
            model=f"none; the judge is {JUDGE}", model_digest=None, scheduler="none", num_inference_steps=0,
            seeds=f"0-{self.images - 1}", claims=claims,
        )  # fmt: skip


def _drawn(folder: Path, count: int, first_seed: int) -> Iterator[Path]:
    """Images of smooth noise, a file each; those that are there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        path = folder / f"{k:05d}.ppm"
        if not path.is_file():
            coarse = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(first_seed + k))
            smooth = torch.nn.functional.interpolate(coarse, size=SIZE, mode="bilinear")[0]
            pixels = (255 * smooth).byte().permute(1, 2, 0).contiguous().numpy().tobytes()
            path.write_bytes(f"P6 {SIZE} {SIZE} 255\n".encode() + pixels)
        yield path


def _of_a_fresh_process(folder: Path, count: int, batch_size: int) -> tuple[float, float]:
    """Peak memory in GB (10^9 bytes), and seconds, of a process that only measures."""
    with tempfile.TemporaryDirectory(dir=folder) as results:  # a new one, in which nothing is judged yet
        places = [str(folder / f"{kind}-{count}") for kind in ("images", "reference")]
        settings = json.dumps([*places, str(Path(results) / "out"), batch_size])
        command = [sys.executable, "-W", "ignore", "-m", __name__, settings]
        done = subprocess.run(command, env=os.environ | GIVE_BACK, stdout=subprocess.PIPE, text=True, check=True)
    peak, seconds = done.stdout.split()[-2:]
    return int(peak) / 1e9, float(seconds)


def main(images: str, reference: str, outdir: str, batch_size: int) -> None:
    torch.set_num_threads(1)
    start = time.perf_counter()
    asked = Outside((Path(images),), (CONCEPT,), reference=Path(reference), judge=JUDGE)
    measure_folders(asked, outdir, batch_size=batch_size)
    print(peak_bytes(), time.perf_counter() - start)


if __name__ == "__main__":
    main(*json.loads(sys.argv[1]))
