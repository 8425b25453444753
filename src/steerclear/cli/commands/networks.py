"""steerclear networks: the kinds of weak networks."""

import json

from rich.console import Console

from ..options import Format, Output
from ..streams import print_json


def command(format: Output = Format.TEXT) -> None:
    """The kinds of networks for --weak and --network, with cost and settings."""
    from ...core.network import Network
    from ...telling.guidance_docs import documentation

    kinds = {name: (documentation(kind), kind) for name, kind in Network.known().items()}
    if format is Format.JSON:
        rows = [
            {"name": name, "summary": page.summary, "memory": kind.memory, "time": kind.time,
             "parameters": [parameter._asdict() for parameter in page.parameters]}
            for name, (page, kind) in kinds.items()
        ]  # fmt: skip
        print_json(json.dumps(rows, indent=1))
        return
    console = Console(highlight=False, emoji=False)
    for name, (page, kind) in kinds.items():
        console.print(name, style="bold", markup=False)
        console.print(f"  {page.summary}\n  memory: {kind.memory}\n  time: {kind.time}", markup=False)
        for parameter, default, meaning in page.parameters:
            console.print(f"  {parameter} = {default or '(must be given)'}: {meaning}", markup=False)
        console.print()
    console.print(
        "A kind with settings is written like --weak noised:strength=0.2. A network of its own is a folder or hub id."
    )
