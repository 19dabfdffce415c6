"""The broker: an open directory."""

import asyncio
import contextlib
import copy
import os
import threading
from collections.abc import Callable, Generator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeVar, overload

from libmq import _leaving, _native, _telling
from libmq._aside import Ending
from libmq._calling import Scope, call_of
from libmq._crew import Crew
from libmq._depends import Override
from libmq._desk import Desks, of_handler
from libmq._durations import Duration
from libmq._errors import ClosedError, ForkedError, TimeoutError, error_of
from libmq._figures import Lsn, Metrics, QueueMetrics, Recovery
from libmq._hall import CLOSING_MAX_S, Hall
from libmq._native import Backoff, Delivery, Interrupt, Receipt
from libmq._providing import Providers
from libmq._running import Run
from libmq._signals import Hurry

_CLOSE_TIMEOUT_S = 25
"""How long running handlers get in a stop or close, unless it is said."""

_AT_ONCE_MAX = 256
"""Of so many enqueues that wait for nothing one lets its loop have a turn, even if they are awaited one by one."""


class _Handles(Protocol):
    """What has a method `handle`."""

    @property
    def handle(self) -> Callable[..., object]: ...


_Handler = TypeVar("_Handler", bound=Callable[..., object] | _Handles)


class Broker(_native.Broker):
    """An open broker, made by `libmq.open`. Any thread may use it; a forked child may not.

    Use it in a `with`, which closes it, but for a forked child that leaves it there, or close it yourself. A program
    that ends without that loses nothing durable, and ends all the same; the next open then finds what a crash would
    have left.
    """

    def __new__(cls, *_: object, **__: object) -> Self:
        raise TypeError("a broker is opened by libmq.open")

    @classmethod
    def _open(cls, path: str | os.PathLike[str], options: dict[str, Any], scope: Scope | None) -> Self:
        """Opens it as the native part does, which `open` alone knows how to ask."""
        broker = _native.Broker.__new__(cls, path, options)
        broker._begin_with(scope)
        return broker

    def _begin_with(self, scope: Scope | None) -> None:
        self._scope = scope
        self._providers = Providers()
        self._crew = Crew()
        self._hall = Hall(self._providers)
        self._desks = Desks()
        self._run = Run(self._hall)
        # Whoever registers a handler may wait there for the one that is replaced.
        self._registering = threading.RLock()
        self._closings: list[Ending] = []
        _leaving.watch(self)
        _telling.listen(self)

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

    def handler(
        self,
        queue: str,
        function: Any = ...,
        *,
        max_parallelism: int | None = None,
        min_parallelism: int | None = None,
        timeout: Duration | None = None,
        max_retries: int | None = None,
        backoff: Backoff | None = None,
        cancel_grace: Duration | None = None,
        lease_extension_enabled: bool | None = None,
        scope: Callable[..., Any] | None = None,
    ) -> Any:
        """Registers a queue's handler: as a decorator, or with the function as the second argument.

        It is called once the broker is started. Of its parameters the one called `ctx`, or annotated `libmq.Context`,
        is the context, those annotated with `Depends` are made for it, and the one left is the body, whether it has a
        default or not; those that have one keep it beside one that has none. Returning acks.
        Raising is a failed attempt, whatever is raised, unless it is a `Retry`, `Reject` or `Release`. A second handler
        for a queue replaces the first when its calls have ended.

        A function runs on threads of Python that libmq starts. An `async def` runs as a task: on the loop of `arun`, or
        else on one that libmq keeps on a thread for the broker. When its attempt is cancelled the task is, and it is a
        failed attempt if it ends by a CancelledError otherwise. A class with a method `handle` is made anew for each
        attempt, by `ctx.scope.resolve(the class)` where the scope has that, else with the dependencies that its
        `__init__` asks for; an object with such a method is used as it is.

        Args:
            queue: The queue, 1 to 128 of `A-Z a-z 0-9 . _ -`.
            function: What handles the messages; without it the answer is a decorator.
            max_parallelism: How many run at once, 1 to 1024. Default 1.
            min_parallelism: How many threads stay when there is nothing to do, 0 to `max_parallelism`. Default 1.
            timeout: How long it may run, more than zero; then its attempt is cancelled. Default the broker's.
            max_retries: How often a message is tried again, up to 1,000,000. Default the broker's.
            backoff: The wait before a retry. Default the broker's.
            cancel_grace: From the cancellation to the loss of the lease. Default 5 s.
            lease_extension_enabled: Whether it may call `ctx.extend`. Default True.
            scope: Makes the context manager that is open around an attempt, as that of `open`, and in its place.

        Raises:
            InvalidError, ClosedError, ForkedError; TypeError for what is not callable, has two parameters for the body,
            or asks for what it cannot be given. Error with `DEADLOCK` where another handler would be replaced inside
            one, or on the loop of async handlers.
        """
        options = {
            "max_parallelism": max_parallelism,
            "min_parallelism": min_parallelism,
            "timeout": timeout,
            "max_retries": max_retries,
            "backoff": backoff,
            "cancel_grace": cancel_grace,
            "lease_extension_enabled": lease_extension_enabled,
        }
        given: Any = queue
        if callable(given):
            raise TypeError('handler takes the queue first: @broker.handler("orders")')
        self._check_handler(queue, options)
        if scope is not None and not callable(scope):
            raise TypeError(f"scope must be callable, not {type(scope).__name__}")
        scope = self._scope if scope is None else scope

        def register(function: _Handler) -> _Handler:
            call = call_of(function, self._providers, scope)
            self._check_open()
            with self._turn_to_register():
                threads, tasks = self._crew.of(queue), self._hall.of(queue)
                if call.waits:
                    self._hall.add(self, queue, call, options)
                    self._crew.forget(threads)
                else:
                    self._crew.add(self, queue, call.run, options, self._hall.is_here)
                    self._hall.forget(tasks)
            return function

        return register if function is ... else register(function)

    @contextlib.contextmanager
    def _turn_to_register(self) -> Generator[None, None, None]:
        """One thread at a time, so that which handler replaces which is the same here and in the core."""
        may_wait = not self._hall.is_here and not _native.handles()
        if not self._registering.acquire(blocking=may_wait):
            raise error_of("DEADLOCK", "another thread registers a handler, which may be waiting for this one to end")
        try:
            yield
        finally:
            self._registering.release()

    def start(self) -> None:
        """Starts to call handlers. Started already: nothing. It is kept until it is stopped or closed, whoever has it.

        Raises:
            ClosedError, ForkedError; Error with `DEADLOCK` in a handler while another thread starts, stops or closes.
        """
        super().start()
        _leaving.keep(self)
        self._hall.start()

    def stop(self, timeout: Duration = 25) -> None:
        """Stops calling handlers, and waits for those that run; after `timeout` they are cancelled with "shutdown", and
        after their grace what they hold is given back. `start` may follow.

        Raises:
            TimeoutError: Handlers had to be cancelled; stopped all the same.
            InvalidError, ClosedError, ForkedError, TypeError.
            Error: `DEADLOCK` in a handler, and on the event loop that runs async ones: it would wait for itself.
        """
        self._refuse_on_loop("stop")
        with self._run.ending(self):
            self._stop(timeout, Interrupt())

    def close(self, timeout: Duration = 25) -> None:
        """Stops, gives pulled deliveries back, syncs, and gives the directory up. Closed already: nothing.

        Raises:
            TimeoutError: Handlers had to be cancelled; closed all the same.
            PoisonedError: The last sync failed.
            InvalidError, ForkedError, TypeError.
            Error: `DEADLOCK` in a handler, and on the event loop that runs async ones.
            BaseException: What a dependency raised that lived as long as the broker; closed all the same.
        """
        self._refuse_on_loop("close")
        self._end(timeout, Interrupt())

    def _end(self, timeout: Duration, interrupt: Interrupt) -> None:
        try:
            with self._run.ending(self):
                self._close(timeout, interrupt)
        finally:
            if self._is_closed():
                if not self._hall.is_busy:
                    self._hall.join(CLOSING_MAX_S)
                self._providers.close()

    def wait_idle(self, timeout: Duration | None = None) -> bool:
        """Waits until nothing is in flight, nothing is ready where there is a handler, and no retry is pending.

        Answers whether that was so within `timeout`, None for ever.

        Raises:
            InvalidError, ClosedError, ForkedError, TypeError; PoisonedError where it never will be; Error with
            `DEADLOCK` in a handler, and on the event loop that runs async ones.
        """
        self._refuse_on_loop("wait_idle")
        return super().wait_idle(timeout)

    def _refuse_on_loop(self, call: str) -> None:
        if self._hall.is_here:
            text = f"{call} on the event loop that runs async handlers would wait for itself: use a thread"
            raise error_of("DEADLOCK", text)

    def _refuse_in_handler(self, call: str) -> None:
        if _native.handles() or self._hall.handles_here:
            raise error_of("DEADLOCK", f"{call} in a handler would wait for itself")

    def run(
        self,
        until_idle: bool = False,
        install_signal_handlers: bool = True,
        stop_timeout: Duration = 25,
    ) -> None:
        """Starts, waits for SIGTERM or SIGINT, and stops: running handlers get `stop_timeout`, then they are cancelled
        and have their `cancel_grace`; those that end within it have ended in order. A second signal ends both at once:
        handlers are cancelled, what they hold is given back, and `run` returns, though they may not have. Does not
        close.

        Args:
            until_idle: Stop when there is nothing to do, too.
            install_signal_handlers: Take the two signals, which only the main thread can. Without it, `run` ends when
                another thread stops or closes the broker, or when something is raised, as by Ctrl-C.
            stop_timeout: How long running handlers get.

        Raises:
            TimeoutError: Handlers ran on beyond their grace; stopped all the same.
            InvalidError: Signal handlers were asked for elsewhere than in the main thread; `stop_timeout` is above ten
                years.
            ClosedError, ForkedError: It was closed before; closed meanwhile, `run` returns.
            TypeError; Error with `DEADLOCK` in a handler, and on a thread with an event loop: `await arun` there.
        """
        self._refuse_on_loop("run")
        self._refuse_in_handler("run")
        if asyncio._get_running_loop() is not None:
            raise error_of("DEADLOCK", "run would hold up the event loop of this thread: await arun there")
        self._run.run(self, until_idle, install_signal_handlers, stop_timeout)

    def metrics(self) -> Metrics:
        """The figures of the broker, and in `queues` those of each queue. Raises ClosedError, ForkedError."""
        figures = self._metrics()
        queues = {name: QueueMetrics(**queue) for name, queue in figures.pop("queues").items()}
        return Metrics(queues=queues, lsn=Lsn(**figures.pop("lsn")), **figures)

    @property
    def recovery(self) -> Recovery:
        """What opening found."""
        return Recovery(**self._recovery())

    def override(self, dependency: Callable[..., Any], fake: Callable[..., Any]) -> Override:
        """Has attempts that begin from now on get what `fake` makes where they ask for `dependency`: for tests.

        It is like it in everything: it may be a generator, be async where the handler is, and have dependencies of its
        own. In a `with`, or until `restore()` of the answer; of several the last one counts that has not ended.

        Raises:
            TypeError: One of them cannot be called.
            ClosedError, ForkedError.
        """
        self._check_open()
        return Override(self._providers.overrides, dependency, fake)

    async def aenqueue(
        self,
        queue: str,
        body: object,
        *,
        dedup_key: str | None = None,
        dedup: Literal["replace", "keep"] | None = None,
        dedup_window: Duration | None = None,
        correlation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        content_type: str | None = None,
        delay: Duration | None = None,
        run_at: datetime | None = None,
        expires_in: Duration | None = None,
        priority: int | None = None,
        group: str | None = None,
        durability: Literal["sync", "os"] | None = None,
    ) -> Receipt:
        """Enqueues as `enqueue` does, without ever holding up the event loop: not for a sync, nor for room.

        It has its place in the order of messages when it is first awaited, or, where it has to wait for room or for the
        disk, behind those that wait already. What needs no sync is done then; a thousand at once share syncs. No thread
        is used for it. Cancelled, it is unknown whether the message was enqueued.

        Raises:
            As `enqueue`; RuntimeError without a running event loop.
        """
        self._check_open()
        desk = self._desks.here(self)
        number = desk.number()
        # By their places: to be asked for each by its name costs as much as all the rest.
        receipt, awaited = self._begin(
            queue,
            body,
            dedup_key,
            dedup,
            dedup_window,
            correlation_id,
            headers,
            content_type,
            delay,
            run_at,
            expires_in,
            priority,
            group,
            durability,
            desk.tray,
            number,
            of_handler.get() is not None,
        )
        if receipt is None:
            try:
                return await desk.expect(awaited)
            finally:
                desk.forget(awaited)
        if awaited != 0:
            failure = await desk.round(awaited)
            if isinstance(failure, BaseException):
                # Nobody raises what is somebody else's, too.
                raise copy.copy(failure)
        elif number % _AT_ONCE_MAX == 0:
            await asyncio.sleep(0)
        return receipt

    async def areceive(
        self, queue: str, timeout: Duration | None = None, lease: Duration | None = None
    ) -> Delivery | None:
        """Receives as `receive` does, without holding up the event loop. Those that wait on one loop are served in the
        order in which they came. Cancelled, it has taken nothing.

        Raises:
            As `receive`; RuntimeError without a running event loop.
        """
        self._check_open()
        return await self._desks.here(self).receive(self, queue, timeout, lease)

    async def arun(
        self,
        until_idle: bool = False,
        install_signal_handlers: bool = True,
        stop_timeout: Duration = 25,
    ) -> None:
        """As `run`, without holding up the event loop, on which the async handlers run meanwhile.

        Cancelled, it stops as after a signal, and then raises the CancelledError, whatever became of the handlers,
        which is logged; cancelled once more, as after the second. Where the broker was started before, its async
        handlers stay where they are.

        Args:
            until_idle: Stop when there is nothing to do, too.
            install_signal_handlers: Take SIGTERM and SIGINT, which only a loop of the main thread can. Handlers that
                the loop or the program has for them are called as well, and have them alone again afterwards. Under a
                server, which ends by them itself, say False, and cancel this when the server ends.
            stop_timeout: How long running handlers get.

        Raises:
            As `run`.
        """
        self._check_open()
        self._refuse_in_handler("arun")
        await self._run.arun(self, until_idle, install_signal_handlers, stop_timeout)

    async def __aenter__(self) -> Self:
        self._check_open()
        if self._hall.handles_here:
            raise error_of("DEADLOCK", "the end of an async with in a handler of its broker would wait for itself")
        hurry = Hurry(self)

        def end() -> None:
            try:
                self._end(_CLOSE_TIMEOUT_S, hurry.interrupt)
            except TimeoutError:
                # That was asked for.
                if not hurry.is_set:
                    raise

        self._closings.append(Ending(asyncio.get_running_loop(), hurry, end))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._is_of_parent():
            return
        loop = asyncio.get_running_loop()
        closing = next(closing for closing in reversed(self._closings) if closing.loop is loop)
        self._closings.remove(closing)
        if kind is GeneratorExit:
            closing.leave()
        elif kind is asyncio.CancelledError:
            await closing.end_cancelled()
        else:
            await closing.end()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._is_of_parent():
            self.close()

    def _is_of_parent(self) -> bool:
        """Whether this process was forked from the one that opened it, which closes it."""
        try:
            self._check_open()
        except ForkedError:
            return True
        except ClosedError:
            pass
        return False
