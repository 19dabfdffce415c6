"""What an event loop waits for of a broker: enqueues that are on their way, and messages.

Threads of Rust leave what they have done in a tray and wake the loop at a file descriptor. So no thread waits for any
of it, and a thousand enqueues that one sync has covered wake the loop once.
"""

import asyncio
import collections
import itertools
import threading
from contextvars import ContextVar

from libmq._durations import Duration
from libmq._errors import ClosedError
from libmq._native import Broker, Delivery, Receipt, Tray, Watch, check_duration

of_handler: ContextVar[object] = ContextVar("libmq_of_handler", default=None)
"""Where an async handler, and what it has started, is run: the hall of its broker. None for all else."""


class Desks:
    """The desks of a broker, one for each loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._desks: dict[asyncio.AbstractEventLoop, Desk] = {}

    def here(self, broker: Broker) -> "Desk":
        """The desk of the loop that runs."""
        loop = asyncio.get_running_loop()
        desk = self._desks.get(loop)
        if desk is not None and not desk.gone:
            return desk
        with self._lock:
            desk = self._desks.get(loop)
            if desk is None or desk.gone:
                # One that has ended keeps what it waited for.
                for other in [other for other in self._desks if other.is_closed()]:
                    del self._desks[other]
                desk = self._desks[loop] = Desk(broker, loop)
            return desk


class Desk:
    """Belongs to one loop, and is used on it alone. It does not keep the broker."""

    def __init__(self, broker: Broker, loop: asyncio.AbstractEventLoop) -> None:
        self.tray = Tray()
        self.gone = False
        """The broker is closed; nothing more will come."""
        self._loop = loop
        self._numbers = itertools.count(1)
        self._enqueues: dict[int, asyncio.Future[Receipt]] = {}
        self._rounds: dict[int, list[asyncio.Future[object]]] = {}
        self._lines: dict[str, Line] = {}
        self._by_number: dict[int, Line] = {}
        broker._tell_of_end(self.tray)
        loop.add_reader(self.tray.fileno(), self._look)

    def number(self) -> int:
        """The number of an enqueue that is about to begin."""
        return next(self._numbers)

    def expect(self, number: int) -> "asyncio.Future[Receipt]":
        """What is done when an enqueue that could not begin has reached its durability. To be forgotten in any case."""
        done: asyncio.Future[Receipt] = self._loop.create_future()
        self._enqueues[number] = done
        return done

    def round(self, number: int) -> "asyncio.Future[object]":
        """What is done when a round of enqueues has reached its durability; it brings what failed, if anything."""
        done: asyncio.Future[object] = self._loop.create_future()
        together = self._rounds.get(number)
        if together is None:
            self._rounds[number] = [done]
        else:
            together.append(done)
        return done

    def forget(self, number: int) -> None:
        """Nobody waits for this enqueue any more."""
        self._enqueues.pop(number, None)
        self._leave_if_gone()

    async def receive(
        self, broker: Broker, queue: str, timeout: Duration | None, lease: Duration | None
    ) -> Delivery | None:
        """Takes the next message, and waits for one; first come first served."""
        time = None if timeout is None else check_duration("timeout", timeout)
        if time == 0 or queue not in self._lines:
            found = broker.receive(queue, 0, lease)
            if found is not None or time == 0:
                return found
        line = self._lines.get(queue)
        if line is None:
            number = next(self._numbers)
            line = self._lines[queue] = Line(broker._watch(queue, self.tray, number), number)
            self._by_number[number] = line
        try:
            return await self._stand(line, broker, queue, time, lease)
        finally:
            if not line.waiters:
                self._lines.pop(queue, None)
                self._by_number.pop(line.number, None)

    async def _stand(
        self, line: "Line", broker: Broker, queue: str, time: float | None, lease: Duration | None
    ) -> Delivery | None:
        waiter = Waiter(self._loop)
        line.waiters.append(waiter)
        timer = None if time is None else self._loop.call_later(time, waiter.expire)
        found = None
        try:
            if line.waiters[0] is waiter:
                # What came before it was watched for.
                found = broker.receive(queue, 0, lease)
            while found is None and not waiter.expired:
                if self.tray.over:
                    raise ClosedError("the program is ending, so nobody waits for messages any more")
                await waiter.turn
                waiter.turn = self._loop.create_future()
                found = broker.receive(queue, 0, lease)
            return found
        finally:
            if timer is not None:
                timer.cancel()
            line.waiters.remove(waiter)
            # It may have been its turn, and there may be more.
            line.wake()

    def _look(self) -> None:
        for number, value in self.tray.take():
            together = self._rounds.pop(number, None)
            if together is not None:
                for one in together:
                    if not one.done():
                        one.set_result(value)
                continue
            done = self._enqueues.get(number)
            if done is None:
                if (line := self._by_number.get(number)) is not None:
                    line.watch.listen()
                    line.wake()
                continue
            if done.done():
                continue
            if isinstance(value, BaseException):
                done.set_exception(value)
            elif value is not None:
                done.set_result(value)
        self.gone = self.tray.gone
        if self.tray.over:
            for line in self._lines.values():
                for waiter in line.waiters:
                    waiter.wake()
        self._leave_if_gone()

    def _leave_if_gone(self) -> None:
        """Looks no more where nothing will come, not even for an enqueue that was on its way when the program ended."""
        if self.gone and not self._enqueues and not self._rounds and not self._loop.is_closed():
            self._loop.remove_reader(self.tray.fileno())


class Waiter:
    """One who waits for a message."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.turn: asyncio.Future[None] = loop.create_future()
        self.expired = False

    def wake(self) -> None:
        """Has it look."""
        if not self.turn.done():
            self.turn.set_result(None)

    def expire(self) -> None:
        """Has it look for the last time."""
        self.expired = True
        self.wake()


class Line:
    """Those who wait for the messages of a queue."""

    def __init__(self, watch: Watch, number: int) -> None:
        self.watch = watch
        self.number = number
        self.waiters: collections.deque[Waiter] = collections.deque()

    def wake(self) -> None:
        """Has the first one look; who finds something has the next one look."""
        if self.waiters:
            self.waiters[0].wake()
