"""steerclear diagram: what guidances do in a world of the plane whose truth is known, as pictures."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from .. import options


class Picture(StrEnum):
    """How pictures are written: pixels, lines for print, or an animation."""

    PNG = "png"
    SVG = "svg"
    GIF = "gif"


World = Annotated[str, typer.Option(
    "--world", help="A testbed of the plane: fractal, spiral, or another with settings, as scattered:dimension=2."
)]  # fmt: skip
Shows = Annotated[str, typer.Option(
    "--prompt", help="What the prompt shows: all, or class, which is all without the concept."
)]  # fmt: skip
Sigmas = Annotated[list[float] | None, typer.Option(
    "--sigma", help="A noise level, sigma / alpha, at which pushes are drawn; may be repeated; default: 1, 0.4 and 0.12 of the world's spread."
)]  # fmt: skip
Mechanisms = Annotated[list[str] | None, typer.Option(
    "--mechanism", help="A guidance with its settings, as negative:2; may be repeated; default: those that the prompt allows."
)]  # fmt: skip
Animate = Annotated[bool, typer.Option("--animate", help="Write an animation too, as with --format gif.")]
Formats = Annotated[list[Picture] | None, typer.Option(
    "--format", help="png, svg or gif (the animation); may be repeated; default: png."
)]  # fmt: skip
Samples = Annotated[int, typer.Option("--samples", help="Images per guidance.", min=100)]
Ways = Annotated[int, typer.Option("--paths", help="Images whose path is drawn.", min=1)]
Moving = Annotated[int, typer.Option("--moving", help="Images in the animation.", min=1, max=1024)]
Seed = Annotated[int, typer.Option("--seed", help="Of the first image.", min=0)]
Blur = Annotated[float, typer.Option(
    "--blur", help="How blurred the network has learned the world, as a share of its spread; 0 is a perfect network.", min=0
)]  # fmt: skip
Weaker = Annotated[float, typer.Option(
    "--weaker", help="How many times as large the weak network's covariances are as the network's.", min=1
)]  # fmt: skip
Drawing = Annotated[str | None, typer.Option(
    "--schematic", help="In place of a world: sampler (what a negative prompt is at each step) or space (where images lie)."
)]  # fmt: skip
Outdir = Annotated[Path, typer.Option("--outdir", **options.FOLDER, help="For the pictures and their numbers.")]


def command(
    context: typer.Context, world: World = "fractal", prompt: Shows = "all", sigma: Sigmas = None, mechanism: Mechanisms = None,
    animate: Animate = False, format: Formats = None, samples: Samples = 20_000, paths: Ways = 8, moving: Moving = 200,
    steps: options.Steps = 40, seed: Seed = 0, blur: Blur = 0.05, weaker: Weaker = 3.0, schematic: Drawing = None,
    outdir: Outdir = Path("out/diagram"), quiet: options.Quiet = False,
) -> None:  # fmt: skip
    """Draw what guidances do in a world of the plane whose truth is known.

    Their pushes at several noise levels with the paths of images, and what they sample beside what is wanted, with numbers.
    """
    formats = [*dict.fromkeys([*(format or [Picture.PNG]), *([Picture.GIF] if animate else [])])]
    if schematic is not None:
        _check_schematic(context, schematic, formats)
        _write_schematic(schematic, formats, outdir)
        return
    from ...core.guidance import Guidance
    from ...core.parsing import parse_part
    from ...study.diagram import Diagram

    request = Diagram(
        _world(world), tuple(parse_part(one, Guidance) for one in mechanism or ()), tuple(sigma or ()), samples, paths,
        moving if Picture.GIF in formats else 0, steps, seed, prompt, blur, weaker,
    )  # fmt: skip
    with options.progress_bars(not quiet) as bars:
        scene = request.scene(options.show_stages(bars))
    _write(scene, formats, outdir, quiet)


def _world(text: str) -> Any:
    from ...core.errors import InvalidSetting
    from ...core.parsing import parse_part
    from ...core.testbed import Testbed
    from ...testbeds.mixture import MixtureTestbed

    found = parse_part(text, Testbed)
    if not isinstance(found, MixtureTestbed):
        known = sorted(name for name, one in Testbed.known().items() if issubclass(one, MixtureTestbed))
        raise InvalidSetting("--world", text, f"a mixture of Gaussians: {', '.join(known)}")
    return found


def _write(scene: Any, formats: list[Picture], outdir: Path, quiet: bool) -> None:
    from ...study.diagram import numbers_of
    from ...study.gallery import write_text
    from ...telling.figures.diagram import draw_pushes, draw_samples, typed
    from ...telling.figures.diagram_files import save_animation, save_diagram

    name = scene.request.world.name + ("" if scene.request.prompt == "all" else f"-{scene.request.prompt}")
    made = []
    for one in formats:
        if one is Picture.GIF:
            made.append(save_animation(scene, outdir / f"{name}.gif"))
        else:
            made.append(save_diagram(draw_pushes(scene), outdir / f"{name}-pushes.{one}"))
            made.append(save_diagram(draw_samples(scene), outdir / f"{name}-samples.{one}"))
    numbers = numbers_of(scene, typed)
    write_text(outdir / f"{name}.json", json.dumps(numbers, indent=1) + "\n")
    if not quiet:
        _print(numbers)
    for path in [*made, outdir / f"{name}.json"]:
        print(path)


def _print(numbers: dict[str, Any]) -> None:
    table = Table(
        Column("guidance", overflow="fold"),
        "wanted",
        "concept",
        "wrong place",
        "by chance",
        "off the map",
        "calls",
        box=None,
    )
    for row in numbers["guidances"]:
        chance = numbers["exact draws"][row["wanted"]]["misplaced"]
        figures = (f"{one:.3f}" for one in (row["concept"], row["misplaced"], chance, row["outside"]))
        table.add_row(row["guidance"], row["wanted"], *figures, f"{row['calls']:.0f}")
    Console().print(table)


def _check_schematic(context: typer.Context, name: str, formats: list[Picture]) -> None:
    """Refuse options that have no effect on a schematic."""
    from ...core.errors import InvalidSetting

    given = [one for one in context.params if getattr(context.get_parameter_source(one), "name", "") == "COMMANDLINE"]
    others = [f"--{one}" for one in given if one not in ("schematic", "outdir", "format", "quiet")]
    others += ["--format gif"] if Picture.GIF in formats and "animate" not in given else []
    if others:
        raise InvalidSetting("--schematic", name, f"given without {', '.join(others)}", "only worlds have those")


def _write_schematic(name: str, formats: list[Picture], outdir: Path) -> None:
    from ...telling.figures.diagram_files import save_diagram
    from ...telling.schematics import schematic

    figure = schematic(name, outdir)
    for one in formats:
        print(save_diagram(figure, outdir / f"schematic-{name}.{one}"))
