"""How a handler is called: which of its parameters is the body, and which the context."""

import contextlib
import functools
import inspect
import itertools
import types
import typing
from collections.abc import Callable
from inspect import Parameter
from typing import Annotated, Any

from libmq._native import Context
from libmq.depends import Depends
from libmq.errors import Error
from libmq.reading import reader

Call = Callable[[Context], object]
"""Calls a handler with what it asks for."""

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.VAR_POSITIONAL)


def unsupported(what: str) -> Error:
    """What this version does not have."""
    error = Error(f"{what} is not supported by this version")
    error.code = "UNSUPPORTED"
    return error


def call_of(handler: Callable[..., object]) -> Call:
    """How to call a handler. `ctx`, or what is annotated as a Context, is the context; the one left is the body.
    Parameters with a default keep it.
    """
    if not callable(handler):
        raise TypeError(f"a handler must be callable, not {type(handler).__name__}")
    if isinstance(handler, type):
        raise unsupported("a class as a handler")
    called = handler if inspect.isroutine(handler) else getattr(type(handler), "__call__", handler)
    if any(is_async(function) for function in (handler, called) for is_async in _ASYNC):
        raise unsupported("an async handler")
    try:
        parameters = list(inspect.signature(handler).parameters.values())
    except (TypeError, ValueError):
        # A function of another language that does not say what it takes: the body it is.
        return lambda ctx: handler(ctx.body)
    return _plan(handler, parameters, _annotations(handler))


_ASYNC = (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction)


def _plan(handler: Callable[..., object], parameters: list[Parameter], annotations: dict[str, Any]) -> Call:
    body: Parameter | None = None
    context: Parameter | None = None
    for parameter in parameters:
        annotation = annotations.get(parameter.name, parameter.annotation)
        if _is_dependency(annotation) or isinstance(parameter.default, Depends):
            raise unsupported("Depends")
        if parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
            continue
        if parameter.name == "ctx" or _is_context(annotation):
            if context is not None:
                raise TypeError(f"the handler has two contexts, {context.name} and {parameter.name}")
            context = parameter
        elif parameter.default is Parameter.empty:
            if body is not None:
                raise TypeError(f"the handler has two parameters for the body, {body.name} and {parameter.name}")
            body = parameter
    if body is None:
        # What takes anything, as a wrapper does, takes the body.
        body = next((parameter for parameter in parameters if parameter.kind is Parameter.VAR_POSITIONAL), None)
    read = None if body is None else _reader(annotations.get(body.name, body.annotation))
    return _bound(handler, parameters, context, body, read)


def _bound(
    handler: Callable[..., object],
    parameters: list[Parameter],
    context: Parameter | None,
    body: Parameter | None,
    read: Callable[[Context], object] | None,
) -> Call:
    """The shortest way to call it: by position, which is also what a wrapper most likely passes on."""
    wanted = [parameter for parameter in parameters if parameter is body or parameter is context]
    first = list(itertools.takewhile(lambda it: it in wanted and it.kind in _POSITIONAL, parameters))
    match [parameter is context for parameter in first]:
        case []:
            if not wanted:
                return lambda ctx: handler()
        case [True] if body is None:
            return handler
        case [False] if context is None and read is not None:
            return lambda ctx: handler(read(ctx))
        case [False, True] if read is not None:
            return lambda ctx: handler(read(ctx), ctx)
        case [True, False] if read is not None:
            return lambda ctx: handler(ctx, read(ctx))

    def value(parameter: Parameter, ctx: Context) -> object:
        return ctx if parameter is context or read is None else read(ctx)

    named = [parameter for parameter in wanted if parameter not in first]
    return lambda ctx: handler(*(value(it, ctx) for it in first), **{it.name: value(it, ctx) for it in named})


def _annotations(handler: Callable[..., object]) -> dict[str, Any]:
    """Annotations with the names in them looked up, as far as they can be: each for itself, since some names are only
    there for type checkers.
    """
    function: Any = handler
    while isinstance(function, functools.partial):
        function = function.func
    function = function if inspect.isroutine(function) else getattr(type(function), "__call__", function)
    function = inspect.unwrap(function)
    annotations = getattr(function, "__annotations__", {})
    names = getattr(function, "__globals__", {})
    found: dict[str, Any] = {}
    for name, annotation in annotations.items():
        alone = types.SimpleNamespace(__annotations__={name: annotation})
        with contextlib.suppress(Exception):
            found |= typing.get_type_hints(alone, names, include_extras=True)
    return found


def _is_context(annotation: object) -> bool:
    if typing.get_origin(annotation) is Annotated:
        annotation = typing.get_args(annotation)[0]
    return annotation is Context or annotation in ("Context", "libmq.Context")


def _is_dependency(annotation: object) -> bool:
    if typing.get_origin(annotation) is not Annotated:
        return False
    return any(isinstance(extra, Depends) for extra in typing.get_args(annotation)[1:])


def _reader(annotation: object) -> Callable[[Context], object]:
    """How the body is read: bytes as they are, all else as its content type says, and then as the annotation does."""
    if annotation is bytes:
        return lambda ctx: ctx.raw
    if isinstance(annotation, str):
        raise TypeError(f"the annotation {annotation!r} of the body cannot be looked up where the handler stands")
    read = reader(annotation)
    if read is None:
        return lambda ctx: ctx.body
    made = read
    return lambda ctx: made(ctx.body)
