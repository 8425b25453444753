"""The program: all commands; errors become one sentence and exit code 2."""

import errno
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from .. import __version__
from ..core import errors
from ..core.errors import NotEnoughMemory, SteerclearError, SteerclearWarning, keeps, lacks_memory, shown
from .commands import add_commands
from .stopping import STOPPED, Caught, Commands, Stopped, signals_as_interrupts
from .streams import showable_streams

USER_ERROR = 2
ANOTHER_FOLDER = "give another --outdir (training: or --folder)"

app = typer.Typer(
    name="steerclear", cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]}, help="Guidance for diffusion models that says what it changed.",
)  # fmt: skip
with warnings.catch_warnings(record=True) as at_import:  # told by the first run, as sentences
    warnings.simplefilter("always", SteerclearWarning)
    add_commands(app)


def _version(shown: bool) -> None:
    if shown:
        typer.echo(f"steerclear {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Guidance for diffusion models that says what it changed."""


@showable_streams()
@errors.on_command_line()
def main(arguments: list[str] | None = None) -> int:
    """Run the program; the exit code is 0, 2 for errors of the user, 130 after Ctrl-C, 128 + n after another signal n."""
    with signals_as_interrupts() as caught:
        try:
            code = _run(arguments, caught)
        except (OSError, SystemExit):
            if caught.number is None:
                raise
            code = caught.exit_code  # the terminal is gone; nothing can be printed there
        return code if caught.number is None else caught.exit_code


def _run(arguments: list[str] | None, caught: Caught) -> int:
    console = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", SteerclearWarning)
            warnings.showwarning = _shown_in_a_sentence(console, warnings.showwarning)
            for told in at_import:
                warnings.warn(told.message, stacklevel=2)
            code = app(args=arguments, prog_name="steerclear", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except SteerclearError as error:
        kept = " What was done is kept." if keeps(error) else ""
        if isinstance(error, NotEnoughMemory):
            print(f"steerclear: {error}{kept}", file=sys.stderr)  # the console may need too much memory
        else:
            console.print(f"steerclear: {error}{kept}", style="bold", markup=False)
        return USER_ERROR
    except OSError as error:
        console.print(f"steerclear: {_os_sentence(error)}", style="bold", markup=False)
        return USER_ERROR
    except (Stopped, KeyboardInterrupt, typer.Abort) as stopped:
        console.print(str(stopped) if isinstance(stopped, Stopped) else STOPPED, markup=False)
        return caught.exit_code
    except Exception as error:
        if lacks_memory(error):
            print(f"steerclear: {NotEnoughMemory()}", file=sys.stderr)  # as above
            return USER_ERROR
        if not type(error).__module__.startswith(("click", "typer")):
            raise
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        if message:  # without arguments there is none: the help was printed
            console.print(f"steerclear: {errors.shortened(message)}", style="bold", markup=False)
        return USER_ERROR


def _shown_in_a_sentence(console: Console, other: Callable[..., None]) -> Callable[..., None]:
    """Our warnings as sentences, each once and without the line of code; all others as usual."""
    said: set[str] = set()  # several methods may give the same warning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, SteerclearWarning):
            if str(message) in said:
                return
            said.add(str(message))
            console.print(f"steerclear: warning: {message}", markup=False)
        else:
            other(message, category, *place, **more)

    return show


def _os_sentence(error: OSError) -> str:
    place = error.filename2 or error.filename  # of a renaming, the target
    where = f" {shown(str(place))}" if place else ""
    kept = f"; {errors.KEPT}" if keeps(error) else ""
    if lacks_memory(error):
        return str(NotEnoughMemory())
    if error.errno == errno.ENOSPC:
        return f"the disk is full, so{where or ' a file'} could not be written{kept}. Make room and run it again."
    if place and isinstance(error, IsADirectoryError):
        return _in_the_way(place, "file", "folder")
    if place and isinstance(error, (FileExistsError, NotADirectoryError)):
        file = next((some for some in (Path(place), *Path(place).parents) if some.is_file()), None)
        if file is not None:
            return _in_the_way(file, "folder", "file")
    remedy = f"; {ANOTHER_FOLDER}" if place and error.errno in (errno.ENAMETOOLONG, errno.ENOENT) else ""
    return f"{error.strerror or error}{where}{kept}{remedy}."


def _in_the_way(place: Path | str, needed: str, there: str) -> str:
    return f"{str(place)!r} is a {there}, but a {needed} is needed there; move it, or {ANOTHER_FOLDER}."


def entry() -> None:
    sys.exit(main())
