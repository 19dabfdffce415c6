"""Handlers: how they are called, how their attempts end, and what their context says."""

from __future__ import annotations

import contextvars
import dataclasses
import datetime
import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, TypedDict

import libmq
import pytest
from conftest import LONG


@dataclasses.dataclass
class Order:
    id: str
    count: int = 1


class Line(TypedDict):
    sku: str


def called_with(broker: libmq.Broker, handler: Callable[..., object], body: object) -> None:
    broker.handler("q", handler, max_retries=0)
    broker.start()
    broker.enqueue("q", body)
    assert broker.wait_idle(LONG)


def test_parameters_are_found_by_name_and_annotation(broker: libmq.Broker) -> None:
    seen: list[Any] = []

    def body(order: Any) -> None:
        seen.append(order)

    def body_and_ctx(order: Any, ctx: Any) -> None:
        seen.append((order, ctx.id > 0))

    def ctx_and_body(ctx: Any, order: Any) -> None:
        seen.append((order, ctx.id > 0))

    def by_annotation(c: libmq.Context, order: Any) -> None:
        seen.append((order, c.id > 0))

    def nothing() -> None:
        seen.append("nothing")

    def only_ctx(ctx: libmq.Context) -> None:
        seen.append(ctx.body)

    def keywords(*, order: Any, ctx: Any) -> None:
        seen.append((order, ctx.id > 0))

    def positional(order: Any, ctx: Any, /) -> None:
        seen.append((order, ctx.id > 0))

    def positional_ctx(ctx: Any, order: Any, /) -> None:
        seen.append((order, ctx.id > 0))

    def defaults(order: Any, times: int = 7, *rest: Any, ctx: Any = None, **more: Any) -> None:
        seen.append((order, ctx.id > 0, times, rest, more))

    def wrapper(*arguments: Any, **more: Any) -> None:
        seen.append((arguments, more))

    @functools.wraps(body_and_ctx)
    def wrapped(*arguments: Any) -> None:
        body_and_ctx(*arguments)

    @functools.wraps(only_ctx)
    def wrapped_ctx(*arguments: Any) -> None:
        only_ctx(*arguments)

    class Callable_:
        def __call__(self, order: Any, ctx: Any) -> None:
            seen.append((order, ctx.id > 0))

        def method(self, order: Any) -> None:
            seen.append(order)

    for handler, expected in (
        (body, 1),
        (body_and_ctx, (1, True)),
        (ctx_and_body, (1, True)),
        (by_annotation, (1, True)),
        (nothing, "nothing"),
        (only_ctx, 1),
        (keywords, (1, True)),
        (positional, (1, True)),
        (positional_ctx, (1, True)),
        (defaults, (1, True, 7, (), {})),
        (wrapper, ((1,), {})),
        (wrapped, (1, True)),
        (wrapped_ctx, 1),
        (Callable_(), (1, True)),
        (Callable_().method, 1),
        (functools.partial(wrapper, "bound"), (("bound", 1), {})),
        (seen.append, 1),
    ):
        seen.clear()
        called_with(broker, handler, 1)
        assert seen == [expected], handler


def test_a_body_is_read_as_annotated(broker: libmq.Broker) -> None:
    seen: list[Any] = []

    def raw(body: bytes) -> None:
        seen.append(body)

    def order(body: Order, ctx: libmq.Context) -> None:
        seen.append(body)

    def line(body: Line) -> None:
        seen.append(body)

    called_with(broker, raw, {"a": 1})
    called_with(broker, order, {"id": "x"})
    called_with(broker, order, Order("y", 2))
    called_with(broker, line, {"sku": "s"})
    assert seen == [b'{"a":1}', Order("x"), Order("y", 2), {"sku": "s"}]
    called_with(broker, order, {"ident": "x"})
    called_with(broker, order, [1])
    assert [letter.reason for letter in broker.dead_letters.list()] == ["decode", "decode"]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_body_of_another_message_is_no_fault_of_this_one(broker: libmq.Broker, is_async: bool) -> None:
    """A message was a dead letter at once where its handler had received one that did not decode."""
    attempts: list[int] = []

    def handle(body: int, ctx: libmq.Context) -> None:
        attempts.append(ctx.attempt)
        if ctx.attempt == 1:
            raise libmq.DecodeError("a file of the program's own")
        if ctx.attempt == 2:
            with broker.receive("other", 0) as other:  # type: ignore[union-attr]
                other.body  # noqa: B018

    async def ahandle(body: int, ctx: libmq.Context) -> None:
        handle(body, ctx)

    broker.enqueue("other", b"{", content_type="application/json")
    broker.handler("q", ahandle if is_async else handle)
    broker.start()
    broker.enqueue("q", 1)
    assert broker.wait_idle(LONG)
    assert attempts == [1, 2, 3]
    assert [(letter.queue, letter.reason) for letter in broker.dead_letters.list()] == [("other", "decode")]


