"""The table of what works where, in docs/steer-your-pipeline.md, says what is found now."""

from pathlib import Path

import pytest

import features

PAGE = Path(__file__).parents[1] / "docs/steer-your-pipeline.md"
GOOD = ("equal", "equal, unguided", "to 1e-4", "1 per step", "2 per step", "3 per step", "4 per step", features.ABSENT)


@pytest.mark.parametrize("name", features.TITLES)
@pytest.mark.parametrize("title", [feature.title for feature in features.FEATURES])
def test_every_cell_of_the_table_is_true(title: str, name: str) -> None:
    row = next(line for line in PAGE.read_text().splitlines() if line.startswith(f"| {title} |"))
    found = features.cell(title, name)
    assert row.split(" | ")[1 + list(features.TITLES).index(name)].removesuffix(" |") == found
    assert found in GOOD


def test_the_page_is_the_one_that_the_table_writes() -> None:
    page = PAGE.read_text()
    assert features.written_into(page) == page
