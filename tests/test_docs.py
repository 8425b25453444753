"""Documents that cannot go stale."""

import re
from pathlib import Path

import pytest

import steerclear
from steerclear.benchmark.claims import Benchmark
from steerclear.bridges.loading import load_model
from steerclear.cli.docs import pages
from steerclear.guidance.base import guidances
from steerclear.models import shipped

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", sorted(pages(ROOT / "docs")))
def test_generated_pages_are_what_the_program_says(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == pages(ROOT / "docs")[name]


def test_the_skeleton_in_the_page_is_the_one_that_is_tested() -> None:
    page = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "add-a-guidance.md").read_text(), re.DOTALL)
    assert page is not None
    assert (ROOT / "tests" / "skeleton_guidance.py").read_text() == page[1]


@pytest.mark.parametrize("path", sorted((ROOT / "docs/benchmarks").rglob("*.json")), ids=lambda path: path.stem)
def test_figures_of_a_shipped_model_are_of_the_one_that_ships(path: Path) -> None:
    measured = Benchmark.model_validate_json(path.read_text())
    if measured.model in shipped():
        assert measured.model_digest == load_model(measured.model).digest


def test_exported_names() -> None:
    assert steerclear.__all__ == [
        "__version__", "AutoGuidance", "Belief", "ClassifierFreeGuidance", "ConstantEvidence", "DroppedLayers",
        "DynamicNegativeGuidance", "Evidence", "Guidance", "Guided", "Guider", "IntervalGuidance", "NarrowContext",
        "NegativePromptGuidance", "NoisedWeights", "OracleEvidence", "OtherNetwork", "QuantizedWeights", "RescaledGuidance",
        "SeededDropout", "State", "SteerclearError", "SteerclearWarning", "Step", "Trace", "TransitionEvidence", "Unguided",
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
