"""The files in docs/add-your-own.md work as they stand: each is announced as a stranger's package would announce it."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler

import skeleton_evidence
from steerclear.core import shelf
from steerclear.core.evidence import Evidence
from steerclear.core.sampling import sample
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.telling.guidance_docs import documentation
from steerclear.testbeds.spiral import Spiral


def test_an_evidence_in_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    point = SimpleNamespace(load=lambda: skeleton_evidence)
    monkeypatch.setattr(shelf, "entry_points", lambda group: [point] if group == "steerclear.evidence" else [])
    shelf.entries.cache_clear()
    try:
        evidence = shelf.find("evidence", Evidence, "shorter-noise")(prior=0.3)
    finally:
        monkeypatch.undo()
        shelf.entries.cache_clear()
    assert documentation(type(evidence)).equation.startswith("L = log(p / (1 - p)) + clip(")

    testbed, guidance = Spiral(), DynamicNegativeGuidance(1.0, evidence=evidence)
    run = [sample(testbed.denoiser(), guidance, DDIMScheduler(clip_sample=False), seeds, testbed.shape,
                  num_inference_steps=5, negatives=1, dtype=torch.float64) for seeds in (range(4), [2])]  # fmt: skip
    together, alone = (one.trace.table("posterior") for one in run)
    assert torch.equal(together[:, 2:3], alone)
    # at pure noise both predictions are nearly the sample itself, so that the prior is all that is known
    assert together[0].tolist() == pytest.approx([0.3] * 4, abs=0.01)
    lowest, highest = (1 / (1 + 7 / 3 * torch.tensor(bound).exp()) for bound in (3.0, -3.0))
    assert float(together.min()) >= float(lowest) - 1e-12
    assert float(together.max()) <= float(highest) + 1e-12


def test_a_laboratory_in_one_file() -> None:
    pytest.importorskip("steerclear.core.metric")
    from skeleton_laboratory import RedPixels
    from steerclear.core.laboratory import Asked

    laboratory, asked = RedPixels(), Asked("a street", ("red",))
    assert laboratory.refuses(None, asked) is None
    assert laboratory.refuses(None, Asked("a street", ("cars",))) == "no negative prompt is 'red'"
    images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    images[0, 0], images[1, 0, :3], images[2] = 200, 200, 200  # all red, three rows of eight red, white
    judge = laboratory.judge(None, asked)
    seen = judge.see(images)
    assert seen.shown["red"].tolist() == [1, 0, 0, 0]
    assert seen.probabilities["red"].tolist() == [1, 0.375, 0, 0]
    assert judge.measure(seen)["red"].value == 0.25
    assert [column.name for column in judge.columns()] == ["red"]


def test_a_metric_in_one_file() -> None:
    pytest.importorskip("steerclear.core.metric")
    from skeleton_metric import Spread
    from steerclear.core.metric import Compared

    features, true = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    found = Spread().measure(Compared(features, true, true, {}, {}))
    assert (found.value, found.truth) == (12.5, 1.0)
    assert (Spread.column().name, Spread.column().better) == ("spread", "truth")


def test_a_benchmark_in_one_file(tmp_path: Path) -> None:
    pytest.importorskip("steerclear.core.metric")
    from skeleton_benchmark import Draws

    found = Draws(images=4000).run(tmp_path)
    assert found.claims[0].met
    assert found.claims[0].value == pytest.approx(0, abs=0.03)
    assert type(found).model_validate_json((tmp_path / "draws.json").read_text()) == found


def test_a_command_in_one_file(capsys: pytest.CaptureFixture) -> None:
    import typer

    import skeleton_command

    app = typer.Typer()
    app.command("count")(skeleton_command.command)
    app(["--negative-prompt", "mustache, hat,"], standalone_mode=False)
    assert capsys.readouterr().out == "2\n"
