"""What a process needed at its peak, and what something leaves behind."""

import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

PACKAGE = Path(__file__).parents[1]
COLLECTIONS = 10
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

    It is run four times. What the first leaves is not counted: it may be made once and kept for all later runs. Of the
    others the median is told, by the number of objects: those of other threads (a progress bar's) come and go.

    Args:
        action: is given a function to call in its midst, when all that it makes is there.
    """
    action(lambda: None)
    return sorted((_leftovers(action) for _ in range(3)), key=lambda left: left.objects)[1]


def _collect() -> None:
    """Until nothing more comes free: what one collection frees may have held what the next one frees."""
    for _ in range(COLLECTIONS):
        if not gc.collect():
            return


def _leftovers(action: Callable[[Callable[[], None]], object]) -> Leftovers:
    _collect()
    made: list[weakref.ref[Any]] = []
    before = {id(thing) for thing in _ours()}

    def look() -> None:
        made.extend(weakref.ref(thing) for thing in _ours() if id(thing) not in before)

    tensors, objects = _tensor_bytes(), len(gc.get_objects())
    action(look)
    _collect()
    return Leftovers(
        made=len(made),
        alive=sum(reference() is not None for reference in made),
        tensor_bytes=_tensor_bytes() - tensors,
        objects=len(gc.get_objects()) - objects - len(made),  # the weak references themselves
    )


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
