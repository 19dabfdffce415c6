"""How a handler is called: which of its parameters is the body, which the context, and which are dependencies."""

import inspect
import itertools
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

from libmq._depends import Dependency
from libmq._errors import DecodeError
from libmq._native import Context
from libmq._parameters import (
    POSITIONAL,
    VARIADIC,
    annotations_of,
    dependency_of,
    is_async,
    is_async_generator,
    is_context,
    is_generator,
)
from libmq._providing import Kept, Providers, at_once, opened
from libmq._reading import reader

ReadBody = Callable[[Context], object]
"""How the body is had."""

Scope = Callable[[Context], Any]
"""Makes the context manager that is open around an attempt."""


@dataclass(frozen=True, slots=True)
class Call:
    """Calls a handler with what it asks for."""

    run: Callable[[Context], Any]
    """Answers None, or where the handler is async, what is to be awaited."""

    waits: bool
    """The handler is async."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a handler asks for."""

    parameters: list[Parameter]
    context: Parameter | None
    body: Parameter | None
    read: ReadBody | None
    depends: dict[str, Dependency]


def call_of(handler: Any, providers: Providers, scope: Scope | None = None) -> Call:
    """How to call a handler: a function, an object that can be called or has a method `handle`, or a class that has.

    Raises:
        TypeError: It cannot be called, or asks for what it cannot be given.
    """
    kind = handler if isinstance(handler, type) else None
    if kind is not None:
        function = getattr(kind, "handle", None)
        if not callable(function):
            raise TypeError(f"the class {kind.__qualname__} has no method handle, so it handles nothing")
    elif not callable(handler) and callable(getattr(handler, "handle", None)):
        function = handler = handler.handle
    elif callable(handler):
        function = handler
    else:
        raise TypeError(f"a handler must be callable, not {type(handler).__name__}")
    if is_generator(function) or is_async_generator(function):
        raise TypeError("a handler cannot be a generator")
    waits = is_async(function)
    asked = _asked(function, has_self=kind is not None and inspect.isfunction(inspect.getattr_static(kind, "handle")))
    for depends in asked.depends.values():
        providers.check(depends, waits)
    if kind is not None and scope is None:
        # With a scope it is the scope's affair how the object is made.
        providers.check(Dependency(kind), waits)
    if scope is not None:
        _check_scope(scope, waits)
    if kind is None and scope is None and not asked.depends:
        return Call(_bound(handler, asked), waits)
    return Call(_provided(handler, kind, asked, providers, scope, waits), waits)


def _check_scope(scope: Any, waits: bool) -> None:
    if not callable(scope):
        raise TypeError(f"scope must be callable, not {type(scope).__name__}")
    if not waits and is_async_generator(inspect.unwrap(scope)):
        raise TypeError("the scope is async, but the handler is not")


def _asked(function: Callable[..., object], has_self: bool) -> _Asked:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        # A function of another language that does not say what it takes: the body it is.
        only = Parameter("body", Parameter.POSITIONAL_ONLY)
        return _Asked([only], None, only, lambda ctx: ctx.body, {})
    if has_self:
        parameters = parameters[1:]
    annotations = annotations_of(function)
    left: list[Parameter] = []
    context: Parameter | None = None
    depends: dict[str, Dependency] = {}
    for parameter in parameters:
        annotation = annotations.get(parameter.name, parameter.annotation)
        if parameter.kind in VARIADIC:
            continue
        if (dependency := dependency_of(parameter, annotation)) is not None:
            depends[parameter.name] = dependency
        elif is_context(parameter, annotation):
            if context is not None:
                raise TypeError(f"the handler has two contexts, {context.name} and {parameter.name}")
            context = parameter
        else:
            left.append(parameter)
    body = _body(parameters, left, annotations)
    read = None if body is None else _reader(annotations.get(body.name, body.annotation))
    return _Asked(parameters, context, body, read, depends)


def _body(parameters: list[Parameter], left: list[Parameter], annotations: dict[str, Any]) -> Parameter | None:
    """The parameter for the body, of those that are left: the one without a default, beside which others keep theirs.
    Where all have one, the one that can be given by position.
    """
    of_kind = {parameter.kind: parameter for parameter in parameters}
    anything, named = of_kind.get(Parameter.VAR_POSITIONAL), of_kind.get(Parameter.VAR_KEYWORD)
    candidates = [it for it in left if it.default is Parameter.empty]
    if not candidates:
        candidates = [it for it in left if it.kind in POSITIONAL]
    if not candidates and anything is not None:
        # What takes anything, as a wrapper does, takes the body.
        return anything
    candidates = candidates or left
    if len(candidates) > 1:
        raise TypeError(_two(candidates, annotations))
    if not candidates and named is not None:
        raise TypeError(f"the handler has no parameter for the body, which **{named.name} is not: name one")
    return candidates[0] if candidates else None


