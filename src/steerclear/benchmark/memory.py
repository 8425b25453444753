"""What a process needed at its peak, and what something leaves behind."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

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
        objects: how many more objects of any kind Python's collector knows of than before.
    """

    made: int
    alive: int
    tensor_bytes: int
    objects: int


def leftovers(action: Callable[[Callable[[], None]], object]) -> Leftovers:
    """What an action leaves behind, once nobody holds its result.

    It is run once, which is not counted: what that leaves may be made once and kept for all later runs. Of the runs after
    it the one that leaves most is told. Objects of any kind are counted over all of these together, as those of other
    threads come and go by one or two: what each run leaves is their growth divided by the runs, rounded.

    Args:
        action: is given a function to call in its midst, when all that it makes is there.
    """
    made = alive = tensor_bytes = 0
    with _nothing_older():
        _run(action)
        before = _objects()
        for _ in range(RUNS):
            run_made, run_alive, run_bytes = _run(action)
            made, alive, tensor_bytes = max(made, run_made), max(alive, run_alive), max(tensor_bytes, run_bytes)
        return Leftovers(made, alive, tensor_bytes, objects=round((_objects() - before) / RUNS))


@contextmanager
def _nothing_older() -> Iterator[None]:
    """Python's collector knows only of what is made within the block, and has not to look through a whole process."""
    _collect()
    already = gc.get_freeze_count() > 0
    gc.freeze()
    try:
        yield
    finally:
        if not already:
            gc.unfreeze()


def _run(action: Callable[[Callable[[], None]], object]) -> tuple[int, int, int]:
    """How many objects of ours an action made, how many of them are alive, and how much more tensors hold."""
    made: list[weakref.ref[Any]] = []
    before, bytes_before = {id(thing) for thing in _ours()}, _tensor_bytes()
    action(lambda: made.extend(weakref.ref(thing) for thing in _ours() if id(thing) not in before))
    _collect()
    alive = sum(reference() is not None for reference in made)
    return len(made), alive, _tensor_bytes() - bytes_before


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


def _tensor_bytes() -> int:
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in gc.get_objects()
        # not subclasses: torch.compile leaves stand-ins behind that have a shape and no memory
        if type(tensor) in (torch.Tensor, torch.nn.Parameter) and not tensor.is_meta
    }
    return sum(storages.values())
