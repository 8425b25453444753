"""Checks the tensor shapes in the annotations of the whole package, while tests run.

``install`` puts a finder before Python's own: each module of the package is imported as ever, then every function and method whose
annotations name the shape of a tensor is checked on each call. Other annotations are not checked, and other functions stay as they
are: what a caller may give wrongly is refused by the package in its own words.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import FunctionType, ModuleType
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray, jaxtyped


def has_shape(annotation: Any) -> bool:
    """Whether an annotation names the shape of a tensor, itself or inside: ``tuple[Float[Tensor, "n d"], ...]``."""
    if inspect.isclass(annotation) and issubclass(annotation, AbstractArray):
        return True
    return any(has_shape(part) for part in get_args(annotation))


def checked(function: Callable) -> Callable:
    """The function with its shapes checked; itself where it names none."""
    signature, empty = inspect.signature(function), inspect.Parameter.empty
    named = [*signature.parameters.values()]
    if hasattr(function, "__checks_shapes__") or not any(
        map(has_shape, [*(one.annotation for one in named), signature.return_annotation])
    ):
        return function

    def bare(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    bare.__signature__ = signature.replace(  # type: ignore[attr-defined]  # where inspect looks first
        parameters=[one if has_shape(one.annotation) else one.replace(annotation=empty) for one in named],
        return_annotation=signature.return_annotation if has_shape(signature.return_annotation) else empty,
    )
    bare.__module__, bare.__qualname__ = function.__module__, function.__qualname__
    checking = jaxtyped(bare, typechecker=beartype)

    def call(*args: Any, **kwargs: Any) -> Any:
        return checking(*args, **kwargs)

    # with the globals of its module, by which doctest knows whose it is
    mine = FunctionType(call.__code__, function.__globals__, function.__name__, None, call.__closure__)
    mine.__checks_shapes__ = True
    return functools.update_wrapper(mine, function)


def check_module(module: ModuleType) -> None:
    """Check the shapes of every function and method that a module defines."""
    for owner in [module, *(one for one in vars(module).values() if inspect.isclass(one))]:
        if inspect.isclass(owner) and owner.__module__ != module.__name__:
            continue
        for name, member in list(vars(owner).items()):
            replaced = member
            if inspect.isfunction(member) and member.__module__ == module.__name__:
                replaced = checked(member)
            elif isinstance(member, (classmethod, staticmethod)):
                replaced = type(member)(checked(member.__func__))
            elif isinstance(member, property) and member.fget is not None:
                replaced = property(checked(member.fget), member.fset, member.fdel)
            elif isinstance(member, functools.cached_property):
                member.func = checked(member.func)
            if replaced is not member:
                setattr(owner, name, replaced)


class CheckedModules(MetaPathFinder):
    """Finds the modules of one package as Python does, and checks them after their import."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != self.package:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            check_module(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]  # of this one module's loader
        return spec


def install(package: str = "steerclear") -> None:
    """Check every module of the package that is imported from now on."""
    if any(name.partition(".")[0] == package for name in sys.modules):
        raise RuntimeError(f"{package} is imported already; install the checks before")
    sys.meta_path.insert(0, CheckedModules(package))
