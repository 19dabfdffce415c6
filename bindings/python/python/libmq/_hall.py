"""The hall: where a broker's async handlers run.

The core rings when there is something to take; the loop is woken by a file descriptor, takes messages, and runs the
handler for each in a task of its own, up to `max_parallelism` of them. The loop is that of whoever awaits `arun`, or
one on a thread of libmq. The time of an attempt begins when the loop comes to its task. How a task ends, ends the
attempt.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import select
import threading
import time
import types
from collections.abc import AsyncGenerator, Callable, Generator
from contextvars import Context as Variables
from dataclasses import dataclass
from typing import Any

from libmq._calling import Call
from libmq._desk import of_handler
from libmq._native import Attempt, Broker, Context, Inbox, Tray, serve
from libmq._providing import Providers
from libmq._settling import settle_attempt, settle_cancelled, tell

_PAUSE_FIRST_S = 0.01
_PAUSE_MAX_S = 5.0
"""How long is waited before a loop is made anew: first, and at most."""

CLOSING_MAX_S = 5.0
"""How long a close waits for the loop's thread once no handler runs any more."""


@dataclass(eq=False, slots=True)
class _Handler:
    """A handler, and where its messages are."""

    queue: str
    call: Call
    number: int
    inbox: Inbox
    name: str
    """That of its tasks."""
    running: int = 0
    is_taking: bool = False
    is_due: bool = False
    """Whether the loop takes messages when those have had their turn that run."""


@dataclass(eq=False, slots=True)
class _Running:
    """A handler that runs for a message."""

    handler: _Handler
    attempt: Attempt
    context: Context
    task: "asyncio.Task[None] | None" = None
    is_entered: bool = False
    told: bool = False

    def hear(self) -> None:
        """Cancels the task if its attempt was cancelled."""
        if not self.told and self.task is not None and self.context.cancelled:
            self.told = True
            self.task.cancel(self.context.cancel_reason)


