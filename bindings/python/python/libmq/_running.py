"""A broker that is the program's purpose: started, and stopped by a signal."""

import asyncio
import contextlib
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from libmq import _leaving, _native
from libmq._aside import Aside, Ending, LoopBell
from libmq._durations import Duration
from libmq._errors import ClosedError, Error, InvalidError, TimeoutError
from libmq._hall import Hall
from libmq._native import Bell, Interrupt, check_duration
from libmq._signals import ENDING, Hurry, SharedSignals, Signals


class _End(Protocol):
    """What ends a wait."""

    def ring(self) -> None: ...


class _Idle:
    """Waits until there is nothing to do, or it is rung."""

    def __init__(self, broker: _native.Broker) -> None:
        self._broker = broker
        self._interrupt = Interrupt()

    def ring(self) -> None:
        self._interrupt.set(self._broker)

    def wait(self) -> None:
        # Closed by somebody else, it has ended.
        with contextlib.suppress(ClosedError):
            self._broker._wait_idle(self._interrupt)


class Run:
    """Whoever is in `run`, and what ends it."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall
        self._waiting: list[_End] = []

    def ended(self) -> None:
        """The broker was stopped: whoever runs it has nothing to wait for."""
        self._hall.stopped()
        for end in tuple(self._waiting):
            end.ring()

    @contextmanager
    def ending(self, broker: _native.Broker) -> Generator[None, None, None]:
        """Around what stops the broker; unless it is refused, it has stopped, whatever it raises."""
        try:
            yield
        except (TypeError, InvalidError):
            raise
        except BaseException as error:
            if not isinstance(error, Error) or error.code != "DEADLOCK":
                self._end(broker)
            raise
        self._end(broker)

    def _end(self, broker: _native.Broker) -> None:
        self.ended()
        _leaving.let_go(broker)

    def run(self, broker: _native.Broker, until_idle: bool, with_signals: bool, stop_timeout: Duration) -> None:
        """Starts, waits, and stops."""
        _check("run", with_signals, stop_timeout)
        end, hurry = _Idle(broker) if until_idle else Bell(), Hurry(broker)
        with Signals(ENDING if with_signals else (), end.ring, hurry.set):
            try:
                broker.start()
                with self._ended_by(end):
                    end.wait()
            finally:
                self._drain(broker, stop_timeout, hurry)

    async def arun(self, broker: _native.Broker, until_idle: bool, with_signals: bool, stop_timeout: Duration) -> None:
        """As `run`, for a loop, which runs the async handlers unless another one does already."""
        _check("arun", with_signals, stop_timeout)
        loop = asyncio.get_running_loop()
        end, hurry = LoopBell(loop), Hurry(broker)
        takes_over = not self._hall.is_taken
        with SharedSignals(ENDING if with_signals else (), end.ring, hurry.set):
            async with self._hall.here(broker) if takes_over else contextlib.nullcontext():
                stop = Ending(loop, hurry, lambda: self._drain(broker, stop_timeout, hurry))
                try:
                    broker.start()
                    with self._ended_by(end):
                        await _rest(broker, until_idle, end)
                except GeneratorExit:
                    stop.leave()
                    raise
                except asyncio.CancelledError:
                    await stop.end_cancelled()
                    raise
                except BaseException:
                    await stop.end()
                    raise
                await stop.end()

    @contextmanager
    def _ended_by(self, end: _End) -> Generator[None, None, None]:
        self._waiting.append(end)
        try:
            yield
        finally:
            self._waiting.remove(end)

    def _drain(self, broker: _native.Broker, timeout: Duration, hurry: Hurry) -> None:
        """Stops at the end of a run. What somebody else has closed meanwhile is stopped, and handlers that ended within
        their grace have ended in order.
        """
        with contextlib.suppress(ClosedError):
            before = _cut_off(broker)
            try:
                with self.ending(broker):
                    broker._stop(timeout, hurry.interrupt)
            except TimeoutError:
                count = _cut_off(broker) - before
                # In a hurry that was asked for.
                if count and not hurry.is_set:
                    raise TimeoutError(
                        f"{count} of the handlers ran on beyond their grace, and what they held was given back; the "
                        "broker is stopped all the same"
                    ) from None


def _cut_off(broker: _native.Broker) -> int:
    """How many handlers have run on beyond their grace so far."""
    return int(broker._metrics()["stuck"])


def _check(call: str, with_signals: bool, stop_timeout: Duration) -> None:
    if with_signals and threading.current_thread() is not threading.main_thread():
        raise InvalidError(f"{call} can install signal handlers in the main thread only: install_signal_handlers=False")
    check_duration("stop_timeout", stop_timeout)


async def _rest(broker: _native.Broker, until_idle: bool, end: LoopBell) -> None:
    """Waits until it is rung, or there is nothing to do."""
    if not until_idle:
        await end.rung
        return
    idle = _Idle(broker)
    try:
        aside = Aside(end.loop, idle.wait)
        await asyncio.wait((aside.done, end.rung), return_when=asyncio.FIRST_COMPLETED)
        if aside.done.done():
            aside.done.result()
    finally:
        idle.ring()
