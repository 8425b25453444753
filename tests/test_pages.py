"""What a page tells a reader to type or to follow works: links, anchors, commands, names and Python blocks."""

import ast
import contextlib
import importlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from typer.main import get_command

import steerclear
from steerclear.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
TODAY = [page for page in PAGES if page.name != "CHANGELOG.md" and page.parent.name != "log"]
"""Pages about the program as it is; the others tell what was."""

PYTHON = re.compile(r"(<!-- file: \S+ -->\n)?```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL)
PLACEHOLDER = re.compile(r"[A-Z_]+|\.\.\.|…|NAME=.*")


def named(pages: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.relative_to(ROOT).as_posix())


def anchors(page: Path) -> set[str]:
    """Of all headings, as Markdown makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings]
    return {re.sub(r"[-\s]+", "-", heading) for heading in plain}


@named(PAGES)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def python_blocks(page: Path) -> list[tuple[bool, str, str | None]]:
    """Whether it is a file's, the code, and what it prints where the page says so."""
    return [(bool(found[1]), found[2], found[3]) for found in PYTHON.finditer(page.read_text())]


@named([page for page in TODAY if python_blocks(page)])
def test_python_blocks_name_what_exists(page: Path) -> None:
    for of_a_file, code, _ in python_blocks(page):
        if of_a_file:  # has tests of its own
            continue
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("steerclear"):
                module = importlib.import_module(str(node.module))
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "steerclear":
                assert hasattr(steerclear, node.attr), node.attr


PRINTING = [
    pytest.param(code, printed, id=f"{page.name}-{place}")
    for page in TODAY
    for place, (_, code, printed) in enumerate(python_blocks(page))
    if printed is not None
]


@pytest.mark.parametrize(("code", "printed"), PRINTING)
def test_python_blocks_print_what_the_page_says(code: str, printed: str) -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "page", "exec"), {"__name__": "page"})
    assert out.getvalue() == printed


def commands(text: str) -> Iterator[str]:
    """Lines to type: of shell blocks, of indented blocks, and in backticks."""
    for block in re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL):
        yield from re.sub(r"\\\n *", "", block).splitlines()
    outside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    yield from re.findall(r"^ {4}((?:\.venv/bin/)?(?:steerclear|make) .*)$", outside, re.MULTILINE)
    yield from re.findall(r"`((?:steerclear|make) [^`\n]+)`", outside)


def check_command(line: str) -> None:
    words = shlex.split(line.partition(" # ")[0])
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
    if words[0].rpartition("/")[2] != "steerclear":
        return
    command: click.Command = get_command(app)
    words = words[1:]
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        if PLACEHOLDER.fullmatch(words[0]):
            return
        assert words[0] in command.commands, line
        command = command.commands[words.pop(0)]
    options = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
    assert [word for word in words if word.startswith("--") and word.partition("=")[0] not in options] == [], line


@named(TODAY)
def test_commands_exist_with_their_options(page: Path) -> None:
    for line in commands(page.read_text()):
        check_command(line)


@named(TODAY)
def test_files_that_a_page_names_exist(page: Path) -> None:
    for name in re.findall(r"`((?:[\w.]+/)+[\w*]+\.py)`", page.read_text()):
        if "NAME" not in name:
            places = (ROOT, ROOT / "src", ROOT / "src/steerclear")
            assert any(list(place.glob(name)) for place in places), name


def test_pages_show_whole_files_as_they_are() -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        named_files = re.findall(r"<!-- file: (\S+) -->", page.read_text())
        shown = re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```\n", page.read_text(), re.DOTALL)
        assert shown == [(name, (ROOT / name).read_text()) for name in named_files], page.name


@pytest.mark.parametrize("line", ["steerclear compare 'a man' --negative 'x'", "steerclear draw", "make everything"])
def test_a_command_that_does_not_exist_is_found(line: str) -> None:
    with pytest.raises(AssertionError):
        check_command(line)