class Hall:
    """The async handlers of a broker, and the loop that runs them."""

    def __init__(self, providers: Providers) -> None:
        self._providers = providers
        self._lock = threading.RLock()
        self._numbers = itertools.count()
        self._tray: Tray | None = None
        self._handlers: dict[int, _Handler] = {}
        self._running: set[_Running] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None
        self._started = False
        self._all_ended: asyncio.Future[None] | None = None
        # What a handler's variables are at first: nothing of what the loop has in its own.
        self._variables = Variables()
        self._variables.run(of_handler.set, self)

    @property
    def is_here(self) -> bool:
        """Whether the loop that runs, if one does, is the one that runs the handlers."""
        return self._loop is not None and asyncio._get_running_loop() is self._loop

    @property
    def handles_here(self) -> bool:
        """Whether an async handler of this broker is running, or what it has started."""
        return of_handler.get() is self

    @property
    def is_taken(self) -> bool:
        """Whether a loop runs the handlers, or is about to."""
        return self._loop is not None or self._thread is not None

    def add(self, broker: Broker, queue: str, call: Call, options: dict[str, Any]) -> None:
        """Registers a handler, in place of the one that the queue had."""
        number = next(self._numbers)
        before = self.of(queue)
        inbox = broker._handle_on_loop(queue, self.tray(broker), number, options, self.is_here)
        with self._lock:
            self._handlers[number] = _Handler(queue, call, number, inbox, f"libmq-{queue}")
        self.forget(before)
        # It may have rung before it was known.
        self._soon(lambda: self._take(number))
        if self._started:
            self.start()

    def tray(self, broker: Broker) -> Tray:
        """Where the loop is told of messages."""
        with self._lock:
            if self._tray is None:
                self._tray = Tray()
                broker._tell_of_end(self._tray)
            return self._tray

    def of(self, queue: str) -> list[int]:
        """The handlers of a queue."""
        with self._lock:
            return [handler.number for handler in self._handlers.values() if handler.queue == queue]

    def forget(self, numbers: list[int]) -> None:
        """These have been replaced."""
        with self._lock:
            gone = [self._handlers.pop(number) for number in numbers if number in self._handlers]
        for handler in gone:
            handler.inbox.withdraw()

    # The loop's thread.

    def start(self) -> None:
        """Has async handlers, if there are any, run on a thread of our own, unless a loop runs them."""
        with self._lock:
            self._started = True
            if self._handlers and not self.is_taken:
                thread = threading.Thread(target=self._work, name="libmq-loop", daemon=True)
                # Refused where the program is at its end.
                thread.start()
                self._thread = thread

    def stopped(self) -> None:
        """Handlers that come now are not to run."""
        self._started = False

    @property
    def is_busy(self) -> bool:
        """Whether a handler runs, or is about to."""
        return bool(self._running)

    def join(self, time: float) -> None:
        """There is nothing more to come: waits for the thread, if there is one, so long at most."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(time)

    def _work(self) -> None:
        pause = _PAUSE_FIRST_S
        while self._tray is not None and not self._tray.gone:
            began = time.monotonic()
            try:
                with asyncio.Runner() as runner:
                    runner.run(self._serve())
            except BaseException as error:
                # As a SystemExit in what a handler has started, or that there is no file descriptor for it.
                tell(logging.ERROR, "the loop of async handlers is begun anew", error=error)
                if time.monotonic() - began > pause:
                    pause = _PAUSE_FIRST_S
                self._pause(self._tray, pause)
                pause = min(pause * 2, _PAUSE_MAX_S)

    def _pause(self, tray: Tray, seconds: float) -> None:
        """Waits, but not for longer than the broker is open. What else was told is seen when there is a loop."""
        end = time.monotonic() + seconds
        told = select.poll()
        told.register(tray.fileno(), select.POLLIN)
        while not tray.gone and (left := end - time.monotonic()) > 0:
            told.poll(left * 1000)
            tray.take()

    async def _serve(self) -> None:
        async with self.here():
            if self._all_ended is not None:
                await self._all_ended

    # On the loop.

    @contextlib.asynccontextmanager
    async def here(self, broker: Broker | None = None) -> AsyncGenerator[None, None]:
        """Has the handlers run on this loop; what was made on it for the broker's life is closed at the end."""
        if broker is not None:
            self.tray(broker)
        self._attach(asyncio.get_running_loop())
        try:
            yield
        except GeneratorExit:
            self._detach()
            raise
        except BaseException:
            self._detach()
            await self._providers.close_of_loop()
            raise
        self._detach()
        await self._providers.close_of_loop()

    def _attach(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            self._loop = loop
            self._all_ended = loop.create_future()
            tray = self._tray
        serve(True)
        if tray is not None:
            loop.add_reader(tray.fileno(), self._look)
        for handler in tuple(self._handlers.values()):
            # The loop before may have ended with it.
            handler.is_due = False
            self._take(handler.number)

    def _detach(self) -> None:
        with self._lock:
            loop, self._loop = self._loop, None
            running = tuple(self._running)
        # A forked child shares its parent's selector, which is to go on hearing of messages.
        is_own = os.getpid() == self._pid
        if is_own and loop is not None and self._tray is not None and not loop.is_closed():
            loop.remove_reader(self._tray.fileno())
        serve(False)
        for each in running:
            # It was given back before, or nobody will wait for it.
            each.attempt.release(0)

    def abandon(self) -> None:
        """The program ends. Gives back what a loop holds that will not go on."""
        loop = self._loop
        if loop is None or loop.is_running() or self._thread is not None:
            return
        for each in tuple(self._running):
            each.attempt.release(0)

    def _soon(self, call: Callable[[], None]) -> None:
        with self._lock:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(call)

    def _look(self) -> None:
        if self._tray is None:
            return
        for number, _ in self._tray.take():
            self._take(number)
        self._end_if_all_ended()

    def _take(self, number: int) -> None:
        handler, loop = self._handlers.get(number), self._loop
        if handler is None or loop is None:
            return
        # A loop may run what it is given at once, and then this is asked in the middle of itself.
        if handler.is_taking:
            return
        handler.is_taking = True
        try:
            attempts, pause = handler.inbox.take()
            while attempts:
                for attempt in attempts:
                    self._begin(handler, attempt, loop)
                attempts, pause = handler.inbox.take()
            if pause is not None:
                loop.call_later(pause, self._take, number)
        finally:
            handler.is_taking = False
        if handler.inbox.hear_cancelled():
            for running in tuple(self._running):
                if running.handler is handler:
                    running.hear()

    def _take_behind(self, handler: _Handler) -> None:
        """Takes messages when one has ended: where others run, for all at once that end in this turn of the loop."""
        if not handler.running:
            self._take(handler.number)
        elif not handler.is_due and self._loop is not None:
            handler.is_due = True
            self._loop.call_soon(self._take_due, handler)

    def _take_due(self, handler: _Handler) -> None:
        handler.is_due = False
        self._take(handler.number)

    def _begin(self, handler: _Handler, attempt: Attempt, loop: asyncio.AbstractEventLoop) -> None:
        running = _Running(handler, attempt, attempt.context())
        self._running.add(running)
        handler.running += 1
        work = self._handle(running)
        # So that it hears of a cancellation, whenever that comes: within what has not begun nothing is raised.
        work.send(None)
        running.task = self._variables.copy().run(loop.create_task, work, name=handler.name)

    async def _handle(self, running: _Running) -> None:
        """Runs a handler, and ends its attempt. Nothing but the program's own Ctrl-C ends the loop."""
        try:
            await _begun()
            # What had to wait for the loop for longer than it may run was given back meanwhile.
            running.is_entered = running.attempt.enter()
            if running.is_entered:
                await running.handler.call.run(running.context)
        except BaseException as error:
            if isinstance(error, GeneratorExit) and not _was_raised_within(error):
                # The loop was left in the middle.
                raise
            self._end(running, error)
            if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                raise
        else:
            self._end(running, None)

    def _end(self, running: _Running, error: BaseException | None) -> None:
        handler = running.handler
        self._running.discard(running)
        handler.running -= 1
        if error is None:
            running.attempt.ack()
        else:
            self._settle(running, error)
        if self.is_here:
            self._take_behind(handler)
            self._end_if_all_ended()
        else:
            # It has outlived its loop's time here.
            self._soon(self._end_if_all_ended)

    def _settle(self, running: _Running, error: BaseException) -> None:
        attempt, context = running.attempt, running.context
        if isinstance(error, asyncio.CancelledError):
            reason = context.cancel_reason
            if reason is not None and running.is_entered:
                settle_cancelled(attempt, context, reason, error)
                return
            if reason is not None:
                # The loop had not come to it.
                attempt.release(0)
                return
            if self._loop is None:
                # The loop ended, not the handler.
                attempt.release(0)
                return
        settle_attempt(attempt, context, error)

    def _end_if_all_ended(self) -> None:
        if self._running or self._tray is None or not self._tray.gone:
            return
        if self._all_ended is not None and not self._all_ended.done():
            self._all_ended.set_result(None)


def _was_raised_within(error: BaseException) -> bool:
    """Whether something was raised in what the coroutine waits for, that catches it. What closes a coroutine is raised
    in each of those that wait for each other anew.
    """
    trace = error.__traceback__
    return trace is not None and trace.tb_next is not None


@types.coroutine
def _begun() -> Generator[None, None, None]:
    """Where a handler waits that has begun, for its task."""
    yield
