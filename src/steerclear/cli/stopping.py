"""What stops a run from outside: Ctrl-C, and the signals that ask a program to end."""

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
"""Those that end a program as Ctrl-C does, where there are such: Windows has no SIGHUP, others no SIGBREAK."""

STOPPED = "steerclear: stopped."
STOPPED_AND_KEPT = (
    "steerclear: stopped; what was done is kept. Run the same command to go on (training: with --resume)."
)


class Stopped(BaseException):
    """A command that was interrupted; ``kept`` says whether something was done and is kept."""

    def __init__(self, kept: bool) -> None:
        super().__init__(STOPPED_AND_KEPT if kept else STOPPED)


class Commands(TyperGroup):
    """The commands of the program; typer would turn a KeyboardInterrupt into a number and lose what it says."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Stopped(keeps(error)) from error


@dataclass
class Caught:
    """Which signal stopped the run; None while none did."""

    number: int | None = None

    @property
    def exit_code(self) -> int:
        """As shells say it: 128 and the signal's number; without one it was Ctrl-C."""
        return 128 + (signal.SIGINT if self.number is None else self.number)


@contextmanager
def signals_as_interrupts() -> Iterator[Caught]:
    """A block in which SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does, so that all that cleans up after it does.

    A signal that is ignored (``nohup``) or has a handler of another library keeps it. Outside of the main thread, where
    Python sets no handlers, nothing changes.
    """
    caught = Caught()

    def interrupt(number: int, frame: FrameType | None) -> None:
        caught.number = number
        raise KeyboardInterrupt

    ours: list[int] = []
    if threading.current_thread() is threading.main_thread():
        there = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
        ours = [number for number in there if signal.getsignal(number) is signal.SIG_DFL]
    try:
        for number in ours:
            signal.signal(number, interrupt)
        yield caught
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
