"""The commands are a shelf; help, completion and quiet runs; and the commands that only tell."""

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest
import typer
from typer.testing import CliRunner

from steerclear.cli import commands
from steerclear.cli.app import main
from steerclear.core import shelf


def test_one_file_is_one_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "say_hello.py").write_text(
        'def command(name: str) -> None:\n    """Greet somebody."""\n    print(f"hello {name}")\n'
    )
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    app = typer.Typer()
    commands.add_commands(app)
    assert CliRunner().invoke(app, ["say-hello", "you"]).output == "hello you\n"
    monkeypatch.delitem(sys.modules, "steerclear.cli.commands.say_hello")


def test_a_strangers_package_brings_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = ModuleType("stranger")
    stranger.command = lambda: print("from afar")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stranger", stranger)
    point = EntryPoint("afar", "stranger", "steerclear.cli.commands")
    monkeypatch.setattr(shelf, "entry_points", lambda group: [point] if group == point.group else [])
    app = typer.Typer()
    commands.add_commands(app)
    assert CliRunner().invoke(app, ["afar"]).output == "from afar\n"


def test_a_package_that_cannot_be_imported_stops_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "astray-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: astray\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(
        "[steerclear.cli.commands]\nlost = astray.lost\n[steerclear.guidance]\ngone = astray.gone\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, "-m", "steerclear", "guidance", "list"], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": path})  # fmt: skip
    assert done.returncode == 0
    assert {line.split()[0] for line in done.stdout.splitlines() if line} >= {"cfg", "dynamic-negative"}
    end = "which cannot be imported and is left out: ModuleNotFoundError: No module named 'astray'; update or uninstall that package"
    assert done.stderr.splitlines() == [
        f"steerclear: warning: the package 'astray' announces '{name}' (astray.{name}) in the group steerclear.{group}, {end}"
        for name, group in (("lost", "cli.commands"), ("gone", "guidance"))
    ]


@pytest.mark.parametrize(
    "words", [[], ["compare"], ["generate"], ["guidance"], ["guidance", "show"], ["train", "portraits"]]
)
def test_h_is_help_everywhere(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "-h"]) == 0
    short = capsys.readouterr().out
    assert main([*words, "--help"]) == 0
    assert short == capsys.readouterr().out
    assert f"Usage: steerclear {' '.join(words)}".strip() in short


def test_completion_is_typers_own(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("_STEERCLEAR_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "steerclear gen")
    monkeypatch.setenv("COMP_CWORD", "1")
    with pytest.raises(SystemExit) as left:
        main([])
    assert (left.value.code, capsys.readouterr().out.split()) == (0, ["generate"])


def test_the_program_starts_without_torch() -> None:
    """In a fresh process; every command's module is loaded."""
    script = (
        "import sys; from steerclear.cli.app import main; assert main(['--help']) == 0; "
        "print(sorted({'torch', 'diffusers', 'transformers', 'matplotlib', 'PIL', 'numpy'} & sys.modules.keys()))"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert told.splitlines()[-1] == "[]"
