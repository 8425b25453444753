"""The tables of docs/exact-worlds.md, written from docs/benchmarks/mixtures.json: python tests/mixture_tables.py docs/exact-worlds.md."""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from steerclear.benchmark.mixtures import LABELS, SAMPLERS, MixtureBenchmark, Row

MEASURED = Path(__file__).parents[1] / "docs/benchmarks/mixtures.json"
FIGURES = re.compile(r"\(tracking ([\d.]+), negative prompt ([\d.]+), oracle ([\d.]+), exact draws ([\d.]+)\)")


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(columns)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def matched(found: MixtureBenchmark) -> str:
    """Share removed at strength 1, and what else changed at equal shares removed; one row for each setting."""
    rows: dict[str, list[str]] = {}
    for one in found.claims:
        setting, _, said = one.claim.partition(": ")
        if "share removed" in said:
            rows[setting] = [f"{one.value:.3f} {one.interval}"]
        elif "negative prompt's (" in said and setting in rows:
            figures = FIGURES.search(said)
            assert figures is not None
            ours, negative, oracle, floor = figures.groups()
            told = f"{negative}, **{ours}**, {oracle} ({floor})"
            rows[setting].append(
                told if "at 90% removed" in said else f"{told}, {said[said.index(' at ') + 1 :].partition(',')[0]}"
            )
    head = ("world, scores, sampler", "removed at strength 1", "distance: negative prompt, **tracking**, oracle (exact draws)",
            "balance: the same")  # fmt: skip
    return _table(head, ([setting, *cells] for setting, cells in rows.items()))


def methods(found: MixtureBenchmark) -> str:
    """Each method at strength 1 with exact scores: share removed / distance / calls."""
    plain = [one for one in found.rows if one.scores == "exact" and one.concept == "related" and one.steps == 30]
    swept = {(one.dimensions, one.sampler) for one in plain if one.method == "oracle"}
    columns = [(size, sampler) for sampler in SAMPLERS for size in (2, 16, 64) if (size, sampler) in swept]

    def cell(method: str, size: int, sampler: str) -> str:
        rows = [one for one in plain if (one.method, one.dimensions, one.sampler) == (method, size, sampler)]
        rows = [one for one in rows if one.strength in (0, 1)]
        return _figures(max(rows, key=lambda one: one.samples))

    head = ("", *(f"{size}, {SAMPLERS[sampler]}" for size, sampler in columns))
    return _table(head, ([label, *(cell(name, *column) for column in columns)] for name, label in LABELS.items()))


def _figures(row: Row) -> str:
    assert row.removed is not None
    distance = row.distance[0]
    return (
        f"{row.removed[0]:.3f} / {distance:.3f} / {row.calls:.0f}"
        if distance < 100
        else f"{row.removed[0]:.3f} / blown up / {row.calls:.0f}"
    )


def failed(found: MixtureBenchmark) -> str:
    """Every claim that is not met."""
    return _table(("claim", "figure", "interval", "bound"),
                  ((one.claim, f"{one.value:.3g}", one.interval, one.bound) for one in found.claims if not one.met))  # fmt: skip


def others(found: MixtureBenchmark) -> str:
    """Against the published method, and for an unrelated concept."""
    said = [
        one
        for one in found.claims
        if "published method" in one.claim or "unrelated" in one.claim or "escaped" in one.claim
    ]
    return _table(("claim", "figure", "interval", "bound", "met"),
                  ((one.claim, f"{one.value:.3g}", one.interval, one.bound, "yes" if one.met else "**no**") for one in said))  # fmt: skip


TABLES = {"matched": matched, "methods": methods, "others": others, "failed": failed}


def written_into(page: str) -> str:
    """The page with the tables of what was measured."""
    found = MixtureBenchmark.model_validate_json(MEASURED.read_text())
    for name, table in TABLES.items():
        head, rest = page.split(f"<!-- {name}: begin -->\n")
        _, tail = rest.split(f"<!-- {name}: end -->")
        page = f"{head}<!-- {name}: begin -->\n{table(found)}<!-- {name}: end -->{tail}"
    return page


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(written_into(path.read_text()))
