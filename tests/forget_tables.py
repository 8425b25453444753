"""The tables of docs/forgetting.md, written from docs/benchmarks/forget.json: python tests/forget_tables.py docs/forgetting.md."""

import sys
from collections.abc import Iterable
from pathlib import Path

from steerclear.benchmark.forget import UNGUIDED, ForgetBenchmark
from steerclear.benchmark.forget_rows import Row, at_safety
from steerclear.core.laboratory import Measurement

MEASURED = Path(__file__).parents[1] / "docs/benchmarks/forget.json"


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(columns)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def safe(found: ForgetBenchmark) -> str:
    """Every method where 99 % of its images are without the class; unguided as it is, and unsafe ones at their strongest."""
    head = ("method", "sampler, steps", "strength", "evaluations", "safety", "KL divergence", "total variation", "Fréchet",
            "Fréchet to real images")  # fmt: skip
    return _table(head, (_cells(row) for row in _chosen(found)))


def _chosen(found: ForgetBenchmark) -> Iterable[Row]:
    most = max((len(row.classes) for row in found.rows), default=0)
    rows = [row for row in found.rows if len(row.classes) == most]
    for setting in dict.fromkeys(row.setting for row in rows):
        own = [row for row in rows if row.setting == setting]
        reached = None if setting[0] == UNGUIDED else at_safety(own)
        yield own[-1] if reached is None else reached


def _cells(row: Row) -> tuple[str, ...]:
    def told(one: Measurement, places: int) -> str:
        ends = "" if one.low is None else f" [{one.low:.{places}f}, {one.high:.{places}f}]"
        return f"{one.value:.{places}f}{ends}"

    strength = "" if row.strength == 0 else f"{row.strength:.3g}"
    return (
        row.way, f"{row.sampler}, {row.steps}", strength, f"{row.evaluations:.0f}", f"{row.safety.value:.3f}",
        told(row.divergence, 3), f"{row.variation.value:.3f}", told(row.frechet, 2), f"{row.frechet_real.value:.2f}",
    )  # fmt: skip


def claims(found: ForgetBenchmark) -> str:
    """Every comparison with the others."""
    rows = [one for one in found.claims if not one.claim.endswith("safety")]
    return _table(("claim", "figure", "interval", "bound", "met"),
                  ((one.claim, f"{one.value:.3g}", one.interval, one.bound, "yes" if one.met else "**no**") for one in rows))  # fmt: skip


def figure(found: ForgetBenchmark) -> str:
    """The figure, which lies beside the others."""
    return "![Divergence and distance against safety, method by method](images/forget.png)\n"


TABLES = {"figure": figure, "safe": safe, "claims": claims}


def written_into(page: str) -> str:
    """The page with the tables of what was measured."""
    if not MEASURED.exists():
        return page
    found = ForgetBenchmark.model_validate_json(MEASURED.read_text())
    for name, table in TABLES.items():
        head, rest = page.split(f"<!-- {name}: begin -->\n")
        _, tail = rest.split(f"<!-- {name}: end -->")
        page = f"{head}<!-- {name}: begin -->\n{table(found)}<!-- {name}: end -->{tail}"
    return page


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(written_into(path.read_text()))
