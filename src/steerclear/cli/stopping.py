"""Ctrl-C and other signals that stop a run."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from typer.core import TyperGroup

from ..core.errors import keeps

SIGNALS = ("SIGTERM", "SIGHUP", "SIGBREAK")
"""Treated like Ctrl-C where they exist: Windows has no SIGHUP, others no SIGBREAK."""

STOPPED = "steerclear: stopped."
STOPPED_AND_KEPT = f"{STOPPED[:-1]}; what was done is kept. Run the same command to go on (training: with --resume)."


class Stopped(BaseException):
    """A command was interrupted; ``kept`` says whether results are kept."""

    def __init__(self, kept: bool) -> None:
        super().__init__(STOPPED_AND_KEPT if kept else STOPPED)


class Commands(TyperGroup):
    """The program's commands; typer alone would turn a KeyboardInterrupt into a number and lose its message."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Stopped(keeps(error)) from error


@dataclass
class Caught:
    """The signal that stopped the run; None if none did."""

    number: int | None = None

    @property
    def exit_code(self) -> int:
        """As in shells: 128 + the signal's number; without one it was Ctrl-C."""
        return 128 + (signal.SIGINT if self.number is None else self.number)


@contextmanager
def signals_as_interrupts() -> Iterator[Caught]:
    """A block in which :data:`SIGNALS` raise KeyboardInterrupt, as Ctrl-C does, so that the same clean-up runs.

    Signals that are ignored (``nohup``) or handled by another library stay so. Outside the main thread, where Python cannot
    set handlers, nothing changes.
    """
    caught = Caught()

    def interrupt(number: int, frame: FrameType | None) -> None:
        caught.number = number
        raise KeyboardInterrupt

    ours: list[int] = []
    if threading.current_thread() is threading.main_thread():
        known = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
        ours = [number for number in known if signal.getsignal(number) is signal.SIG_DFL]
    try:
        for number in ours:
            signal.signal(number, interrupt)
        yield caught
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
