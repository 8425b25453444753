"""The commands, discovered: one file is one command, named after it.

A file has a function ``command``, or a typer program ``app`` with subcommands. Other packages add such modules through the
entry point group ``steerclear.cli.commands``, under the command's name.
"""

import importlib
import pkgutil

import typer

from ...core.shelf import strangers


def add_commands(app: typer.Typer) -> None:
    """Add all commands to the program."""
    names = [one.name for one in pkgutil.iter_modules(__path__)]
    found = {name.replace("_", "-"): importlib.import_module(f"{__name__}.{name}") for name in names}
    found |= {entry.name: module for entry, module in strangers(__name__)}
    for name, module in found.items():
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command(name)(module.command)
