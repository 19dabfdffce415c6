"""How dependencies are made, and closed again.

What a dependency is, and what it asks for, is looked at once. It is made by one code for sync and async handlers; where
the handler is sync nothing in it ever waits, and it is run to its end at once.
"""

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Callable, Coroutine, Hashable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack
from dataclasses import dataclass, field
from inspect import Parameter
from typing import Any, TypeVar

from libmq._native import Context
from libmq.depends import Depends, key_of, name_of
from libmq.parameters import (
    VARIADIC,
    annotations_of,
    dependency_of,
    is_async,
    is_async_generator,
    is_context,
    is_generator,
)

T = TypeVar("T")


@dataclass(slots=True)
class Provider:
    """A dependency, and what it asks for: None is the context."""

    make: Callable[..., Any]
    positional: list[Depends | None] = field(default_factory=list)
    named: dict[str, Depends | None] = field(default_factory=dict)
    waits: bool = False
    """It is async by itself, whatever it asks for."""

    def asks_for(self) -> list[Depends | None]:
        return [*self.positional, *self.named.values()]


@dataclass(slots=True)
class Attempt:
    """What was made for an attempt, and how it is closed."""

    context: Context | None
    closes: AsyncExitStack
    waits: bool
    """The handler is async."""
    made: dict[Hashable, Any] = field(default_factory=dict)