def test_json_that_is_none_is_a_dead_letter_at_once(broker: libmq.Broker) -> None:
    broker.handler("q", lambda body: None)
    broker.start()
    bad = [b"{", b"\xff", b"NaN", b"[" * 100_000, b"1" * 5000, b"[Infinity]", b'{"a":-Infinity}']
    # Numbers that no float can hold were read as Infinity.
    bad += [b"1e999", b"-1E+400", b'{"a":[1.5e309]}', b"1" + b"0" * 400 + b".0", b"1" + b"0" * 300 + b"e9"]
    for raw in bad:
        broker.enqueue("q", raw, content_type="application/json")
    assert broker.wait_idle(LONG)
    letters = broker.dead_letters.list()
    assert [(letter.reason, letter.attempts) for letter in letters] == [("decode", 1)] * len(bad)
    with pytest.raises(libmq.DecodeError):
        letters[0].body  # noqa: B018


def test_numbers_that_a_float_can_hold(broker: libmq.Broker) -> None:
    seen: list[Any] = []
    broker.handler("q", seen.append)
    broker.start()
    for raw in (b"1e308", b"1e-999", b"0e999", b'"1e999"', b"[0.5,1E2,-3e+2]", b"1" + b"0" * 400):
        broker.enqueue("q", raw, content_type="application/json")
    assert broker.wait_idle(LONG)
    assert seen == [1e308, 0.0, 0.0, "1e999", [0.5, 100.0, -300.0], 10**400]


def test_outcomes(broker: libmq.Broker, caplog: pytest.LogCaptureFixture) -> None:
    said: list[Any] = [
        libmq.Retry(delay=0),
        libmq.Release(),
        ValueError("broken"),
        libmq.Retry(datetime.timedelta(0), error="again"),
        None,
        libmq.Reject("no good"),
    ]

    @broker.handler("q")
    def handle(body: int) -> None:
        outcome = said.pop(0)
        if outcome is not None:
            raise outcome

    broker.start()
    broker.enqueue("q", 1)
    broker.enqueue("q", 2)
    with caplog.at_level(logging.ERROR, logger="libmq"):
        assert broker.wait_idle(LONG)
    figures = broker.metrics()
    assert (figures.acked, figures.retried, figures.released, figures.rejected) == (1, 3, 1, 1)
    assert figures.handler_errors == 1
    assert [letter.reason for letter in broker.dead_letters.list()] == ["no good"]
    # What the broker tells besides comes when it comes, as a warning.
    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)


def test_the_last_error_is_kept(broker: libmq.Broker) -> None:
    @broker.handler("q", max_retries=1)
    def handle(body: int, ctx: libmq.Context) -> None:
        raise ValueError(f"attempt {ctx.attempt}")

    broker.start()
    broker.enqueue("q", 1)
    assert broker.wait_idle(LONG)
    (letter,) = broker.dead_letters.list()
    assert (letter.reason, letter.attempts) == ("max_retries", 2)
    assert letter.error.startswith("ValueError: attempt 2\n\nTraceback (most recent call last):\n")
    assert "in handle\n" in letter.error
    assert "crew.py" not in letter.error, "what libmq does is nobody's affair"


def test_children_of_a_handler_come_with_its_return_or_not_at_all(broker: libmq.Broker) -> None:
    @broker.handler("q", max_retries=1)
    def handle(body: int, ctx: libmq.Context) -> None:
        ctx.enqueue("child", {"attempt": ctx.attempt}, dedup_key="k", headers={"h": "v"})
        with pytest.raises(libmq.InvalidError):
            ctx.enqueue("no such name!", 1)
        if ctx.attempt == 1:
            raise libmq.Retry(0)

    broker.start()
    broker.enqueue("q", 1, correlation_id="c")
    assert broker.wait_idle(LONG)
    (child,) = broker.receive_many("child", 10, timeout=0)
    assert (child.body, child.correlation_id, child.headers) == ({"attempt": 2}, "c", {"h": "v"})


