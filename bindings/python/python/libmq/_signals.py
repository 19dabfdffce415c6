"""Signals while a broker runs: the first ends the run, and the second whatever that waits for then.

No handler raises: it ends a wait, also one that has not begun, so that it matters nowhere in what code a signal comes.
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, Self

from libmq import _native
from libmq._native import Interrupt

ENDING = (signal.SIGTERM, signal.SIGINT)
"""The signals that end a run."""


class Hurry:
    """Ends a stop or a close at once: handlers are cancelled, and what they hold is taken."""

    def __init__(self, broker: _native.Broker) -> None:
        self.interrupt = Interrupt(urgent=True)
        self.is_set = False
        self._broker = broker

    def set(self) -> None:
        """From now on, also for what has not begun."""
        self.is_set = True
        self.interrupt.set(self._broker)


class Signals:
    """Takes signals, until they are as they were before."""

    def __init__(
        self, numbers: Iterable[signal.Signals], first: Callable[[], None], second: Callable[[], None]
    ) -> None:
        self._numbers = numbers
        self._calls = [second, first]
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in self._numbers:
            # What it was is known before it is changed.
            self._before[number] = signal.getsignal(number)
            self._take(number)
        return self

    def __exit__(self, *raised: object) -> None:
        for number, handler in self._before.items():
            # None is a handler that was not installed by Python, and cannot be by it.
            self._give_back(number, signal.SIG_DFL if handler is None else handler)

    def _take(self, number: signal.Signals) -> None:
        signal.signal(number, self._hear)

    def _give_back(self, number: signal.Signals, handler: Any) -> None:
        signal.signal(number, handler)

    def _hear(self, number: int = 0, frame: FrameType | None = None) -> None:
        if self._calls:
            self._calls.pop()()


class LoopSignals(Signals):
    """Takes signals on a loop, in place of handlers that the loop has for them. A handler of the program's own, as of a
    server whose loop it is, hears them as well: it would wait for ever for what it was not told.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        numbers: Iterable[signal.Signals],
        first: Callable[[], None],
        second: Callable[[], None],
    ) -> None:
        super().__init__(numbers, first, second)
        self._loop = loop

    def _take(self, number: signal.Signals) -> None:
        self._loop.add_signal_handler(number, self._hear_first, number)

    def _hear_first(self, number: signal.Signals) -> None:
        self._hear()
        handler = self._before[number]
        if callable(handler) and handler is not signal.default_int_handler and not _is_of_runner(handler):
            handler(number, None)

    def _give_back(self, number: signal.Signals, handler: Any) -> None:
        # A loop that was left in the middle may be collected anywhere, where no signals can be set.
        with contextlib.suppress(ValueError, RuntimeError):
            self._loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _is_of_runner(handler: Any) -> bool:
    """Whether a handler is that of `asyncio.run`, which cancels the main task at a Ctrl-C, as if nobody took it."""
    return isinstance(getattr(getattr(handler, "func", None), "__self__", None), asyncio.Runner)
