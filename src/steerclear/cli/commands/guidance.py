"""steerclear guidance: the guidances on the shelf."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ..options import Format, Output
from ..streams import print_json

app = typer.Typer(no_args_is_help=True, help="The guidances: equation, parameters, paper, cost.")


@app.command("list")
def list_all(format: Output = Format.TEXT) -> None:
    """All guidances, one per row."""
    from ...core.guidance import guidances
    from ...telling.guidance_docs import documentation

    pages = {name: documentation(cls) for name, cls in guidances().items()}
    if format is Format.JSON:
        told = [{"name": name, "summary": page.summary, "cost": page.cost} for name, page in pages.items()]
        print_json(json.dumps(told, indent=1))
        return
    table = Table("name", "what it does", "cost", box=None, pad_edge=False)
    for name, page in pages.items():
        table.add_row(name, page.summary, page.cost)
    Console().print(table)


@app.command("show")
def show(name: Annotated[str, typer.Argument(help="A guidance's name.")], format: Output = Format.TEXT) -> None:
    """One guidance: its equation, parameters, paper and cost."""
    from dataclasses import asdict

    from ...core.guidance import find_guidance
    from ...telling.glossary import explained
    from ...telling.guidance_docs import documentation

    cls = find_guidance(name)
    page = documentation(cls)
    if format is Format.JSON:
        print_json(json.dumps({"name": cls.name, "class": cls.__name__} | asdict(page), indent=1))
        return
    console = Console(highlight=False, emoji=False)
    console.print(f"{cls.name} ({cls.__name__}): {page.summary}\n", markup=False)
    console.print(f"{page.equation}\n", markup=False)
    for parameter, default, meaning in page.parameters:
        console.print(f"  {parameter} = {default}: {meaning}", markup=False)
    text = " ".join([page.summary, page.equation, *(" ".join(parameter) for parameter in page.parameters)])
    if words := explained(text):
        console.print("\nwords:", *(f"\n  {word}" for word in words), markup=False, sep="")
    console.print(f"\npaper: {page.paper}\ncost: {page.cost}", markup=False)
