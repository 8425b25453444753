"""steerclear models: the shipped models, and the families that can be steered."""

import json
from dataclasses import asdict

from rich.console import Console

from ..options import Format, Output
from ..streams import print_json


def command(format: Output = Format.TEXT) -> None:
    """The shipped models, and the families of pipelines that can be steered."""
    from ...bridges.families import FAMILIES
    from ...models.about import about_shipped

    known = about_shipped()
    families = {family.name: list(family.pipelines) for family in FAMILIES}
    if format is Format.JSON:
        print_json(json.dumps({"shipped": [asdict(one) for one in known], "families": families}, indent=1))
        return
    console = Console(highlight=False, emoji=False)
    console.print("Models that ship, for --model:", style="bold")
    for one in known:
        console.print(f"  {one.name}: {one.pipeline}, {one.parameters / 1e6:.1f} million parameters", markup=False)
        for ability in one.abilities:
            console.print(f"    {ability}", markup=False)
    console.print(
        "Families that can be steered (here those that need only a text or a class, all of them by steer() in Python):",
        style="bold",
    )
    for name, pipelines in families.items():
        console.print(f"  {name}: {', '.join(pipelines)}", markup=False)
