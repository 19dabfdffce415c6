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
    """Takes signals, until they are as they were before, whoever of those that take them ends first."""

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
            signal.signal(number, self._hear)
        _taking.append(self)
        return self

    def __exit__(self, *raised: object) -> None:
        _taking.remove(self)
        for number, handler in self._before.items():
            later = next((other for other in _taking if other._before.get(number) == self._hear), None)
            if later is not None:
                later._before[number] = handler
                continue
            # A loop that was left in the middle may be collected anywhere, where no signals can be set.
            with contextlib.suppress(ValueError):
                # None is a handler that was not installed by Python, and cannot be by it.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._calls:
            self._calls.pop()()


class SharedSignals(Signals):
    """Takes signals beside a loop. A handler that the program or the loop has for them, as of a server whose loop it
    is, hears them as well: it would wait for ever for what it was not told.

    That of the loop stays where it is, and the loop calls it: a loop cannot be asked for it, to put it there again.
    """

    def _hear(self, number: int, frame: FrameType | None) -> None:
        super()._hear(number, frame)
        handler = self._before[signal.Signals(number)]
        if callable(handler) and handler is not signal.default_int_handler and not _is_of_runner(handler):
            handler(number, frame)


_taking: list[Signals] = []
"""Those that take signals now. On the main thread alone."""


def _is_of_runner(handler: Any) -> bool:
    """Whether a handler is that of `asyncio.run`, which cancels the main task at a Ctrl-C, as if nobody took it."""
    return isinstance(getattr(getattr(handler, "func", None), "__self__", None), asyncio.Runner)
