"""A broker that is the program's purpose: started, and stopped by a signal."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Any, Protocol

from libmq._native import Bell, check_duration
from libmq.errors import Error, InvalidError

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class _Startable(Protocol):
    def start(self) -> None: ...
    def _stop_without_grace(self, timeout: float | timedelta) -> None: ...
    def _stop_now(self) -> None: ...
    def wait_idle(self, timeout: float | timedelta | None = None) -> bool: ...


class _Signalled(BaseException):
    """Raised by a signal's handler where `run` waits, and nowhere else."""


class Run:
    """Whoever is in `run`, and what ends it."""

    def __init__(self) -> None:
        self._waiting: list[Bell] = []

    def ended(self) -> None:
        """The broker was stopped: whoever runs it has nothing to wait for."""
        for end in tuple(self._waiting):
            end.ring()

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Around what stops the broker; unless it is refused, it has stopped, whatever it raises."""
        try:
            yield
        except (TypeError, InvalidError):
            raise
        except BaseException as error:
            if not isinstance(error, Error) or error.code != "DEADLOCK":
                self.ended()
            raise
        self.ended()

    def run(self, broker: _Startable, until_idle: bool, with_signals: bool, stop_timeout: float | timedelta) -> None:
        """Starts, waits, and stops."""
        if with_signals and threading.current_thread() is not threading.main_thread():
            raise InvalidError("run can install signal handlers in the main thread only: install_signal_handlers=False")
        check_duration("stop_timeout", stop_timeout)
        with _Signals(_SIGNALS if with_signals else ()) as signals:
            try:
                broker.start()
                signals.end(lambda: self._wait(broker, until_idle))
            finally:
                if signals.end(lambda: broker._stop_without_grace(stop_timeout)):
                    broker._stop_now()

    def _wait(self, broker: _Startable, until_idle: bool) -> None:
        if until_idle:
            broker.wait_idle()
            return
        end = Bell()
        self._waiting.append(end)
        try:
            end.wait()
        finally:
            self._waiting.remove(end)


class _Signals:
    """Signals that end waits, until they are as they were before."""

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self._numbers = numbers
        self._before: dict[signal.Signals, Any] = {}
        self._raises = False
        self._came = False

    def __enter__(self) -> "_Signals":
        for number in self._numbers:
            self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *raised: object) -> None:
        for number, handler in self._before.items():
            # None is a handler that was not installed by Python, and cannot be by it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._raises:
            self._raises = False
            raise _Signalled
        self._came = True

    def end(self, wait: Callable[[], None]) -> bool:
        """Waits; answers whether a signal has ended it, perhaps one that came before."""
        try:
            self._raises = True
            if self._came:
                self._came = self._raises = False
                return True
            wait()
            self._raises = False
        except _Signalled:
            return True
        except BaseException:
            self._raises = False
            raise
        return False
