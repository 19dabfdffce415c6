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

from libmq._depends import Depends
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
    """Whether a parameter is the context, which may be said to be optional."""
    return parameter.name == "ctx" or any(one is Context or one in _CONTEXTS for one in _kinds(annotation))


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


def dependency_of(parameter: Parameter, annotation: object) -> Depends | None:
    """The dependency that a parameter asks for, if it does."""
    if isinstance(parameter.default, Depends):
        return parameter.default
    if typing.get_origin(annotation) is not Annotated:
        return None
    return next((extra for extra in typing.get_args(annotation)[1:] if isinstance(extra, Depends)), None)


def is_async(called: Any) -> bool:
    """Whether what is called is an async function, as far as it says so."""
    return inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(function_of(called))


def is_generator(called: Any) -> bool:
    """Whether what is called is a generator function."""
    return any(inspect.isgeneratorfunction(function) for function in (called, function_of(called)))


def is_async_generator(called: Any) -> bool:
    """Whether what is called is an async generator function."""
    return any(inspect.isasyncgenfunction(function) for function in (called, function_of(called)))
