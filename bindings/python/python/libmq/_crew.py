"""The threads that run handlers.

The core says when one more is needed; that reaches Python through a channel, at whose end a thread of Python waits, the
foreman. It starts a thread for each worker, which asks for messages until there are to be no more. All of them are
Python's own threads, and daemons: the end of the program waits for handlers as long as `_leaving` says, and no longer.
"""

import itertools
import logging
import threading
import time
import weakref
from collections.abc import Callable
from contextvars import Context as Variables
from functools import partial
from typing import Any

from libmq._calling import refuse_awaitable
from libmq._native import Broker, Context, Worker
from libmq._settling import settle_attempt, tell, text_of

_END = "at interpreter shutdown"
"""What Python says, from 3.12 on, where the program ends and there are no new threads: that is nobody's fault."""

Handle = Callable[[Context], object]
"""Calls a handler with what it asks for."""


class Crew:
    """The handlers of a broker, and who runs them."""

    def __init__(self) -> None:
        self._calls: dict[int, tuple[str, Handle]] = {}
        self._numbers = itertools.count()
        self._threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self._has_foreman = False

    def add(self, broker: Broker, queue: str, call: Handle, options: dict[str, Any], on_loop: bool) -> None:
        """Registers a handler, in place of the one that the queue had; on the loop of handlers it waits for none. One
        thread at a time.
        """
        if not self._has_foreman:
            self._start("libmq-foreman", partial(self._assign, weakref.ref(broker)))
            self._has_foreman = True
        number = next(self._numbers)
        before = self.of(queue)
        self._calls[number] = (queue, call)
        try:
            broker._handle(queue, number, options, on_loop)
        except BaseException:
            del self._calls[number]
            raise
        self.forget(before)

    def of(self, queue: str) -> list[int]:
        """The handlers of a queue."""
        return [number for number, (its, _) in tuple(self._calls.items()) if its == queue]

    def forget(self, numbers: list[int]) -> None:
        """These have been replaced."""
        for number in numbers:
            self._calls.pop(number, None)

    def join(self, end: float) -> None:
        """Waits for the threads that are about to end, until this moment of the monotonic clock."""
        for thread in tuple(self._threads):
            thread.join(max(0, end - time.monotonic()))

    def _assign(self, broker: "weakref.ref[Broker]") -> None:
        """Starts a thread for each worker that is needed. Where they come from is had here, on the thread that waits
        for them, so that it is not lost where that thread cannot be started.
        """
        opened = broker()
        foreman = None if opened is None else opened._foreman()
        del opened
        while foreman is not None and (hired := foreman.next()) is not None:
            self._employ(*hired)
            del hired

    def _employ(self, number: int, worker: Worker) -> None:
        found = self._calls.get(number)
        if found is None:
            return
        queue, call = found
        try:
            self._start(f"libmq-{queue}", partial(work, worker, queue, call))
        except Exception as error:
            # Dropped, the worker has left, and the core hires another one in a second. The error itself is not for a
            # log, which may keep it, and the worker with it.
            if _END in str(error):
                return
            tell(logging.WARNING, "there is no thread for the handler of %s: %s", queue, text_of(error))

    def _start(self, name: str, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        self._threads.add(thread)


def work(worker: Worker, queue: str, call: Handle) -> None:
    """Handles messages until there are to be no more."""
    following = worker.next
    context = following()
    while context is not None:
        try:
            answer = Variables().run(call, context)
            if answer is not None:
                refuse_awaitable(answer)
        except BaseException as error:
            settle_attempt(worker, context, error)
        context = following()
