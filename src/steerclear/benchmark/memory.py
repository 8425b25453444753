"""What a process needed at its peak, and what something leaves behind."""

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

PACKAGE = Path(__file__).parents[1]
COLLECTIONS = 10
RUNS = 5
OURS = PACKAGE.name
STATUS = Path("/proc/self/status")


def peak_bytes(device: str = "cpu") -> int:
    """The most memory that this process ever held: in main memory, or on the accelerator that it works on.

    Read from the process's own status, where Linux keeps it; ``getrusage`` would count whoever started the process too.
    """
    if torch.device(device).type != "cpu":
        return torch.accelerator.memory.max_memory_allocated()
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


@dataclass(frozen=True)
class Leftovers:
    """What is still there after something that was to leave nothing.

    Attributes:
        made: how many objects of steerclear's classes it made.
        alive: how many of them are still alive.
        tensor_bytes: how much more tensors hold than before.
        objects: how many more objects of any kind Python's collector knows of than before, in the median of some runs.
    """

    made: int
    alive: int
    tensor_bytes: int
    objects: int


def leftovers(action: Callable[[Callable[[], None]], object]) -> Leftovers:
    """What an action leaves behind, once nobody holds its result.

    It is run once, which is not counted: what that leaves may be made once and kept for all later runs. Of the runs after
    it the most of each is told that any of them left; but of objects of any kind the median, as those of other threads (a
    progress bar's) come and go.

    Args:
        action: is given a function to call in its midst, when all that it makes is there (or as often as there is more).
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
    """Python's collector knows only of what is made within the block, and has not to look through a whole process."""
    _collect()
    already = gc.get_freeze_count() > 0  # by somebody else, who may count on it
    gc.freeze()
    try:
        yield
    finally:
        if not already:
            gc.unfreeze()


def _run(action: Callable[[Callable[[], None]], object], older: list[weakref.ref[Tensor]]) -> Leftovers:
    made: list[weakref.ref[Any]] = []
    before, bytes_before = [weakref.ref(thing) for thing in _ours()], _tensor_bytes(older)

    def look() -> None:  # by what still lives: an address may have been another's
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
    """Until nothing more comes free: what one collection frees may have held what the next one frees."""
    for _ in range(COLLECTIONS):
        if not gc.collect():
            return


def _ours() -> list[Any]:
    """All objects of steerclear's classes to which there can be a weak reference."""
    return [
        thing
        for thing in gc.get_objects()
        if str(type(thing).__module__).partition(".")[0] == OURS and type(thing).__weakrefoffset__
    ]


def _tensors() -> list[Tensor]:
    """All with memory. Not subclasses: torch.compile leaves stand-ins behind that have a shape and no memory."""
    known = gc.get_objects()
    return [thing for thing in known if type(thing) in (Tensor, torch.nn.Parameter) and not thing.is_meta]


def _tensor_bytes(older: list[weakref.ref[Tensor]]) -> int:
    """Of those that were made since, and of those that are older and may have grown."""
    tensors = [*_tensors(), *(tensor for reference in older if (tensor := reference()) is not None)]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())