def test_a_context_says_all_about_its_attempt(broker: libmq.Broker) -> None:
    seen: list[libmq.Context] = []
    broker.handler("q", lambda ctx: seen.append(ctx), timeout=100, max_retries=2)
    broker.start()
    now = datetime.datetime.now(datetime.UTC)
    broker.enqueue("q", {"a": 1}, headers={"h": "v"}, correlation_id="c")
    assert broker.wait_idle(LONG)
    (ctx,) = seen
    assert (ctx.queue, ctx.body, ctx.raw, ctx.attempt, ctx.max_retries) == ("q", {"a": 1}, b'{"a":1}', 1, 2)
    assert (ctx.headers, ctx.correlation_id, ctx.content_type) == ({"h": "v"}, "c", "application/json")
    assert (ctx.cancelled, ctx.cancel_reason, ctx.wait_cancelled(0)) == (False, None, False)
    assert 50 < (ctx.deadline - now).total_seconds() < 150
    assert abs((ctx.enqueued_at - now).total_seconds()) < LONG
    assert ctx.id > 0
    assert ctx.token > 0
    ctx.raise_if_cancelled()
    # Its time is over.
    with pytest.raises(libmq.StaleLeaseError):
        ctx.enqueue("q", 1)
    with pytest.raises(libmq.StaleLeaseError):
        ctx.extend(1)


def test_a_timeout_cancels(broker: libmq.Broker) -> None:
    ended: list[Any] = []

    @broker.handler("q", timeout=0.05, max_retries=0)
    def handle(body: int, ctx: libmq.Context) -> None:
        began = time.monotonic()
        assert ctx.wait_cancelled(LONG)
        ended.append((ctx.cancelled, ctx.cancel_reason, time.monotonic() - began < LONG / 2))
        ctx.raise_if_cancelled()

    broker.start()
    broker.enqueue("q", 1)
    assert broker.wait_idle(LONG)
    assert ended == [(True, "timeout", True)]
    (letter,) = broker.dead_letters.list()
    assert "timeout" in letter.error


def test_a_handler_that_outlives_its_grace_is_replaced_and_its_end_changes_nothing(broker: libmq.Broker) -> None:
    entered: list[int] = []
    go = threading.Event()

    @broker.handler("q", timeout=0.02, cancel_grace=0.02, max_retries=1)
    def handle(body: int, ctx: libmq.Context) -> None:
        entered.append(ctx.attempt)
        if ctx.attempt == 1:
            go.wait(LONG)

    broker.start()
    broker.enqueue("q", 1)
    end = time.monotonic() + LONG
    while broker.metrics().acked < 1 and time.monotonic() < end:
        time.sleep(0.005)
    go.set()
    while broker.metrics().stale_settles < 1 and time.monotonic() < end:
        time.sleep(0.005)
    figures = broker.metrics()
    assert (entered, figures.acked, figures.stuck, figures.stale_settles) == ([1, 2], 1, 1, 1)


def test_extend_gives_more_time(broker: libmq.Broker) -> None:
    @broker.handler("q", timeout=0.3)
    def handle(body: int, ctx: libmq.Context) -> None:
        ctx.extend(60)
        assert not ctx.wait_cancelled(0.5)

    broker.handler("r", lambda body, ctx: ctx.extend(1), lease_extension_enabled=False, max_retries=0)
    broker.start()
    broker.enqueue("q", 1)
    broker.enqueue("r", 1)
    assert broker.wait_idle(LONG)
    assert broker.metrics().queues["q"].acked == 1
    assert "lease_extension_enabled" in broker.dead_letters.list("r")[0].error


def test_handlers_run_in_parallel_up_to_their_bound(broker: libmq.Broker) -> None:
    both = threading.Barrier(3)
    broker.handler("q", lambda body: both.wait(LONG), max_parallelism=3)
    broker.start()
    broker.enqueue_many("q", range(6))
    assert broker.wait_idle(LONG)
    assert broker.metrics().acked == 6


def test_handlers_run_on_pythons_threads(broker: libmq.Broker) -> None:
    threads: list[threading.Thread] = []
    broker.handler("orders", lambda body: threads.append(threading.current_thread()))
    broker.start()
    broker.enqueue("orders", 1)
    assert broker.wait_idle(LONG)
    (thread,) = threads
    assert type(thread) is threading.Thread
    assert (thread.name, thread.daemon) == ("libmq-orders", True)
    broker.stop()
    thread.join(LONG)
    assert not thread.is_alive()


