"""Replacing an object's methods and a module's call, reversibly.

Nothing here is global: single objects are changed, and restored even after an error. Copies and pickles of a changed
object are plain, and so are objects made by its class.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from ..core.errors import UnsupportedModel

Methods = Callable[[type], Mapping[str, Callable[..., Any]]]
"""Class -> what its instances do instead of their own methods. Must hold on to nothing: the result is kept."""

Handler = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
"""(the original, positional arguments, keyword arguments) -> what the caller gets instead."""

Router = Callable[[Any], "Handler | None"]
"""Module -> who handles a call of it in this thread and context, or None for the module itself."""

_MARK = "_steerclear_original_class"
_MODULE_CALL = "_compiled_call_impl"
_lock = threading.Lock()


def is_taken_over(instance: Any) -> bool:
    """Whether methods of the object are replaced at the moment."""
    return hasattr(type(instance), _MARK)


@contextmanager
def replaced_methods(instance: Any, methods: Methods, what: str) -> Iterator[None]:
    """Give one object other methods: it becomes an instance of a subclass of its class, under the same name.

    Nothing is written into the object itself, so code that copies it or its ``__dict__`` sees nothing of this.

    Args:
        instance: any object with an ordinary class.
        methods: what to replace.
        what: the object's name in the error.

    Raises:
        UnsupportedModel: its methods are replaced already.
    """
    with _lock:
        if is_taken_over(instance):
            raise UnsupportedModel(
                f"{what} is being steered already, and one pipeline takes one guidance at a time; leave the first "
                f"`with steer(...)` block, or nest the guidances, as IntervalGuidance(inner=...) does"
            )
        original = type(instance)
        # type: ignore, because functions are hashable and typeshed's `cache` does not know
        object.__setattr__(instance, "__class__", _subclass(original, methods))  # type: ignore[arg-type]
    try:
        yield
    finally:
        object.__setattr__(instance, "__class__", original)


@cache
def _subclass(original: type, methods: Methods) -> type:
    def plain(_: type, *args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)  # `type(pipe)(**pipe.components)` is a pipeline of its own

    def reduce_plainly(self: Any, protocol: Any) -> tuple[Any, ...]:
        # not copyreg.__newobj__: pickle compares its class with the object's
        return object.__new__, (original,), self.__getstate__()

    body = {
        **methods(original),
        "__new__": plain,
        _MARK: original,
        "__reduce_ex__": reduce_plainly,
        "__module__": original.__module__,
        "__qualname__": original.__qualname__,
        "__doc__": original.__doc__,
    }
    return type(original.__name__, (original,), body)


class _RoutedCall:
    """Stands in for a module's call while it is steered; the routers decide who handles it."""

    def __init__(self, module: Any, before: Callable[..., Any] | None) -> None:
        self.module, self.before = module, before
        self.routers: list[Router] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        original = self.before if self.before is not None else self.module._call_impl
        for router in tuple(self.routers):
            handler = router(self.module)
            if handler is not None:
                return handler(original, args, kwargs)
        return original(*args, **kwargs)


@contextmanager
def routed_call(module: Any, router: Router) -> Iterator[None]:
    """Let a router decide who handles calls of a module. Pipelines and threads may share the module.

    torch's ``Module.__call__`` looks at ``_compiled_call_impl`` first. A replaced ``forward`` would be lost when
    accelerate's offloading swaps it, and a stand-in for the module would hide its configuration.

    Args:
        module: a torch module, compiled or not.
        router: the first one that names a handler wins.
    """
    attributes = vars(module)
    with _lock:
        route = attributes.get(_MODULE_CALL)
        if not isinstance(route, _RoutedCall):
            route = _RoutedCall(module, route)
            attributes[_MODULE_CALL] = route
        route.routers.append(router)
    try:
        yield
    finally:
        with _lock:
            route.routers.remove(router)
            if not route.routers and attributes.get(_MODULE_CALL) is route:  # else somebody compiled it, which stays
                del attributes[_MODULE_CALL]
                if route.before is not None:
                    attributes[_MODULE_CALL] = route.before
