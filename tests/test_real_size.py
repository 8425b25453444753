"""The whole path of a comparison at real size: the sizes are the released networks', and the path is run with tiny ones."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from steerclear.benchmark.claims import Benchmark
from steerclear.benchmark.networks import Size
from steerclear.benchmark.real_networks import REAL, TransformerSize, parts, write_networks
from steerclear.benchmark.real_size import RealSize, watched
from steerclear.core.errors import InvalidSetting

SMALL = TransformerSize(width=8, inner=16, layers=1, heads=2)
TINY = replace(
    REAL, network=Size(channels=(8, 16, 16, 16), text_width=8, latents=8, heads=1), text=SMALL, vocabulary=1100,
    autoencoder=(4, 4, 4, 4), judge=SMALL, judge_vocabulary=1100, judge_side=16, judge_patch=8,
)  # fmt: skip


def test_parameters_are_those_of_the_released_networks() -> None:
    """Stable Diffusion 1.5's three networks, and google/siglip-base-patch16-224."""
    count = {name: sum(one.numel() for one in network.parameters()) for name, network in parts(REAL).items()}
    assert count == {
        "unet": 859_520_964,
        "text_encoder": 123_060_480,
        "vae": 83_653_863,
        "judge": 203_155_970,
    }


def test_the_whole_path_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RealSize, "sizes", TINY)
    stages: list[str] = []
    asked = RealSize(side=64, reference_images=17, batch_size=4)

    def on_stage(stage: str):  # type: ignore[no-untyped-def]
        stages.append(stage)
        return lambda done, total: None

    result = asked.run(tmp_path, on_stage)
    assert Benchmark.model_validate_json((tmp_path / "real.json").read_text()) == result
    claims = {claim.claim.partition(",")[0].partition(" (")[0]: claim for claim in result.claims}
    assert [claim.claim for claim in result.claims if not claim.met] == []
    assert claims["numbers in latents of an image"].value == 4 * 8 * 8
    assert claims["numbers in an image"].value == 3 * 64 * 64
    assert claims["numbers in features of an image"].value == 8
    assert claims["images of the redrawn truth"].value == 9  # of 17: the median and what is below it
    assert claims["network evaluations that the results do not tell"].value == 0
    peaks = [claim.value for claim in result.claims if claim.claim.startswith("peak memory")]
    assert len(peaks) == 5
    assert all(0.1 < peak < 3 for peak in peaks)  # of libraries: the networks are tiny
    assert stages == ["writing the networks", "the whole comparison, in a process of its own"]
    assert [path.name for path in tmp_path.iterdir()] == ["real.json"]  # nothing is kept


def test_weights_are_kept_in_half_precision_and_the_same_each_time(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    count = write_networks(TINY, tmp_path / "model", tmp_path / "judge")
    again = write_networks(TINY, tmp_path / "again", tmp_path / "judge_again")
    assert count == again
    weights, others = (load_file(tmp_path / place / "model.safetensors") for place in ("judge", "judge_again"))
    assert sum(one.numel() for one in weights.values()) == count["judge"]
    assert {one.dtype for one in weights.values()} == {torch.float16}
    assert all(torch.equal(one, others[name]) for name, one in weights.items())
    assert json.loads((tmp_path / "model/text_encoder/config.json").read_text())["vocab_size"] == 1100


def test_a_peak_is_forgotten() -> None:
    script = (
        "import torch; from steerclear.benchmark.memory import forget_peak, peak_bytes; torch.ones(2**28, dtype=torch.uint8); "
        "high = peak_bytes(); forget_peak(); low = peak_bytes(); held = torch.ones(2**27, dtype=torch.uint8); "
        "print(high - low, peak_bytes() - low)"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    fell, rose = map(int, done.stdout.split())
    assert fell == pytest.approx(2**28, rel=0.1)
    assert rose == pytest.approx(2**27, rel=0.1)


def test_what_goes_through_a_network_is_counted() -> None:
    network = torch.nn.Linear(3, 2)
    calls = watched(network)
    for rows in (4, 1):
        network(torch.zeros(rows, 3))
    assert (calls.rows, calls.shape) == (5, [2])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("side", 4),
        ("side", 100),
        ("reference_images", 15),
        ("num_inference_steps", 0),
        ("batch_size", 0),
        ("seeds", "1-"),
    ],
)
def test_what_cannot_be_measured_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidSetting, match=f"{name} is {value!r}"):
        RealSize(**{name: value})
