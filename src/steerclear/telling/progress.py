"""Progress bars, in terminals and notebooks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


def console() -> Console:
    """The console of progress bars: the error stream, so that programs can read the output."""
    return Console(stderr=True)


@contextmanager
def progress_bars(progress: bool | None = True) -> Iterator[Progress]:
    """A block with progress bars; None shows them only in terminals and notebooks."""
    where, label = console(), TextColumn("{task.description:<34}")
    columns = (label, BarColumn(bar_width=None), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    hidden = not (where.is_terminal or where.is_jupyter) if progress is None else not progress
    with Progress(*columns, console=where, disable=hidden) as bars:
        yield bars


def show_methods(bars: Progress) -> tuple[Callable, Callable[[int, int], None]]:
    """One bar per method; returns ``on_method`` and ``on_progress`` of :func:`~steerclear.study.run.run`."""
    tasks: list[TaskID] = []

    def on_method(method: Any, place: int, total: int) -> None:
        tasks.append(bars.add_task(method.label, total=1, completed=1))  # full if no image is missing

    def on_progress(done: int, total: int) -> None:
        bars.update(tasks[-1], total=total, completed=done)

    return on_method, on_progress


def show_stages(bars: Progress) -> Callable[[str], Callable[[int, int], None]]:
    """One bar per stage; returns a function of a stage's name, which returns one of (done, total)."""

    def on_stage(stage: str) -> Callable[[int, int], None]:
        task = bars.add_task(stage, total=None)
        return lambda done, total: bars.update(task, completed=done, total=total)

    return on_stage
