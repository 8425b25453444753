"""The commands, discovered: one file is one command, named after it.

A file has either a function ``command``, or a typer program ``app`` with commands of its own. A stranger's package
announces a module like these under the entry point group ``steerclear.cli.commands``; its name there is the command's.
"""

import importlib
import pkgutil
from importlib.metadata import entry_points

import typer


def add_commands(app: typer.Typer) -> None:
    """Add every command there is to the program."""
    found = {
        one.name.replace("_", "-"): importlib.import_module(f"{__name__}.{one.name}")
        for one in pkgutil.iter_modules(__path__)
    }
    found |= {entry.name: entry.load() for entry in entry_points(group=__name__)}
    for name, module in found.items():
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command(name)(module.command)