def test_each_message_has_variables_of_its_own(broker: libmq.Broker) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    seen: list[int] = []

    @broker.handler("q")
    def handle(body: int) -> None:
        seen.append(variable.get())
        variable.set(body)

    broker.start()
    broker.enqueue_many("q", [1, 2, 3])
    assert broker.wait_idle(LONG)
    assert seen == [0, 0, 0]


def test_a_second_handler_replaces_the_first(broker: libmq.Broker) -> None:
    seen: list[str] = []
    broker.handler("q", lambda body: seen.append("first"))
    broker.start()
    broker.enqueue("q", 1)
    assert broker.wait_idle(LONG)
    broker.handler("q", lambda body: seen.append("second"))
    broker.enqueue("q", 2)
    assert broker.wait_idle(LONG)
    assert seen == ["first", "second"]


def test_start_and_stop_and_start_again(broker: libmq.Broker) -> None:
    handled = threading.Semaphore(0)
    broker.handler("q", lambda body: handled.release(), max_parallelism=2)
    for _ in range(20):
        broker.start()
        broker.start()
        broker.enqueue("q", 1)
        assert handled.acquire(timeout=LONG)
        broker.stop()
        broker.stop()
    broker.enqueue("q", 1)
    assert not handled.acquire(timeout=0.05)


def test_stop_cancels_what_takes_too_long(broker: libmq.Broker) -> None:
    entered = threading.Event()

    @broker.handler("q")
    def handle(body: int, ctx: libmq.Context) -> None:
        entered.set()
        assert ctx.wait_cancelled(LONG)
        assert ctx.cancel_reason == "shutdown"
        ctx.raise_if_cancelled()

    broker.start()
    broker.enqueue("q", 1)
    assert entered.wait(LONG)
    with pytest.raises(TimeoutError) as raised:
        broker.stop(0.01)
    assert isinstance(raised.value, libmq.TimeoutError)
    assert broker.metrics().released == 1


def test_a_close_that_cuts_off_leaves_no_thread_but_the_stuck(broker: libmq.Broker) -> None:
    """A close that raised TIMEOUT used to leave the thread that starts the others waiting."""
    entered, go = threading.Event(), threading.Event()

    @broker.handler("q", cancel_grace=0)
    def handle(body: int) -> None:
        entered.set()
        go.wait(LONG)

    before = set(threading.enumerate())
    broker.start()
    broker.enqueue("q", 1)
    assert entered.wait(LONG)
    with pytest.raises(libmq.TimeoutError):
        broker.close(0)
    go.set()
    end = time.monotonic() + LONG
    while any(thread.name in ("libmq-q", "libmq-foreman") for thread in threading.enumerate()):
        assert time.monotonic() < end, set(threading.enumerate()) - before
        time.sleep(0.01)


def test_what_waits_for_handlers_is_refused_in_one(broker: libmq.Broker) -> None:
    codes: list[str] = []

    @broker.handler("q")
    def handle(body: int) -> None:
        for call in (broker.stop, broker.close, broker.wait_idle, lambda: broker.handler("q", print)):
            try:
                call()
            except libmq.Error as error:
                codes.append(error.code)

    broker.start()
    broker.enqueue("q", 1)
    assert broker.wait_idle(LONG)
    assert codes == ["DEADLOCK"] * 4


def test_full_fails_at_once_in_a_handler() -> None:
    codes: list[str] = []
    with libmq.open(":memory:", capacity=1, on_full="block") as broker:

        @broker.handler("q")
        def handle(body: int) -> None:
            try:
                broker.enqueue("q", 2)
            except libmq.FullError as error:
                codes.append(error.code)

        broker.start()
        broker.enqueue("q", 1)
        assert broker.wait_idle(LONG)
    assert codes == ["FULL"]


def test_a_decorated_function_is_what_it_was(broker: libmq.Broker) -> None:
    def handle(body: int) -> int:
        return body + 1

    assert broker.handler("q")(handle) is handle
    assert broker.handler("r", handle) is handle
    assert handle(1) == 2


def test_what_was_cancelled_is_no_error_of_its_handler(broker: libmq.Broker) -> None:
    """Each restart of a program had looked like a burst of them."""
    entered = threading.Event()

    @broker.handler("q", max_retries=0)
    def handle(body: object, ctx: libmq.Context) -> None:
        entered.set()
        while True:
            ctx.raise_if_cancelled()
            time.sleep(0.001)

    broker.start()
    broker.enqueue("q", 1)
    assert entered.wait(LONG)
    with pytest.raises(libmq.TimeoutError):
        broker.stop(0)
    figures = broker.metrics()
    assert (figures.released, figures.handler_errors) == (1, 0)
