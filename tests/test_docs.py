"""Documents that cannot go stale."""

import re
from pathlib import Path

import pytest

import steerclear
from steerclear.benchmark.claims import Benchmark
from steerclear.cli.docs import benchmark_files, pages
from steerclear.core.guidance import guidances
from steerclear.models import shipped
from steerclear.models.loading import load_model

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "docs/benchmarks"


@pytest.mark.parametrize("name", sorted(pages(ROOT / "docs")))
def test_generated_pages_are_what_the_program_says(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == pages(ROOT / "docs")[name]


def test_the_skeleton_in_the_page_is_the_one_that_is_tested() -> None:
    page = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "add-a-guidance.md").read_text(), re.DOTALL)
    assert page is not None
    assert (ROOT / "tests" / "skeleton_guidance.py").read_text() == page[1]


@pytest.mark.parametrize(
    "path", benchmark_files(BENCHMARKS), ids=lambda path: path.relative_to(BENCHMARKS).with_suffix("").as_posix()
)
def test_figures_of_a_shipped_model_are_of_the_one_that_ships(path: Path) -> None:
    measured = Benchmark.model_validate_json(path.read_text())
    if measured.model in shipped():
        model = load_model(measured.model)
        assert measured.model_digest == model.digest
        assert measured.weak_digest == (model.weak_digest if path.stem == "autoguidance" else None)


def test_what_was_measured_again_stands_behind_the_first(tmp_path: Path) -> None:
    first = Benchmark.model_validate_json((BENCHMARKS / "shipped.json").read_text())
    for place, seeds in ((".", "0-999"), ("again", "7-8"), ("images/unguided", "1")):
        (tmp_path / "benchmarks" / place).mkdir(parents=True, exist_ok=True)
        text = first.model_copy(update={"seeds": seeds, "claims": first.claims[:1]}).model_dump_json()
        (tmp_path / "benchmarks" / place / "shipped.json").write_text(text)
    headings = re.findall(r"## (.*)\n\n.*seeds ([0-9-]+),", pages(tmp_path)["measured.md"])
    assert headings == [("steerclear benchmark shipped", "0-999"), ("steerclear benchmark shipped, again", "7-8")]


def test_exported_names() -> None:
    assert steerclear.__all__ == [
        "__version__", "AutoGuidance", "Belief", "Circumstances", "ClassifierFreeGuidance", "ConstantEvidence", "DroppedLayers",
        "DynamicNegativeGuidance", "Evidence", "Guidance", "Guided", "Guider", "IntervalGuidance", "NarrowContext",
        "NegativePromptGuidance", "NoisedWeights", "OracleEvidence", "OtherNetwork", "PublishedEvidence", "QuantizedWeights", "RescaledGuidance",
        "SeededDropout", "State", "SteerclearError", "SteerclearWarning", "Step", "Surroundings", "Trace", "TransitionEvidence", "Unguided",
        "WeakNetwork", "WithLora", "WithoutLora", "guidances", "guider", "load_model", "sample", "steer",
    ]  # fmt: skip
    for name in steerclear.__all__:
        assert getattr(steerclear, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'stear'"):
        _ = steerclear.stear


def test_every_paper_has_its_number() -> None:
    for name, cls in guidances().items():
        assert re.search(r"arXiv \d{4}\.\d{4,5}", cls.paper), name


def test_links_between_documents_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
