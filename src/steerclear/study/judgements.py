"""What a judge sees in many files: read in small batches, kept on disk by the digest of each file, so that a stopped run goes on."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..core.errors import SteerclearError, lacks_memory
from ..core.laboratory import Judge, Seen
from ..core.saving import save_whole
from .reading import Unreadable, read_pixels

SHARD = 512
"""Images that are judged between two writes."""
MOST_HELD = 2**25
"""Most pixels that wait for others of their size."""
MOST_BYTES = 2**30
"""Size of the largest file that is read."""
SUFFIX = ".safetensors"
DIGEST_LENGTH = 32
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Row:
    """What a judge sees in one image; see :class:`~steerclear.core.laboratory.Seen`."""

    shown: Mapping[str, int]
    probabilities: Mapping[str, float]
    features: Tensor | None


@dataclass(frozen=True)
class Judged:
    """The files of a folder as a judge sees them.

    Attributes:
        paths: of the images that could be read, in order.
        seen: what they show.
        left_out: file -> why it is left out, as a clause.
    """

    paths: tuple[Path, ...]
    seen: Seen
    left_out: Mapping[Path, str]


def some_of(judged: Judged, paths: Sequence[Path]) -> Seen:
    """What is seen in some of the images."""
    place = {path: row for row, path in enumerate(judged.paths)}
    rows, seen = torch.tensor([place[path] for path in paths], dtype=torch.long), judged.seen
    return Seen(
        {name: values[rows] for name, values in seen.shown.items()},
        {name: values[rows] for name, values in seen.probabilities.items()}, None if seen.features is None else seen.features[rows],
    )  # fmt: skip


@dataclass
class Judgements:
    """A judge, and what it has seen so far.

    Args:
        judge: says what images show.
        folder: keeps what it has seen; None keeps nothing. What is in it must be of this judge.
        batch_size: most images that are seen at once.
    """

    judge: Judge
    folder: Path | None = None
    batch_size: int = 16
    _known: dict[str, Row] = field(default_factory=dict)
    _new: dict[str, Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for shard in sorted(self.folder.glob(f"*{SUFFIX}")) if self.folder else ():
            with suppress(SafetensorError, KeyError, ValueError, OSError):  # a damaged one is judged again
                self._known.update(_read_shard(shard))

    def of(self, paths: Sequence[Path], on_progress: OnProgress = lambda done, total: None) -> Judged:
        """What the judge sees in these files. A file that cannot be read or judged is left out.

        Raises:
            SteerclearError: the judge sees none of the images that can be read.
        """
        digests: dict[Path, str] = {}
        left_out: dict[Path, str] = {}
        try:
            self._see_all(paths, digests, left_out, on_progress)
        finally:  # also if it is stopped
            self._keep()
        seen = [path for path in paths if path in digests and path not in left_out]
        return Judged(tuple(seen), self._together([self._known[digests[path]] for path in seen]), left_out)

    def _see_all(
        self, paths: Sequence[Path], digests: dict[Path, str], left_out: dict[Path, str], on_progress: OnProgress
    ) -> None:
        waiting = _Waiting(self.batch_size)
        failed: dict[Path, SteerclearError] = {}
        for done, path in enumerate(paths):
            try:
                digests[path] = digest = _digest(path)
                if digest not in self._known:
                    for group in waiting.with_one(path, digest, read_pixels(path)):
                        self._see(group, failed)
            except Unreadable as error:
                left_out[path] = str(error)
            on_progress(done, len(paths))
        for group in waiting.rest():
            self._see(group, failed)
        on_progress(len(paths), len(paths))
        refused = {path: error for path, error in failed.items() if digests[path] not in self._known}
        if refused and len(refused) + len(left_out) == len(paths):
            raise next(iter(refused.values()))
        left_out.update({path: f"the judge cannot see it: {error}".rstrip(".") for path, error in refused.items()})

    def _see(self, group: Sequence["_One"], failed: dict[Path, SteerclearError]) -> None:
        """Judge images of one size; if the judge refuses, all of them have failed."""
        new = {one.digest: one for one in group if one.digest not in self._known}  # a file may be there twice
        if not new:
            return
        images = torch.stack([one.pixels for one in new.values()])
        try:
            seen = self.judge.see(images)
        except SteerclearError as error:
            if lacks_memory(error):
                raise
            failed.update({one.path: error for one in group})
            return
        for row, digest in enumerate(new):
            self._known[digest] = self._new[digest] = _row(seen, row)
        if len(self._new) >= SHARD:
            self._keep()

    def _keep(self) -> None:
        """Write what is new."""
        if self.folder is not None and self._new:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write_shard(self.folder, self._new)
        self._new.clear()

    def _together(self, rows: Sequence[Row]) -> Seen:
        if not rows:
            return Seen({})
        first = rows[0]
        shown = {name: torch.tensor([row.shown[name] for row in rows]) for name in first.shown}
        sure = {name: torch.tensor([row.probabilities[name] for row in rows]) for name in first.probabilities}
        features = [row.features for row in rows if row.features is not None]
        return Seen(shown, sure, torch.stack(features) if len(features) == len(rows) else None)


@dataclass(frozen=True, eq=False)
class _One:
    path: Path
    digest: str
    pixels: Tensor


@dataclass
class _Waiting:
    """Images that wait for others of their size."""

    batch_size: int
    groups: dict[tuple[int, ...], list[_One]] = field(default_factory=dict)
    held: int = 0

    def with_one(self, path: Path, digest: str, pixels: Tensor) -> Iterator[list[_One]]:
        """One image more; the groups that are full, or for which there is no room."""
        self.groups.setdefault(tuple(pixels.shape), []).append(_One(path, digest, pixels))
        self.held += pixels[0].numel()
        if len(self.groups[tuple(pixels.shape)]) >= self.batch_size:
            yield self._out(tuple(pixels.shape))
        while self.held > MOST_HELD:
            yield self._out(max(self.groups, key=lambda size: len(self.groups[size]) * size[1] * size[2]))

    def rest(self) -> Iterator[list[_One]]:
        for size in list(self.groups):
            yield self._out(size)

    def _out(self, size: tuple[int, ...]) -> list[_One]:
        group = self.groups.pop(size)
        self.held -= len(group) * size[1] * size[2]
        return group


def _row(seen: Seen, row: int) -> Row:
    features = None if seen.features is None else seen.features[row].detach().float().cpu().clone()
    return Row(
        {name: int(values[row]) for name, values in seen.shown.items()},
        {name: float(values[row]) for name, values in seen.probabilities.items()}, features,
    )  # fmt: skip


def _digest(path: Path) -> str:
    """A hash of the file's bytes; what is no file is not opened."""
    try:
        if not path.is_file():
            read_pixels(path)  # says why not
        if path.stat().st_size > MOST_BYTES:
            raise Unreadable(f"it has more than {MOST_BYTES / 2**30:g} GB")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:DIGEST_LENGTH]
    except PermissionError as error:
        raise Unreadable("it may not be read") from error
    except OSError as error:
        raise Unreadable(f"it cannot be read ({error.strerror})") from error


