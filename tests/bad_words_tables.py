"""The table of docs/negative-prompt-or-bad-version.md, written from docs/benchmarks/bad-words.json.

python tests/bad_words_tables.py docs/negative-prompt-or-bad-version.md
"""

import sys
from pathlib import Path

from steerclear.benchmark.bad_words import BadWordsBenchmark, Row
from steerclear.core.laboratory import Measurement

MEASURED = Path(__file__).parents[1] / "docs/benchmarks/bad-words.json"
BEGIN, END = "<!-- bad-words: begin -->\n", "<!-- bad-words: end -->"
NONE = "Not measured yet.\n"


def _told(one: Measurement, places: int) -> str:
    ends = "" if one.low is None else f" [{one.low:.{places}f}, {one.high:.{places}f}]"
    return f"{one.value:.{places}f}{ends}"


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.way, "" if row.scale == 1 else f"{row.scale:g}", _told(row.spoiled, 3), _told(row.to_clean, 2),
        _told(row.to_data, 2), f"{row.precision.value:.3f}", f"{row.recall.value:.3f}", f"{row.right.value:.3f}",
    )  # fmt: skip


def table(found: BadWordsBenchmark) -> str:
    """Every row; ``images`` of the drawn ones."""
    head = (
        "way",
        "w",
        "spoiled",
        "distance to clean digits",
        "to what it was taught",
        "precision",
        "recall",
        "the digit asked for",
    )
    lines = [head, ("---",) * len(head), *map(_cells, found.rows)]
    made = f"{found.rows[0].images:,} images of each, {found.num_inference_steps} steps ([bad-words.json](benchmarks/bad-words.json)).\n"
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{made}"


def written_into(page: str) -> str:
    """The page with the table of what was measured."""
    head, rest = page.split(BEGIN)
    _, tail = rest.split(END)
    found = table(BadWordsBenchmark.model_validate_json(MEASURED.read_text())) if MEASURED.exists() else NONE
    return f"{head}{BEGIN}{found}{END}{tail}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(written_into(path.read_text()))
