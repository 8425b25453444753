"""What a comparison found, printed: the tables, what their arrows and words mean, and the answer in a sentence."""

from pathlib import Path

from rich.console import Console

from ..study.results import Results


def print_results(results: Results, report: Path, *, quiet: bool = False) -> None:
    """Print tables, answer, notes and where the page is.

    Args:
        results: what ``compare`` found.
        report: the page.
        quiet: only where the page is.
    """
    from ..telling.glossary import explained
    from ..telling.summary import summary
    from ..telling.table import legend, terminal_tables

    if quiet:
        print(report)
        return
    console = Console(emoji=False, highlight=False)  # a prompt may have :words: between colons
    for table in terminal_tables(results, width=console.width):
        console.print("", table)
    words = [f"{line}." for line in explained("truth")] if results.target is not None else []
    for line in ("", legend(results), *words):
        console.print(line, markup=False, style="dim")
    console.print()
    for sentence in summary(results):
        console.print(sentence, markup=False)
    for note in results.notes:
        console.print(f"note: {note}", markup=False)
    console.print(f"report: {report}", markup=False, soft_wrap=True)  # a path stays in one piece
