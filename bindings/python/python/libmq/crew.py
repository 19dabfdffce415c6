"""The threads that run handlers.

The core says when one more is needed; that reaches Python through a channel, at whose end a thread of Python waits, the
foreman. It starts a thread for each worker, which asks for messages until there are to be no more. All of them are
Python's own threads, and daemons: the end of the program waits for handlers as long as `leaving` says, and no longer.
"""

import contextlib
import itertools
import threading
import time
import weakref
from collections.abc import Callable
from contextvars import Context as Variables
from functools import partial
from typing import Any, Protocol

from libmq._native import Foreman, Worker
from libmq.calling import Call
from libmq.settling import settle_attempt


class _Handling(Protocol):
    """A broker, as far as it has handlers."""

    def _handle(self, queue: str, number: int, options: dict[str, Any]) -> None: ...
    def _foreman(self) -> Foreman | None: ...


class Crew:
    """The handlers of a broker, and who runs them."""

    def __init__(self) -> None:
        self._calls: dict[int, tuple[str, Call]] = {}
        self._numbers = itertools.count()
        self._threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()

    def add(self, broker: _Handling, queue: str, call: Call, options: dict[str, Any]) -> None:
        """Registers a handler, in place of the one that the queue had."""
        number = next(self._numbers)
        before = [other for other, (its, _) in tuple(self._calls.items()) if its == queue]
        self._calls[number] = (queue, call)
        try:
            broker._handle(queue, number, options)
        except BaseException:
            del self._calls[number]
            raise
        for other in before:
            self._calls.pop(other, None)
        foreman = broker._foreman()
        if foreman is not None:
            self._start("libmq-foreman", lambda: self._assign(foreman))

    def join(self, end: float) -> None:
        """Waits for the threads that are about to end, until this moment of the monotonic clock."""
        for thread in tuple(self._threads):
            thread.join(max(0, end - time.monotonic()))

    def _assign(self, foreman: Foreman) -> None:
        """Starts a thread for each worker that is needed."""
        while (hired := foreman.next()) is not None:
            number, worker = hired
            if number in self._calls:
                # Where no threads are to be had, or Python is on its way out, the worker is dropped, and has left: the
                # core asks again when there is more to do.
                with contextlib.suppress(RuntimeError):
                    self._start(f"libmq-{self._calls[number][0]}", partial(work, worker, *self._calls[number]))
            del worker, hired

    def _start(self, name: str, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        self._threads.add(thread)


def work(worker: Worker, queue: str, call: Call) -> None:
    """Handles messages until there are to be no more."""
    following = worker.next
    context = following()
    while context is not None:
        try:
            Variables().run(call, context)
        except BaseException as error:
            settle_attempt(worker, queue, context.id, error)
        context = following()
