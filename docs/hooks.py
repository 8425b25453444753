"""What the documentation site needs beside docs/: the pages at the top of the repository, and docstrings as the site needs them.

MkDocs loads this as a hook, mkdocstrings as an extension of griffe.
"""

import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File, Files

TOP = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "LICENSE": "license.md",
    "CITATION.cff": "citation.md",
}
"""File of the repository -> page of the site."""


def on_files(files: Files, config: Any) -> Files:
    for source, page in TOP.items():
        text = (Path(config.config_file_path).parent / source).read_text(encoding="utf-8")
        text = re.sub(r"(\]\()(?:\./)?docs/", r"\1", text)
        for other, there in TOP.items():
            text = text.replace(f"]({other})", f"]({there})").replace(f"]({other}#", f"]({there}#")
        files.append(File.generated(config, page, content=text if source.endswith(".md") else f"```text\n{text}```\n"))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Pages of docs/ link to the top of the repository as ``../README.md``."""
    for source, page in TOP.items():
        markdown = markdown.replace(f"](../{source}", f"]({page}")
    return markdown


class Docstrings(griffe.Extension):
    """``:class:`~steerclear.Guidance``` in a docstring becomes `Guidance`; the lines of an equation stay as they are."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", obj.docstring.value)
            obj.docstring.value = re.sub(
                r"(?m)^(Equations?:\n)((?: .*(?:\n|$)|\n(?= ))+)",
                lambda found: f"{found[1]}    ```text\n{found[2].rstrip()}\n    ```\n",
                text,
            )
