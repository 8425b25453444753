"""The tables of docs/autoguidance.md, written from docs/benchmarks/fractal.json: python tests/fractal_tables.py docs/autoguidance.md."""

import sys
from collections.abc import Iterable
from pathlib import Path

from steerclear.benchmark.fractal import FractalBenchmark, Row

MEASURED = Path(__file__).parents[1] / "docs/benchmarks/fractal.json"
NAMES = {"auto": "autoguidance", "cfg": "CFG", "unguided": "unguided", "exact draws": "exact draws"}


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(columns)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _interval(figure: tuple[float, float, float], digits: int) -> str:
    value, low, high = (f"{one:.{digits}f}" for one in figure)
    return f"{value} [{low}, {high}]"


def _named(row: Row) -> str:
    words = [NAMES[row.method]]
    if row.method in ("auto", "cfg"):
        words.append(f"{row.scale:g}")
    if row.weak:
        words.append(f"with `{row.weak}`")
    if row.stop is not None:
        words.append(f"below {row.stop:g}")
    return " ".join(words) + (", exact denoiser" if row.exact else "")


def final(found: FractalBenchmark) -> str:
    """What the claims are made of."""
    head = ("asked for", "method", "points", "outside", "branches", "energy distance", "evaluations")
    return _table(head, (
        ("any class" if row.whole else "one class", _named(row), f"{row.samples:,}", _interval(row.outliers, 4),
         _interval(row.coverage, 3), _interval(row.energy, 5), f"{row.calls:.0f}")
        for row in found.rows if row.final
    ))  # fmt: skip


def swept(found: FractalBenchmark, *, whole: bool) -> str:
    """Outlier rate and coverage of each weak network at each scale, on the seeds of the choice."""
    rows = [row for row in found.rows if not row.final and row.whole == whole]
    scales = sorted({row.scale for row in rows if row.method != "unguided"})
    lines: dict[str, dict[float, Row]] = {}
    for row in rows:
        if row.method != "unguided":
            where = "" if row.stop is None else f", below {row.stop:g}"
            lines.setdefault((f"`{row.weak}`" if row.weak else "CFG") + where, {})[row.scale] = row

    def cell(row: Row | None) -> str:
        return "" if row is None else f"{row.outliers[0]:.3f} / {row.coverage[0]:.2f}"

    return _table(("", *(f"{scale:g}" for scale in scales)),
                  ((name, *(cell(some.get(scale)) for scale in scales)) for name, some in lines.items()))  # fmt: skip


def claims(found: FractalBenchmark) -> str:
    """Every claim."""
    return _table(("claim", "figure", "interval", "bound", "met"),
                  ((one.claim, f"{one.value:.3g}", one.interval, one.bound, "yes" if one.met else "**no**") for one in found.claims))  # fmt: skip


def class_sweep(found: FractalBenchmark) -> str:
    """Of one class."""
    return swept(found, whole=False)


def any_sweep(found: FractalBenchmark) -> str:
    """Of any class."""
    return swept(found, whole=True)


TABLES = {"claims": claims, "final": final, "class": class_sweep, "any": any_sweep}


def written_into(page: str) -> str:
    """The page with the tables of what was measured."""
    found = FractalBenchmark.model_validate_json(MEASURED.read_text())
    for name, table in TABLES.items():
        head, rest = page.split(f"<!-- {name}: begin -->\n")
        _, tail = rest.split(f"<!-- {name}: end -->")
        page = f"{head}<!-- {name}: begin -->\n{table(found)}<!-- {name}: end -->{tail}"
    return page


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(written_into(path.read_text()))
