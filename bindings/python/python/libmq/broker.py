"""The broker: an open directory."""

import asyncio
import contextlib
import os
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from libmq import _native, leaving
from libmq._native import Backoff, Delivery, Receipt
from libmq.calling import call_of
from libmq.crew import Crew
from libmq.errors import TimeoutError
from libmq.figures import Lsn, Metrics, QueueMetrics, Recovery
from libmq.running import Run

Duration = float | timedelta
"""Seconds, or a timedelta."""

_Handler = TypeVar("_Handler", bound=Callable[..., object])


class Broker(_native.Broker):
    """An open broker, made by `libmq.open`. Any thread may use it; a forked child may not.

    Use it in a `with`, which closes it, or close it yourself. A program that ends without that loses nothing durable,
    and ends all the same; the next open then finds what a crash would have left.
    """

    def __init__(self, path: str | os.PathLike[str], options: dict[str, Any]) -> None:
        self._crew = Crew()
        self._run = Run()
        leaving.watch(self)

    @overload
    def handler(
        self,
        queue: str,
        *,
        max_parallelism: int | None = None,
        min_parallelism: int | None = None,
        timeout: Duration | None = None,
        max_retries: int | None = None,
        backoff: Backoff | None = None,
        cancel_grace: Duration | None = None,
        lease_extension_enabled: bool | None = None,
        scope: Callable[..., Any] | None = None,
    ) -> Callable[[_Handler], _Handler]: ...

    @overload
    def handler(
        self,
        queue: str,
        function: _Handler,
        *,
        max_parallelism: int | None = None,
        min_parallelism: int | None = None,
        timeout: Duration | None = None,
        max_retries: int | None = None,
        backoff: Backoff | None = None,
        cancel_grace: Duration | None = None,
        lease_extension_enabled: bool | None = None,
        scope: Callable[..., Any] | None = None,
    ) -> _Handler: ...

    def handler(self, queue: str, *functions: _Handler, **options: Any) -> Any:
        """Registers a queue's handler: as a decorator, or with the function as the second argument.

        It is called once the broker is started, on threads of Python that libmq starts. Of its parameters the one
        called `ctx`, or annotated `libmq.Context`, is the context, and the one left is the body. Returning acks.
        Raising is a failed attempt, whatever is raised, unless it is a `Retry`, `Reject` or `Release`. A second handler
        for a queue replaces the first when its calls have ended.

        Args:
            queue: The queue, 1 to 128 of `A-Z a-z 0-9 . _ -`.
            max_parallelism: How many run at once, 1 to 1024. Default 1.
            min_parallelism: How many threads stay when there is nothing to do. Default 1.
            timeout: How long it may run; then its attempt is cancelled. Default the broker's.
            max_retries: How often a message is tried again. Default the broker's.
            backoff: The wait before a retry. Default the broker's.
            cancel_grace: From the cancellation to the loss of the lease. Default 5 s.
            lease_extension_enabled: Whether it may call `ctx.extend`. Default True.
            scope: Not supported by this version.

        Raises:
            InvalidError, ClosedError, ForkedError; Error with `UNSUPPORTED` for an async function, a class, or a
            parameter that `Depends`; TypeError for what is not callable or has two parameters for the body.
        """
        if len(functions) > 1:
            raise TypeError(f"handler takes a queue and one function, not {len(functions)}")
        options = _handler_options(**options)

        def register(function: _Handler) -> _Handler:
            self._crew.add(self, queue, call_of(function), options)
            return function

        return register(*functions) if functions else register

    def stop(self, timeout: Duration = 25) -> None:
        """Stops calling handlers, and waits for those that run; after `timeout` they are cancelled with "shutdown", and
        after their grace what they hold is given back. `start` may follow.

        Raises:
            TimeoutError: Handlers had to be cancelled; stopped all the same.
            Error: `DEADLOCK` in a handler.
        """
        with self._run.ending():
            self._stop(timeout)

    def _stop_without_grace(self, timeout: Duration) -> None:
        """As `stop`, which a signal ends at once."""
        with self._run.ending():
            self._stop(timeout, urgent=True)

    def _stop_now(self) -> None:
        """Cancels handlers, and takes what they hold."""
        with self._run.ending(), contextlib.suppress(TimeoutError):
            self._stop(0, now=True)

    def close(self, timeout: Duration = 25) -> None:
        """Stops, gives pulled deliveries back, syncs, and gives the directory up. Closed already: nothing.

        Raises:
            TimeoutError: Handlers had to be cancelled; closed all the same.
            PoisonedError: The last sync failed.
            Error: `DEADLOCK` in a handler.
        """
        with self._run.ending():
            self._close(timeout)

    def run(
        self,
        until_idle: bool = False,
        install_signal_handlers: bool = True,
        stop_timeout: Duration = 25,
    ) -> None:
        """Starts, waits for SIGTERM or SIGINT, and stops: running handlers get `stop_timeout`, then they are cancelled
        and have their `cancel_grace`. A second signal ends both at once: handlers are cancelled, what they hold is
        given back, and `run` returns, though they may not have. Does not close.

        Args:
            until_idle: Stop when there is nothing to do, too.
            install_signal_handlers: Take the two signals, which only the main thread can. Without it, `run` ends when
                another thread stops or closes the broker, or when something is raised, as by Ctrl-C.
            stop_timeout: How long running handlers get.

        Raises:
            TimeoutError: Handlers had to be cancelled; stopped all the same.
            InvalidError: Signal handlers were asked for elsewhere than in the main thread.
        """
        self._run.run(self, until_idle, install_signal_handlers, stop_timeout)

    def metrics(self) -> Metrics:
        """The figures of the broker, and in `queues` those of each queue."""
        figures = self._metrics()
        queues = {name: QueueMetrics(**queue) for name, queue in figures.pop("queues").items()}
        return Metrics(queues=queues, lsn=Lsn(**figures.pop("lsn")), **figures)

    @property
    def recovery(self) -> Recovery:
        """What opening found."""
        return Recovery(**self._recovery())

    def prometheus(self) -> str:
        """The figures as Prometheus reads them. Not supported by this version."""
        self._unsupported("prometheus")

    def override(self, dependency: Callable[..., Any], fake: Callable[..., Any]) -> None:
        """Replaces a dependency in tests. Not supported by this version."""
        self._unsupported("override")

    async def aenqueue(self, queue: str, body: object, **options: Any) -> Receipt:
        """Enqueues without holding up the event loop. Not supported by this version."""
        self._unsupported("aenqueue")

    async def areceive(
        self, queue: str, timeout: Duration | None = None, lease: Duration | None = None
    ) -> Delivery | None:
        """Receives without holding up the event loop. Not supported by this version."""
        self._unsupported("areceive")

    async def arun(self, until_idle: bool = False) -> None:
        """Runs async handlers on this event loop. Not supported by this version."""
        self._unsupported("arun")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _handler_options(
    *,
    max_parallelism: int | None = None,
    min_parallelism: int | None = None,
    timeout: Duration | None = None,
    max_retries: int | None = None,
    backoff: Backoff | None = None,
    cancel_grace: Duration | None = None,
    lease_extension_enabled: bool | None = None,
    scope: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    """The options of a handler, of which Python refuses what it does not know."""
    return dict(locals())
