"""A broker that is the program's purpose: started, and stopped by a signal."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Any, Protocol

from libmq import _native
from libmq._native import Bell, Interrupt, check_duration
from libmq.errors import Error, InvalidError, TimeoutError
from libmq.hall import Hall

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class _Startable(Protocol):
    def start(self) -> None: ...
    def _stop_without_grace(self, timeout: float | timedelta) -> None: ...
    def _stop_now(self) -> None: ...
    def wait_idle(self, timeout: float | timedelta | None = None) -> bool: ...


class _Ends(Protocol):
    """What waits for the end of a broker."""

    def ring(self) -> None: ...


class _Signalled(BaseException):
    """Raised by a signal's handler where `run` waits, and nowhere else."""


class Run:
    """Whoever is in `run`, and what ends it."""

    def __init__(self, stopped: Callable[[], None]) -> None:
        self._stopped = stopped
        self._waiting: list[_Ends] = []

    def ended(self) -> None:
        """The broker was stopped: whoever runs it has nothing to wait for."""
        self._stopped()
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

    async def arun(
        self,
        broker: _native.Broker,
        hall: Hall,
        until_idle: bool,
        with_signals: bool,
        stop_timeout: float | timedelta,
    ) -> None:
        """As `run`, for a loop, which runs the async handlers unless another one does already."""
        if with_signals and threading.current_thread() is not threading.main_thread():
            raise InvalidError(
                "arun can install signal handlers in the main thread only: install_signal_handlers=False"
            )
        check_duration("stop_timeout", stop_timeout)
        loop = asyncio.get_running_loop()
        end = _LoopBell(loop)
        takes_over = not hall.is_taken
        with _LoopSignals(loop, _SIGNALS if with_signals else (), end) as signals:
            async with hall.here(broker) if takes_over else contextlib.nullcontext():
                stop = _Stop(loop, broker, stop_timeout, self.ending)
                try:
                    broker.start()
                    await self._wait_on_loop(broker, until_idle, end)
                except GeneratorExit:
                    # The loop was left in the middle: there is nothing that could be waited for.
                    stop.force()
                    stop.begin()
                    raise
                except BaseException:
                    await stop.end(signals)
                    raise
                await stop.end(signals)

    async def _wait_on_loop(self, broker: _native.Broker, until_idle: bool, end: "_LoopBell") -> None:
        self._waiting.append(end)
        interrupt = Interrupt()
        try:
            if until_idle:
                idle = _Aside(end.loop, lambda: interrupt.wait_idle(broker))
                await asyncio.wait((idle.done, end.rung), return_when=asyncio.FIRST_COMPLETED)
                if idle.done.done():
                    idle.done.result()
            else:
                await end.rung
        finally:
            self._waiting.remove(end)
            interrupt.set(broker)

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


class _LoopBell:
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


class _LoopSignals:
    """Signals that are heard by a loop, until they are as they were before."""

    def __init__(self, loop: asyncio.AbstractEventLoop, numbers: Iterable[signal.Signals], end: _LoopBell) -> None:
        self.loop = loop
        self.forced = False
        self._numbers = numbers
        self._end = end
        self._before: dict[signal.Signals, Any] = {}
        self._count = 0
        self._force: Callable[[], None] | None = None

    def __enter__(self) -> "_LoopSignals":
        for number in self._numbers:
            before = signal.getsignal(number)
            self.loop.add_signal_handler(number, self._take)
            self._before[number] = before
        return self

    def __exit__(self, *raised: object) -> None:
        for number, handler in self._before.items():
            # A loop that was left in the middle may be collected anywhere, where no signals can be set.
            with contextlib.suppress(ValueError, RuntimeError):
                self.loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def force_with(self, force: Callable[[], None]) -> None:
        """What the second signal does."""
        self._force = force
        if self._count > 1:
            self._take_second(force)

    def _take(self) -> None:
        self._count += 1
        if self._count == 1:
            self._end.ring()
        elif self._force is not None:
            self._take_second(self._force)

    def _take_second(self, force: Callable[[], None]) -> None:
        if not self.forced:
            self.forced = True
            force()


class _Stop:
    """A stop of a broker beside a loop. Its thread is there from the beginning: at the end of the program there are no
    new ones.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        broker: _native.Broker,
        timeout: float | timedelta,
        ending: Callable[[], contextlib.AbstractContextManager[None]],
    ) -> None:
        self._broker = broker
        self._timeout = timeout
        self._ending = ending
        self._begin = Bell()
        self._interrupt = Interrupt()
        self._aside = _Aside(loop, self._stop)

    def _stop(self) -> None:
        self._begin.wait()
        with self._ending():
            self._interrupt.stop(self._broker, self._timeout)

    def begin(self) -> None:
        """Has it begin."""
        self._begin.ring()

    def force(self) -> None:
        """Has it wait for nobody."""
        self._interrupt.set(self._broker)
        self._interrupt.set(self._broker)

    async def end(self, signals: _LoopSignals) -> None:
        """Stops. A second signal, and whoever cancels this, is in a hurry."""
        signals.force_with(self.force)
        self.begin()
        cancelled = None
        while not self._aside.done.done():
            try:
                await asyncio.wait((self._aside.done,))
            except asyncio.CancelledError as error:
                cancelled = error
                self.force()
        with contextlib.suppress(*((TimeoutError,) if signals.forced or cancelled else ())):
            self._aside.done.result()
        if cancelled is not None:
            raise cancelled


class _Aside:
    """A call that waits, on a thread of its own beside a loop."""

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
