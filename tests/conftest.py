"""Shapes are checked in all tests, on one thread, without a network."""

import gc
import os
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import shapes

if os.environ.get("STEERCLEAR_CHECK_SHAPES", "1") == "1":
    shapes.install()  # before steerclear is imported

import pytest
import torch

torch.set_num_threads(1)

_cache = tempfile.TemporaryDirectory(prefix="steerclear-cache-")  # not the user's own; removed at the end
os.environ["STEERCLEAR_CACHE"] = _cache.name


def pytest_collection_finish() -> None:
    """Let the collector pass over the objects of the imported libraries, which it would look through again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def announce(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str, str], None]]:
    """Announces an importable module on a shelf, as the entry point of an installed package does: shelf, name, module."""
    from steerclear.cli.commands.benchmark import _commands
    from steerclear.core import shelf

    points: list[EntryPoint] = []

    def clear() -> None:
        shelf.entries.cache_clear()
        _commands.cache_clear()

    def add(room: str, name: str, module: str) -> None:
        points.append(EntryPoint(name, module, f"steerclear.{room}"))
        clear()

    monkeypatch.setattr(shelf, "entry_points", lambda group: [one for one in points if one.group == group])
    yield add
    monkeypatch.undo()
    clear()


@pytest.fixture(scope="module")
def loaded_once() -> Iterator[None]:
    """Load each model once for all runs of a file; a forked run inherits it."""
    from steerclear.models import loading

    load, known = loading.load_model, {}

    def load_model(name: str, **settings: object) -> loading.Model:
        key = repr((name, sorted(settings.items())))
        if key not in known:
            known[key] = load(name, **settings)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "load_model", load_model)
        yield


@pytest.fixture(scope="module")
def few_references() -> Iterator[None]:
    """Compare with 200 true portraits and not with 2,000, where what depends on them is not looked at; and read 256 held-out
    portraits through the autoencoder and not 1,024, whose claims are met by a wide margin."""
    from steerclear.benchmark import shipped
    from steerclear.laboratories import portraits

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(portraits, "REFERENCE_PORTRAITS", 200)
        patch.setattr(shipped, "HELD_OUT", 256)
        yield


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """A command of the program: its exit code, its output, and its errors in one line."""
    from steerclear.cli.app import main

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, " ".join(err.split())

    return run