def _two(candidates: list[Parameter], annotations: dict[str, Any]) -> str:
    text = f"the handler has two parameters for the body, {candidates[0].name} and {candidates[1].name}"
    for it in candidates:
        # It may ask for something else, if one could only see for what.
        if isinstance(annotations.get(it.name, it.annotation), str):
            text += f"; the annotation {it.annotation!r} of {it.name} cannot be looked up where the handler stands"
    return text


def _bound(handler: Callable[..., object], asked: _Asked) -> Callable[[Context], object]:
    """The shortest way to call it: by position, which is also what a wrapper most likely passes on."""
    context, body, read = asked.context, asked.body, asked.read
    wanted = [parameter for parameter in asked.parameters if parameter is body or parameter is context]
    first = list(itertools.takewhile(lambda it: it in wanted and it.kind in POSITIONAL, asked.parameters))
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
        case _:
            pass

    def value(parameter: Parameter, ctx: Context) -> object:
        return ctx if parameter is context or read is None else read(ctx)

    named = [parameter for parameter in wanted if parameter not in first]
    return lambda ctx: handler(*(value(it, ctx) for it in first), **{it.name: value(it, ctx) for it in named})


def _provided(
    handler: Any, kind: type | None, asked: _Asked, providers: Providers, scope: Scope | None, waits: bool
) -> Callable[[Context], Any]:
    """Calls it with dependencies, within a scope, or anew for each attempt."""

    async def handle(attempt: Kept, ctx: Context) -> None:
        # First, so that a body that does not decode opens nothing.
        body = None if asked.read is None else asked.read(ctx)
        if scope is not None:
            ctx._set_scope(await opened(scope, attempt, ctx))
        function = handler if kind is None else (await _instance(kind, providers, attempt, ctx)).handle
        values: dict[str, Any] = {}
        for parameter in asked.parameters:
            if parameter is asked.body:
                values[parameter.name] = body
            elif parameter is asked.context:
                values[parameter.name] = ctx
            elif parameter.name in asked.depends:
                values[parameter.name] = await providers.value(asked.depends[parameter.name], attempt)
        answer = function(*_by_position(asked.parameters, values), **values)
        if waits:
            await answer
        elif answer is not None:
            refuse_awaitable(answer)

    async def call(ctx: Context) -> None:
        closes = AsyncExitStack()
        try:
            try:
                await handle(Kept(ctx, closes, waits, on_loop=waits), ctx)
            except BaseException as error:
                # Whoever takes it for done, it is not.
                await closes.__aexit__(type(error), error, error.__traceback__)
                raise
            await closes.aclose()
        finally:
            ctx._set_scope(None)

    return call if waits else lambda ctx: at_once(call(ctx))


def _by_position(parameters: list[Parameter], values: dict[str, Any]) -> list[Any]:
    """Takes out of the values those that are given by position: the first ones, as far as there is no gap."""
    first = []
    for parameter in parameters:
        if parameter.kind not in POSITIONAL or parameter.name not in values:
            break
        first.append(values.pop(parameter.name))
    return first


async def _instance(kind: type, providers: Providers, attempt: Kept, ctx: Context) -> Any:
    resolve = getattr(ctx.scope, "resolve", None)
    if resolve is None:
        return await providers.instance(kind, attempt)
    made = resolve(kind)
    return await made if isinstance(made, Awaitable) and attempt.waits else made


def refuse_awaitable(answer: object) -> None:
    """Refuses what a sync handler answered if it has done nothing yet: the message would be lost.

    Raises:
        TypeError: It is to be awaited, or to be iterated over.
    """
    if inspect.isawaitable(answer) or inspect.isgenerator(answer) or inspect.isasyncgen(answer):
        if inspect.iscoroutine(answer):
            answer.close()
        raise TypeError(f"the handler answered a {type(answer).__name__}, which nobody runs: make it an async def")


def _reader(annotation: object) -> ReadBody:
    """How the body is read: bytes as they are, all else as its content type says, and then as the annotation does."""
    if annotation is bytes:
        return lambda ctx: ctx.raw
    if isinstance(annotation, str):
        text = f"the annotation {annotation!r} of the body cannot be looked up where the handler stands"
        raise TypeError(f"{text}: what it names has to be there, and not only within a function")
    make = reader(annotation)

    def read(ctx: Context) -> object:
        try:
            return ctx.body if make is None else make(ctx.body)
        except DecodeError as error:
            # A handler may raise one as well, of what it has read elsewhere.
            error._context = ctx
            raise

    return read
