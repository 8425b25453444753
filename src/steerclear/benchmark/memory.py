"""The peak memory of a process, and what an action leaves behind."""

import gc
import statistics
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

COLLECTIONS, RUNS = 10, 5
OURS = Path(__file__).parents[1].name
STATUS, CLEARED = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_bytes(device: str = "cpu") -> int:
    """Peak memory of this process in bytes: of the accelerator, or main memory as in Linux's /proc/self/status.

    ``getrusage`` would include the process that started this one.
    """
    if torch.device(device).type != "cpu":
        return torch.accelerator.memory.max_memory_allocated()
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def forget_peak() -> None:
    """From now on the peak of main memory is that of what follows. Errors: OSError where Linux does not allow it."""
    CLEARED.write_text("5")


@dataclass(frozen=True)
class Leftovers:
    """What an action left behind.

    Attributes:
        made: number of objects of steerclear's classes that it made.
        alive: number of them still alive.
        tensor_bytes: increase of the memory held by tensors, in bytes.
        objects: increase of the number of objects of any kind that Python's garbage collector tracks.
    """

    made: int
    alive: int
    tensor_bytes: int
    objects: int


def leftovers(action: Callable[[Callable[[], None]], object]) -> Leftovers:
    """What an action leaves behind, once its result is dropped.

    A first run does not count: it may make what is kept for all later runs. Reports the maximum over :data:`RUNS` further
    runs; for objects of any kind the median, because other threads (of a progress bar) make and drop some.

    Args:
        action: gets a function to call when all that it makes exists (or several times).
    """
    older = [weakref.ref(tensor) for tensor in _tensors()]
    with _nothing_older():
        _run(action, older)
        runs = [_run(action, older) for _ in range(RUNS)]
    return Leftovers(
        made=max(left.made for left in runs),
        alive=max(left.alive for left in runs),
        tensor_bytes=max(left.tensor_bytes for left in runs),
        objects=statistics.median_low(left.objects for left in runs),
    )


@contextmanager
def _nothing_older() -> Iterator[None]:
    """A block in which the garbage collector tracks only new objects, so that it is fast."""
    _collect()
    already = gc.get_freeze_count() > 0  # by other code, which may rely on it
    gc.freeze()
    try:
        yield
    finally:
        if not already:
            gc.unfreeze()


def _run(action: Callable[[Callable[[], None]], object], older: list[weakref.ref[Tensor]]) -> Leftovers:
    made: list[weakref.ref[Any]] = []
    before, bytes_before = [weakref.ref(thing) for thing in _ours()], _tensor_bytes(older)

    def look() -> None:  # compares living objects only: an address may have been reused
        known = {id(thing) for reference in (*before, *made) if (thing := reference()) is not None}
        made.extend(weakref.ref(thing) for thing in _ours() if id(thing) not in known)

    objects = _objects()
    action(look)
    count = len(made)
    return Leftovers(
        made=count,
        objects=_objects() - objects - count,  # the weak references themselves
        alive=sum(reference() is not None for reference in made),
        tensor_bytes=_tensor_bytes(older) - bytes_before,
    )


def _objects() -> int:
    _collect()
    return len(gc.get_objects())


def _collect() -> None:
    """Collect until nothing more is freed: one collection may release what the next one frees."""
    for _ in range(COLLECTIONS):
        if not gc.collect():
            return


def _ours() -> list[Any]:
    """All objects of steerclear's classes that allow weak references."""
    return [
        thing
        for thing in gc.get_objects()
        if str(type(thing).__module__).partition(".")[0] == OURS and type(thing).__weakrefoffset__
    ]


def _tensors() -> list[Tensor]:
    """All tensors with memory, without subclasses: torch.compile leaves some that have a shape but no memory."""
    known = gc.get_objects()
    return [thing for thing in known if type(thing) in (Tensor, torch.nn.Parameter) and not thing.is_meta]


def _tensor_bytes(older: list[weakref.ref[Tensor]]) -> int:
    """Memory of the tracked tensors, and of older ones, which may have grown."""
    tensors = [*_tensors(), *(tensor for reference in older if (tensor := reference()) is not None)]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())