def _write_shard(folder: Path, rows: Mapping[str, Row]) -> None:
    first = next(iter(rows.values()))
    tensors: dict[str, Tensor] = {
        **{f"shown/{name}": torch.tensor([row.shown[name] for row in rows.values()]) for name in first.shown},
        **{
            f"probability/{name}": torch.tensor([row.probabilities[name] for row in rows.values()], dtype=torch.float64)
            for name in first.probabilities
        },
    }
    features = [row.features for row in rows.values() if row.features is not None]
    if len(features) == len(rows):
        tensors["features"] = torch.stack(features)
    names = json.dumps(list(rows))
    digest = hashlib.sha256(names.encode()).hexdigest()[:DIGEST_LENGTH]
    save_whole(folder / f"{digest}{SUFFIX}", lambda to: save_file(tensors, to, {"digests": names}))


def _read_shard(path: Path) -> dict[str, Row]:
    with safe_open(path, "pt") as file:
        digests: Any = json.loads(file.metadata()["digests"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it has no other way
    if not isinstance(digests, list) or any(len(values) != len(digests) for values in tensors.values()):
        raise ValueError("lengths differ")
    features = tensors.pop("features", None)
    shown = {
        name.removeprefix("shown/"): values.tolist() for name, values in tensors.items() if name.startswith("shown/")
    }
    sure = {
        name.removeprefix("probability/"): values.tolist()
        for name, values in tensors.items() if name.startswith("probability/")
    }  # fmt: skip
    return {
        str(digest): Row(
            {name: values[row] for name, values in shown.items()}, {name: values[row] for name, values in sure.items()},
            None if features is None else features[row],
        )
        for row, digest in enumerate(digests)
    }  # fmt: skip
