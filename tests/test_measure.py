"""What the laboratory of the portraits measures."""

import pytest

from steerclear import measure
from steerclear.measure import REFERENCE_SEEDS, PortraitLaboratory
from steerclear.models import shipped
from steerclear.testbeds.portraits import true_portraits


@pytest.mark.parametrize("references", [50, 100])
def test_precision_and_recall_compare_equal_numbers(references: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against themselves true portraits have both exactly, also when there are more of them than references."""
    monkeypatch.setattr(measure, "REFERENCE_PORTRAITS", references)
    laboratory = PortraitLaboratory(shipped()["portraits"], "portrait photo of a man", "mustache")
    images, _ = true_portraits(
        laboratory.prompt, range(REFERENCE_SEEDS, REFERENCE_SEEDS + 100), without=laboratory.negative
    )
    found = laboratory.measure(laboratory.see(images))
    assert (found["precision"].value, found["recall"].value) == (1.0, 1.0)
    assert found["mustache"].value == 0
