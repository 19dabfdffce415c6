"""The threads that run handlers.

The core says when one more is needed; that reaches Python through a channel, at whose end a thread of Python waits, the
foreman. It starts a thread for each worker, which asks for messages until there are to be no more. All of them are
Python's own threads, and none is a daemon: handlers that run when the program ends come to their end.
"""

import contextlib
import itertools
import threading
from collections.abc import Callable
from contextvars import Context as Variables
from functools import partial
from typing import Any, Protocol

from libmq import leaving
from libmq._native import Foreman, Worker
from libmq.calling import Call
from libmq.settling import settle_attempt


class _Handling(Protocol):
    """A broker, as far as it has handlers."""

    def _handle(self, queue: str, number: int, options: dict[str, Any]) -> None: ...
    def _foreman(self) -> Foreman | None: ...
    def _leave(self) -> None: ...


class Crew:
    """The handlers of a broker, and who runs them."""

    def __init__(self) -> None:
        self._calls: dict[int, tuple[str, Call]] = {}
        self._numbers = itertools.count()

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
            leaving.watch(broker)
            start_thread("libmq-foreman", lambda: self._assign(foreman))

    def _assign(self, foreman: Foreman) -> None:
        """Starts a thread for each worker that is needed."""
        while (hired := foreman.next()) is not None:
            number, worker = hired
            if number in self._calls:
                # Where no threads are to be had, or Python is on its way out, the worker is dropped, and has left: the
                # core asks again when there is more to do.
                with contextlib.suppress(RuntimeError):
                    start_thread(f"libmq-{self._calls[number][0]}", partial(work, worker, *self._calls[number]))
            del worker, hired


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


def start_thread(name: str, run: Callable[[], None]) -> None:
    """Starts a thread that the end of the program waits for."""
    threading.Thread(target=run, name=name, daemon=False).start()
