"""The files in docs/add-your-own.md work as they stand: each is announced as a stranger's package would announce it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import typer
from diffusers import DDIMScheduler

import steerclear
from steerclear.cli.app import main
from steerclear.cli.commands import add_commands
from steerclear.cli.docs import SHELVES, pages
from steerclear.core.evidence import Evidence
from steerclear.core.guidance import Guidance
from steerclear.core.laboratory import Asked
from steerclear.core.metric import Compared, metrics
from steerclear.core.parsing import parse_part
from steerclear.core.sampling import sample
from steerclear.core.shelf import find
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.telling.guidance_docs import documentation
from steerclear.testbeds.spiral import Spiral

ROOT = Path(__file__).parents[1]
Announce = Callable[[str, str, str], None]

SKELETONS = {
    "guidance": ("limited", "guidances.md", "## limited"),
    "evidence": ("shorter-noise", "evidences.md", "## shorter-noise"),
    "networks": ("faint-sample", "networks.md", "## faint-sample"),
    "laboratories": ("red-pixels", "laboratories.md", "## red-pixels"),
    "features": ("mean-color", "features.md", "## mean-color"),
    "metrics": ("spread", "metrics.md", "## spread"),
    "testbeds": ("two-points", "testbeds.md", "## two-points"),
    "telling.figures": ("evaluations", "figures.md", "## evaluations"),
    "benchmark": ("draws", "benchmarks.md", "## draws"),
    "cli.commands": ("count", "command-line.md", "## steerclear count"),
}
"""Shelf -> an entry of it that is not ours, its generated page, its section there."""


def module_of(room: str) -> str:
    """The file in tests/ with the skeleton of a shelf."""
    kind = {"networks": "network", "laboratories": "laboratory", "metrics": "metric", "testbeds": "testbed"}
    kind |= {"features": "features"}
    return f"skeleton_{kind.get(room, room.rpartition('.')[2].removesuffix('s'))}"


def test_every_shelf_has_a_skeleton_and_the_documents_show_it() -> None:
    assert {*SKELETONS} == {shelf.shelf for shelf in SHELVES} | {"cli.commands"}
    shown = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    costs = (ROOT / "CONTRIBUTING.md").read_text()
    for room in SKELETONS:
        assert f"<!-- file: tests/{module_of(room)}.py -->" in shown
        assert f"| `{room.replace('.', '/')}/NAME.py` |" in costs


@pytest.mark.parametrize("room", SKELETONS)
def test_an_announced_file_has_its_section_in_the_documents(room: str, announce: Announce) -> None:
    name, page, heading = SKELETONS[room]
    before = pages(ROOT / "docs")
    announce(room, name, module_of(room))
    after = pages(ROOT / "docs")
    assert f"\n{heading}\n" in after[page]
    assert f"\n{heading}\n" not in before[page]
    others = {"api.md", page, "command-line.md" if room == "benchmark" else page}
    assert {name for name in after if after[name] != before[name]} <= others


@pytest.mark.parametrize(
    ("room", "command"),
    [("guidance", "guidance list"), ("networks", "networks"), ("benchmark", "benchmark --help")],
)
def test_an_announced_file_is_listed_by_the_command_line(
    room: str, command: str, announce: Announce, capsys: pytest.CaptureFixture[str]
) -> None:
    name = SKELETONS[room][0]
    announce(room, name, module_of(room))
    assert main(command.split()) == 0
    assert re.search(rf"^[ │]*{name}\b", capsys.readouterr().out, re.MULTILINE)


def test_public_names_are_discovered(announce: Announce) -> None:
    before = steerclear.__all__
    for room in ("guidance", "evidence", "networks", "laboratories", "features", "testbeds"):
        announce(room, SKELETONS[room][0], module_of(room))
    assert sorted({*steerclear.__all__} - {*before}) == [
        "FaintSample", "LimitedGuidance", "MeanColor", "RedPixels", "ShorterNoiseEvidence", "TwoPoints",
    ]  # fmt: skip
    assert steerclear.LimitedGuidance(2.0).limit == 10.0


def test_an_evidence_in_one_file(announce: Announce) -> None:
    announce("evidence", "shorter-noise", "skeleton_evidence")
    evidence = find("evidence", Evidence, "shorter-noise")(prior=0.3)
    typed = parse_part("dynamic-negative", Guidance, ["evidence=shorter-noise", "evidence.prior=0.3"])
    assert typed.evidence == evidence
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
    from skeleton_laboratory import RedPixels

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


def test_features_in_one_file() -> None:
    from skeleton_features import MeanColor

    images = torch.arange(6, dtype=torch.uint8).view(2, 3, 1, 1).expand(2, 3, 4, 4) * 51
    found = MeanColor().of(images)
    assert found.tolist() == [pytest.approx([0, 0.2, 0.4]), pytest.approx([0.6, 0.8, 1])]
    assert torch.equal(MeanColor().of(images[1:]), found[1:])


def test_a_metric_in_one_file(announce: Announce) -> None:
    from skeleton_metric import Spread

    features, true = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    found = Spread().measure(Compared(features, true, true, {}, {}))
    assert (found.value, found.truth) == (12.5, 1.0)
    assert (Spread.column().name, Spread.column().better) == ("spread", "truth")
    announce("metrics", "spread", "skeleton_metric")
    assert Spread() in metrics()


def test_a_testbed_in_one_file() -> None:
    from skeleton_testbed import TwoPoints

    assert TwoPoints().prior == 0.25  # test_testbeds.py holds it to the laws of all testbeds
    assert TwoPoints().shape == (1,)


def test_a_benchmark_in_one_file(tmp_path: Path) -> None:
    from skeleton_benchmark import Draws

    found = Draws(images=4000).run(tmp_path)
    assert found.claims[0].met
    assert found.claims[0].value == pytest.approx(0, abs=0.03)
    assert type(found).model_validate_json((tmp_path / "draws.json").read_text()) == found


def test_a_command_in_one_file(announce: Announce, capsys: pytest.CaptureFixture[str]) -> None:
    announce("cli.commands", "count", "skeleton_command")
    program = typer.Typer()
    add_commands(program)
    program(["count", "--negative-prompt", "mustache, hat,"], standalone_mode=False)
    assert capsys.readouterr().out == "2\n"
