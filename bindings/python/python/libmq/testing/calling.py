"""Running one handler on one body, in the thread that asks.

The message is a real one, received from a broker in memory; so what the handler enqueues with its context is checked as
always, and commits with its return. The handler is called as a broker calls it, with its body read and its dependencies
made, and what it raises is raised here.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextvars import Context as Variables
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from libmq._calling import Call, call_of, refuse_awaitable
from libmq._durations import Duration
from libmq._errors import InvalidError
from libmq._native import Context, Delivery, Message, check_duration
from libmq._outcomes import Cancelled
from libmq.testing.looking import Enqueued, waiting

if TYPE_CHECKING:
    from libmq.testing.broker import TestBroker

CancelReason = Literal["timeout", "shutdown", "cancelled", "lease_lost"]

_QUEUE = "libmq.testing"
"""Where the message is while its handler runs."""


class CallContext:
    """What a handler sees as its `libmq.Context` in a call: all that one has. Cancellation is said by the test."""

    def __init__(self, delivery: Delivery, queue: str, attempt: int, reason: CancelReason | None) -> None:
        self._delivery = delivery
        self._reason: CancelReason | None = reason
        self.queue = queue
        self.attempt = attempt
        self.scope: Any = None

    def __getattr__(self, name: str) -> Any:
        # The rest is that of the delivery; settling is the handler's return.
        if name in ("ack", "retry", "reject", "release", "_delivery"):
            raise AttributeError(name)
        return getattr(self._delivery, name)

    @property
    def cancelled(self) -> bool:
        """Whether the attempt is cancelled."""
        return self._reason is not None

    @property
    def cancel_reason(self) -> CancelReason | None:
        """Why the attempt is cancelled, if it is."""
        return self._reason

    def wait_cancelled(self, seconds: Duration | None = None) -> bool:
        """Answers at once, since nobody cancels it later: whether the attempt is cancelled."""
        if seconds is not None:
            check_duration("seconds", seconds)
        elif not self.cancelled:
            raise AssertionError("the handler waits for its cancellation for ever: call it with cancelled=")
        return self.cancelled

    def raise_if_cancelled(self) -> None:
        """Raises Cancelled if the attempt is cancelled."""
        if self._reason is not None:
            raise Cancelled(self._reason)

    def _set_scope(self, scope: object) -> Any:
        before, self.scope = self.scope, scope
        return before


def call(
    handler: Callable[..., object],
    body: object = None,
    *,
    queue: str = "test",
    attempt: int = 1,
    headers: Mapping[str, str] | None = None,
    correlation_id: str | None = None,
    content_type: str | None = None,
    cancelled: CancelReason | None = None,
    scope: Callable[..., Any] | None = None,
    override: Mapping[Callable[..., Any], Callable[..., Any]] | None = None,
) -> list[Enqueued]:
    """Runs a handler on a body, as a broker would, and answers what it has enqueued with its context.

    The handler is whatever `Broker.handler` takes. An async one runs to its end on an event loop of its own; on a loop
    use `acall`.

    Args:
        handler: A function, an object or a class that handles messages.
        body: As for `enqueue`.
        queue: What `ctx.queue` is.
        attempt: What `ctx.attempt` is.
        headers: As for `enqueue`.
        correlation_id: As for `enqueue`.
        content_type: As for `enqueue`.
        cancelled: The attempt is cancelled from the beginning, for this reason.
        scope: As for `Broker.handler`.
        override: What dependencies are replaced by.

    Raises:
        BaseException: What the handler raised: a `Retry`, `Reject` or `Release`, too. Nothing was enqueued then.
        DecodeError: The body is not what the handler asks for.
        InvalidError: No attempt is cancelled for that reason.
        TypeError: As `Broker.handler`, and where the body has no form in JSON.
    """
    from libmq.testing.broker import open

    with open(scope=scope) as broker:
        message = Message(body, headers=headers, correlation_id=correlation_id, content_type=content_type)
        call_on(broker, handler, message, queue, attempt, cancelled, override or {})
        return waiting(broker)


async def acall(
    handler: Callable[..., object],
    body: object = None,
    *,
    queue: str = "test",
    attempt: int = 1,
    headers: Mapping[str, str] | None = None,
    correlation_id: str | None = None,
    content_type: str | None = None,
    cancelled: CancelReason | None = None,
    scope: Callable[..., Any] | None = None,
    override: Mapping[Callable[..., Any], Callable[..., Any]] | None = None,
) -> list[Enqueued]:
    """As `call`, on the event loop that runs, where an async handler runs as a part of the test's own task."""
    from libmq.testing.broker import open

    # Not `async with`, which closes on a thread: nothing is to be waited for.
    with open(scope=scope) as broker:
        message = Message(body, headers=headers, correlation_id=correlation_id, content_type=content_type)
        await acall_on(broker, handler, message, queue, attempt, cancelled, override or {})
        return waiting(broker)


Overridden = Mapping[Callable[..., Any], Callable[..., Any]]


def call_on(
    broker: "TestBroker",
    handler: Callable[..., object],
    message: Message,
    queue: str,
    attempt: int,
    cancelled: CancelReason | None,
    override: Overridden,
) -> None:
    """Runs a handler for a message of this broker's."""
    with _attempt(broker, handler, message, queue, attempt, cancelled, override) as (its, context):
        if its.waits:
            if asyncio._get_running_loop() is not None:
                raise TypeError("the handler is async, and a loop runs here: await acall")
            with asyncio.Runner() as runner:
                runner.run(its.run(context), context=Variables())
        elif (answer := Variables().run(its.run, context)) is not None:
            refuse_awaitable(answer)


async def acall_on(
    broker: "TestBroker",
    handler: Callable[..., object],
    message: Message,
    queue: str,
    attempt: int,
    cancelled: CancelReason | None,
    override: Overridden,
) -> None:
    """The same on the loop that runs."""
    with _attempt(broker, handler, message, queue, attempt, cancelled, override) as (its, context):
        if its.waits:
            await its.run(context)
        elif (answer := Variables().run(its.run, context)) is not None:
            refuse_awaitable(answer)


@contextlib.contextmanager
def _attempt(
    broker: "TestBroker",
    handler: Callable[..., object],
    message: Message,
    queue: str,
    attempt: int,
    cancelled: CancelReason | None,
    override: Overridden,
) -> Iterator[tuple[Call, Context]]:
    if cancelled is not None and cancelled not in get_args(CancelReason):
        raise InvalidError(f"cancelled takes {' or '.join(get_args(CancelReason))}")
    its = call_of(handler, broker._providers, broker._scope)
    with contextlib.ExitStack() as restored:
        for dependency, fake in override.items():
            restored.enter_context(broker.override(dependency, fake))
        broker.enqueue_many(_QUEUE, [message])
        delivery = broker.receive(_QUEUE, 0)
        assert delivery is not None, "the broker is paused, or somebody else receives from libmq.testing"
        try:
            yield its, cast(Context, CallContext(delivery, queue, attempt, cancelled))
        except BaseException:
            # It leaves nothing, in the dead letters neither.
            delivery.release()
            broker.purge(_QUEUE)
            raise
        delivery.ack()
