"""Calls that wait, beside an event loop, which goes on meanwhile."""

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable

from libmq._errors import Error
from libmq._native import Bell
from libmq._settling import tell, text_of
from libmq._signals import Hurry


class LoopBell:
    """Ends a wait on a loop, from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.rung: asyncio.Future[None] = loop.create_future()

    def ring(self) -> None:
        """Ends the wait."""
        # A loop that has ended waits for nothing.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._ring)

    def _ring(self) -> None:
        if not self.rung.done():
            self.rung.set_result(None)


class Aside:
    """A call on a thread of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
        self.done: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._call = call
        threading.Thread(target=self._work, name="libmq-aside", daemon=True).start()

    def _work(self) -> None:
        raised = None
        try:
            self._call()
        except BaseException as error:
            raised = error
        # A loop that has ended waits for nothing.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._tell, raised)

    def _tell(self, raised: BaseException | None) -> None:
        if self.done.done():
            return
        if raised is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(raised)


class Ending:
    """A stop or a close of a broker. Its thread is there from the beginning: at the end of the program there are no new
    ones.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, hurry: Hurry, end: Callable[[], None]) -> None:
        self.loop = loop
        self._hurry = hurry
        self._end = end
        self._begin = Bell()
        self._pid = os.getpid()
        self._aside = Aside(loop, self._work)

    def _work(self) -> None:
        self._begin.wait()
        self._end()

    async def end(self) -> None:
        """Has it begin, and waits for it. Whoever cancels this is in a hurry, and is told of nothing but that."""
        if os.getpid() != self._pid:
            # A forked child has not this thread, and what it ends is its parent's.
            return
        self._begin.ring()
        cancelled = None
        while not self._aside.done.done():
            try:
                await asyncio.wait((self._aside.done,))
            except asyncio.CancelledError as error:
                cancelled = error
                self._hurry.set()
        if cancelled is None:
            self._aside.done.result()
        else:
            self._log_what_it_raised()
            raise cancelled

    async def end_cancelled(self) -> None:
        """The same for who was cancelled before, and raises that."""
        try:
            await self.end()
        except Error:
            self._log_what_it_raised()

    def _log_what_it_raised(self) -> None:
        error = self._aside.done.exception()
        if error is not None:
            tell(logging.WARNING, "a broker was ended for a cancelled task, and raised %s", text_of(error))

    def leave(self) -> None:
        """Has it begin, and hurry, for a loop that was left in the middle: there is nothing that could wait for it."""
        self._hurry.set()
        self._begin.ring()
