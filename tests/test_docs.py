"""Documents that cannot go stale."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import steerclear
from steerclear.benchmark.claims import Benchmark
from steerclear.cli.docs import SHELVES, benchmark_files, pages
from steerclear.core.guidance import guidances
from steerclear.core.shelf import entries
from steerclear.models import shipped
from steerclear.models.loading import load_model

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "docs/benchmarks"


@pytest.mark.parametrize("name", sorted(pages(ROOT / "docs")))
def test_generated_pages_are_what_the_program_says(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == pages(ROOT / "docs")[name]


@pytest.mark.parametrize(
    "path", benchmark_files(BENCHMARKS), ids=lambda path: path.relative_to(BENCHMARKS).with_suffix("").as_posix()
)
def test_figures_of_a_shipped_model_are_of_the_one_that_ships(path: Path) -> None:
    measured = Benchmark.model_validate_json(path.read_text())
    if measured.model in shipped():
        model = load_model(measured.model)
        assert measured.model_digest == model.digest
        assert measured.weak_digest == (model.networks["weak"].source.digest if path.stem == "autoguidance" else None)


def test_what_was_measured_again_stands_behind_the_first(tmp_path: Path) -> None:
    first = Benchmark.model_validate_json((BENCHMARKS / "shipped.json").read_text())
    for place, seeds in ((".", "0-999"), ("again", "7-8"), ("images/unguided", "1")):
        (tmp_path / "benchmarks" / place).mkdir(parents=True, exist_ok=True)
        text = first.model_copy(update={"seeds": seeds, "claims": first.claims[:1]}).model_dump_json()
        (tmp_path / "benchmarks" / place / "shipped.json").write_text(text)
    headings = re.findall(r"## (.*)\n\n.*seeds ([0-9-]+),", pages(tmp_path)["measured.md"])
    assert headings == [("steerclear benchmark shipped", "0-999"), ("steerclear benchmark shipped, again", "7-8")]


def test_exported_names() -> None:
    found = {
        cls.__name__
        for shelf in SHELVES
        if shelf.shelf in steerclear._CONTRACTS
        for cls in entries(shelf.shelf, shelf.base).values()
    }
    assert [name for name in steerclear.__all__ if name not in found] == [
        "__version__", "Belief", "Calibration", "Circumstances", "Evidence", "Guidance", "Guided", "Guider", "Network", "State",
        "SteerclearError", "SteerclearWarning", "Step", "Surroundings", "Trace", "calibrate", "compare", "generate", "guidances", "guider",
        "load_model", "measure", "sample", "steer", "tune",
    ]  # fmt: skip
    assert found >= {"DynamicNegativeGuidance", "TransitionEvidence", "NoisedWeights", "Classifier", "Spiral"}
    assert found <= {*steerclear.__all__}
    assert dir(steerclear) == sorted(steerclear.__all__)
    for name in steerclear.__all__:
        assert getattr(steerclear, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'stear'"):
        _ = steerclear.stear
    with pytest.raises(AttributeError, match="no attribute 'Stear'"):
        _ = steerclear.Stear


def test_every_paper_has_its_number() -> None:
    for name, cls in guidances().items():
        assert re.search(r"arXiv \d{4}\.\d{4,5}", cls.paper), name


def test_the_model_card_is_short() -> None:
    assert len((ROOT / "docs/shipped-model.md").read_text().splitlines()) <= 55


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"version: {project['version']}\n" in (ROOT / "CITATION.cff").read_text()
    assert project["version"] == steerclear.__version__
    assert (ROOT / "src/steerclear/py.typed").exists()


def test_figures_of_how_to_choose_are_the_measured_ones() -> None:
    """Every figure with an interval, in the rounding of the page; claims have intervals in their text as well."""
    claims = [
        claim
        for path in benchmark_files(BENCHMARKS)
        for claim in Benchmark.model_validate_json(path.read_text()).claims
    ]
    measured = [(claim.value, claim.low, claim.high) for claim in claims if claim.low is not None]
    for claim in claims:
        measured += [tuple(map(float, found)) for found in re.findall(r"([\d.]+) \[([\d.]+), ([\d.]+)\]", claim.claim)]
    for path in benchmark_files(BENCHMARKS):
        rows = json.loads(path.read_text()).get("rows", [])
        told = [figure for row in rows for figure in row.values() if isinstance(figure, dict)]
        measured += [(one["value"], one["low"], one["high"]) for one in told if one["low"] is not None]
    shown = re.findall(r"(-?[\d.]+) \[(-?[\d.]+), (-?[\d.]+)\]", (ROOT / "docs/choose.md").read_text())
    assert len(shown) >= 12
    for figures in shown:
        digits = [len(figure.partition(".")[2]) for figure in figures]
        assert any(
            all(round(one, places) == float(figure) for one, places, figure in zip(known, digits, figures, strict=True))
            for known in measured
        ), figures


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    named = set(re.findall(r"^ +- (?:\w+: )?(\S+\.md)$", text, re.MULTILINE))
    pages_there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages_there <= named
    for shelf in SHELVES:
        entry = next(iter(entries(shelf.shelf, shelf.base)))
        assert f"\n## {entry}\n" in (ROOT / f"docs/{shelf.page}.md").read_text()


def test_the_site_builds_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    settings = ["--config-file", str(ROOT / "mkdocs.yml"), "--site-dir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", *settings], capture_output=True, text=True,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert "WARNING" not in done.stderr
    assert "excluded from the built site" not in done.stderr
    assert done.returncode == 0
    api = (tmp_path / "api.html").read_text()
    assert {name for name in steerclear.__all__ if f'.{name}"' not in api} == {"__version__"}
