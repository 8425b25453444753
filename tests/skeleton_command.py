"""steerclear count: a command in one file."""

from typing import Annotated

import typer


def command(negative_prompt: Annotated[str, typer.Option(help="Concepts with commas between them.")] = "") -> None:
    """How many concepts a negative prompt names."""
    typer.echo(len([part for part in negative_prompt.split(",") if part.strip()]))
