"""A broker for tests: a real one, in memory, with a clock that stands still."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Unpack

from libmq import _opening
from libmq._broker import Broker
from libmq._durations import Duration
from libmq._native import Message, check_duration
from libmq._options import InMemoryOptions
from libmq.testing.calling import CancelReason, acall_on, call_on
from libmq.testing.draining import Drained, Draining
from libmq.testing.looking import ADVANCE_S_MAX, Enqueued, listed, matches, waiting, wish


def open(**options: Unpack[InMemoryOptions]) -> "TestBroker":
    """A broker in memory whose clock stands still until it is moved. Takes the options of `libmq.open` but for the
    path, `durability` and `clock`.
    """
    for fixed in ("path", "durability", "clock"):
        if fixed in options:
            raise TypeError(f"{fixed} cannot be given: this broker is in memory, and its clock stands still")
    fixed_ones: dict[str, Any] = {"clock": "manual", "segment_bytes": 64 << 10}
    return _opening.opened(TestBroker, _opening.bound(":memory:", **fixed_ones | options))


class TestBroker(Broker):
    """A broker that can be looked into, and run until there is nothing to do. Made by `open`, or had as the fixture
    `libmq_broker`.
    """

    __test__ = False
    """It is no test, whatever its name begins with."""

    _is_started = False

    def start(self) -> None:
        """Starts to call handlers, as always; `drain` then leaves it started."""
        super().start()
        self._is_started = True

    def stop(self, timeout: Duration = 25) -> None:
        """Stops calling handlers, as always."""
        self._is_started = False
        super().stop(timeout)

    def drain(self, *, advance: bool | Duration = False, timeout: Duration = 10) -> Drained:
        """Runs everything that is due, and what comes of it, until nothing is left that a handler would be called for.

        A broker that was not started is started for it, and stopped. Async handlers run on a thread of libmq; on a loop
        use `adrain`, which has them run there.

        Args:
            advance: Moves the clock, too, over delays and backoffs of queues that have handlers: as far as it takes, or
                this far at most. What is due is met at most a sixteenth of its wait late. Not over the `timeout` of a
                handler, which is for `advance` while it runs.
            timeout: How long all of it may take, by a clock on the wall.

        Raises:
            AssertionError: There was still something to do after `timeout`; it says what.
            ClosedError, InvalidError, TypeError.
        """
        __tracebackhide__ = True
        work, far, time = Draining(self), _seconds(advance), check_duration("timeout", timeout)
        was_started = self._is_started
        if not was_started:
            self.start()
        try:
            return work.run(far, time)
        finally:
            if not was_started:
                # Handlers that still run are told by now.
                with contextlib.suppress(TimeoutError):
                    self.stop(0)

    async def adrain(self, *, advance: bool | Duration = False, timeout: Duration = 10) -> Drained:
        """As `drain`, without holding up the event loop, on which the async handlers run meanwhile, unless the broker
        was started before: then they stay on their thread.
        """
        __tracebackhide__ = True
        work, far, time = Draining(self), _seconds(advance), check_duration("timeout", timeout)
        if self._is_started:
            return await asyncio.to_thread(work.run, far, time)
        running = asyncio.create_task(self.arun(install_signal_handlers=False, stop_timeout=0))
        # So that it is started, and what is looked at is what it does.
        await asyncio.sleep(0)
        try:
            return await asyncio.to_thread(work.run, far, time)
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            self._is_started = False

    def enqueued(self, queue: str, /, *body: object, **fields: object) -> list[Enqueued]:
        """What waits in a queue or is in flight there, in the order in which it would be handed out: delayed messages
        last, as they come due.

        Args:
            queue: The queue.
            body: Only what has this whole body.
            fields: Only what has these values in the object that is its body.

        Raises:
            InvalidError: No queue can be called so.
            ClosedError, TypeError.
        """
        self._check_wish(queue, body)
        return [one for one in waiting(self) if one.queue == queue and matches(one, body, fields)]

    def assert_enqueued(
        self, queue: str, /, *body: object, count: int | None = None, **fields: object
    ) -> list[Enqueued]:
        """Asserts that a queue has such a message, and answers those it has. What was handled is not there any more.

        Values are compared as a handler would get them, so that a tuple is a list; what is equal to anything, as
        `unittest.mock.ANY`, may be among them. A field that is called `count` is looked for within a whole body.

        Args:
            queue: The queue.
            body: The whole body, if given.
            count: Exactly so many; None for at least one.
            fields: Values in the object that is the body.

        Raises:
            AssertionError: There is none, or another number of them; it lists what is there.
            InvalidError: No queue can be called so.
            ClosedError, TypeError.
        """
        __tracebackhide__ = True
        self._check_wish(queue, body)
        there = waiting(self)
        found = [one for one in there if one.queue == queue and matches(one, body, fields)]
        if count is None and found:
            return found
        if count is not None and len(found) == count:
            return found
        wanted = "no message" if count is None else f"{len(found)} and not {count} messages"
        raise AssertionError(f"{wanted} in {queue}{wish(body, fields)}\n{listed(there, queue)}")

    def _check_wish(self, queue: str, body: tuple[object, ...]) -> None:
        """Refuses what is in no broker, and so would be missed by every test."""
        self._check_handler(queue, {})
        if len(body) > 1:
            raise TypeError("one body is looked for")

    def call(
        self,
        handler: Callable[..., object],
        body: object = None,
        *,
        queue: str = "test",
        attempt: int = 1,
        headers: Mapping[str, str] | None = None,
        correlation_id: str | None = None,
        content_type: str | None = None,
        cancelled: CancelReason | None = None,
    ) -> None:
        """Runs a handler on a body, as `libmq.testing.call`, with this broker's scope and overrides; what it enqueues
        is enqueued here. No other handler is called.
        """
        message = Message(body, headers=headers, correlation_id=correlation_id, content_type=content_type)
        call_on(self, handler, message, queue, attempt, cancelled, {})

    async def acall(
        self,
        handler: Callable[..., object],
        body: object = None,
        *,
        queue: str = "test",
        attempt: int = 1,
        headers: Mapping[str, str] | None = None,
        correlation_id: str | None = None,
        content_type: str | None = None,
        cancelled: CancelReason | None = None,
    ) -> None:
        """As `call`, on the event loop that runs."""
        message = Message(body, headers=headers, correlation_id=correlation_id, content_type=content_type)
        await acall_on(self, handler, message, queue, attempt, cancelled, {})


def _seconds(advance: bool | Duration) -> float:
    if isinstance(advance, bool):
        return ADVANCE_S_MAX if advance else 0.0
    return check_duration("advance", advance)
