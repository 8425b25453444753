"""Claims are held against their bounds, and say so when they are not met."""

import json
from pathlib import Path

import pytest

from steerclear.benchmark import Benchmark, at_least, at_most
from steerclear.bridges.loading import load_model
from steerclear.cli.app import main
from steerclear.results import Measurement

SMALL = ["--seeds", "0-47", "--steps", "1", "--batch-size", "16"]


def test_a_claim_keeps_its_bound_or_not() -> None:
    measured = Measurement(value=0.9, low=0.8, high=0.95, interval="wilson")
    assert at_least("precision", 0.85, measured).met
    assert not at_least("precision", 0.91, measured).met
    assert at_most("error", 0.06, 0.06).met
    claim = at_most("error", 0.06, 0.0601)
    assert (claim.met, claim.bound, claim.low) == (False, "<= 0.06", None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    assert main(["benchmark", "shipped", "--outdir", str(folder), *SMALL]) == 0
    return folder


def test_the_shipped_models_claims_are_all_there(folder: Path) -> None:
    result = Benchmark.model_validate_json((folder / "shipped.json").read_text())
    assert (result.seeds, result.num_inference_steps) == ("0-47", 1)
    assert result.model_digest == load_model("portraits").digest
    claims = [claim.claim for claim in result.claims]
    for words in ("largest distance", "precision", "recall", "a red hat", "a mustache", '"without mustache" adds',
                  "under the negative prompt", "autoguidance", "dB", "hair right", "mustache right, on men"):  # fmt: skip
        assert any(words in claim for claim in claims), words


def test_parts_that_do_not_depend_on_the_sampler_are_met(folder: Path) -> None:
    result = Benchmark.model_validate_json((folder / "shipped.json").read_text())
    parts = [claim for claim in result.claims if "autoencoder" in claim.claim]
    assert len(parts) == 12
    assert [claim.claim for claim in parts if not claim.met] == []


def test_a_second_run_makes_no_image_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    first = json.loads((folder / "shipped.json").read_text())
    assert main(["benchmark", "shipped", "--outdir", str(folder), *SMALL, "--format", "json"]) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")} == before
    assert json.loads(capsys.readouterr().out) == first


def test_overhead_is_a_claim_with_its_bound(tmp_path: Path) -> None:
    assert main(["benchmark", "overhead", "--pairs", "1", "--outdir", str(tmp_path)]) == 0
    claim = Benchmark.model_validate_json((tmp_path / "overhead.json").read_text()).claims[0]
    assert claim.bound == "<= 1.05"
    assert claim.met == (claim.value <= 1.05)


def test_too_few_images_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "shipped", "--seeds", "0-7", "--outdir", str(tmp_path)]) == 2
    assert "seeds is '0-7', but must be at least 48; fewer give no Fréchet distance." in " ".join(
        capsys.readouterr().err.split()
    )
    assert list(tmp_path.iterdir()) == []
