"""How dependencies are made, and closed again.

What a dependency is, and what it asks for, is looked at once. It is made by one code for sync and async handlers; where
the handler is sync nothing in it ever waits, and it is run to its end at once.
"""

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Callable, Coroutine, Hashable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from inspect import Parameter
from typing import Any, TypeVar

from libmq._depends import Dependency, Overrides, key_of, name_of
from libmq._errors import ClosedError
from libmq._native import Context
from libmq._parameters import (
    VARIADIC,
    annotations_of,
    dependency_of,
    is_async,
    is_async_generator,
    is_context,
    is_generator,
)

T = TypeVar("T")

_Make = Callable[["Kept"], Coroutine[Any, Any, Any]]
"""Makes a dependency."""


@dataclass(slots=True)
class Provider:
    """A dependency, and what it asks for: None is the context."""

    make: Callable[..., Any]
    positional: list[Dependency | None] = field(default_factory=list)
    named: dict[str, Dependency | None] = field(default_factory=dict)
    waits: bool = False
    """It is async by itself, whatever it asks for."""

    def asks_for(self) -> list[Dependency | None]:
        return [*self.positional, *self.named.values()]


@dataclass(slots=True)
class Kept:
    """What was made for an attempt, or to live as long as the broker, and how it is closed."""

    context: Context | None
    closes: AsyncExitStack
    waits: bool
    """What is made may be async."""
    on_loop: bool
    """Whoever asks is on an event loop, which must not be held up."""
    made: dict[Hashable, Any] = field(default_factory=dict)


class Providers:
    """The dependencies of a broker's handlers."""

    def __init__(self) -> None:
        self.overrides = Overrides()
        self._known: dict[Hashable, Provider] = {}
        self._apps = _Apps()

    def check(self, depends: Dependency, waits: bool) -> None:
        """Refuses a dependency of which is known by now that it cannot be made.

        Raises:
            TypeError: It asks for itself, for what is not there, for what does not live as long, or has to wait though
                the handler does not.
        """
        self._check(depends, waits, [])

    def _check(self, depends: Dependency, waits: bool, above: list[Dependency]) -> None:
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

    async def value(self, depends: Dependency, attempt: Kept) -> Any:
        """What a dependency is in this attempt."""
        real = self.overrides.real(depends.dependency)
        key = key_of(real)
        if depends.lifetime == "app":
            make = partial(self._make, real)
            value = self._apps.value_of_loop if self._waits(real) else self._apps.value
            return await value(key, attempt, make)
        if key not in attempt.made:
            attempt.made[key] = await self._make(real, attempt)
        return attempt.made[key]

    async def instance(self, kind: type, attempt: Kept) -> Any:
        """An object of a class, with what its `__init__` asks for."""
        return await self._make(kind, attempt)

    async def _make(self, function: Callable[..., Any], attempt: Kept) -> Any:
        provider = self._provider(function)
        if provider.waits and not attempt.waits:
            raise TypeError(f"{name_of(function)} is async, but the handler is not")
        positional = [await self._asked(asked, attempt) for asked in provider.positional]
        named = {name: await self._asked(asked, attempt) for name, asked in provider.named.items()}
        return await entered(provider.make(*positional, **named), attempt, isinstance(function, type))

    async def _asked(self, asked: Dependency | None, attempt: Kept) -> Any:
        return attempt.context if asked is None else await self.value(asked, attempt)

    def _waits(self, function: Callable[..., Any]) -> bool:
        """Whether it is async, or what it asks for is."""
        provider = self._provider(function)
        asked = (depends for depends in provider.asks_for() if depends is not None)
        return provider.waits or any(self._waits(self.overrides.real(depends.dependency)) for depends in asked)

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
    """What lives as long as the broker. What is async belongs to the loop that it was made on. Whoever asks for what
    another one is making waits for that, and nobody else does.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._plain = _Made()
        self._making: dict[Hashable, Future[None]] = {}
        self._of_loop = _Made()
        self._turns: dict[Hashable, asyncio.Lock] = {}

    async def value(self, key: Hashable, attempt: Kept, make: _Make) -> Any:
        """What is made without ever waiting, but for somebody else who makes the same."""
        while key not in self._plain.made:
            with self._lock:
                # Whoever made it has said so before.
                if key in self._plain.made:
                    break
                making, own = self._making.get(key), Future[None]()
                if making is None:
                    self._making[key] = own
            if making is None:
                await self._make(key, attempt, make, own)
            elif attempt.on_loop:
                await asyncio.shield(asyncio.wrap_future(making))
            else:
                making.result()
        if self._plain.is_closed:
            raise ClosedError("the broker is closed, and with it what lives as long")
        return self._plain.made[key]

    async def _make(self, key: Hashable, attempt: Kept, make: _Make, done: Future[None]) -> None:
        try:
            self._plain.made[key] = await make(self._plain.of(attempt, waits=False))
        finally:
            with self._lock:
                del self._making[key]
            done.set_result(None)
            if self._plain.is_closed:
                # The close did not wait for it.
                self.close()

    async def value_of_loop(self, key: Hashable, attempt: Kept, make: _Make) -> Any:
        """What is made on the loop that runs."""
        of_loop = self._of_loop
        async with self._turns.setdefault(key, asyncio.Lock()):
            if key not in of_loop.made:
                of_loop.made[key] = await make(of_loop.of(attempt, waits=True))
            return of_loop.made[key]

    async def close_of_loop(self) -> None:
        made, self._of_loop, self._turns = self._of_loop, _Made(), {}
        await made.closes.aclose()

    def close(self) -> None:
        with self._lock:
            self._plain.is_closed = True
            closes = self._plain.closes.pop_all()
        at_once(closes.aclose())


@dataclass(slots=True)
class _Made:
    """What was made to live long, and how it is closed."""

    made: dict[Hashable, Any] = field(default_factory=dict)
    closes: AsyncExitStack = field(default_factory=AsyncExitStack)
    is_closed: bool = False

    def of(self, attempt: Kept, waits: bool) -> Kept:
        """In place of an attempt that asks for one more."""
        return Kept(None, self.closes, waits, attempt.on_loop, self.made)


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Runs what never waits."""
    try:
        work.send(None)
    except StopIteration as ended:
        return ended.value  # type: ignore[no-any-return]
    work.close()
    raise TypeError("something is async that a handler asks for which is not")


async def entered(made: Any, attempt: Kept, of_class: bool) -> Any:
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


async def opened(scope: Callable[[Context], Any], attempt: Kept, ctx: Context) -> Any:
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
