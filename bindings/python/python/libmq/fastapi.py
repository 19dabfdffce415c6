"""A broker that is open as long as an application of FastAPI or Starlette is, and whose handlers run on its loop.

    from libmq.fastapi import Lifespan, get_broker

    queue = Lifespan("queue-data")
    app = FastAPI(lifespan=queue)

    @queue.handler("orders", max_parallelism=10)
    async def handle(order: Order, ctx: libmq.Context) -> None: ...

    @app.post("/orders", status_code=202)
    async def take(order: Order, broker: Annotated[libmq.Broker, Depends(get_broker)]) -> int:
        return (await broker.aenqueue("orders", order)).id  # durable when it returns

Signals stay the server's: it tells the application to end, and then handlers are waited for as in `Broker.stop`. One
process owns a directory, so the server has one worker; a second one says so and does not start.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol, Unpack, overload

from starlette.requests import HTTPConnection

from libmq import _opening
from libmq._broker import Broker, _Handler
from libmq._durations import Duration
from libmq._errors import InvalidError, LockedError
from libmq._native import check_duration
from libmq._options import HandlerOptions, OpenOptions

_STATE = "libmq_broker"
"""What the broker is called in the state of an application and of a request."""

_log = logging.getLogger("libmq")


class _App(Protocol):
    @property
    def state(self) -> Any: ...


class Lifespan:
    """The `lifespan` of an application: opens a broker, registers its handlers, and runs it until the application ends.

    An application that has more to open calls it in a lifespan of its own: `async with queue(app): ...`.

    Args:
        path: As for `libmq.open`.
        stop_timeout: How long handlers that run get when the application ends; then they are cancelled, and have their
            `cancel_grace`. Let whoever kills the process wait for longer than both.
        options: As for `libmq.open`. With `lock_timeout` a process waits for the one before it to end.

    Raises:
        TypeError: There is no such option, or `stop_timeout` is no duration.
        InvalidError: `stop_timeout` is above ten years.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, stop_timeout: Duration = 25, **options: Unpack[OpenOptions]
    ) -> None:
        check_duration("stop_timeout", stop_timeout)
        given = _opening.bound(path, **options)
        self._open: Callable[[], Broker] = lambda: _opening.opened(Broker, given)
        self._path = path
        self._scope = given["scope"]
        self._stop_timeout = stop_timeout
        self._handlers: dict[str, tuple[Any, HandlerOptions]] = {}
        self._runs = True
        self._broker: Broker | None = None

    @property
    def broker(self) -> Broker:
        """The broker, while the application runs.

        Raises:
            RuntimeError: It does not.
        """
        if self._broker is None:
            raise RuntimeError("the broker is open while the application runs, from the beginning of its lifespan on")
        return self._broker

    @overload
    def handler(self, queue: str, **options: Unpack[HandlerOptions]) -> Callable[[_Handler], _Handler]: ...

    @overload
    def handler(self, queue: str, function: _Handler, **options: Unpack[HandlerOptions]) -> _Handler: ...

    def handler(self, queue: str, function: Any = ..., **options: Unpack[HandlerOptions]) -> Any:
        """Has a function, object or class handle a queue's messages, from the next start of the application on: as a
        decorator, or with the function as the second argument. The options are those of `Broker.handler`.

        Raises:
            InvalidError: The queue has a handler here already.
            As `Broker.handler`, at once.
        """

        def register(function: _Handler) -> _Handler:
            # What the broker to come would refuse, one that is there for this does.
            with _opening.opened(Broker, _opening.bound(":memory:", scope=self._scope) | {"listens": False}) as broker:
                broker.handler(queue, function, **options)
            if queue in self._handlers:
                raise InvalidError(f"{queue} has a handler already, which this one would take the place of")
            self._handlers[queue] = (function, options)
            return function

        given: Any = queue
        if callable(given):
            raise TypeError('handler takes the queue first: @queue.handler("orders")')
        return register if function is ... else register(function)

    @contextlib.contextmanager
    def override(self, make: Callable[[], Broker], *, runs: bool = False) -> Iterator[None]:
        """For tests: opens what `make` makes, as `libmq.testing.open`. It is not run, so that it can be drained, unless
        `runs` says so.
        """
        before = self._open, self._runs
        self._open, self._runs = make, runs
        try:
            yield
        finally:
            self._open, self._runs = before

    @contextlib.asynccontextmanager
    async def __call__(self, app: _App) -> AsyncIterator[dict[str, Broker]]:
        """The lifespan of an application."""
        if self._broker is not None:
            raise RuntimeError("the application runs already, and its broker is open")
        async with self._opened() as broker:
            for queue, (function, options) in self._handlers.items():
                broker.handler(queue, function, **options)
            self._broker = broker
            setattr(app.state, _STATE, broker)
            try:
                async with self._running(broker):
                    yield {_STATE: broker}
            finally:
                self._broker = None
                setattr(app.state, _STATE, None)

    def _opened(self) -> Broker:
        try:
            return self._open()
        except LockedError as error:
            error.add_note(
                f"One process owns {os.fspath(self._path)}. Run the server with one worker, give each its own "
                "directory, or, where the one before is still ending, set lock_timeout."
            )
            raise

    @contextlib.asynccontextmanager
    async def _running(self, broker: Broker) -> AsyncIterator[None]:
        if not self._runs:
            yield
            return
        # Not its signals: they would be taken from the server, which would never end.
        run = broker.arun(install_signal_handlers=False, stop_timeout=self._stop_timeout)
        running = asyncio.create_task(run, name="libmq-lifespan")
        running.add_done_callback(_tell)
        # So that handlers are called from the first request on.
        await asyncio.sleep(0)
        try:
            yield
        finally:
            running.cancel()
            await asyncio.wait((running,))
        if not running.cancelled():
            running.result()


def _tell(running: "asyncio.Task[None]") -> None:
    """Says at once what is raised only at the end, if at all."""
    error = None if running.cancelled() else running.exception()
    if error is not None:
        _log.error("the broker runs no handlers any more", exc_info=error)


def get_broker(connection: HTTPConnection) -> Broker:
    """The broker of the application that a request, or a websocket, has come to: for `Depends`, or to be called.

    Raises:
        RuntimeError: The application has no `Lifespan`, or it was not begun.
    """
    found = connection.scope.get("state", {}).get(_STATE) or getattr(connection.app.state, _STATE, None)
    if not isinstance(found, Broker):
        raise RuntimeError("the application has no broker: give it lifespan=libmq.fastapi.Lifespan(...)")
    return found
