"""The parameters of a handler or a dependency: what each of them asks for."""

import contextlib
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator
from inspect import Parameter
from typing import Annotated, Any

from libmq._depends import Dependency
from libmq._native import Context

POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.VAR_POSITIONAL)
VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)

_CONTEXTS = ("Context", "libmq.Context")
"""How the context is annotated where that is known to type checkers alone."""

_OPTIONAL = re.compile(r"(?:typing\.)?Optional\[(?P<it>[\w.]+)\]|(?P<other>[\w.]+) *\| *None")
"""An optional one there."""


def function_of(called: Any) -> Any:
    """The function that runs when something is called: a class's `__init__`, an object's `__call__`."""
    while isinstance(called, functools.partial):
        called = called.func
    if isinstance(called, type):
        return called.__init__  # type: ignore[misc]
    return called if inspect.isroutine(called) else getattr(type(called), "__call__", called)


def annotations_of(called: Callable[..., object]) -> dict[str, Any]:
    """Annotations with the names in them looked up, as far as they can be: each for itself, since some names are only
    there for type checkers.
    """
    function = inspect.unwrap(function_of(called))
    annotations = getattr(function, "__annotations__", {})
    names = getattr(function, "__globals__", {})
    found: dict[str, Any] = {}
    for name, annotation in annotations.items():
        alone = types.SimpleNamespace(__annotations__={name: annotation})
        with contextlib.suppress(Exception):
            found |= typing.get_type_hints(alone, names, include_extras=True)
    return found


def is_context(parameter: Parameter, annotation: object) -> bool:
    """Whether a parameter is the context, which may be said to be optional.

    Raises:
        TypeError: It is called so, and annotated as something else.
    """
    if any(one is Context or one in _CONTEXTS for one in _kinds(annotation)):
        return True
    if parameter.name != "ctx":
        return False
    if not any(_takes_context(one) for one in _kinds(annotation)):
        shown = inspect.formatannotation(annotation)
        raise TypeError(f"ctx is the context of an attempt, but is annotated {shown}: give it another name")
    return True


def _takes_context(annotation: Any) -> bool:
    """Whether what is annotated so may be a context, as far as that can be seen."""
    if annotation is Parameter.empty or annotation is Any:
        return True
    if annotation is None or isinstance(annotation, types.GenericAlias):
        return False
    if not isinstance(annotation, type):
        # A name that only type checkers know, or what stands for any of several.
        return True
    return getattr(annotation, "_is_protocol", False) or annotation in Context.__mro__


def _kinds(annotation: object) -> Iterator[object]:
    """What a value may be that is annotated so, none left out."""
    if typing.get_origin(annotation) is Annotated:
        yield from _kinds(typing.get_args(annotation)[0])
    elif typing.get_origin(annotation) in (typing.Union, types.UnionType):
        for one in typing.get_args(annotation):
            yield from _kinds(one)
    elif isinstance(annotation, str) and (inner := _OPTIONAL.fullmatch(annotation)) is not None:
        yield inner["it"] or inner["other"]
    else:
        yield annotation


def dependency_of(parameter: Parameter, annotation: object) -> Dependency | None:
    """The dependency that a parameter asks for, if it does.

    Raises:
        TypeError: It asks FastAPI for it, which is not there to be asked.
    """
    said = [parameter.default]
    if typing.get_origin(annotation) is Annotated:
        said += typing.get_args(annotation)[1:]
    for one in said:
        if isinstance(one, Dependency):
            return one
        if _is_of_fastapi(one):
            raise TypeError(f"{parameter.name} asks for a Depends of FastAPI, which is for requests: use libmq.Depends")
    return None


def _is_of_fastapi(said: object) -> bool:
    """Whether it is FastAPI's `Depends`, or its `Security`. Nothing of it is imported for that."""
    return any((kind.__module__, kind.__name__) == ("fastapi.params", "Depends") for kind in type(said).__mro__)


def is_async(called: Any) -> bool:
    """Whether what is called is an async function, as far as it says so."""
    return inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(function_of(called))


def is_generator(called: Any) -> bool:
    """Whether what is called is a generator function."""
    return any(inspect.isgeneratorfunction(function) for function in (called, function_of(called)))


def is_async_generator(called: Any) -> bool:
    """Whether what is called is an async generator function."""
    return any(inspect.isasyncgenfunction(function) for function in (called, function_of(called)))
