"""A function of your own as a judge, by its name: ``package.module:function``."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.errors import InvalidSetting, SteerclearError, shortened
from ..core.laboratory import Asked, Judge, Judged, Laboratory
from ..core.parsing import is_function_name
from .shared.probabilities import ProbabilityJudge, Vocabulary, warn_of_unknown

ALLOWED = "package.module:function, the name of a function that Python can import"
TRIED = 64
"""Sides of the gray image on which a function is tried, where the question names no size."""


@dataclass(frozen=True)
class ImportedFunction(Laboratory):
    """A function as a judge. It maps uint8 images, ``[n, 3, height, width]``, to a mapping: name -> probability, ``[n]``.

    It is called once on a gray image before anything is made, which says the names that it gives. Names in negative prompts are
    concepts; the others are counted beside them.

    Args:
        function: as ``package.module:function``; the folder you are in is searched too.
    """

    name = "callable"

    function: str

    def __post_init__(self) -> None:
        if not isinstance(self.function, str) or not is_function_name(self.function):
            raise InvalidSetting("function", self.function, ALLOWED)

    def refuses(self, model: Judged, asked: Asked) -> str | None:
        return None

    def judge(self, model: Judged, asked: Asked) -> Judge:
        """The judge.

        Raises:
            InvalidSetting: the function cannot be imported, fails on a gray image, or gives no names; a watched word that it
                does not give.
        """
        function = imported(self.function)
        vocabulary = Vocabulary.of(self._names(function, asked), asked)
        warn_of_unknown(f"the function {self.function}", asked, vocabulary)
        return ProbabilityJudge(self.function, vocabulary, function)

    def _names(self, function: Callable[[Tensor], Any], asked: Asked) -> tuple[str, ...]:
        gray = torch.full((1, 3, asked.height or TRIED, asked.width or TRIED), 128, dtype=torch.uint8)
        try:
            found = function(gray)
        except SteerclearError:
            raise
        except (Exception, SystemExit) as error:  # code of others may fail in any way
            reason = shortened(f"{type(error).__name__}: {error}", 300)
            raise InvalidSetting("function", self.function, "a function of uint8 images, [n, 3, height, width]",
                                 f"on one gray image it raised {reason}") from error  # fmt: skip
        named = isinstance(found, Mapping) and found and all(isinstance(name, str) and name for name in found)
        if not named:
            raise InvalidSetting("function", self.function, "a function that gives a mapping of names to probabilities",
                                 f"on one gray image it gave {shortened(repr(found), 100)}")  # fmt: skip
        ProbabilityJudge(self.function, Vocabulary(tuple(found), (), tuple(found)), lambda images: found).see(gray)
        return tuple(found)


def imported(text: str) -> Callable[[Tensor], Any]:
    """The function of a name like ``package.module:function``.

    Raises:
        InvalidSetting: no such module or function, an error at its import, or something that cannot be called.
    """
    module, _, inside = text.strip().partition(":")
    try:
        with _here_too():
            found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # code of others may fail in any way
        reason = shortened(f"{type(error).__name__}: {error}", 300)
        raise InvalidSetting("function", text, ALLOWED, f"importing {module} raised {reason}") from error
    for name in inside.split("."):
        if not hasattr(found, name):
            functions = [one for one in vars(found) if callable(getattr(found, one)) and not one.startswith("_")]
            has = f"{module} has {', '.join(sorted(functions)[:10])}" if functions else f"{module} has no function"
            raise InvalidSetting("function", text, ALLOWED, has)
        found = getattr(found, name)
    if not callable(found):
        raise InvalidSetting("function", text, ALLOWED, f"it is a {type(found).__name__}, which cannot be called")
    return found


@contextmanager
def _here_too() -> Iterator[None]:
    """Within the block the folder you are in is searched for modules, after all others."""
    here = os.getcwd()
    sys.path.append(here)
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.reverse()
            sys.path.remove(here)  # the last of them, which is the one added
            sys.path.reverse()
