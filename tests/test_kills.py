"""A run that is killed for good, and the same command again: the same bytes as if nothing had happened."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import kills
from steerclear.cli.app import main

MAN = "portrait photo of a man"
GUIDED = ["--guidance", "negative", "--negative-prompt", "mustache", "--steps", "2", "--batch-size", "8"]
SEEDS = range(
    8, 20
)  # a batch of 8 and one of 4: among the first are images that another batch size changes by a grey level
KILLS = 30
PROGRAM = "import sys; from steerclear.cli.app import main; sys.exit(main(sys.argv[1:]))"

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


pytestmark = pytest.mark.usefixtures("loaded_once")


def command(folder: Path) -> list[str]:
    return ["generate", MAN, *GUIDED, "--seeds", f"{SEEDS[0]}-{SEEDS[-1]}", "--outdir", str(folder)]


def generate(folder: Path) -> int:
    return main(command(folder))


def images(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


def killed(kind: str, count: int, folder: Path) -> int:
    """Run the command in a process of its own that kills itself; returns the signal that ended it."""
    child = os.fork()
    if child == 0:
        with kills.at(kind, count):
            generate(folder)
        os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, loaded_once: None) -> Path:
    folder = tmp_path_factory.mktemp("kills") / "whole"
    assert generate(folder) == 0
    return folder


@forks
@pytest.mark.parametrize(("kind", "count"), [("forward", 3), ("half", 2), ("half", 10), ("rename", 5), ("rename", 12)])
def test_a_killed_run_ends_as_if_nothing_had_happened(
    kind: str, count: int, uninterrupted: Path, tmp_path: Path
) -> None:
    assert killed(kind, count, tmp_path / "run") == signal.SIGKILL
    before = images(tmp_path / "run")
    assert len(before) == (8 if kind == "forward" else count - 1)
    assert generate(tmp_path / "run") == 0
    assert images(tmp_path / "run") == images(uninterrupted)
    left = {path.name for path in (tmp_path / "run").rglob("*")}
    assert left == {f"{seed:05d}.png" for seed in SEEDS} | {"run.json", "sheet.png"}  # nothing half-written


@pytest.mark.slow
def test_thirty_killed_processes_of_the_command_end_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """Each is a process of its own from the start, killed at an event drawn at random and run again; 30 of 30.

    So is the one that they are compared with: another number of threads rounds otherwise.
    """
    draw = random.Random(11)
    same = []
    whole = tmp_path / "whole"
    assert subprocess.run([sys.executable, "-c", PROGRAM, *command(whole)], capture_output=True).returncode == 0
    for number in range(KILLS):
        kind = draw.choice(kills.KINDS)
        count = draw.randint(1, 4 if kind == "forward" else len(SEEDS))
        folder = tmp_path / str(number)
        ended = subprocess.run(
            [sys.executable, kills.__file__, kind, str(count), *command(folder)], capture_output=True
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
        assert len(images(folder)) < len(SEEDS)
        assert subprocess.run([sys.executable, "-c", PROGRAM, *command(folder)], capture_output=True).returncode == 0
        same.append(images(folder) == images(whole))
    assert same == [True] * KILLS