class Providers:
    """The dependencies of a broker's handlers."""

    def __init__(self) -> None:
        self.fakes: dict[Hashable, Callable[..., Any]] = {}
        self._known: dict[Hashable, Provider] = {}
        self._apps = _Apps()

    def check(self, depends: Depends, waits: bool) -> None:
        """Refuses a dependency of which is known by now that it cannot be made.

        Raises:
            TypeError: It asks for itself, for what is not there, for what does not live as long, or has to wait though
                the handler does not.
        """
        self._check(depends, waits, [])

    def _check(self, depends: Depends, waits: bool, above: list[Depends]) -> None:
        keys = [key_of(other.dependency) for other in above]
        if key_of(depends.dependency) in keys:
            path = " asks for ".join(name_of(other.dependency) for other in [*above, depends])
            raise TypeError(f"a dependency asks for itself: {path}")
        name = name_of(depends.dependency)
        if above and above[-1].lifetime == "app" and depends.lifetime != "app":
            raise TypeError(f"{name_of(above[-1].dependency)} lives as long as the broker, but {name} does not")
        provider = self._provider(depends.dependency)
        if provider.waits and not waits:
            raise TypeError(f"{name} is async, but the handler is not")
        for asked in provider.asks_for():
            if asked is not None:
                self._check(asked, waits, [*above, depends])
            elif depends.lifetime == "app":
                raise TypeError(f"{name} lives as long as the broker, but asks for the context of an attempt")

    async def value(self, depends: Depends, attempt: Attempt) -> Any:
        """What a dependency is in this attempt."""
        real = self._real(depends.dependency)
        key = key_of(real)
        if depends.lifetime == "app":
            return await self._apps.value(key, self._waits(real), lambda within: self._make(real, within))
        if key not in attempt.made:
            attempt.made[key] = await self._make(real, attempt)
        return attempt.made[key]

    async def instance(self, kind: type, attempt: Attempt) -> Any:
        """An object of a class, with what its `__init__` asks for."""
        return await self._make(kind, attempt)

    async def _make(self, function: Callable[..., Any], attempt: Attempt) -> Any:
        provider = self._provider(function)
        if provider.waits and not attempt.waits:
            raise TypeError(f"{name_of(function)} is async, but the handler is not")
        positional = [await self._asked(asked, attempt) for asked in provider.positional]
        named = {name: await self._asked(asked, attempt) for name, asked in provider.named.items()}
        return await entered(provider.make(*positional, **named), attempt, isinstance(function, type))

    async def _asked(self, asked: Depends | None, attempt: Attempt) -> Any:
        return attempt.context if asked is None else await self.value(asked, attempt)

    def _real(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return self.fakes.get(key_of(function), function)

    def _waits(self, function: Callable[..., Any]) -> bool:
        """Whether it is async, or what it asks for is."""
        provider = self._provider(function)
        asked = (depends for depends in provider.asks_for() if depends is not None)
        return provider.waits or any(self._waits(self._real(depends.dependency)) for depends in asked)

    def _provider(self, function: Callable[..., Any]) -> Provider:
        key = key_of(function)
        if key not in self._known:
            self._known[key] = _provider(function)
        return self._known[key]

    async def close_of_loop(self) -> None:
        """Closes what was made on this loop to live as long as the broker."""
        await self._apps.close_of_loop()

    def close(self) -> None:
        """Closes the rest of what was made to live as long as the broker."""
        self._apps.close()


class _Apps:
    """What lives as long as the broker. What is async belongs to the loop that it was made on."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._plain = Attempt(None, AsyncExitStack(), waits=False)
        self._of_loop = Attempt(None, AsyncExitStack(), waits=True)
        self._turns: dict[Hashable, asyncio.Lock] = {}

    async def value(self, key: Hashable, waits: bool, make: Callable[[Attempt], Coroutine[Any, Any, Any]]) -> Any:
        if not waits:
            # Nothing in here ever waits but for another thread that makes the same.
            with self._lock:
                if key not in self._plain.made:
                    self._plain.made[key] = await make(self._plain)
                return self._plain.made[key]
        if (turn := self._turns.get(key)) is None:
            turn = self._turns[key] = asyncio.Lock()
        async with turn:
            if key not in self._of_loop.made:
                self._of_loop.made[key] = await make(self._of_loop)
            return self._of_loop.made[key]

    async def close_of_loop(self) -> None:
        made, self._of_loop, self._turns = self._of_loop, Attempt(None, AsyncExitStack(), waits=True), {}
        await made.closes.aclose()

    def close(self) -> None:
        with self._lock:
            made, self._plain = self._plain, Attempt(None, AsyncExitStack(), waits=False)
        at_once(made.closes.aclose())


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Runs what never waits."""
    try:
        work.send(None)
    except StopIteration as ended:
        return ended.value  # type: ignore[no-any-return]
    work.close()
    raise TypeError("something is async that a handler asks for which is not")


async def entered(made: Any, attempt: Attempt, of_class: bool) -> Any:
    """What was made, entered where it is to be closed: what `contextlib` has made, and what a class has that is a
    context manager.
    """
    if inspect.iscoroutine(made):
        if not attempt.waits:
            made.close()
            raise TypeError("a dependency is async, but the handler is not")
        made = await made
    kind = type(made)
    if _is_manager(kind, AbstractAsyncContextManager, "__aenter__", of_class) and attempt.waits:
        return await attempt.closes.enter_async_context(made)
    if _is_manager(kind, AbstractContextManager, "__enter__", of_class):
        return attempt.closes.enter_context(made)
    return made


async def opened(scope: Callable[[Context], Any], attempt: Attempt, ctx: Context) -> Any:
    """What the scope of an attempt is, entered."""
    if is_generator(scope):
        scope = contextlib.contextmanager(scope)
    elif is_async_generator(scope):
        scope = contextlib.asynccontextmanager(scope)
    made = scope(ctx)
    needed = ("__enter__", "__aenter__") if attempt.waits else ("__enter__",)
    if not any(hasattr(type(made), method) for method in needed):
        kind = "context manager" if attempt.waits else "context manager that is not async"
        raise TypeError(f"the scope answered a {type(made).__name__}, which is no {kind}")
    return await entered(made, attempt, of_class=True)


def _is_manager(kind: type, base: type, method: str, of_class: bool) -> bool:
    # By its bases: by its methods every lock, file and connection is one, and nobody has asked to have those entered.
    return base in kind.__mro__ or (of_class and hasattr(kind, method))


def _provider(function: Any) -> Provider:
    provider = Provider(function)
    if is_generator(function):
        provider.make = contextlib.contextmanager(function)
    elif is_async_generator(function):
        provider.make, provider.waits = contextlib.asynccontextmanager(function), True
    elif isinstance(function, type):
        provider.waits = hasattr(function, "__aenter__") and not hasattr(function, "__enter__")
    else:
        # What asynccontextmanager has made shows the function that it was made of.
        provider.waits = is_async(function) or is_async_generator(inspect.unwrap(function))
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        # A function of another language that does not say what it takes.
        return provider
    annotations = annotations_of(function)
    for parameter in parameters:
        annotation = annotations.get(parameter.name, parameter.annotation)
        asked = dependency_of(parameter, annotation)
        if parameter.kind in VARIADIC or (asked is None and not is_context(parameter, annotation)):
            if parameter.kind not in VARIADIC and parameter.default is Parameter.empty:
                raise TypeError(f"{name_of(function)} asks for {parameter.name}, which is neither ctx nor a dependency")
        elif parameter.kind is Parameter.POSITIONAL_ONLY:
            provider.positional.append(asked)
        else:
            provider.named[parameter.name] = asked
    return provider
